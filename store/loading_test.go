package store_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestBusyZoneComesIntoMemory: a zone that changes while it is being loaded, again and again, is in memory all the same, and
// as it is on disk.
func TestBusyZoneComesIntoMemory(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	sets := storetest.Apex("example.", 1)
	for i := range 30_000 {
		sets = append(sets, storetest.Set(fmt.Sprintf("n%06d.example.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	for _, cs := range storetest.Stage("example.", l.NextID(), sets, 1500) {
		l.Add(t, cs)
	}
	apply(t, p, l.Records)
	owner := name("n000007.example.")
	limit := time.Now().Add(30 * time.Second)
	for i := 0; s.Stats().HotZones == 0; i++ {
		if time.Now().After(limit) {
			t.Fatalf("not in memory after %d changes", i)
		}
		h := s.Find(owner, zones.TypeA) // which asks for it to be brought into memory
		h.Release()
		at := len(l.Records)
		l.Add(t, storetest.Put("example.", storetest.Set("n000007.example.", 60, zones.TypeA, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))))
		apply(t, p, l.Records[at:])
	}
	for i := range 20 {
		at := len(l.Records)
		want := storetest.Set("n000007.example.", 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", 100+i))
		l.Add(t, storetest.Put("example.", want))
		apply(t, p, l.Records[at:])
		h, hot := s.FindHot(owner, zones.TypeA)
		var loc zones.Location
		if !hot {
			t.Fatal("a change put it out of memory")
		}
		if err := h.View.Find(owner, &loc); err != nil {
			t.Fatal(err)
		}
		soa, _ := h.View.Apex().RRset(zones.TypeSOA)
		info, err := s.Zone(name("example."))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := loc.Node.RRset(zones.TypeA); !got.Equal(want) || soa.SOASerial() != info.Serial {
			t.Fatalf("%v and serial %d in memory, want %v and %d", got, soa.SOASerial(), want, info.Serial)
		}
		h.Release()
	}
}

// TestSmallZoneIsReadOnce: what was read for the first question is what comes into memory.
func TestSmallZoneIsReadOnce(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	apply(t, p, l.Records)
	before := s.Stats().Readings
	h := s.Find(name("example."), zones.TypeSOA)
	h.Release()
	if now := s.Stats(); now.Readings != before+1 || now.HotZones != 1 {
		t.Errorf("%d readings, %d zones in memory", now.Readings-before, now.HotZones)
	}
}

// TestOldReadingIsNotKept: what was read before something was published, or before the partition was closed, does not come into memory.
func TestOldReadingIsNotKept(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	apply(t, p, l.Records)
	kept, err := p.KeepRead(name("example."), func() {
		l.Add(t, storetest.Put("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
		apply(t, p, l.Records[1:])
	})
	if kept || err != nil || s.Stats().HotZones != 0 {
		t.Errorf("what was read before a change is in memory: %v %v", kept, err)
	}
	closed := make(chan error, 1)
	_, err = p.KeepRead(name("example."), func() {
		go func() { closed <- p.Close() }()
		for {
			if _, err := p.Outcome(0); errors.Is(err, store.ErrClosed) {
				return
			}
			runtime.Gosched()
		}
	})
	if err := errors.Join(err, <-closed); err != nil || s.Stats().HotZones != 0 {
		t.Errorf("%d zones of a closed partition are in memory: %v", s.Stats().HotZones, err)
	}
}
