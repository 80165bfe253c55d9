package zones

import (
	"encoding/binary"
	"iter"
	"slices"
)

// Node is an owner name and its RRsets, packed one after the other in the order of their keys. It is
// an immutable value. A node without RRsets is an empty non-terminal (RFC 8499); the zero value is none.
type Node struct {
	Owner  Name
	packed []byte
}

// NewNode makes a node of RRsets, whose owners are ignored. It sorts sets in place, and copies their data.
func NewNode(owner Name, sets []RRset) Node {
	slices.SortFunc(sets, func(a, b RRset) int { return a.Key.Compare(b.Key) })
	size := 0
	for _, s := range sets {
		size += PackedHeader + s.Size()
	}
	packed := make([]byte, 0, size)
	for _, s := range sets {
		packed = s.AppendPacked(packed)
	}
	return Node{Owner: owner, packed: packed}
}

// NodeView returns a node over octets that NewNode or Packed made and that nothing will change.
func NodeView(owner Name, packed []byte) Node { return Node{Owner: owner, packed: packed} }

// Packed returns the packed RRsets, which must not be changed.
func (n Node) Packed() []byte { return n.packed }

// IsZero reports whether n is no node.
func (n Node) IsZero() bool { return n.Owner == "" }

// IsEmpty reports whether the node has no RRsets.
func (n Node) IsEmpty() bool { return len(n.packed) == 0 }

// RRset returns the RRset of type t; ok is false when there is none. For RRSIG, see Signatures.
func (n Node) RRset(t Type) (s RRset, ok bool) { return n.find(Key{Type: t}) }

// Signatures returns the RRSIGs that cover type t.
func (n Node) Signatures(t Type) (s RRset, ok bool) { return n.find(Key{TypeRRSIG, t}) }

// Has reports whether the node has an RRset of type t.
func (n Node) Has(t Type) bool {
	_, ok := n.find(Key{Type: t})
	return ok
}

func (n Node) find(k Key) (RRset, bool) {
	want := uint32(k.Type)<<16 | uint32(k.Covered)
	for b := n.packed; len(b) > 0; {
		switch got := binary.BigEndian.Uint32(b); {
		case got == want:
			s, _ := readPacked(n.Owner, b)
			return s, true
		case got > want:
			return RRset{}, false
		}
		b = b[PackedHeader+int(binary.BigEndian.Uint32(b[10:])):]
	}
	return RRset{}, false
}

// RRsets yields the node's RRsets in the order of their keys.
func (n Node) RRsets() iter.Seq[RRset] {
	return func(yield func(RRset) bool) {
		for b := n.packed; len(b) > 0; {
			s, rest := readPacked(n.Owner, b)
			if !yield(s) {
				return
			}
			b = rest
		}
	}
}
