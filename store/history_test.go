package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// History goes by age, in the partition's time, whether or not the zone changes again; the digest does not know.
func TestHistoryAges(t *testing.T) {
	var l storetest.Log
	l.Step = time.Minute
	l.Add(t, storetest.Create("still.")) // and never changed again
	l.Add(t, storetest.Create("busy."))
	for i := range 10 {
		l.Add(t, storetest.Put("busy.", storetest.Set("www.busy.", 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", i+1))))
	}
	var digests []zones.Digest
	for _, age := range []time.Duration{24 * time.Hour, 4*time.Minute + time.Second} {
		opts := storetest.Options(t, t.TempDir())
		opts.HistoryAge = age
		s, p := storetest.Open(t, opts)
		apply(t, p, l.Records)
		digest, _ := p.Digest()
		digests = append(digests, digest)
		want := min(int(age/time.Minute)+1, 11)
		if h, err := s.History(name("busy."), 0, 100); err != nil || len(h) != want {
			t.Errorf("age %s: %d entries, %v; want %d", age, len(h), err, want)
		}
		h, err := s.History(name("still."), 0, 100)
		if aged := age < time.Hour; err != nil || (len(h) == 0) != aged {
			t.Errorf("age %s: %d entries of a zone that never changed again, %v", age, len(h), err)
		}
		if _, _, err := s.HistoryAt(store.Position{Offset: 1}); errors.Is(err, store.ErrNoOutcome) != (age < time.Hour) {
			t.Errorf("age %s: the entry of the first change: %v", age, err)
		}
	}
	if digests[0] != digests[1] {
		t.Error("how long history is kept is in the digest")
	}
}
