package apexes

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"balefire/zones"
)

func TestLongest(t *testing.T) {
	x := New()
	for i, apex := range []string{"example.com.", "sub.example.com.", "org.", "a.b.c.d.org.", `x\.y.test.`} {
		x.Put(zones.MustParseName(apex), Value{Partition: int32(i), Slot: uint32(100 + i)})
	}
	for _, c := range []struct{ qname, apex, parent string }{
		{"example.com.", "example.com.", ""},
		{"www.example.com.", "example.com.", "example.com."},
		{"sub.example.com.", "sub.example.com.", "example.com."},
		{"a.b.sub.example.com.", "sub.example.com.", "sub.example.com."},
		{"com.", "", ""},
		{".", "", ""},
		{"xexample.com.", "", ""},
		{"org.", "org.", ""},
		{"c.d.org.", "org.", "org."},
		{"a.b.c.d.org.", "a.b.c.d.org.", "org."},
		{"z.a.b.c.d.org.", "a.b.c.d.org.", "a.b.c.d.org."},
		{"y.test.", "", ""},
		{`x\.y.test.`, `x\.y.test.`, ""},
		{`a\003org.`, "", ""}, // a label that ends like an apex
	} {
		qname := zones.MustParseName(c.qname)
		apex, v, ok := x.Longest(qname)
		if apex.String() != c.apex || ok != (c.apex != "") {
			t.Errorf("longest of %s is %q, want %q", c.qname, apex, c.apex)
		}
		if got, exact := x.Get(qname); exact != (c.apex == c.qname) || exact && got != v {
			t.Errorf("get %s: %v, %v", c.qname, got, exact)
		}
		if parent, _, ok := x.Parent(qname); parent.String() != c.parent || ok != (c.parent != "") {
			t.Errorf("parent of %s is %q, want %q", c.qname, parent, c.parent)
		}
	}
	x.Put(zones.Root, Value{Partition: 9})
	if apex, v, ok := x.Longest(zones.MustParseName("no.such.")); !ok || apex != zones.Root || v.Partition != 9 {
		t.Errorf("below the root: %q %v %v", apex, v, ok)
	}
	if apex, _, ok := x.Parent(zones.MustParseName("org.")); !ok || apex != zones.Root {
		t.Errorf("parent of org.: %q %v", apex, ok)
	}
	if _, _, ok := x.Parent(zones.Root); ok {
		t.Error("the root has a parent")
	}
	if apex, _, ok := x.Longest(zones.Root); !ok || apex != zones.Root {
		t.Errorf("longest of the root: %q %v", apex, ok)
	}
}

// TestAgainstMap puts and deletes at random, so that parts grow, shrink and go, and compares with a map.
func TestAgainstMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	x, want := New(), map[zones.Name]Value{}
	name := func() zones.Name {
		n := fmt.Sprintf("z%d.", rng.IntN(1500))
		for range rng.IntN(3) {
			n = fmt.Sprintf("%c.", 'a'+rng.IntN(3)) + n
		}
		return zones.MustParseName(n)
	}
	for round := range 8 {
		for range 4_000 {
			n := name()
			if rng.IntN(10) < 3+5*(round%2) { // rounds that delete and rounds that add
				v := Value{Partition: int32(rng.IntN(100)) - 1, Slot: rng.Uint32()}
				x.Put(n, v)
				want[n] = v
			} else {
				_, there := want[n]
				if x.Delete(n) != there {
					t.Fatalf("delete %s: want %v", n, there)
				}
				delete(want, n)
			}
		}
		if x.Len() != len(want) {
			t.Fatalf("%d apexes, want %d", x.Len(), len(want))
		}
		seen := map[zones.Name]bool{}
		for n, v := range x.All() {
			if seen[n] || want[n] != v {
				t.Fatalf("%s: %v, want %v, seen %v", n, v, want[n], seen[n])
			}
			seen[n] = true
		}
		if len(seen) != len(want) {
			t.Fatalf("all yields %d, want %d", len(seen), len(want))
		}
		for range 5_000 {
			n := name()
			got, _, ok := x.Longest(n)
			expected := zones.Name("")
			for up := n; ; up = up.Parent() {
				if _, there := want[up]; there {
					expected = up
					break
				}
				if up == zones.Root {
					break
				}
			}
			if got != expected || ok != (expected != "") {
				t.Fatalf("longest of %s is %q, want %q", n, got, expected)
			}
			if v, ok := x.Get(n); v != want[n] || ok != (expected == n) {
				t.Fatalf("get %s: %v, want %v", n, v, want[n])
			}
		}
	}
	full := x.Bytes()
	for n := range want {
		x.Delete(n)
	}
	if x.Len() != 0 || x.Bytes() != indexBytes || x.Bytes() >= full {
		t.Errorf("emptied: %d apexes in %d octets", x.Len(), x.Bytes())
	}
}

// TestReserve: room that was made is enough, takes no more than growing to it does, and loses nothing.
func TestReserve(t *testing.T) {
	grown, names := million(200_000) // so many that no part has a quarter more than others
	x := New()
	const every = 2_000 // a few names, as long on average as all are
	for i := 0; i < len(names); i += every {
		x.Put(names[i], Value{Partition: int32(i)})
	}
	x.Reserve(len(names) - x.Len())
	for i := 0; i < len(names); i += every {
		if v, ok := x.Get(names[i]); !ok || v.Partition != int32(i) {
			t.Fatalf("%s: %v %v", names[i], v, ok)
		}
	}
	reserved := x.parts[0].Load()
	for i, n := range names {
		x.Put(n, Value{Partition: int32(i)})
	}
	if x.Len() != len(names) {
		t.Errorf("%d apexes, want %d", x.Len(), len(names))
	}
	if x.parts[0].Load() != reserved {
		t.Error("the room was not enough")
	}
	if most := grown.Bytes() * 5 / 4; x.Bytes() > most {
		t.Errorf("%d octets, want at most %d", x.Bytes(), most)
	}
	x.Reserve(0)
	if x.parts[0].Load() != reserved {
		t.Error("a part was moved for nothing")
	}
}

// TestReadersAndWriter is for the race detector. What is never deleted must always be found, and no
// value may be another name's.
func TestReadersAndWriter(t *testing.T) {
	x := New()
	names := make([]zones.Name, 3_000)
	for i := range names {
		names[i] = zones.MustParseName(fmt.Sprintf("zone-%d.test.", i))
	}
	stays := func(i int) bool { return i%3 == 0 }
	for i, n := range names {
		if stays(i) {
			x.Put(n, Value{Partition: int32(i), Slot: 0})
		}
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			for i := r; ; i += 7 {
				select {
				case <-stop:
					return
				default:
				}
				k := i % len(names)
				apex, v, ok := x.Longest(names[k])
				if ok && (apex != names[k] || v.Partition != int32(k)) || !ok && stays(k) {
					t.Errorf("%s: %q %v %v", names[k], apex, v, ok)
					return
				}
				if i%5_000 == r {
					for n, v := range x.All() {
						if names[v.Partition] != n {
							t.Errorf("%s has the value of %s", n, names[v.Partition])
							return
						}
					}
				}
			}
		})
	}
	for round := range uint32(6) {
		for i, n := range names {
			if !stays(i) && (i+int(round))%2 == 0 {
				x.Put(n, Value{Partition: int32(i), Slot: round})
			} else if !stays(i) {
				x.Delete(n)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// million makes an index of n apexes as they are in the wild, and returns it with them.
func million(n int) (*Index, []zones.Name) {
	x := New()
	names := make([]zones.Name, n)
	tlds := []string{"com", "net", "org", "co.uk", "de"}
	for i := range names {
		names[i] = zones.MustParseName(fmt.Sprintf("customer-%d.%s.", i, tlds[i%len(tlds)]))
		x.Put(names[i], Value{Partition: int32(i % 64), Slot: uint32(i)})
	}
	return x, names
}

func TestPriceOfAnApex(t *testing.T) {
	x, names := million(20_000)
	octets := 0
	for _, n := range names {
		octets += len(n)
	}
	own := octets / len(names)
	if each := x.Bytes() / len(names); each > own+own/3+30 {
		t.Errorf("%d octets an apex, of which the name is %d", each, own)
	}
	qname := zones.MustParseName("www.example.customer-777.com.")
	if n := testing.AllocsPerRun(100, func() { x.Longest(qname) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Of a million apexes, asked for a name below one at random, on a busy machine of two cores: 47 octets an
// apex (of which the name is 21), 700 ns of processor time, most of it waiting for memory.
func BenchmarkLongest(b *testing.B) {
	x, names := million(1_000_000)
	b.Logf("%d octets an apex", x.Bytes()/len(names))
	queries := make([]zones.Name, 1<<18)
	for i := range queries {
		child, err := names[rand.IntN(len(names))].Child("www")
		if err != nil {
			b.Fatal(err)
		}
		queries[i] = child
	}
	b.ReportAllocs()
	i := 0
	defer cpu(b)()
	for b.Loop() {
		if _, _, ok := x.Longest(queries[i&(1<<18-1)]); !ok {
			b.Fatal("not found")
		}
		i++
	}
}

func BenchmarkPut(b *testing.B) {
	names := make([]zones.Name, 1<<20)
	for i := range names {
		names[i] = zones.MustParseName(fmt.Sprintf("customer-%d.com.", i))
	}
	x, i := New(), 0
	for b.Loop() {
		if i == len(names) {
			x, i = New(), 0
		}
		x.Put(names[i], Value{})
		i++
	}
}
