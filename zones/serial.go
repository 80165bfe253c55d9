package zones

import (
	"fmt"
	"time"
)

// Serial is the serial number of a zone, in the sequence space of RFC 1982.
type Serial uint32

// IsAfter reports whether s is greater than other (RFC 1982 §3.2). Of two serials exactly 2³¹ apart,
// for which the RFC leaves the order open, neither is after the other.
func (s Serial) IsAfter(other Serial) bool {
	d := s - other
	return d != 0 && d < 1<<31
}

// SerialPolicy says how a zone's serial goes forward with each change set. The values are part of the
// record and disk formats.
type SerialPolicy uint8

const (
	// SerialIncrement adds one.
	SerialIncrement SerialPolicy = 0
	// SerialUnixTime takes the log's time in seconds since 1970, or adds one where that is not forward.
	SerialUnixTime SerialPolicy = 1
	// SerialDate takes YYYYMMDD00 of the log's time (UTC), or adds one where that is not forward.
	SerialDate SerialPolicy = 2
	// SerialKeep leaves the serial as imported; changes of single records, if allowed, add one.
	SerialKeep SerialPolicy = 3
)

var serialPolicyNames = [...]string{"increment", "unixtime", "date", "keep"}

// ParseSerialPolicy reads the name of a policy: increment, unixtime, date or keep.
func ParseSerialPolicy(s string) (SerialPolicy, error) {
	for i, name := range serialPolicyNames {
		if s == name {
			return SerialPolicy(i), nil
		}
	}
	return 0, fmt.Errorf("serial policy %q: want increment, unixtime, date or keep", s)
}

func (p SerialPolicy) String() string {
	if int(p) < len(serialPolicyNames) {
		return serialPolicyNames[p]
	}
	return fmt.Sprintf("serial-policy-%d", uint8(p))
}

// Valid reports whether p is a policy that this version knows.
func (p SerialPolicy) Valid() bool { return int(p) < len(serialPolicyNames) }

// Next returns the serial that follows current under the policy, always after it in the sense of
// RFC 1982. logTime is the partition's time, so that every replica steps alike.
func (p SerialPolicy) Next(current Serial, logTime time.Time) Serial {
	want := current
	switch p {
	case SerialUnixTime:
		want = Serial(uint32(logTime.Unix()))
	case SerialDate:
		y, m, d := logTime.UTC().Date()
		want = Serial(uint32(((y*100+int(m))*100 + d) * 100))
	}
	if want.IsAfter(current) {
		return want
	}
	return current + 1
}
