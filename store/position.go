package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Position is the place of a record in the log: the identity of the change set that it carries. Its text
// form is "17@4711": partition 17, offset 4711.
type Position struct {
	Partition int32
	Offset    int64
}

// ErrPosition means that a text is no position.
var ErrPosition = errors.New(`not a position: want partition@offset, such as "17@4711"`)

// ParsePosition reads the form that String writes, and no other: no signs, no leading zeros.
func ParsePosition(text string) (Position, error) {
	partition, offset, ok := strings.Cut(text, "@")
	if ok {
		p, err := strconv.ParseInt(partition, 10, 32)
		o, err2 := strconv.ParseInt(offset, 10, 64)
		pos := Position{int32(p), o}
		if err == nil && err2 == nil && p >= 0 && o >= 0 && pos.String() == text {
			return pos, nil
		}
	}
	return Position{}, fmt.Errorf("%q: %w", text, ErrPosition)
}

func (p Position) String() string {
	return strconv.FormatInt(int64(p.Partition), 10) + "@" + strconv.FormatInt(p.Offset, 10)
}

// MarshalText is String, for JSON.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePosition.
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}

// Record is one record of a partition's log, as it was read. Apply keeps none of its memory.
type Record struct {
	Offset      int64
	LeaderEpoch int32
	Time        time.Time // the log's timestamp
	Key, Value  []byte
}

// Applied says how far a partition has come.
type Applied struct {
	Offset      int64 // of the last record applied; −1 when there is none
	LeaderEpoch int32
	// RecordHash is the SHA-256 of the last applied record (HashRecord), which is compared with the log's
	// record at Offset at start: another hash is another history.
	RecordHash [32]byte
	// Time is the partition's time: the highest log timestamp so far. Zero when there is none.
	Time time.Time
	// Level is the partition's format level.
	Level uint32
}

// HashRecord returns the SHA-256 by which a record is known again: over its key and value, each preceded
// by its length.
func HashRecord(key, value []byte) [32]byte {
	buf := make([]byte, 0, 8+len(key)+len(value))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(key)))
	buf = append(buf, key...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(value)))
	buf = append(buf, value...)
	return sha256.Sum256(buf)
}
