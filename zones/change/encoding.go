package change

import (
	"errors"

	"balefire/zones"
)

// Encode returns the record value of cs, at the lowest format level that can say it. Equal change sets give equal
// octets. The error is a *zones.Rejection when the record would be larger than MaxRecord.
func Encode(cs *zones.ChangeSet) ([]byte, error) { return nil, errors.New("not finished") }

// Decode reads a record value of a partition that is at the given format level. Its cost and its memory are
// proportional to len(value). The result shares no memory with value.
func Decode(value []byte, level uint32) (*zones.ChangeSet, *zones.Rejection) {
	return nil, &zones.Rejection{Rule: zones.RuleUndecodable, Op: -1}
}

// EncodedSize returns how many octets s takes in a record, or a few less than it returns.
func EncodedSize(s zones.RRset) int { return s.Size() + 2*s.Len() + len(s.Owner) + 32 }
