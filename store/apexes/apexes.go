// Package apexes is the index of every hosted apex, of which a node may have millions: which partition
// has the zone, and where in the node it is found. It is one flat table without pointers.
package apexes

import (
	"iter"

	"balefire/zones"
)

// Value is what the index keeps for an apex.
type Value struct {
	Partition int32  // the partition that has the zone
	Slot      uint32 // the caller's own number for it
}

// Index maps apexes to values. Readers take no lock and may be any number; writers exclude each other.
type Index struct{}

// New returns an empty index.
func New() *Index { return &Index{} }

// Put adds the apex, or gives it another value. It copies the name.
func (x *Index) Put(apex zones.Name, v Value) { panic("not yet") }

// Delete removes the apex and reports whether it was there.
func (x *Index) Delete(apex zones.Name) bool { panic("not yet") }

// Get returns the value of exactly this apex.
func (x *Index) Get(apex zones.Name) (v Value, ok bool) { panic("not yet") }

// Longest returns the longest apex that qname is at or below. The apex shares qname's memory. It does not allocate.
func (x *Index) Longest(qname zones.Name) (apex zones.Name, v Value, ok bool) { panic("not yet") }

// Parent returns the longest apex that n is properly below. It shares n's memory.
func (x *Index) Parent(n zones.Name) (apex zones.Name, v Value, ok bool) { panic("not yet") }

// Len returns how many apexes there are.
func (x *Index) Len() int { panic("not yet") }

// Bytes returns the memory held, in octets.
func (x *Index) Bytes() int { panic("not yet") }

// All yields the apexes in no order. Those that are put or deleted meanwhile may be seen or not; the rest is seen once.
func (x *Index) All() iter.Seq2[zones.Name, Value] { panic("not yet") }
