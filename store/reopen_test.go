package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestReopenedZonesAreNeverAbsent: while a partition is closed and opened again, its zones are answered from or
// unavailable. They are never taken for not hosted, nor for names of a zone above, in another partition.
func TestReopenedZonesAreNeverAbsent(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	above, err := s.Open(1, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	var l, parents storetest.Log
	parents.Add(t, storetest.Create("example."))
	apply(t, above, parents.Records)
	const many = 3000
	for i := range many {
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.example.", i)))
	}
	apply(t, p, l.Records)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			apex := name(fmt.Sprintf("z%d.example.", i%many))
			h := s.Find(apex, zones.TypeA)
			if h.Apex != apex || h.Status == store.NotHosted {
				t.Errorf("%s: %s, zone %q", apex, h.Status, h.Apex)
				h.Release()
				return
			}
			h.Release()
		}
	})
	for range 3 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if p, err = s.Open(0, storetest.TopicID); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	asking.Wait()
	if got := s.Hosted(); got != many+1 {
		t.Errorf("%d zones in the index, want %d", got, many+1)
	}
}

// TestReopenedAsItIsNow: what another copy of the partition does not have is unavailable until it has caught up, and not
// hosted after that.
func TestReopenedAsItIsNow(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("kept."))
	l.Add(t, storetest.Create("gone."))
	apply(t, p, l.Records)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetAside(0); err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	find := func(apex string, want store.Status) {
		t.Helper()
		h := s.Find(name(apex), zones.TypeA)
		defer h.Release()
		if h.Status != want {
			t.Errorf("%s is %s, want %s", apex, h.Status, want)
		}
	}
	find("kept.", store.Unavailable)
	find("gone.", store.Unavailable)
	apply(t, p, l.Records[:1])
	find("kept.", store.Here)
	find("gone.", store.Unavailable)
	p.CaughtUp()
	find("kept.", store.Here)
	find("gone.", store.NotHosted)
}

// TestOutcomesAreTrimmedAsFastAsTheyCome: however many records share a millisecond of log time.
func TestOutcomesAreTrimmedAsFastAsTheyCome(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	opts.OutcomeAge = time.Minute
	_, p := storetest.Open(t, opts)
	l := storetest.Log{Step: 1} // a nanosecond
	const many = 600
	for range many {
		l.Raw("x.", []byte("no change set"))
	}
	late := len(l.Records)
	for range many {
		l.Raw("x.", []byte("no change set"))
	}
	for i := range l.Records[late:] {
		l.Records[late+i].Time = l.Records[late+i].Time.Add(time.Hour)
	}
	if _, err := p.Apply(l.Records); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for i := range many {
		if _, err := p.Outcome(int64(i)); err == nil {
			kept++
		}
	}
	if kept > 0 {
		t.Errorf("%d of %d outcomes are kept an hour after they were to be kept for a minute", kept, many)
	}
}
