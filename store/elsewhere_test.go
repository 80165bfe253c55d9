package store_test

import (
	"maps"
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
