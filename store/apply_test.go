package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// check fails the test unless the partition agrees with itself.
func check(t *testing.T, p *store.Partition) {
	t.Helper()
	if err := p.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
}

func apply(t *testing.T, p *store.Partition, recs []store.Record) []store.Outcome {
	t.Helper()
	out, err := p.Apply(recs)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func name(s string) zones.Name { return zones.MustParseName(s) }

// content is all RRsets of a zone as text, in order.
func content(t *testing.T, s *store.Store, apex string) (lines []string) {
	t.Helper()
	r, err := s.Read(name(apex))
	if errors.Is(err, store.ErrNoZone) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for set, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %d %s %x", set.Owner, set.TTL, set.Key, set.AppendPacked(nil)))
	}
	return lines
}

func TestApply(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.1")))
	l.Add(t, storetest.Put("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.7", "192.0.2.8")))
	l.Add(t, storetest.Put("example.", storetest.Set("www.example.", 300, zones.TypeCNAME, "example."))) // beside an A
	l.Raw("example.", []byte("no change set"))
	l.Add(t, storetest.Put("absent.", storetest.Set("www.absent.", 300, zones.TypeA, "192.0.2.1")))
	l.Raw("other.", l.Records[1].Value) // the key is not the zone
	l.Raw("example.", l.Records[1].Value)
	l.Raw("example.", l.Records[2].Value)
	reused := storetest.Put("example.", storetest.Set("x.example.", 300, zones.TypeA, "192.0.2.9"))
	reused.ID = apply(t, p, l.Records[:1])[0].ID
	l.Add(t, reused)

	out := apply(t, p, l.Records) // the first is skipped
	want := []struct {
		status store.ChangeStatus
		rule   zones.Rule
		serial zones.Serial
		dup    bool
	}{
		{status: store.StatusApplied, serial: 2},
		{status: store.StatusRejected, rule: zones.RuleCNAMEAndOther, serial: 2},
		{status: store.StatusRejected, rule: zones.RuleUndecodable},
		{status: store.StatusRejected, rule: zones.RuleNoZone},
		{status: store.StatusRejected, rule: zones.RuleWrongKey},
		{status: store.StatusApplied, serial: 2, dup: true},
		{status: store.StatusRejected, rule: zones.RuleCNAMEAndOther, serial: 2, dup: true},
		{status: store.StatusRejected, rule: zones.RuleDuplicate},
	}
	if len(out) != len(want) {
		t.Fatalf("%d outcomes, want %d", len(out), len(want))
	}
	for i, w := range want {
		o := out[i]
		if o.Offset != int64(i+1) || o.Status != w.status || o.Serial != w.serial || o.Duplicate != w.dup {
			t.Errorf("record %d: %+v, want %+v", i+1, o, w)
		}
		if (o.Rejection == nil) != (w.rule == "") || o.Rejection != nil && o.Rejection.Rule != w.rule {
			t.Errorf("record %d: rejection %v, want %s", i+1, o.Rejection, w.rule)
		}
		kept, err := s.Outcome(o.Position)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v %v", kept, kept.Rejection) == "" || kept.Status != o.Status || kept.Serial != o.Serial || kept.ID != o.ID {
			t.Errorf("kept %+v, returned %+v", kept, o)
		}
	}
	if out[6].Rejection.Detail != out[1].Rejection.Detail || out[6].First != 2 {
		t.Errorf("a duplicate of a rejected change: %+v, the first: %+v", out[6], out[1])
	}
	found, err := p.LookupID(out[0].ID)
	if err != nil || found.Offset != 1 {
		t.Errorf("LookupID: %+v, %v", found, err)
	}
	if got := p.Applied(); got.Offset != 8 || got.LeaderEpoch != 1 || got.RecordHash != store.HashRecord(l.Records[8].Key, l.Records[8].Value) ||
		!got.Time.Equal(storetest.Began.Add(8*time.Second)) {
		t.Errorf("applied: %+v", got)
	}
	info, err := s.Zone(name("example."))
	if err != nil || info.Serial != 2 || info.RRsets != 3 || info.Records != 5 || info.Changed.Offset != 1 || info.Generation.Offset != 0 {
		t.Errorf("zone: %+v, %v", info, err)
	}
	if again := apply(t, p, l.Records); len(again) != 0 {
		t.Errorf("records that were applied were applied again: %+v", again)
	}
	if _, err := p.Outcome(9); !errors.Is(err, store.ErrNoOutcome) {
		t.Errorf("outcome of what was not applied: %v", err)
	}
	check(t, p)
}

func TestGap(t *testing.T) {
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	for range 3 {
		l.Add(t, storetest.Create("example."))
	}
	out, err := p.Apply([]store.Record{l.Records[0], l.Records[2]})
	if !errors.Is(err, store.ErrGap) || len(out) != 1 {
		t.Fatalf("%v, %v", out, err)
	}
	if out, err = p.ApplyAfter(l.Records[2:]); err != nil || len(out) != 1 || out[0].Offset != 2 {
		t.Fatalf("%v, %v", out, err)
	}
	if _, err := p.Apply(l.Records); err != nil || p.Applied().Offset != 2 {
		t.Fatalf("after a gap: %v", err)
	}
}

// TestDeterminism applies the same records in batches of different sizes, with restarts between them, and compares
// digests at every round offset and at the end.
func TestDeterminism(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var l storetest.Log
	storetest.Random(t, &l, rand.New(rand.NewPCG(seed, 1)), 700)
	l.Step = 3 * time.Hour // stages and IDs expire
	storetest.Random(t, &l, rand.New(rand.NewPCG(seed, 2)), 500)

	type result struct {
		digest, middle zones.Digest
		content        [][]string
		applied        store.Applied
	}
	run := func(size func() int, restart bool) result {
		opts := storetest.Options(t, t.TempDir())
		opts.HistoryChanges = 1 + size()%7
		s, p := storetest.Open(t, opts)
		for at := 0; at < len(l.Records); {
			end := min(at+size(), len(l.Records))
			apply(t, p, l.Records[max(0, at-2):end])
			at = end
			if restart && at%3 == 0 {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				var err error
				if p, err = s.Open(0, storetest.TopicID); err != nil {
					t.Fatal(err)
				}
			}
		}
		check(t, p)
		var r result
		r.digest, _ = p.Digest()
		middle, ok, err := p.DigestAt(1000)
		if err != nil || !ok {
			t.Fatalf("digest at 1000: %v %v", ok, err)
		}
		r.middle, r.applied = middle, p.Applied()
		for _, apex := range []string{"example.", "sub.example.", "other.test.", "."} {
			r.content = append(r.content, content(t, s, apex))
		}
		return r
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	want := run(func() int { return len(l.Records) }, false)
	for i, got := range []result{
		run(func() int { return 1 + rng.IntN(60) }, false),
		run(func() int { return 1 + rng.IntN(400) }, true),
	} {
		if got.digest != want.digest || got.middle != want.middle || got.applied != want.applied || fmt.Sprint(got.content) != fmt.Sprint(want.content) {
			t.Errorf("run %d, seed %d: digest %s and %s, want %s and %s", i, seed, got.digest, got.middle, want.digest, want.middle)
		}
	}
}

func TestCommitErrorPoisons(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	broken := errors.New("broken disk")
	fail := false
	opts.FailCommit = func() error {
		if fail {
			return broken
		}
		return nil
	}
	alarms := 0
	opts.Alarm = func(store.Alarm) { alarms++ }
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	for i := range 3 {
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.", i)))
	}
	apply(t, p, l.Records[:1])
	fail = true
	if _, err := p.Apply(l.Records); !errors.Is(err, store.ErrPoisoned) || !errors.Is(err, broken) {
		t.Fatal(err)
	}
	fail = false
	if _, err := p.Apply(l.Records); !errors.Is(err, store.ErrPoisoned) {
		t.Fatalf("applied through a broken handle: %v", err)
	}
	if h := s.Find(name("www.z0."), zones.TypeA); h.Status != store.Here {
		t.Errorf("a poisoned partition does not answer: %v", h.Err)
	} else {
		h.Release()
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, l.Records)
	if p.Zones() != 3 || alarms != 1 {
		t.Errorf("%d zones, %d alarms", p.Zones(), alarms)
	}
	check(t, p)
}

func TestDiskGuard(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	var free atomic.Uint64
	free.Store(10 << 30)
	opts.DiskFree = func(string) (uint64, uint64, error) { return free.Load(), 100 << 30, nil }
	opts.Reserve, opts.Ballast = 0, 1<<20
	s, p := storetest.Open(t, opts)
	ballast := filepath.Join(opts.Dir, "ballast")
	if info, err := os.Stat(ballast); err != nil || info.Size() != 1<<20 {
		t.Fatalf("ballast: %v %v", info, err)
	}
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	l.Add(t, storetest.Create("other."))
	apply(t, p, l.Records[:1])
	free.Store(7 << 30) // the reserve is 15%, at most 8 GiB
	if out, err := p.Apply(l.Records); !errors.Is(err, store.ErrDiskReserve) || len(out) != 0 {
		t.Fatal(out, err)
	}
	if h := s.Find(name("example."), zones.TypeSOA); h.Status != store.Here {
		t.Error("no answers below the reserve")
	} else {
		h.Release()
	}
	free.Store(9 << 30)
	apply(t, p, l.Records)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	free.Store(1 << 20)
	if _, err := s.Open(0, storetest.TopicID); !errors.Is(err, store.ErrDiskReserve) {
		t.Fatalf("opened without room: %v", err)
	}
	if _, err := os.Stat(ballast); !errors.Is(err, os.ErrNotExist) {
		t.Error("the ballast was kept to the end")
	}
}

func TestOpenRefuses(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	s, p := storetest.Open(t, opts)
	if _, err := s.Open(0, storetest.TopicID); err == nil {
		t.Error("opened twice")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(0, [16]byte{1}); !errors.Is(err, store.ErrOtherTopic) {
		t.Errorf("another topic: %v", err)
	}
	meta := filepath.Join(opts.Dir, "partitions", "000", "META")
	if err := os.WriteFile(meta, []byte(`{"format":2,"partition":0,"topic_id":"73746f72657465737400000000000000"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(0, storetest.TopicID); !errors.Is(err, store.ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
	if err := os.WriteFile(meta, []byte(`{"format":1,"qartition":0,"topic_id":"73746f72657465737400000000000000"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(0, storetest.TopicID); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a damaged META: %v", err)
	}
	if err := os.Remove(meta); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(0, storetest.TopicID); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a database without META: %v", err)
	}
}

// Whatever octet of META is changed, it is damage, and never another topic or a newer format.
func TestDamagedMeta(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	s, p := storetest.Open(t, opts)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(opts.Dir, "partitions", "000", "META")
	written, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	for i := range written {
		for _, flip := range []byte{1, 2, 4, 8, 0x20, 0xff} {
			damaged := bytes.Clone(written)
			damaged[i] ^= flip
			if err := os.WriteFile(meta, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Open(0, storetest.TopicID); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%q: %v", damaged, err)
			}
		}
	}
}

// A crash while Badger begins a memtable leaves an empty log file, with which it would not open again.
func TestOpenAfterUnbegunLog(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	apply(t, p, l.Records)
	want, _ := p.Digest()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	unbegun := filepath.Join(opts.Dir, "partitions", "000", "badger", "00099.mem")
	if err := os.WriteFile(unbegun, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	if got, offset := p.Digest(); got != want || offset != 0 {
		t.Errorf("digest %s at %d, want %s at 0", got, offset, want)
	}
}
