package store_test

import (
	"fmt"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// manyHot makes a store of so many small zones, of which about a tenth fit into memory, and fills that.
func manyHot(t *testing.T, count int) *store.Store {
	t.Helper()
	opts := storetest.Options(t, t.TempDir())
	opts.HotBytes = int64(count/10) * 1000
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	for i := range count {
		apex := fmt.Sprintf("z%d.test.", i)
		l.Add(t, storetest.Create(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
	}
	apply(t, p, l.Records)
	for i := 0; s.Stats().HotBytes < opts.HotBytes/10*9; i++ {
		ask(t, s, fmt.Sprintf("www.z%d.test.", count-1-i%(count/2)))
	}
	return s
}

// ask asks for a name and looks at what comes.
func ask(t *testing.T, s *store.Store, n string) (status store.Status, hot bool) {
	t.Helper()
	_, hot = s.FindHot(name(n), zones.TypeA)
	h := s.Find(name(n), zones.TypeA)
	defer h.Release()
	if h.Status == store.Here {
		var at zones.Location
		if err := h.View.Find(name(n), &at); err != nil {
			t.Fatalf("%s: %v", n, err)
		}
	} else if h.Err != nil {
		t.Fatalf("%s: %s %v", n, h.Status, h.Err)
	}
	return h.Status, hot
}

// TestFloodsAreNotRead asks for what somebody may make up without end, while memory is full of other zones: names below one zone, and zones that nobody
// has. The first brings one zone into memory, the second reads nothing at all.
func TestFloodsAreNotRead(t *testing.T) {
	s := manyHot(t, 2000)
	hot := func() bool { _, hot := s.FindHot(name("www.z0.test."), zones.TypeA); return hot }
	if hot() {
		t.Fatal("in memory already")
	}
	asked := 0
	for ; !hot(); asked++ {
		if asked == 100_000 {
			t.Fatal("never brought into memory")
		}
		ask(t, s, fmt.Sprintf("r%d.z0.test.", asked))
	}
	before := s.Stats().Readings
	for i := range 20_000 {
		if status, _ := ask(t, s, fmt.Sprintf("again%d.z0.test.", i)); status != store.Here {
			t.Fatal(status)
		}
	}
	if read := s.Stats().Readings - before; read > 100 { // other zones that were asked for before may be on their way
		t.Errorf("%d readings for names below one zone, after the first %d", read, asked)
	}
	before = s.Stats().Readings
	for i := range 20_000 {
		if status, _ := ask(t, s, fmt.Sprintf("www.nobody%d.test.", i)); status != store.NotHosted {
			t.Fatal(status)
		}
	}
	if read := s.Stats().Readings - before; read > 100 {
		t.Errorf("%d readings for zones that are not hosted", read)
	}
}

// TestScanSparesHotZones asks for every zone again and again, in order, and for a few all the time: those stay in memory, and of the others only
// some come there, since most are not asked for twice before another that has the same place among the misses.
func TestScanSparesHotZones(t *testing.T) {
	const count = 10_000 // twice as many as the table of misses has places, and more
	s := manyHot(t, count)
	const few = 20
	favourite := func(i int) string { return fmt.Sprintf("www.z%d.test.", i%few) }
	for warm := 0; warm < few; {
		warm = 0
		for i := range few {
			if _, hot := ask(t, s, favourite(i)); hot {
				warm++
			}
		}
	}
	before := s.Stats()
	cold := 0
	for i := range 5 * count {
		if _, hot := ask(t, s, fmt.Sprintf("www.z%d.test.", i%count)); !hot {
			cold++
		}
		if _, hot := ask(t, s, favourite(i)); !hot {
			t.Fatalf("%s is not in memory any more after %d others", favourite(i), i)
		}
	}
	after := s.Stats()
	if loads := after.Loads - before.Loads; loads > uint64(cold/3) || cold < 3*count {
		t.Errorf("%d of %d zones that were asked for and not in memory were brought there", loads, cold)
	}
}
