package apexes

import (
	"iter"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"balefire/zones"
)

// part is a table of slots and the names that they speak of. A slot is two words:
//
//	63    32 31      0    63        32 31     0
//	| tag   | name   |    | partition | slot  |
//
// name is where in names the name begins; 0 0 is an empty slot, and 0 deadName a deleted one. Names are
// in wire form, which says itself where it ends: no length is kept.
//
// The one writer fills in the name and the second word, and then stores the first, which publishes both.
// A slot is never used again for another name, so what a reader has seen in the first word is true
// of the second. Readers of a part that was replaced meanwhile see it as it last was.
type part struct {
	slots []uint64 // pairs; only by atomic operations
	names []byte   // the writer appends; readers look only at what slots point to

	end atomic.Int64 // octets of names that are written, and so may be read

	// Only the writer looks at these.
	used   int // slots that are not empty
	live   int // of them, those not deleted
	octets int // of names, those of live ones
}

const (
	deadName   = 1<<32 - 1
	indexBytes = int(unsafe.Sizeof(Index{}))
)

// newPart makes a part for so many apexes, and so many octets of names, and a quarter more.
func newPart(apexes, octets int) *part {
	p := &part{
		slots: make([]uint64, 2*(apexes*5/3+3)), // three quarters are in use when the quarter more has come
		names: make([]byte, 1+octets+octets/4+64),
	}
	p.end.Store(1) // no name begins at 0
	return p
}

// fits reports whether the name may be added. Linear probing stays short to 4/5 of the slots.
func (p *part) fits(n zones.Name) bool {
	return p.fitsMore(1, len(n))
}

// fitsMore reports whether so many names, of so many octets together, may be added.
func (p *part) fitsMore(apexes, octets int) bool {
	return 5*(p.used+apexes) <= 4*(len(p.slots)/2) && int(p.end.Load())+octets <= len(p.names)
}

// wasteful reports whether most of the part is dead.
func (p *part) wasteful() bool {
	return p.used > 2*p.live+8 || len(p.slots)/2 > 6*p.live+16
}

func (p *part) bytes() int { return int(unsafe.Sizeof(*p)) + 8*cap(p.slots) + cap(p.names) }

// first returns the index of the first word of the slot where the probe for the hash begins.
func (p *part) first(hash uint64) int {
	high, _ := bits.Mul64(hash<<partBits, uint64(len(p.slots)/2))
	return 2 * int(high)
}

// locate returns the index of the name's slot, −1 when it is not there.
func (p *part) locate(hash uint64, n zones.Name) int {
	if p == nil {
		return -1
	}
	for i := p.first(hash); ; {
		word := atomic.LoadUint64(&p.slots[i])
		if word == 0 {
			return -1
		}
		if uint32(word>>32) == uint32(hash) {
			// A valid name is no prefix of another, so that as many octets as n has decide. deadName is past the end.
			at := int(uint32(word))
			if at+len(n) <= int(p.end.Load()) && string(p.names[at:at+len(n)]) == string(n) {
				return i
			}
		}
		if i += 2; i == len(p.slots) {
			i = 0
		}
	}
}

func (p *part) find(hash uint64, n zones.Name) (v Value, ok bool) {
	i := p.locate(hash, n)
	if i < 0 {
		return Value{}, false
	}
	return unpack(atomic.LoadUint64(&p.slots[i+1])), true
}

// set gives the name another value, if it is there.
func (p *part) set(hash uint64, n zones.Name, v Value) bool {
	i := p.locate(hash, n)
	if i < 0 {
		return false
	}
	atomic.StoreUint64(&p.slots[i+1], v.pack())
	return true
}

// add adds a name that fits and is not there.
func (p *part) add(hash uint64, n zones.Name, v Value) {
	i := p.first(hash)
	for atomic.LoadUint64(&p.slots[i]) != 0 {
		if i += 2; i == len(p.slots) {
			i = 0
		}
	}
	at := p.end.Load()
	copy(p.names[at:], n)
	p.end.Add(int64(len(n)))
	atomic.StoreUint64(&p.slots[i+1], v.pack())
	atomic.StoreUint64(&p.slots[i], hash<<32|uint64(at))
	p.octets += len(n)
	p.used++
	p.live++
}

func (p *part) remove(hash uint64, n zones.Name) bool {
	i := p.locate(hash, n)
	if i < 0 {
		return false
	}
	atomic.StoreUint64(&p.slots[i], deadName)
	p.live--
	p.octets -= len(n)
	return true
}

func (p *part) all() iter.Seq2[zones.Name, Value] {
	return func(yield func(zones.Name, Value) bool) {
		for i := 0; i < len(p.slots); i += 2 {
			word := atomic.LoadUint64(&p.slots[i])
			if word == 0 || uint32(word) == deadName {
				continue
			}
			at := int(uint32(word))
			end := at
			for p.names[end] != 0 {
				end += 1 + int(p.names[end])
			}
			if !yield(zones.NameView(p.names[at:end+1]), unpack(atomic.LoadUint64(&p.slots[i+1]))) {
				return
			}
		}
	}
}

func (v Value) pack() uint64 { return uint64(uint32(v.Partition))<<32 | uint64(v.Slot) }

func unpack(w uint64) Value { return Value{Partition: int32(uint32(w >> 32)), Slot: uint32(w)} }
