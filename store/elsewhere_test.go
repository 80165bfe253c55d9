package store_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// Zones of partitions that are not open are known, and lead there; what an open one has that has caught up, it says itself.
func TestElsewhere(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("here.example."))
	if _, err := p.Apply(l.Records); err != nil {
		t.Fatal(err)
	}
	find := func(qname string) store.Holding {
		h := s.Find(name(qname), zones.TypeA)
		defer h.Release()
		if hot, ok := s.FindHot(name(qname), zones.TypeA); ok && hot.Status != h.Status {
			t.Errorf("%s: found %s by FindHot, %s by Find", qname, hot.Status, h.Status)
		}
		return h
	}
	check := func(qname string, status store.Status, apex string, partition int32) {
		t.Helper()
		h := find(qname)
		if h.Status != status || apex != "" && h.Apex != name(apex) || h.Partition != partition {
			t.Errorf("%s: %s %s in partition %d, want %s %s in %d", qname, h.Status, h.Apex, h.Partition, status, apex, partition)
		}
	}
	s.PutElsewhere(name("example."), 7)
	s.PutElsewhere(name("there.example."), 5)
	check("www.here.example.", store.Here, "here.example.", 0)
	check("www.example.", store.Elsewhere, "example.", 7)
	check("www.there.example.", store.Elsewhere, "there.example.", 5)
	s.RemoveElsewhere(name("there.example."))
	check("www.there.example.", store.Elsewhere, "example.", 7)
	s.RemoveElsewhere(name("here.example."))
	check("www.here.example.", store.Here, "here.example.", 0)

	// Said to be in the open partition, which has not caught up: it may only not be there yet.
	s.PutElsewhere(name("soon.example."), 0)
	check("www.soon.example.", store.Unavailable, "soon.example.", 0)
	p.CaughtUp()
	check("www.soon.example.", store.Elsewhere, "example.", 7)
	s.PutElsewhere(name("soon.example."), 0)
	check("www.soon.example.", store.Elsewhere, "example.", 7)

	// Closed: elsewhere, and then what others say.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	check("www.here.example.", store.Elsewhere, "here.example.", 0)
	s.ReplaceElsewhere(0, maps.All(map[zones.Name]bool{name("new.example."): true}))
	check("www.here.example.", store.Elsewhere, "here.example.", 0) // as nobody says otherwise
	check("www.new.example.", store.Elsewhere, "new.example.", 0)
	s.RemoveElsewhere(name("here.example."))
	check("www.here.example.", store.Elsewhere, "example.", 7)
	if p, err := s.Open(0, storetest.TopicID); err != nil {
		t.Fatal(err)
	} else {
		p.CaughtUp()
		check("www.here.example.", store.Here, "here.example.", 0)
		check("www.new.example.", store.Elsewhere, "example.", 7)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.ReplaceElsewhere(0, maps.All(map[zones.Name]bool{name("here.example."): false}))
	check("www.here.example.", store.Elsewhere, "example.", 7)
}

// What a record did to hosting is told.
func TestOutcomeTellsHosting(t *testing.T) {
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("a.example."))
	l.Add(t, storetest.Put("a.example.", storetest.Set("www.a.example.", 60, zones.TypeA, "192.0.2.1")))
	l.Add(t, storetest.Create("a.example.")) // there already: rejected
	l.Add(t, storetest.Change("a.example.", zones.OpDeleteZone{}))
	outcomes, err := p.Apply(l.Records)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]bool{{true, false}, {}, {}, {false, true}} {
		if got := [2]bool{outcomes[i].Created, outcomes[i].Deleted}; got != want {
			t.Errorf("record %d: created, deleted %v, want %v", i, got, want)
		}
	}
}

// A zone that the catalog has all the time is never found not to be hosted, while its partition is opened, caught up, closed and
// given up, others come and go, and the index is told of all of that.
func TestElsewhereNeverLost(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("stays.example."))
	if _, err := p.Apply(l.Records); err != nil {
		t.Fatal(err)
	}
	p.CaughtUp()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, apex := range []string{"stays.example.", "away.example."} {
				h := s.Find(name("www."+apex), zones.TypeA)
				if h.Apex != name(apex) || h.Status == store.NotHosted {
					t.Errorf("%s: %s, zone %q", apex, h.Status, h.Apex)
				}
				h.Release()
			}
		}
	})
	s.PutElsewhere(name("away.example."), 5)
	asking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			other := name(fmt.Sprintf("z%d.example.", i%500))
			s.PutElsewhere(other, int32(i%64))
			s.PutElsewhere(name("stays.example."), 0)
			if i%3 == 0 {
				s.RemoveElsewhere(other)
			}
		}
	})
	for range 5 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		s.ReplaceElsewhere(5, maps.All(map[zones.Name]bool{name("away.example."): true}))
		s.ReplaceElsewhere(0, maps.All(map[zones.Name]bool{name("stays.example."): true}))
		var err error
		if p, err = s.Open(0, storetest.TopicID); err != nil {
			t.Fatal(err)
		}
		p.CaughtUp()
	}
	close(stop)
	asking.Wait()
}

// Zones that came into memory leave it when their partition closes, and their slots are used again when it is given up.
func TestElsewhereTakesNoSlot(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	const many = 50
	hosted := make([]zones.Name, many)
	for i := range many {
		apex := fmt.Sprintf("z%d.example.", i)
		hosted[i] = name(apex)
		l.Add(t, storetest.Create(apex))
	}
	if _, err := p.Apply(l.Records); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		for _, apex := range hosted {
			for hot := false; !hot; {
				h := s.Find(apex, zones.TypeSOA)
				h.Release()
				_, hot = s.FindHot(apex, zones.TypeSOA)
			}
		}
		if got := s.Stats(); got.HotZones != many || got.Zones != many {
			t.Fatalf("round %d: %d zones in memory, %d in the index", round, got.HotZones, got.Zones)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats(); got.HotZones != 0 || got.HotBytes != 0 {
			t.Errorf("%d zones of a closed partition are in memory", got.HotZones)
		}
		s.PutElsewhere(hosted[0], 0) // as the catalog may say again
		s.ReplaceElsewhere(0, func(yield func(zones.Name, bool) bool) {
			for _, apex := range hosted {
				if !yield(apex, true) {
					return
				}
			}
		})
		if got := s.SlotsUsed(); got != 0 {
			t.Errorf("%d slots are used by zones that are elsewhere", got)
		}
		var err error
		if p, err = s.Open(0, storetest.TopicID); err != nil {
			t.Fatal(err)
		}
	}
}
