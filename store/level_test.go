package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/change"
)

// TestUnknownLevel: a partition that is raised to a level that this program does not know stops there, keeps what was
// before it, and goes on answering.
func TestUnknownLevel(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	l.Add(t, storetest.Change("example.", zones.OpRaiseFormatLevel{Level: change.MaxLevel + 1}))
	l.Add(t, storetest.Create("other."))
	for range 2 {
		if _, err := p.Apply(l.Records); !errors.Is(err, store.ErrNewer) {
			t.Fatal(err)
		}
	}
	if p.Applied().Offset != 0 || p.Suspicious() != nil {
		t.Errorf("%+v, %v", p.Applied(), p.Suspicious())
	}
	h := s.Find(name("example."), zones.TypeSOA)
	if h.Status != store.Here {
		t.Error(h.Err)
	}
	h.Release()
	check(t, p)
}

// TestPanicStopsThePartition: a bug that panics while applying poisons the partition, not the process.
func TestPanicStopsThePartition(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	panics := false
	opts.Belongs = func(key []byte, _ int32) bool {
		if panics && string(key) == "b." {
			panic("a bug")
		}
		return string(key) != "c."
	}
	_, p := storetest.Open(t, opts)
	var l storetest.Log
	for _, apex := range []string{"a.", "b.", "c."} {
		l.Add(t, storetest.Create(apex))
	}
	panics = true
	out, err := p.Apply(l.Records)
	if err == nil || len(out) != 1 || p.Applied().Offset != 0 {
		t.Fatalf("%v %v", out, err)
	}
	if _, err := p.Apply(l.Records); !errors.Is(err, store.ErrPoisoned) {
		t.Fatalf("after a panic: %v", err)
	}
	check(t, p)
}

func TestBelongs(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	opts.Belongs = func(key []byte, partition int32) bool { return partition != 0 || string(key) != "c." }
	_, p := storetest.Open(t, opts)
	var l storetest.Log
	l.Add(t, storetest.Create("c."))
	if out := apply(t, p, l.Records); out[0].Rejection == nil || out[0].Rejection.Rule != zones.RuleWrongKey {
		t.Errorf("%+v", out)
	}
}

// TestChangeIDExpires: the same record is a duplicate within the window, and a change set of its own after it.
func TestChangeIDExpires(t *testing.T) {
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	kept := storetest.Put("example.", storetest.Set("a.example.", 60, zones.TypeA, "192.0.2.1"))
	kept.Keep = 7200
	first := l.Add(t, kept)
	l.Step = 90 * time.Minute
	l.Raw("example.", l.Records[first].Value) // within what it asks for
	l.Raw("example.", l.Records[0].Value)     // past the hour of those that ask for nothing
	l.Raw("example.", l.Records[first].Value) // 3 hours
	out := apply(t, p, l.Records)
	if !out[2].Duplicate || out[2].First != first {
		t.Errorf("within its time: %+v", out[2])
	}
	if out[3].Duplicate || out[3].Rejection == nil || out[3].Rejection.Rule != zones.RuleZoneExists {
		t.Errorf("past the window: %+v %v", out[3], out[3].Rejection)
	}
	if out[4].Duplicate || out[4].Status != store.StatusApplied {
		t.Errorf("past its time: %+v", out[4])
	}
	check(t, p)
}

// TestNoResurrection deletes and makes the same names over and over, with restarts, which write tables out and compact
// them, and a reading held open over it all.
func TestNoResurrection(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	a := storetest.Set("a.example.", 60, zones.TypeA, "192.0.2.1")
	b := storetest.Set("b.example.", 60, zones.TypeTXT, `"first"`)
	l.Add(t, storetest.Create("example.", a, b))
	apply(t, p, l.Records)
	for round := range 8 {
		r, err := s.Read(name("example."))
		if err != nil {
			t.Fatal(err)
		}
		before := r.Info.RRsets
		l.Add(t, storetest.Change("example.", zones.OpDeleteName{Owner: a.Owner}, zones.OpDeleteName{Owner: b.Owner}))
		l.Add(t, storetest.Put("example.", b))
		if round%2 == 0 {
			l.Add(t, storetest.Change("example.", zones.OpDeleteName{Owner: b.Owner}))
		} else {
			l.Add(t, storetest.Put("example.", a))
		}
		apply(t, p, l.Records)
		p.Verified(p.Applied().Offset)
		var seen uint64
		for _, err := range r.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			seen++
		}
		if seen != before {
			t.Errorf("round %d: the reading saw %d RRsets of %d", round, seen, before)
		}
		r.Close()
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if p, err = s.Open(0, storetest.TopicID); err != nil {
			t.Fatal(err)
		}
		check(t, p)
		want := 2
		if round%2 == 1 {
			want = 4
		}
		if got := content(t, s, "example."); len(got) != want {
			t.Fatalf("round %d: %v", round, got)
		}
	}
}

// TestLargeBatch applies more in one call than fits a transaction: the record that is one too many must leave nothing
// behind in the transaction before it.
func TestLargeBatch(t *testing.T) {
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	text := `"` + strings.Repeat("x", 250) + `"`
	for i := range 60 {
		l.Add(t, storetest.Put("example.", storetest.Set(fmt.Sprintf("n%d.example.", i%50), 60, zones.TypeTXT,
			strings.TrimSpace(strings.Repeat(text+" ", 200)), fmt.Sprintf(`"%d"`, i))))
	}
	var digests []zones.Digest
	for _, size := range []int{1, len(l.Records)} {
		opts := storetest.Options(t, t.TempDir())
		commits := 0
		opts.FailCommit = func() error {
			commits++
			return nil
		}
		_, p := storetest.Open(t, opts)
		for at := 0; at < len(l.Records); at += size {
			apply(t, p, l.Records[at:min(at+size, len(l.Records))])
		}
		if size > 1 && (commits < 2 || commits > 10) {
			t.Errorf("%d records in %d transactions", len(l.Records), commits)
		}
		check(t, p)
		digest, _ := p.Digest()
		digests = append(digests, digest)
	}
	if digests[0] != digests[1] {
		t.Error("one by one and all at once differ")
	}
}
