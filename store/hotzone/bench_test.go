package hotzone

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"balefire/zones"
)

var apex = zones.MustParseName("example.com.")

// flat makes a zone of n names below the apex, each with an address, and returns it with its names.
func flat(t testing.TB, n int) (*Zone, []zones.Name) {
	t.Helper()
	names := make([]zones.Name, n)
	for i := range names {
		names[i] = zones.MustParseName(fmt.Sprintf("host-%d.example.com.", i*7919%n))
	}
	slices.SortFunc(names, zones.Compare)
	b := NewBuilder(apex)
	soa, err := zones.NewRRset(apex, zones.TypeSOA, 300, make([]byte, 22))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(zones.NewNode(apex, []zones.RRset{soa})); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := b.Add(zones.NewNode(name, []zones.RRset{address(t, name, 1)})); err != nil {
			t.Fatal(err)
		}
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z, names
}

func address(t testing.TB, owner zones.Name, last byte) zones.RRset {
	t.Helper()
	a, err := zones.NewRRset(owner, zones.TypeA, 300, []byte{192, 0, 2, last})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var sizes = []struct {
	name string
	n    int
}{{"6", 6}, {"1k", 1_000}, {"100k", 100_000}, {"1M", 1_000_000}}

func BenchmarkFindExact(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			z, names := flat(b, size.n)
			shuffle(names)
			benchFind(b, z, names)
			b.ReportMetric(float64(z.Bytes())/float64(size.n), "bytes/name")
		})
	}
}

func BenchmarkFindAbsent(b *testing.B) {
	for _, size := range sizes[:3] {
		b.Run(size.name, func(b *testing.B) {
			z, _ := flat(b, size.n)
			absent := make([]zones.Name, 1<<14)
			for i := range absent {
				absent[i] = zones.MustParseName(fmt.Sprintf("x.no-%d.example.com.", i))
			}
			benchFind(b, z, absent)
		})
	}
}

func benchFind(b *testing.B, z *Zone, names []zones.Name) {
	b.ReportAllocs()
	var at zones.Location
	i := 0
	defer cpu(b)()
	for b.Loop() {
		if err := z.Find(names[i], &at); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(names) {
			i = 0
		}
	}
}

func shuffle(names []zones.Name) {
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
}

// BenchmarkOrderedExact is what BenchmarkFindExact would be if names were found by their order alone, in
// leaves that hold the entries too.
func BenchmarkOrderedExact(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			z, names := flat(b, size.n)
			var c chainBuilder
			for _, n := range names {
				e, _ := readEntry(z.names.find(n))
				c.add(appendEntry(n.AppendRelativeKey(nil, apex), e))
			}
			ordered := c.done()
			shuffle(names)
			i := 0
			defer cpu(b)()
			for b.Loop() {
				var buf [maxKey]byte
				key := append(names[i].AppendRelativeKey(buf[:0], apex), 0xff) // behind the entry, before the next name's
				found, ok := ordered.floor(key)
				if e, _ := readEntry(found[len(key)-1:]); !ok || e.name != names[i] {
					b.Fatal("not found")
				}
				if i++; i == len(names) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkPatch changes one record, and the serial, of zones of several sizes.
func BenchmarkPatch(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			z, names := flat(b, size.n)
			shuffle(names)
			b.ReportAllocs()
			i := 0
			defer cpu(b)()
			for b.Loop() {
				next, err := z.Patch(change(b, z, names[i]))
				if err != nil {
					b.Fatal(err)
				}
				z = next
				if i++; i == len(names) {
					i = 0
				}
			}
		})
	}
}

// change makes the delta that raises the last octet of the name's address, and the zone's serial.
func change(t testing.TB, z *Zone, name zones.Name) zones.Delta {
	var at zones.Location
	if err := z.Find(name, &at); err != nil {
		t.Fatal(err)
	}
	before, _ := at.Node.RRset(zones.TypeA)
	after := address(t, name, before.First()[3]+1)
	serial, _ := z.Apex().RRset(zones.TypeSOA)
	return zones.Delta{Changes: []zones.RRsetChange{
		{Owner: serial.Owner, Key: serial.Key, Before: serial, After: serial.WithTTL(serial.TTL + 1)},
		{Owner: name, Key: before.Key, Before: before, After: after},
	}}
}

func TestFindDoesNotAllocate(t *testing.T) {
	z, names := flat(t, 5_000)
	absent := zones.MustParseName("a.b.c.d.e.example.com.")
	var at zones.Location
	if n := testing.AllocsPerRun(100, func() {
		for _, name := range []zones.Name{names[17], absent, apex} {
			if err := z.Find(name, &at); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	b := NewBuilder(apex)
	for _, name := range []zones.Name{apex, names[3]} {
		nsec, err := zones.NewRRset(name, zones.TypeNSEC, 300, []byte(apex))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(zones.NewNode(name, []zones.RRset{nsec})); err != nil {
			t.Fatal(err)
		}
	}
	nsec3, err := zones.NewRRset(names[5], zones.TypeNSEC3, 300, []byte("no reader looks"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddHashed(zones.NewNode(names[5], []zones.RRset{nsec3})); err != nil {
		t.Fatal(err)
	}
	signed, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		n, _ := signed.FindNSEC(names[9])
		h, _ := signed.FindNSEC3(names[9])
		if n.IsZero() || h.IsZero() {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations for denial", n)
	}
}

// TestSmallZone holds the price of the most usual zone: six records, five names.
func TestSmallZone(t *testing.T) {
	z, _ := flat(t, 5)
	if got := z.Bytes(); got > 600 {
		t.Errorf("a small zone takes %d octets", got)
	}
	if z.names.dir != nil || z.denial != nil {
		t.Error("a small zone is in more than one page")
	}
}

// TestPatchSharesPages holds what a change to a large zone may copy.
func TestPatchSharesPages(t *testing.T) {
	z, names := flat(t, 20_000)
	next, err := z.Patch(change(t, z, names[777]))
	if err != nil {
		t.Fatal(err)
	}
	old := map[*byte]bool{}
	for _, s := range z.names.dir.segments {
		for _, p := range s {
			old[p.start] = true
		}
	}
	fresh := map[*byte]bool{}
	for _, s := range next.names.dir.segments {
		for _, p := range s {
			if !old[p.start] {
				fresh[p.start] = true
			}
		}
	}
	if len(fresh) == 0 || len(fresh) > 2 {
		t.Errorf("%d of %d pages are new", len(fresh), len(old))
	}
	if grown := next.Bytes() - z.Bytes(); grown < -4096 || grown > 4096 {
		t.Errorf("%d octets grown", grown)
	}
}

// TestBytes compares the account with the pages themselves, after building and after many patches.
func TestBytes(t *testing.T) {
	z, names := flat(t, 3_000)
	for i := range 500 {
		if i%2 == 0 {
			fresh := zones.MustParseName(fmt.Sprintf("fresh-%d.example.com.", i))
			d := zones.Delta{Changes: []zones.RRsetChange{{Owner: fresh, Key: zones.Key{Type: zones.TypeA}, After: address(t, fresh, 1)}}}
			next, err := z.Patch(d)
			if err != nil {
				t.Fatal(err)
			}
			z = next
		}
		next, err := z.Patch(change(t, z, names[i]))
		if err != nil {
			t.Fatal(err)
		}
		z = next
	}
	seen, total, entries := map[*byte]bool{}, 0, 0
	for i, s := range z.names.dir.segments {
		for j, p := range s {
			if spread := 64 - z.names.dir.shift - p.depth(); spread > 40 {
				t.Fatalf("page %d/%d is deeper than its directory", i, j)
			}
			if !seen[p.start] {
				seen[p.start] = true
				total += p.capacity()
				entries += p.count()
			}
		}
	}
	if total != z.names.dir.bytes || entries != z.Names() {
		t.Errorf("account: %d octets, %d names; pages: %d, %d", z.names.dir.bytes, z.Names(), total, entries)
	}
}

// TestReadersAndPatcher reads while versions follow each other; it is for the race detector.
func TestReadersAndPatcher(t *testing.T) {
	z, names := flat(t, 2_000)
	var current atomic.Pointer[Zone]
	current.Store(z)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			var at zones.Location
			for i := r; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := names[i%len(names)]
				if err := current.Load().Find(n, &at); err != nil || !at.Exact || at.Node.Owner != n {
					t.Errorf("%s: %v, %+v", n, err, at)
					return
				}
				if a, ok := at.Node.RRset(zones.TypeA); !ok || a.Len() != 1 {
					t.Errorf("%s: %+v", n, a)
					return
				}
			}
		})
	}
	for i := range 1_000 {
		next, err := z.Patch(change(t, z, names[i%50]))
		if err != nil {
			t.Error(err)
			break
		}
		z = next
		current.Store(z)
	}
	close(stop)
	readers.Wait()
}

// BenchmarkBuild makes a zone of 100,000 names; a small one is made by the same builder, again and again.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{6, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			z, names := flat(b, n)
			nodes := []zones.Node{z.Apex()}
			for _, name := range names {
				var at zones.Location
				if err := z.Find(name, &at); err != nil {
					b.Fatal(err)
				}
				nodes = append(nodes, at.Node)
			}
			builder := NewBuilder(apex)
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				builder.Reset(apex)
				for _, node := range nodes {
					if err := builder.Add(node); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := builder.Build(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
