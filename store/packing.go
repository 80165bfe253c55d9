package store

import (
	"encoding/binary"
	"time"

	"balefire/zones"
)

// packer appends the parts of stored values: numbers big-endian, octets after their length as a varint.
type packer []byte

func (p *packer) u8(v uint8)   { *p = append(*p, v) }
func (p *packer) u32(v uint32) { *p = binary.BigEndian.AppendUint32(*p, v) }
func (p *packer) i64(v int64)  { *p = binary.BigEndian.AppendUint64(*p, uint64(v)) }
func (p *packer) raw(b []byte) { *p = append(*p, b...) }

func (p *packer) text(s string) {
	*p = binary.AppendUvarint(*p, uint64(len(s)))
	*p = append(*p, s...)
}

// rrset appends a packed RRset, or for the zero one, nothing but its mark.
func (p *packer) rrset(s zones.RRset) {
	if s.IsZero() {
		p.u8(0)
		return
	}
	p.u8(1)
	*p = s.AppendPacked(*p)
}

// unpacker takes the parts off again. After the first that is not there, all are zero, and bad is set.
type unpacker struct {
	rest []byte
	bad  bool
}

func (u *unpacker) take(n int) []byte {
	if n < 0 || n > len(u.rest) {
		u.bad, u.rest = true, nil
		return nil
	}
	b := u.rest[:n:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacker) u8() uint8 {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (u *unpacker) u32() uint32 {
	if b := u.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (u *unpacker) i64() int64 {
	if b := u.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (u *unpacker) text() string {
	n, used := binary.Uvarint(u.rest)
	if used <= 0 || n > uint64(len(u.rest)-used) {
		u.bad, u.rest = true, nil
		return ""
	}
	u.rest = u.rest[used:]
	return string(u.take(int(n)))
}

// name reads a name that text wrote; "" stays "".
func (u *unpacker) name() zones.Name {
	s := u.text()
	if s == "" {
		return ""
	}
	n, used, err := zones.NameFromWire([]byte(s))
	if err != nil || used != len(s) {
		u.bad = true
		return ""
	}
	return n
}

func (u *unpacker) rrset(owner zones.Name) zones.RRset {
	if u.u8() == 0 {
		return zones.RRset{}
	}
	s, rest, err := zones.ReadPacked(owner, u.rest)
	if err != nil {
		u.bad, u.rest = true, nil
		return zones.RRset{}
	}
	u.rest = rest
	return s
}

// whole reports whether everything was there, and nothing is left.
func (u *unpacker) whole() bool { return !u.bad && len(u.rest) == 0 }

// millis is how times are stored: milliseconds since 1970, what the log's timestamps are. 0 is no time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 0)
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
