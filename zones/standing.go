package zones

import (
	"fmt"
	"time"
)

// Source says where a change set's content comes from. The values are part of the record format.
type Source uint8

const (
	// SourceClient is whoever asked for the change: the content of a zone without primaries comes from nobody else.
	SourceClient Source = 0
	// SourcePrimary is a zone's primary: the content of a secondary zone comes from nobody else. It may be signed, and its serial
	// is the primary's, which goes forward.
	SourcePrimary Source = 1
	// SourceRetransfer is SourcePrimary for a whole zone whose serial may be any.
	SourceRetransfer Source = 2
)

// Valid reports whether s is a source that this version knows.
func (s Source) Valid() bool { return s <= SourceRetransfer }

func (s Source) String() string {
	switch s {
	case SourceClient:
		return "client"
	case SourcePrimary:
		return "primary"
	case SourceRetransfer:
		return "retransfer"
	}
	return fmt.Sprintf("source-%d", uint8(s))
}

// Standing is how a secondary zone stands with its primaries; zero for other zones.
type Standing struct {
	// Awaiting: the zone is hosted, and nothing has come yet that it could be answered from.
	Awaiting bool
	// Expired: its primaries have been silent for longer than its SOA allows (RFC 1035 §3.3.13), and it is not answered from.
	Expired bool
	// Confirmed is the partition's time, in milliseconds, when the content came or was last found to be the primary's, or when the
	// zone became a secondary zone; zero while Awaiting.
	Confirmed time.Time
}

// Served reports whether the zone may be answered from.
func (s Standing) Served() bool { return !s.Awaiting && !s.Expired }

// Equal reports whether both say the same.
func (s Standing) Equal(other Standing) bool {
	return s.Awaiting == other.Awaiting && s.Expired == other.Expired && s.Confirmed.Equal(other.Confirmed)
}

// IsZero reports whether s says nothing.
func (s Standing) IsZero() bool { return s.Equal(Standing{}) }
