package hotzone

import (
	"encoding/binary"
	"unsafe"

	"balefire/zones"
)

// page holds the entries of names whose hashes begin with the same bits, and before them a small
// open-addressed table of where they are. It is immutable. In memory only, so numbers are in the order
// the machine likes.
//
//	0       4            4 + 4·2^bits
//	| count | 2^bits slots | entries …
//
// A slot is 0 when empty, or tag << 24 | offset of the entry in the page, where the tag is eight bits of
// the hash. At most three quarters of the slots are in use, so that a probe ends.
//
// The value that points to it is itself a pointer and two words, not a slice, because directories are made of them: what a
// look-up must know before it touches the page comes with the pointer, and saves it a cache miss.
type page struct {
	start *byte  // nil for no page
	shape uint32 // octets << 8 | slot bits
	made  uint32 // capacity << 8 | depth: how many leading bits of the hash the names share
}

const (
	pageHeader = 4
	// pageLimit is where a page is split, in octets of entries: a patch copies a page for each name that it
	// changes, a look-up does not care.
	pageLimit = 4 << 10
	// pageFew is how many entries stay together even in a longer page, so that large nodes do not make the
	// directory grow.
	pageFew = 8
	// pageMax bounds the octets of a page, so that they and the capacity fit 24 bits.
	pageMax = 1 << 23

	offsetMask = 1<<24 - 1
)

func (p page) exists() bool   { return p.start != nil }
func (p page) octets() []byte { return unsafe.Slice(p.start, p.shape>>8) }
func (p page) slotBits() uint { return uint(p.shape & 0xff) }
func (p page) depth() uint    { return uint(p.made & 0xff) }
func (p page) capacity() int  { return int(p.made >> 8) }
func (p page) count() int     { return int(binary.LittleEndian.Uint32(p.octets())) }
func (p page) entriesAt() int { return pageHeader + 4<<p.slotBits() }

// entry is a name and what it has.
//
//	0               4          5                           +4, if it has children
//	| length << 8 | flags | name length | number of children | name | packed RRsets
//
// The length is that of the packed RRsets.
type entry struct {
	name     zones.Name
	packed   []byte
	children uint32 // names that exist exactly one label below
	cut      bool   // has NS and is below the apex
}

const (
	entryHeader = 5
	flagCut     = 1 << 0
	flagParent  = 1 << 1 // the number of children is there
)

func appendEntry(dst []byte, e entry) []byte {
	head := uint32(len(e.packed)) << 8
	if e.cut {
		head |= flagCut
	}
	if e.children > 0 {
		head |= flagParent
	}
	dst = binary.LittleEndian.AppendUint32(dst, head)
	dst = append(dst, byte(len(e.name)))
	if e.children > 0 {
		dst = binary.LittleEndian.AppendUint32(dst, e.children)
	}
	dst = append(dst, e.name...)
	return append(dst, e.packed...)
}

// readEntry reads the entry at the start of b, sharing its memory.
func readEntry(b []byte) (e entry, size int) {
	head := binary.LittleEndian.Uint32(b)
	at := entryHeader
	if head&flagParent != 0 {
		e.children = binary.LittleEndian.Uint32(b[at:])
		at += 4
	}
	end := at + int(b[4])
	e.name = zones.NameView(b[at:end:end])
	size = end + int(head>>8)
	e.packed = b[end:size:size]
	e.cut = head&flagCut != 0
	return e, size
}

// entrySize reads the size of an entry from its head.
func entrySize(head []byte) int {
	size := entryHeader + int(head[4]) + int(binary.LittleEndian.Uint32(head)>>8)
	if head[0]&flagParent != 0 {
		size += 4
	}
	return size
}

func (e entry) node() zones.Node { return zones.NodeView(e.name, e.packed) }

func tagOf(hash uint64) uint32  { return uint32(hash>>24) &^ offsetMask }
func slotOf(hash uint64) uint32 { return uint32(hash) }

// find returns where in the page the entry of the name is; 0 means nowhere.
func (p page) find(hash uint64, n zones.Name) int {
	octets := p.octets()
	mask := uint32(1)<<p.slotBits() - 1
	tag := tagOf(hash)
	for i := slotOf(hash) & mask; ; i = (i + 1) & mask {
		slot := binary.LittleEndian.Uint32(octets[pageHeader+4*i:])
		if slot == 0 {
			return 0
		}
		if slot&^offsetMask != tag {
			continue
		}
		e := octets[slot&offsetMask:]
		at := entryHeader
		if e[0]&flagParent != 0 {
			at += 4
		}
		if string(e[at:at+int(e[4])]) == string(n) {
			return int(slot & offsetMask)
		}
	}
}

// seal makes a page of entries, which it copies.
func seal(entries []byte, count int, depth uint) (page, error) {
	bits := uint(0)
	for 3<<bits < 4*count {
		bits++
	}
	start := pageHeader + 4<<bits
	if start+len(entries) > pageMax {
		return page{}, ErrTooLarge
	}
	// Grown by append, so that the capacity tells what the allocator really gave.
	octets := append([]byte(nil), make([]byte, start+len(entries))...)
	copy(octets[start:], entries)
	binary.LittleEndian.PutUint32(octets, uint32(count))
	mask := uint32(1)<<bits - 1
	for at := start; at < len(octets); {
		e, size := readEntry(octets[at:])
		hash := hashOf(e.name)
		i := slotOf(hash) & mask
		for binary.LittleEndian.Uint32(octets[pageHeader+4*i:]) != 0 {
			i = (i + 1) & mask
		}
		binary.LittleEndian.PutUint32(octets[pageHeader+4*i:], tagOf(hash)|uint32(at))
		at += size
	}
	return page{
		start: unsafe.SliceData(octets),
		shape: uint32(len(octets))<<8 | uint32(bits),
		made:  uint32(cap(octets))<<8 | uint32(depth),
	}, nil
}
