// Package apexes is the index of every hosted apex, of which a node may have millions: which partition
// has the zone, and where in the node it is found. It is held in flat tables without pointers, so that
// it costs the garbage collector nothing and about forty octets a zone. It knows nothing of zones' content.
//
// The index is cut into parts by hash; each is an open-addressed table and the octets of its names
// (part.go). A part that is full, or has lost a lot, is written anew and swapped in: so growth never
// stops the writer for long, nor holds the whole index twice.
package apexes

import (
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"

	"balefire/zones"
)

// Value is what the index keeps for an apex.
type Value struct {
	Partition int32  // the partition that has the zone
	Slot      uint32 // the caller's own number for it
}

const (
	partBits = 8
	parts    = 1 << partBits
)

// Index maps apexes to values. Readers take no lock, never wait and may be any number; writers exclude each other.
type Index struct {
	seed    maphash.Seed // nobody outside can choose apexes that collide
	parts   [parts]atomic.Pointer[part]
	deepest atomic.Int32 // no apex has, or ever had, more labels
	count   atomic.Int64

	write sync.Mutex
}

// New returns an empty index.
func New() *Index { return &Index{seed: maphash.MakeSeed()} }

// Put adds the apex, or gives it another value. It copies the name.
func (x *Index) Put(apex zones.Name, v Value) {
	x.write.Lock()
	defer x.write.Unlock()
	hash := x.hash(apex)
	at := &x.parts[hash>>(64-partBits)]
	p := at.Load()
	if p != nil && p.set(hash, apex, v) {
		return
	}
	if depth := int32(apex.Labels()); depth > x.deepest.Load() {
		x.deepest.Store(depth) // before the name is there, or a reader would not look deep enough
	}
	if p == nil || !p.fits(apex) {
		p = x.renew(p, len(apex))
		p.add(hash, apex, v)
		at.Store(p)
	} else {
		p.add(hash, apex, v)
	}
	x.count.Add(1)
}

// nameOctets is what a name takes on average. The index must know a few for each part before it says less than a usual one.
func (x *Index) nameOctets() int {
	const usual = 20
	live, octets := 0, 0
	for i := range x.parts {
		if p := x.parts[i].Load(); p != nil {
			live, octets = live+p.live, octets+p.octets
		}
	}
	if live == 0 {
		return usual
	}
	known := (octets + live - 1) / live
	if live < 4*parts {
		return max(known, usual)
	}
	return known
}

// Reserve makes room for about so many apexes that are going to be put: without it the parts grow a quarter at a time, and
// every name is moved again and again.
func (x *Index) Reserve(apexes int) {
	x.write.Lock()
	defer x.write.Unlock()
	each := (apexes + parts - 1) / parts
	octets := x.nameOctets() * each
	for i := range x.parts {
		p := x.parts[i].Load()
		if p == nil || !p.fitsMore(each, octets) {
			x.parts[i].Store(x.renewed(p, each, octets))
		}
	}
}

// Delete removes the apex and reports whether it was there.
func (x *Index) Delete(apex zones.Name) bool {
	x.write.Lock()
	defer x.write.Unlock()
	hash := x.hash(apex)
	at := &x.parts[hash>>(64-partBits)]
	p := at.Load()
	if p == nil || !p.remove(hash, apex) {
		return false
	}
	x.count.Add(-1)
	switch {
	case p.live == 0:
		at.Store(nil)
	case p.wasteful():
		at.Store(x.renew(p, 0))
	}
	return true
}

// Get returns the value of exactly this apex.
func (x *Index) Get(apex zones.Name) (v Value, ok bool) {
	hash := x.hash(apex)
	return x.parts[hash>>(64-partBits)].Load().find(hash, apex)
}

// Longest returns the longest apex that qname is at or below. The apex shares qname's memory. It does
// not allocate.
func (x *Index) Longest(qname zones.Name) (apex zones.Name, v Value, ok bool) {
	return x.longest(qname, 0)
}

// Parent returns the longest apex that n is properly below. It shares n's memory.
func (x *Index) Parent(n zones.Name) (apex zones.Name, v Value, ok bool) {
	if len(n) <= 1 {
		return "", Value{}, false
	}
	return x.longest(n, 1)
}

// longest looks the name's suffixes up, from the longest that may be there, leaving out the first skip labels.
func (x *Index) longest(n zones.Name, skip int) (apex zones.Name, v Value, ok bool) {
	var starts [zones.MaxLabels + 1]uint8
	labels := 0
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		starts[labels] = uint8(i)
		labels++
	}
	starts[labels] = uint8(len(n) - 1)
	skip = max(skip, labels-int(x.deepest.Load()))
	var hashes [zones.MaxLabels + 1]uint64 // of the suffix at starts[i]
	h := rootHash
	hashes[labels] = h
	for i := labels - 1; i >= skip; i-- {
		h = x.step(h, n[starts[i]:starts[i+1]])
		hashes[i] = h
	}
	for i := skip; i <= labels; i++ {
		suffix := n[starts[i]:]
		if v, ok = x.parts[hashes[i]>>(64-partBits)].Load().find(hashes[i], suffix); ok {
			return suffix, v, true
		}
	}
	return "", Value{}, false
}

const rootHash = uint64(0x9e3779b97f4a7c15)

// step hashes a name, given the hash of its parent and its first label with the length octet: so all
// suffixes of a name are hashed in one pass, from the root down.
func (x *Index) step(parent uint64, label zones.Name) uint64 {
	h := (parent ^ maphash.String(x.seed, string(label))) * 0xff51afd7ed558ccd
	return h ^ h>>32
}

func (x *Index) hash(n zones.Name) uint64 {
	var starts [zones.MaxLabels + 1]uint8
	labels := 0
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		starts[labels] = uint8(i)
		labels++
	}
	starts[labels] = uint8(len(n) - 1)
	h := rootHash
	for i := labels - 1; i >= 0; i-- {
		h = x.step(h, n[starts[i]:starts[i+1]])
	}
	return h
}

// Len returns how many apexes there are.
func (x *Index) Len() int { return int(x.count.Load()) }

// Bytes returns the memory held, in octets.
func (x *Index) Bytes() int {
	n := indexBytes
	for i := range x.parts {
		if p := x.parts[i].Load(); p != nil {
			n += p.bytes()
		}
	}
	return n
}

// All yields the apexes in no order. Those that are put or deleted meanwhile may be seen or not, all
// others are seen once. The names share memory with the index: clone what is kept for long.
func (x *Index) All() iter.Seq2[zones.Name, Value] {
	return func(yield func(zones.Name, Value) bool) {
		for i := range x.parts {
			p := x.parts[i].Load()
			if p == nil {
				continue
			}
			for name, v := range p.all() {
				if !yield(name, v) {
					return
				}
			}
		}
	}
}

// renew returns a part with what p has and room for more, and none of the dead. p may be nil.
func (x *Index) renew(p *part, room int) *part { return x.renewed(p, 1, room) }

// renewed is renew with room for so many apexes, and so many octets of their names, and a quarter more than all.
func (x *Index) renewed(p *part, apexes, room int) *part {
	live, octets := 0, 0
	if p != nil {
		live, octets = p.live, p.octets
	}
	next := newPart(live+apexes, octets+room)
	if p != nil {
		for name, v := range p.all() {
			next.add(x.hash(name), name, v)
		}
	}
	return next
}
