package store

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"balefire/store/hotzone"
	"balefire/zones"
)

// largeZoneOf is a zone of a little more than so many octets in memory.
func largeZoneOf(t *testing.T, apex zones.Name, octets int) *hotzone.Zone {
	t.Helper()
	b := hotzone.NewBuilder(apex)
	add := func(owner zones.Name, typ zones.Type, value []byte) {
		s, err := zones.NewRRset(owner, typ, 60, value)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(zones.NewNode(owner, []zones.RRset{s})); err != nil {
			t.Fatal(err)
		}
	}
	add(apex, zones.TypeSOA, make([]byte, 22))
	for i := 0; b.Bytes() < octets; i++ {
		add(zones.MustParseName(fmt.Sprintf("n%06d.%s", i, apex)), zones.TypeTXT, make([]byte, 200))
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// largeRig is a store whose budget is 16 MiB, so that 1 MiB is large.
type largeRig struct {
	*testing.T
	s *Store
	p *Partition
}

func newLargeRig(t *testing.T) largeRig {
	s, p := newTestStore(16 << 20)
	return largeRig{t, s, p}
}

func (r largeRig) put(text string, octets int) zones.Name {
	r.Helper()
	apex := zones.MustParseName(text)
	r.s.hot.create(r.p, apex)
	r.s.hot.install(newHotEntry(largeZoneOf(r.T, apex, octets), r.p, 0))
	return apex
}

func (r largeRig) has(apex zones.Name) bool { return r.s.hot.sizeOf(apex) > 0 }

// unused makes a zone look as if nobody had asked for it for so long.
func (r largeRig) unused(apex zones.Name, since time.Duration) {
	v, _ := r.s.hot.index.Get(apex)
	at, _ := r.s.hot.slot(v.Slot)
	at.version.And(^uint64(usedBit))
	if _, ok := r.s.hot.large.used[v.Slot]; ok {
		r.s.hot.large.used[v.Slot] = time.Now().Add(-since)
	}
}

// Small zones that come, all of them asked for, put each other out, and not the large one that is in use.
func TestLargeZoneStays(t *testing.T) {
	r := newLargeRig(t)
	large := r.put("large.", 8<<20)
	for i := range 400 {
		small := r.put(fmt.Sprintf("s%d.", i), 64<<10)
		r.s.FindHot(small, zones.TypeA)
		if !r.has(large) {
			t.Fatalf("put out when %d small zones had come", i+1)
		}
		if got := r.s.hot.bytes.Load(); got > r.s.hot.limit {
			t.Fatalf("%d octets in memory", got)
		}
	}
	r.unused(large, 2*largeGrace)
	for i := range 400 {
		r.s.FindHot(r.put(fmt.Sprintf("t%d.", i), 64<<10), zones.TypeA)
	}
	if r.has(large) {
		t.Error("a large zone that nobody asks for stays for ever")
	}
}

// Large zones leave a part of the budget to small ones; one that does not fit beside those in use is not even read, until one of
// them has not been used for a while.
func TestLargeZonesDoNotFlap(t *testing.T) {
	r := newLargeRig(t)
	first := r.put("first.", 8<<20)
	r.s.FindHot(first, zones.TypeA)
	second := zones.MustParseName("second.")
	r.s.hot.create(r.p, second)
	v, _ := r.s.hot.index.Get(second)
	for range 3 {
		if r.s.hot.worthReading(v.Slot, 8<<20) {
			t.Fatal("two of half the budget would fit")
		}
	}
	if !r.s.hot.worthReading(v.Slot, 64<<10) {
		t.Error("a small one does not come in")
	}
	r.unused(first, 2*largeGrace)
	if !r.s.hot.worthReading(v.Slot, 8<<20) || r.has(first) {
		t.Error("a zone that nobody asks for keeps another out")
	}
	r.put("second.", 8<<20)
	if !r.has(second) || r.s.hot.large.bytes != r.s.hot.bytes.Load() {
		t.Errorf("%d octets, %d of them in large zones", r.s.hot.bytes.Load(), r.s.hot.large.bytes)
	}
	// One that was read, and was larger than it looked, is not read again and again.
	third := r.put("third.", 8<<20)
	if v, _ := r.s.hot.index.Get(third); r.has(third) || r.s.hot.worthReading(v.Slot, 1) {
		t.Error("read in vain, and to be read again at once")
	}
}

// A large zone that grows beyond what there is goes.
func TestLargeZoneOutgrows(t *testing.T) {
	r := newLargeRig(t)
	apex := r.put("large.", 8<<20)
	r.s.hot.limit = r.s.hot.bytes.Load()/3*4 + 1000
	owner := zones.MustParseName("more.large.")
	set, err := zones.NewRRset(owner, zones.TypeTXT, 60, make([]byte, 5000))
	if err != nil {
		t.Fatal(err)
	}
	r.s.hot.patch(r.p, apex, zones.Delta{Changes: []zones.RRsetChange{{Owner: owner, Key: set.Key, After: set}}}, 1)
	if got := r.s.hot.bytes.Load(); r.has(apex) || got != 0 || r.s.hot.large.bytes != 0 || len(r.s.hot.large.used) != 0 {
		t.Errorf("%d octets in memory, %d in %d large zones", got, r.s.hot.large.bytes, len(r.s.hot.large.used))
	}
}

// A small zone is two objects to the garbage collector: its entry, and a page.
func TestObjectsOfAZone(t *testing.T) {
	zone := zoneOf(t, zones.MustParseName("small.test."))
	_, p := newTestStore(1 << 20)
	if n := testing.AllocsPerRun(100, func() { kept = newHotEntry(zone, p, 0) }); n != 1 {
		t.Errorf("an entry is %v objects", n)
	}
	if size := unsafe.Sizeof(hotEntry{}); size > 80 {
		t.Errorf("an entry takes %d octets", size)
	}
}

var kept *hotEntry
