package transfer

import (
	"encoding/binary"

	"balefire/zones"
)

const (
	// nameSlots is how many names a message can remember, and a power of two. The names of a message of MessageSize are hardly more.
	nameSlots = 1 << 12
	// maxNames leaves slots free, at which a search ends.
	maxNames = nameSlots / 4 * 3
	// maxPointer is the first offset that a compression pointer can't express (RFC 1035 §4.1.4).
	maxPointer = 0x4000
)

// names finds names that a message has already, each label of one being the beginning of another: a hash table, of which nothing needs
// to be cleared when the next message begins.
type names struct {
	slots [nameSlots]nameSlot
	round uint16 // slots of other rounds are free
	used  int
}

// nameSlot is where in the message a name is.
type nameSlot struct{ at, round uint16 }

// forget begins another message.
func (t *names) forget() {
	t.used = 0
	if t.round++; t.round == 0 {
		clear(t.slots[:])
		t.round = 1
	}
}

// The hash is FNV-1a, of labels from the root down.
const (
	hashBasis = 2166136261
	hashPrime = 16777619
)

// appendName appends n to the message that begins at base: labels up to a name that it has already, and a pointer to that.
func (t *names) appendName(buf []byte, base int, n zones.Name) []byte {
	var starts [zones.MaxLabels]uint8
	var hashes [zones.MaxLabels]uint32
	labels := 0
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		starts[labels] = uint8(i)
		labels++
	}
	h := uint32(hashBasis)
	for i := labels - 1; i >= 0; i-- {
		start := int(starts[i])
		for _, c := range []byte(n[start : start+1+int(n[start])]) {
			h = (h ^ uint32(c)) * hashPrime
		}
		hashes[i] = h
	}
	for i := range labels {
		start := int(starts[i])
		slot := t.find(buf[base:], n[start:], hashes[i])
		if slot.round == t.round {
			return binary.BigEndian.AppendUint16(buf, 0xc000|slot.at)
		}
		if at := len(buf) - base; at < maxPointer && t.used < maxNames {
			*slot = nameSlot{uint16(at), t.round}
			t.used++
		}
		buf = append(buf, n[start:start+1+int(n[start])]...)
	}
	return append(buf, 0)
}

// find returns the slot of a name, or the free one where it would be.
func (t *names) find(message []byte, n zones.Name, hash uint32) *nameSlot {
	for i := hash ^ hash>>16; ; i++ {
		slot := &t.slots[i%nameSlots]
		if slot.round != t.round || isAt(message, int(slot.at), n) {
			return slot
		}
	}
}

// isAt reports whether the name at an offset of the message is n. It ends, as all pointers in the message go backwards. A name
// that is being written has no end yet, and is not found.
func isAt(message []byte, at int, n zones.Name) bool {
	for at < len(message) {
		l := int(message[at])
		if l >= 0xc0 {
			at = int(binary.BigEndian.Uint16(message[at:]) & 0x3fff)
			continue
		}
		end := at + 1 + l
		if len(n) < 1+l || end > len(message) || string(message[at:end]) != string(n[:1+l]) {
			return false
		}
		if l == 0 {
			return true
		}
		at, n = end, n[1+l:]
	}
	return false
}
