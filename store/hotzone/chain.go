package hotzone

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
	"unsafe"
)

// chain is an ordered set of sort keys (zones.Name.AppendRelativeKey): a B-tree with copy-on-write pages.
// Leaves are not joined when they shrink, only dropped when empty.
type chain struct {
	root  *branch // nil when empty
	bytes int
}

// branch is a page of keys. In a leaf (no kids) they are the set's; above, keys[i] is at or before all
// that is under kids[i], and after all that is under kids[i−1].
type branch struct {
	keys keyPage
	kids []*branch
}

const (
	chainLimit = 4 << 10 // octets of a page of keys before it is split
	chainFan   = 128     // kids of a branch before it is split
)

func (b *branch) cost() int {
	return int(unsafe.Sizeof(*b)) + cap(b.keys) + int(unsafe.Sizeof(b))*cap(b.kids)
}

// floor returns the greatest key at or before k; ok is false when there is none.
func (c *chain) floor(k []byte) (key []byte, ok bool) { return c.root.floor(k) }

// last returns the greatest key.
func (c *chain) last() (key []byte, ok bool) {
	b := c.root
	if b == nil {
		return nil, false
	}
	for b.kids != nil {
		b = b.kids[len(b.kids)-1]
	}
	return b.keys.at(b.keys.count() - 1), true
}

func (b *branch) floor(k []byte) (key []byte, ok bool) {
	if b == nil {
		return nil, false
	}
	i := b.keys.floor(k)
	if i < 0 {
		return nil, false
	}
	if b.kids == nil {
		return b.keys.at(i), true
	}
	if key, ok = b.kids[i].floor(k); ok || i == 0 {
		return key, ok
	}
	// The kid's first keys are gone, and its mark remained: what is before it ends the kid before.
	left := chain{root: b.kids[i-1]}
	return left.last()
}

// insert returns the set with k in it.
func (c chain) insert(k []byte) chain {
	if c.root == nil {
		c.root = c.made(&branch{keys: keyPage{}.splice(0, 0, k)})
		return c
	}
	left, right := c.insertAt(c.root, k)
	c.root = left
	if right != nil {
		c.root = c.made(&branch{
			keys: keyPage{}.splice(0, 0, left.keys.at(0), right.keys.at(0)),
			kids: []*branch{left, right},
		})
	}
	return c
}

// insertAt returns what takes b's place: b itself when k is there, or one branch, or two.
func (c *chain) insertAt(b *branch, k []byte) (left, right *branch) {
	i := b.keys.floor(k)
	if b.kids == nil {
		if i >= 0 && bytes.Equal(b.keys.at(i), k) {
			return b, nil
		}
		return c.replace(b, b.keys.splice(i+1, 0, k), nil)
	}
	keys := b.keys
	if i < 0 {
		i = 0
		keys = keys.splice(0, 1, k)
	}
	kid, more := c.insertAt(b.kids[i], k)
	kids := slices.Clone(b.kids)
	kids[i] = kid
	if more != nil {
		keys = keys.splice(i+1, 0, more.keys.at(0))
		kids = slices.Insert(kids, i+1, more)
	}
	return c.replace(b, keys, kids)
}

// remove returns the set without k.
func (c chain) remove(k []byte) chain {
	if c.root == nil {
		return c
	}
	c.root = c.removeAt(c.root, k)
	for c.root != nil && len(c.root.kids) == 1 {
		c.bytes -= c.root.cost()
		c.root = c.root.kids[0]
	}
	return c
}

// removeAt returns what takes b's place: b itself when k is not there, nil when nothing is left.
func (c *chain) removeAt(b *branch, k []byte) *branch {
	i := b.keys.floor(k)
	if i < 0 {
		return b
	}
	var kids []*branch
	if b.kids == nil {
		if !bytes.Equal(b.keys.at(i), k) {
			return b
		}
	} else {
		kid := c.removeAt(b.kids[i], k)
		switch {
		case kid == b.kids[i]:
			return b
		case kid != nil:
			kids = slices.Clone(b.kids)
			kids[i] = kid
			return c.shrink(b, b.keys, kids)
		case len(b.kids) > 1:
			kids = slices.Delete(slices.Clone(b.kids), i, i+1)
		}
	}
	if b.keys.count() == 1 {
		c.bytes -= b.cost()
		return nil
	}
	return c.shrink(b, b.keys.splice(i, 1), kids)
}

// shrink makes one branch in place of b, and keeps the account.
func (c *chain) shrink(b *branch, keys keyPage, kids []*branch) *branch {
	c.bytes -= b.cost()
	return c.made(&branch{keys: keys, kids: kids})
}

// replace makes one or two branches in place of b, and keeps the account.
func (c *chain) replace(b *branch, keys keyPage, kids []*branch) (left, right *branch) {
	c.bytes -= b.cost()
	if n := keys.count(); n > 2 && (len(keys) > chainLimit || n > chainFan) {
		left, right = &branch{keys: keys.cut(0, n/2)}, &branch{keys: keys.cut(n/2, n)}
		if kids != nil {
			left.kids, right.kids = slices.Clone(kids[:n/2]), slices.Clone(kids[n/2:])
		}
		return c.made(left), c.made(right)
	}
	return c.made(&branch{keys: keys, kids: kids}), nil
}

func (c *chain) made(b *branch) *branch {
	c.bytes += b.cost()
	return b
}

// keyPage is a sorted list of keys without pointers: how many, where each ends among the octets, and the
// octets, one after the other. Counts and ends have two octets. The empty page is empty.
type keyPage []byte

func (p keyPage) count() int {
	if len(p) == 0 {
		return 0
	}
	return int(binary.LittleEndian.Uint16(p))
}

func (p keyPage) end(i int) int { return int(binary.LittleEndian.Uint16(p[2+2*i:])) }

func (p keyPage) at(i int) []byte {
	start := 0
	if i > 0 {
		start = p.end(i - 1)
	}
	base := 2 + 2*p.count()
	end := base + p.end(i)
	return p[base+start : end : end]
}

// floor returns the index of the greatest key at or before k, −1 for none.
func (p keyPage) floor(k []byte) int {
	return sort.Search(p.count(), func(i int) bool { return bytes.Compare(p.at(i), k) > 0 }) - 1
}

// splice returns the page with the given number of keys at i replaced by those of insert.
func (p keyPage) splice(i, remove int, insert ...[]byte) keyPage {
	keys := make([][]byte, 0, p.count()+len(insert))
	for j := range i {
		keys = append(keys, p.at(j))
	}
	keys = append(keys, insert...)
	for j := i + remove; j < p.count(); j++ {
		keys = append(keys, p.at(j))
	}
	return newKeyPage(keys)
}

// cut returns the keys from i to before j.
func (p keyPage) cut(i, j int) keyPage {
	keys := make([][]byte, 0, j-i)
	for ; i < j; i++ {
		keys = append(keys, p.at(i))
	}
	return newKeyPage(keys)
}

func newKeyPage(keys [][]byte) keyPage {
	size := 2 + 2*len(keys)
	for _, k := range keys {
		size += len(k)
	}
	p := append(keyPage(nil), make(keyPage, size)...)
	octets := p[2+2*len(keys):]
	binary.LittleEndian.PutUint16(p, uint16(len(keys)))
	end := 0
	for i, k := range keys {
		end += len(k)
		binary.LittleEndian.PutUint16(p[2+2*i:], uint16(end))
		copy(octets[end-len(k):], k)
	}
	return p
}

// chainBuilder makes a chain of keys that come in order.
type chainBuilder struct {
	leaves []*branch
	ends   []int
	octets []byte
}

func (b *chainBuilder) add(k []byte) {
	if len(b.octets)+2*len(b.ends)+len(k) > chainLimit || len(b.ends) >= chainFan {
		b.flush()
	}
	b.octets = append(b.octets, k...)
	b.ends = append(b.ends, len(b.octets))
}

func (b *chainBuilder) flush() {
	if len(b.ends) == 0 {
		return
	}
	keys := make([][]byte, len(b.ends))
	start := 0
	for i, end := range b.ends {
		keys[i] = b.octets[start:end]
		start = end
	}
	b.leaves = append(b.leaves, &branch{keys: newKeyPage(keys)})
	b.ends, b.octets = b.ends[:0], b.octets[:0]
}

func (b *chainBuilder) done() chain {
	b.flush()
	var c chain
	level := b.leaves
	b.leaves = nil
	for _, leaf := range level {
		c.made(leaf)
	}
	for len(level) > 1 {
		var above []*branch
		for len(level) > 0 {
			n, size := 0, 0
			var keys [][]byte
			for n < len(level) && n < chainFan && (n < 2 || size < chainLimit) {
				k := level[n].keys.at(0)
				keys = append(keys, k)
				size += 2 + len(k)
				n++
			}
			above = append(above, c.made(&branch{keys: newKeyPage(keys), kids: slices.Clone(level[:n])}))
			level = level[n:]
		}
		level = above
	}
	if len(level) == 1 {
		c.root = level[0]
	}
	return c
}
