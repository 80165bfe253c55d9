package hotzone

import (
	"slices"
	"unsafe"

	"balefire/zones"
)

// table finds entries by name: extendible hashing over copy-on-write pages. A table of one page, as most
// are, has no directory.
type table struct {
	one page
	dir *directory
}

// directory leads from the leading bits of a hash to its page. A page whose names share fewer bits than
// the directory looks at stands in it several times over. It is in two levels, so that replacing a page
// copies a few KB also in a zone of millions of names.
type directory struct {
	shift    uint // 64 − the bits looked at, of which there is at least one
	bytes    int  // of all pages
	segments [][]page
}

const (
	segmentBits = 7
	segmentMask = 1<<segmentBits - 1
	sliceBytes  = int(unsafe.Sizeof([]page(nil)))
	pageBytes   = int(unsafe.Sizeof(page{}))
)

func (d *directory) page(hash uint64) page {
	i := hash >> d.shift
	return d.segments[i>>segmentBits][i&segmentMask]
}

// find returns the entry's octets, and what follows it in its page; nil when the name does not exist.
func (t *table) find(n zones.Name) []byte { return t.findHash(hashOf(n), n) }

func (t *table) findHash(hash uint64, n zones.Name) []byte {
	p := t.one
	if t.dir != nil {
		p = t.dir.page(hash)
	}
	if !p.exists() {
		return nil
	}
	at := p.find(hash, n)
	if at == 0 {
		return nil
	}
	return p.octets()[at:]
}

// size returns the octets held, shared or not.
func (t *table) size() int {
	if t.dir == nil {
		return t.one.capacity()
	}
	n := int(unsafe.Sizeof(*t.dir)) + t.dir.bytes
	for _, s := range t.dir.segments {
		n += sliceBytes + pageBytes*len(s)
	}
	return n
}

// bucket is a page being made, or taken apart.
type bucket struct {
	entries []byte
	count   int
	depth   uint
	prefix  uint64 // the first depth bits of the hashes, as a number
}

func (b *bucket) tooFull() bool {
	return len(b.entries) > pageLimit && b.count > pageFew && b.depth < 40
}

// split divides b by the next bit of the hashes.
func (b *bucket) split() (low, high *bucket) {
	low = &bucket{depth: b.depth + 1, prefix: b.prefix << 1}
	high = &bucket{depth: b.depth + 1, prefix: b.prefix<<1 | 1}
	for rest := b.entries; len(rest) > 0; {
		e, size := readEntry(rest)
		half := low
		if hashOf(e.name)>>(63-b.depth)&1 != 0 {
			half = high
		}
		if half.entries == nil {
			half.entries = make([]byte, 0, pageLimit+pageLimit/16)
		}
		half.entries = append(half.entries, rest[:size]...)
		half.count++
		rest = rest[size:]
	}
	return low, high
}

// edit replaces a name's entry, or removes it.
type edit struct {
	entry
	hash uint64
	gone bool
}

// apply returns the table after the edits, at most one for a name, which it sorts.
func (t table) apply(edits []edit) (table, error) {
	slices.SortFunc(edits, func(a, b edit) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	next := &editor{old: t}
	for len(edits) > 0 {
		p := t.one
		if t.dir != nil {
			p = t.dir.page(edits[0].hash)
		}
		run := len(edits)
		depth := p.depth()
		if depth > 0 {
			prefix := edits[0].hash >> (64 - depth)
			for run = 1; run < len(edits) && edits[run].hash>>(64-depth) == prefix; {
				run++
			}
		}
		if err := next.rewrite(p, depth, edits[:run]); err != nil {
			return table{}, err
		}
		edits = edits[run:]
	}
	return next.done(), nil
}

// editor makes a table out of another.
type editor struct {
	old     table
	one     page
	dir     *directory // nil while the table is one page
	owned   []bool     // which segments are copies of our own
	scratch []byte
}

// rewrite puts the page, changed by the edits, in its place, split if it must be.
func (x *editor) rewrite(p page, depth uint, edits []edit) error {
	b := &bucket{entries: x.scratch[:0], depth: depth}
	if depth > 0 {
		b.prefix = edits[0].hash >> (64 - depth)
	}
	if p.exists() {
		octets, start := p.octets(), p.entriesAt()
		b.count = p.count()
		var holes []int
		for _, e := range edits {
			if at := p.find(e.hash, e.name); at != 0 {
				holes = append(holes, at)
			}
		}
		slices.Sort(holes)
		for _, hole := range holes {
			b.entries = append(b.entries, octets[start:hole]...)
			_, size := readEntry(octets[hole:])
			start = hole + size
			b.count--
		}
		b.entries = append(b.entries, octets[start:]...)
	}
	for _, e := range edits {
		if !e.gone {
			b.entries = appendEntry(b.entries, e.entry)
			b.count++
		}
	}
	x.scratch = b.entries
	return x.place(b, p.capacity())
}

// place seals the bucket, or its parts, and puts it into the directory, instead of pages of replaced octets.
func (x *editor) place(b *bucket, replaced int) error {
	if b.tooFull() {
		low, high := b.split()
		if err := x.place(low, replaced); err != nil {
			return err
		}
		return x.place(high, 0)
	}
	p, err := seal(b.entries, b.count, b.depth)
	if err != nil {
		return err
	}
	if b.depth == 0 {
		x.one = p
		return nil
	}
	x.prepare(b.depth)
	x.dir.bytes += p.capacity() - replaced
	spread := 64 - x.dir.shift - b.depth // the page stands in the directory 2^spread times
	for i := b.prefix << spread; i < (b.prefix+1)<<spread; i++ {
		s := i >> segmentBits
		if !x.owned[s] {
			x.dir.segments[s] = slices.Clone(x.dir.segments[s])
			x.owned[s] = true
		}
		x.dir.segments[s][i&segmentMask] = p
	}
	return nil
}

// prepare makes a directory of our own that looks at depth bits at least.
func (x *editor) prepare(depth uint) {
	if x.dir == nil {
		if x.old.dir != nil {
			d := *x.old.dir
			d.segments = slices.Clone(d.segments)
			x.dir, x.owned = &d, make([]bool, len(d.segments))
		} else {
			d := &directory{shift: 63, bytes: x.old.one.capacity(), segments: [][]page{{x.old.one, x.old.one}}}
			x.dir, x.owned = d, []bool{true}
		}
	}
	for 64-x.dir.shift < depth {
		x.double()
	}
}

// double makes the directory look at one bit more.
func (x *editor) double() {
	bits := 64 - x.dir.shift + 1
	d := &directory{shift: x.dir.shift - 1, bytes: x.dir.bytes}
	d.segments = newSegments(bits)
	for i := range uint64(1) << bits {
		from := i >> 1
		d.segments[i>>segmentBits][i&segmentMask] = x.dir.segments[from>>segmentBits][from&segmentMask]
	}
	x.dir = d
	x.owned = make([]bool, len(d.segments))
	for i := range x.owned {
		x.owned[i] = true
	}
}

func newSegments(bits uint) [][]page {
	if bits <= segmentBits {
		return [][]page{make([]page, 1<<bits)}
	}
	segments := make([][]page, 1<<(bits-segmentBits))
	for i := range segments {
		segments[i] = make([]page, 1<<segmentBits)
	}
	return segments
}

func (x *editor) done() table {
	switch {
	case x.dir != nil:
		return table{dir: x.dir}
	case x.one.exists():
		return table{one: x.one}
	}
	return x.old
}
