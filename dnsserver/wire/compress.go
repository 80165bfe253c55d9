package wire

import (
	"encoding/binary"

	"balefire/zones"
)

// maxOffsets bounds the names that a message remembers for compression. It is ample for referrals and
// small answers; in large ones, names beyond it are just written out.
const maxOffsets = 64

// maxPointer is the first offset that a compression pointer can't express (RFC 1035 §4.1.4).
const maxPointer = 0x4000

// offsets remembers where in the message names begin, each label of a name being the beginning of one. It is small, so a search
// from end to end is cheaper than a map.
type offsets struct {
	n  int
	at [maxOffsets]offset
}

// offset is one name: where it is, and two cheap things that equal names have in common.
type offset struct {
	at     uint16
	length uint8 // of the wire form
	first  uint8 // first octet of the first label, in lower case
}

func (o *offsets) remember(at int, n zones.Name) {
	if o.n < maxOffsets && at < maxPointer {
		o.at[o.n] = offset{uint16(at), uint8(len(n)), n[1]}
		o.n++
	}
}

// rememberQuestion remembers the question's name, in lower case given, and its ancestors, the root left out.
func (m *draft) rememberQuestion(n zones.Name) {
	for at := HeaderLen; len(n) > 1; {
		m.names.remember(at, n)
		l := 1 + int(n[0])
		at, n = at+l, n[l:]
	}
}

// appendName appends n, which is in lower case, as labels up to a name that the message already has, and
// a pointer to that. Letters' case makes no difference (RFC 4343 §4), so owners compress to the question
// as it was asked.
func (m *draft) appendName(n zones.Name) {
	for len(n) > 1 {
		if at := m.find(n); at >= 0 {
			m.notePointer()
			m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(0xc000|at))
			return
		}
		m.names.remember(len(m.buf)-m.base, n)
		l := 1 + int(n[0])
		m.buf = append(m.buf, n[:l]...)
		n = n[l:]
	}
	m.buf = append(m.buf, 0)
}

// notePointer notes that a pointer comes next.
func (m *draft) notePointer() {
	if m.pointers < MaxPointers {
		m.pointerAt[m.pointers] = uint16(len(m.buf) - m.start)
		m.pointers++
	}
}

// find returns the offset of a name equal to n; −1 when there is none.
func (m *draft) find(n zones.Name) int {
	for i := range m.names.at[:m.names.n] {
		o := &m.names.at[i]
		if int(o.length) == len(n) && o.first == n[1] && m.isAt(int(o.at), n) {
			return int(o.at)
		}
	}
	return -1
}

// isAt reports whether the name at an offset of the message is n. It ends, as all pointers in the message
// go backwards.
func (m *draft) isAt(at int, n zones.Name) bool {
	b := m.buf[m.base:]
	for {
		l := int(b[at])
		if l >= 0xc0 {
			at = int(binary.BigEndian.Uint16(b[at:]) & 0x3fff)
			continue
		}
		if l != int(n[0]) {
			return false
		}
		if l == 0 {
			return true
		}
		label := b[at+1 : at+1+l]
		for i := range label {
			if lower[label[i]] != n[1+i] {
				return false
			}
		}
		at, n = at+1+l, n[1+l:]
	}
}
