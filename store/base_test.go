package store

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"balefire/zones"
)

// testPartition is an open partition without a harness, which would import this package.
func testPartition(t *testing.T) *Partition {
	t.Helper()
	s, err := New(Options{Dir: t.TempDir(), Ballast: -1, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(0, [16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestBaseReads compares what applying reads, half of it from disk and half pending, with a sorted list.
func TestBaseReads(t *testing.T) {
	p := testPartition(t)
	generation := int64(0)
	ts := uint64(1)
	rapid.Check(t, func(t *rapid.T) {
		generation++
		apex := zones.MustParseName("example.")
		key := func(n zones.Name) []byte { return rrsetKey(nil, generation, n, apex, zones.Key{Type: zones.TypeTXT}) }
		var names []zones.Name
		disk, pending := newOverlay(), newOverlay()
		for range rapid.IntRange(0, 8).Draw(t, "names") {
			n := anyName(apex).Draw(t, "name")
			set, err := zones.NewRRset(n, zones.TypeTXT, 1, []byte{1, 'x'})
			if err != nil {
				t.Fatal(err)
			}
			switch rapid.SampledFrom([]string{"disk", "pending", "deleted", "both"}).Draw(t, "where") {
			case "disk":
				disk.set(key(n), set.AppendPacked(nil))
			case "pending":
				pending.set(key(n), set.AppendPacked(nil))
			case "deleted":
				disk.set(key(n), set.AppendPacked(nil))
				pending.remove(key(n))
				names = slices.DeleteFunc(names, func(m zones.Name) bool { return m == n })
				continue
			case "both":
				disk.set(key(n), set.AppendPacked(nil))
				pending.set(key(n), set.AppendPacked(nil))
			}
			if w, ok := pending.tree.Get(write{key: string(key(n))}); !ok || w.value != nil {
				names = append(names, n)
			}
		}
		ts++
		if err := writeOverlay(p, disk, ts); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(names, zones.Compare)
		names = slices.Compact(names)

		b := &batch{p: p, reader: openReader(p.db, ts, pending)}
		defer b.close()
		a := &base{batch: b, apex: apex, loaded: true, hosted: true, zone: zoneState{generation: generation}}
		for range 6 {
			n := anyName(apex).Draw(t, "asked")
			node, err := a.Node(n)
			if err != nil || node.IsEmpty() != !slices.Contains(names, n) {
				t.Fatalf("node %s: %v %v, there are %v", n, node, err, names)
			}
			want := zones.Name("")
			for _, m := range names {
				if zones.Compare(m, n) > 0 {
					want = m
					break
				}
			}
			if next, err := a.Next(n); err != nil || next != want {
				t.Fatalf("after %s comes %s (%v), want %s of %v", n, next, err, want, names)
			}
		}
	})
}

// TestDiscard: versions are kept that an open reader, or an increment to the last verified snapshot, still needs.
func TestDiscard(t *testing.T) {
	p := testPartition(t)
	at := func(offset int64) {
		g := fresh()
		g.offset = offset
		p.published.Store(&publication{g})
	}
	want := func(offset int64, why string) {
		t.Helper()
		p.readMu.Lock()
		defer p.readMu.Unlock()
		if got := p.discardTs(); got != commitTs(offset) {
			t.Errorf("%s: versions may go up to %d, want %d", why, got, commitTs(offset))
		}
	}
	at(10)
	want(10, "nobody reads")
	early, err := p.begin()
	if err != nil {
		t.Fatal(err)
	}
	at(20)
	late, err := p.begin()
	if err != nil {
		t.Fatal(err)
	}
	want(10, "one reads at 10")
	if err := p.Verified(5); !errors.Is(err, ErrNoIncrement) {
		t.Errorf("what has changed after 5 may be gone: %v", err)
	}
	save, err := p.Save()
	if err != nil {
		t.Fatal(err)
	}
	at(30)
	verified := func(offset int64) {
		t.Helper()
		if err := p.Verified(offset); err != nil {
			t.Error(err)
		}
	}
	early.end()
	late.end()
	want(20, "one is saved at 20")
	verified(25)
	want(20, "one is saved at 20, another one at 25 is safe")
	save.Close()
	want(25, "the last snapshot is at 25")
	if err := save.Verified(); !errors.Is(err, ErrNoIncrement) {
		t.Errorf("20 after 25: %v", err)
	}
	verified(30)
	want(30, "all is saved")
	at(40)
	want(30, "an increment may follow")
	if kept, err := p.readKept(); kept != 30 || err != nil {
		t.Errorf("on the disk is %d: %v", kept, err)
	}
	verified(-1)
	want(40, "nothing is kept")
	if kept, err := p.readKept(); kept != -1 || err != nil {
		t.Errorf("on the disk is %d: %v", kept, err)
	}
}
