package hotzone

import (
	"bytes"
	"unsafe"

	"balefire/zones"
)

// Builder builds zones, one after the other, reusing its own memory. It is for one goroutine.
//
// A name's entry says how many names are directly below it, so entries are made when the last of those
// has come: the names on the path to the newest one wait on a stack.
type Builder struct {
	apex zones.Name

	path    []pending // from the apex down
	octets  []byte    // of path: name and packed RRsets of each
	lastKey []byte
	names   growing
	nsec    chainBuilder

	lastHashed []byte
	hashed     growing
	nsec3      chainBuilder

	spare []byte // for the next key
	zone  Zone   // the counts so far
	err   error
}

type pending struct {
	start, nameLen, packedLen int
	children                  uint32
}

// NewBuilder returns a builder of the zone with the given apex.
func NewBuilder(apex zones.Name) *Builder {
	b := &Builder{}
	b.Reset(apex)
	return b
}

// Reset forgets what was added and begins the zone of the given apex.
func (b *Builder) Reset(apex zones.Name) {
	b.apex = apex
	b.path, b.octets = b.path[:0], b.octets[:0]
	b.names.reset()
	b.hashed.reset()
	b.nsec, b.nsec3 = chainBuilder{}, chainBuilder{}
	b.lastKey, b.lastHashed = b.lastKey[:0], b.lastHashed[:0]
	b.zone, b.err = Zone{}, nil
}

// Bytes returns about how much memory the zone will take, so that a caller with a budget can give up early.
func (b *Builder) Bytes() int {
	n := b.names.bytes + b.hashed.bytes + len(b.octets)
	for _, c := range []*chainBuilder{&b.nsec, &b.nsec3} {
		n += len(c.leaves)*chainLimit + len(c.octets)
	}
	return n
}

// Add adds a node, whose data it copies. Nodes come in canonical order, the apex first, without those
// RRsets whose Key is Hashed. Nodes without RRsets are passed over: the builder knows them by itself.
// After an error all calls fail with it.
func (b *Builder) Add(n zones.Node) error {
	if b.err == nil && !n.IsEmpty() {
		b.err = b.add(n)
	}
	return b.err
}

func (b *Builder) add(n zones.Node) error {
	if len(n.Packed()) > pageMax/2 {
		return ErrTooLarge
	}
	if len(b.path) == 0 {
		if n.Owner != b.apex {
			return ErrNoApex
		}
	} else {
		if !n.Owner.IsBelow(b.apex) {
			return ErrOrder
		}
		b.spare = n.Owner.AppendRelativeKey(b.spare[:0], b.apex)
		if bytes.Compare(b.spare, b.lastKey) <= 0 {
			return ErrOrder
		}
		b.spare, b.lastKey = b.lastKey, b.spare
		b.climb(n.Owner)
	}
	b.push(n)
	if n.Has(zones.TypeNSEC) {
		b.nsec.add(b.lastKey)
	}
	return nil
}

// climb pops the names that n is not below, and pushes the empty non-terminals down to n.
func (b *Builder) climb(n zones.Name) {
	for !n.IsBelow(b.top()) {
		b.pop()
	}
	for missing := n.Labels() - b.top().Labels() - 1; missing > 0; missing-- {
		ent := n
		for range missing {
			ent = ent.Parent()
		}
		b.push(zones.NodeView(ent, nil))
	}
}

func (b *Builder) top() zones.Name {
	p := b.path[len(b.path)-1]
	return zones.NameView(b.octets[p.start : p.start+p.nameLen])
}

func (b *Builder) push(n zones.Node) {
	if len(b.path) > 0 {
		b.path[len(b.path)-1].children++
	}
	b.path = append(b.path, pending{start: len(b.octets), nameLen: len(n.Owner), packedLen: len(n.Packed())})
	b.octets = append(b.octets, n.Owner...)
	b.octets = append(b.octets, n.Packed()...)
	b.zone.deepest = max(b.zone.deepest, uint8(len(b.path)-1))
}

func (b *Builder) pop() {
	p := b.path[len(b.path)-1]
	b.path = b.path[:len(b.path)-1]
	packed := p.start + p.nameLen
	e := entry{
		name:     zones.NameView(b.octets[p.start:packed]),
		packed:   b.octets[packed : packed+p.packedLen],
		children: p.children,
	}
	below := len(b.path) > 0
	e.cut = below && e.node().Has(zones.TypeNS)
	b.zone.count(e, below, 1)
	b.names.add(e)
	b.octets = b.octets[:p.start]
}

// count adds an entry to the zone's counts, or takes it away (by is −1).
func (z *Zone) count(e entry, belowApex bool, by int) {
	z.total += uint32(by)
	if e.cut {
		z.cuts += uint32(by)
	}
	if belowApex && e.name.IsWildcard() {
		z.stars += uint32(by)
	}
}

// AddHashed adds a node of the NSEC3 chain (RRsets whose Key is Hashed, only those), in canonical order
// among themselves, before, between or after those of Add.
func (b *Builder) AddHashed(n zones.Node) error {
	if b.err == nil && !n.IsEmpty() {
		b.err = b.addHashed(n)
	}
	return b.err
}

func (b *Builder) addHashed(n zones.Node) error {
	if len(n.Packed()) > pageMax/2 {
		return ErrTooLarge
	}
	if !n.Owner.IsAtOrBelow(b.apex) {
		return ErrOrder
	}
	b.spare = n.Owner.AppendRelativeKey(b.spare[:0], b.apex)
	if !b.hashed.empty() && bytes.Compare(b.spare, b.lastHashed) <= 0 {
		return ErrOrder
	}
	b.spare, b.lastHashed = b.lastHashed, b.spare
	b.hashed.add(entry{name: n.Owner, packed: n.Packed()})
	if n.Has(zones.TypeNSEC3) {
		b.nsec3.add(b.lastHashed)
	}
	return nil
}

// Build returns the zone. The builder must be Reset before it is used again.
func (b *Builder) Build() (*Zone, error) {
	if b.err != nil {
		return nil, b.err
	}
	if len(b.path) == 0 {
		return nil, ErrNoApex
	}
	for len(b.path) > 0 {
		b.pop()
	}
	b.err = ErrOrder // until the Reset
	names, err := b.names.done()
	if err != nil {
		return nil, err
	}
	hashed, err := b.hashed.done()
	if err != nil {
		return nil, err
	}
	z := b.zone
	z.names = names
	z.apex = unsafe.SliceData(z.names.find(b.apex))
	if d := (denial{nsec: b.nsec.done(), nsec3: b.nsec3.done(), hashed: hashed}); !d.empty() {
		z.denial = new(denial)
		*z.denial = d
	}
	return &z, nil
}

// growing is a table being filled: buckets in place of pages. Bucket 0 lives on after a reset.
type growing struct {
	buckets []*bucket // by the leading bits of the hash; one stands as often as it must
	bits    uint
	bytes   int
}

func (g *growing) reset() {
	if g.bits == 0 && len(g.buckets) == 1 {
		g.buckets[0].entries, g.buckets[0].count = g.buckets[0].entries[:0], 0
	} else {
		g.buckets = []*bucket{{}}
	}
	g.bits, g.bytes = 0, 0
}

func (g *growing) empty() bool { return g.bytes == 0 }

func (g *growing) add(e entry) {
	hash := hashOf(e.name)
	b := g.buckets[hash>>(64-g.bits)]
	before := len(b.entries)
	b.entries = appendEntry(b.entries, e)
	b.count++
	g.bytes += len(b.entries) - before + 6 // and its share of slots
	if b.tooFull() {
		g.divide(b)
	}
}

func (g *growing) divide(b *bucket) {
	low, high := b.split()
	if g.bits < low.depth {
		twice := make([]*bucket, 2*len(g.buckets))
		for i := range twice {
			twice[i] = g.buckets[i/2]
		}
		g.buckets, g.bits = twice, g.bits+1
	}
	for _, half := range []*bucket{low, high} {
		spread := g.bits - half.depth
		for i := half.prefix << spread; i < (half.prefix+1)<<spread; i++ {
			g.buckets[i] = half
		}
		if half.tooFull() {
			g.divide(half)
		}
	}
}

// done seals the buckets, and gives each up as it goes.
func (g *growing) done() (table, error) {
	if g.empty() {
		return table{}, nil
	}
	if g.bits == 0 {
		p, err := seal(g.buckets[0].entries, g.buckets[0].count, 0)
		return table{one: p}, err
	}
	d := &directory{shift: 64 - g.bits, segments: newSegments(g.bits)}
	for i := 0; i < len(g.buckets); {
		b := g.buckets[i]
		p, err := seal(b.entries, b.count, b.depth)
		if err != nil {
			return table{}, err
		}
		d.bytes += p.capacity()
		for end := i + 1<<(g.bits-b.depth); i < end; i++ {
			d.segments[i>>segmentBits][i&segmentMask] = p
		}
		b.entries = nil
	}
	return table{dir: d}, nil
}
