package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestSecondaryZone: a secondary zone is hosted before anything has come, and is answered from, and in memory, only as long as it stands well.
func TestSecondaryZone(t *testing.T) {
	dir := t.TempDir()
	s, p := storetest.Open(t, storetest.Options(t, dir))
	var l storetest.Log
	do := func(cs *zones.ChangeSet) store.Outcome {
		t.Helper()
		offset := l.Add(t, cs)
		outcomes := apply(t, p, l.From(offset))
		check(t, p)
		return outcomes[0]
	}
	refused := func(want error) {
		t.Helper()
		for _, q := range []string{"second.test.", "www.second.test."} {
			h := s.Find(name(q), zones.TypeA)
			if h.Status != store.Unavailable || h.Apex != "" && h.Apex != name("second.test.") || !errors.Is(h.Err, want) || !store.Withheld(h.Err) {
				t.Fatalf("%s: %s %s, %v; want %v", q, h.Status, h.Apex, h.Err, want)
			}
			h.Release()
			if _, hot := s.FindHot(name(q), zones.TypeA); hot {
				t.Fatalf("%s is in memory", q)
			}
		}
		if n := s.Stats().HotZones; n != 1 {
			t.Fatalf("%d zones in memory, want the parent's", n)
		}
	}
	standing := func(want zones.Standing) {
		t.Helper()
		info, err := s.Zone(name("second.test."))
		if err != nil || !info.Standing.Equal(want) || !info.Settings.Equal(storetest.Secondary()) {
			t.Fatalf("%+v, %v; want %+v", info, err, want)
		}
	}
	after := func(records int) time.Time { return storetest.Began.Add(time.Duration(records) * time.Second) }

	do(storetest.Create("test.", storetest.Set("www.second.test.", 60, zones.TypeA, "192.0.2.99")))
	warm(t, s, name("test."))
	if out := do(storetest.Change("second.test.", zones.OpCreateZone{Settings: storetest.Secondary()})); !out.Created || out.Status != store.StatusApplied {
		t.Fatalf("%+v", out)
	}
	refused(store.ErrAwaiting) // and the parent does not answer for it
	standing(zones.Standing{Awaiting: true})
	if got := content(t, s, "second.test."); len(got) != 0 {
		t.Errorf("content %q", got)
	}

	zone := append(storetest.Apex("second.test.", 7), storetest.Set("www.second.test.", 60, zones.TypeA, "192.0.2.1"))
	do(storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpReplaceZone{RRsets: zone})))
	warm(t, s, name("second.test."))
	standing(zones.Standing{Confirmed: after(2)})
	hot, _ := s.FindHot(name("www.second.test."), zones.TypeA)
	info, err := s.Zone(name("second.test."))
	if err != nil {
		t.Fatal(err)
	}

	// To be confirmed changes nothing but the standing: not what is in memory, nor the zone's history.
	do(storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpSetStanding{})))
	standing(zones.Standing{Confirmed: after(3)})
	now, err := s.Zone(name("second.test."))
	if err != nil || now.Changed != info.Changed || !now.ChangedAt.Equal(info.ChangedAt) || now.Digest != info.Digest {
		t.Errorf("%+v, %v; it was %+v", now, err, info)
	}
	if !s.Current(hot.Stamp) {
		t.Error("what was made of it is not right any more")
	}
	if h, err := s.History(name("second.test."), 0, 10); err != nil || len(h) != 2 {
		t.Errorf("history %+v, %v", h, err)
	}

	do(storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpSetStanding{Expired: true})))
	if s.Current(hot.Stamp) {
		t.Error("what was made of it before it expired is still right")
	}
	refused(store.ErrExpired)
	standing(zones.Standing{Expired: true, Confirmed: after(3)})
	if h, err := s.History(name("second.test."), 0, 1); err != nil || len(h) != 1 || h[0].Action != store.ActionStanding || h[0].From != 7 || h[0].To != 7 {
		t.Errorf("history %+v, %v", h, err)
	}

	// A restart changes nothing of it.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, p = storetest.Open(t, storetest.Options(t, dir))
	warm(t, s, name("test."))
	refused(store.ErrExpired)

	do(storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpSetStanding{})))
	warm(t, s, name("second.test."))
	do(storetest.From(zones.SourcePrimary, storetest.Put("second.test.", storetest.Apex("second.test.", 8)[1], storetest.Set("www.second.test.", 60, zones.TypeA, "192.0.2.2"))))
	if _, hot := s.FindHot(name("second.test."), zones.TypeA); !hot {
		t.Error("a change put it out of memory")
	}
	if got := strings.Join(content(t, s, "second.test."), " "); !strings.HasSuffix(got, "c0000202") {
		t.Errorf("content %s", got)
	}
	do(storetest.Change("second.test.", zones.OpDeleteZone{}))
	if h := s.Find(name("www.second.test."), zones.TypeA); h.Status != store.Here || h.Apex != name("test.") {
		t.Errorf("%s %s after it was deleted", h.Status, h.Apex)
	} else {
		h.Release()
	}
}

// TestExpiryWhileLoading: a zone that expires while it is read does not come into memory.
func TestExpiryWhileLoading(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Change("second.test.", zones.OpCreateZone{Settings: storetest.Secondary()}))
	l.Add(t, storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpReplaceZone{RRsets: storetest.Apex("second.test.", 7)})))
	apply(t, p, l.Records)
	kept, err := p.KeepRead(name("second.test."), func() {
		offset := l.Add(t, storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpSetStanding{Expired: true})))
		apply(t, p, l.From(offset))
	})
	if kept || err != nil || s.Stats().HotZones != 0 {
		t.Errorf("kept: %v, %v; %d zones in memory", kept, err, s.Stats().HotZones)
	}
	if err := p.Load(name("second.test.")); err != nil || s.Stats().HotZones != 0 {
		t.Errorf("loaded: %v; %d zones in memory", err, s.Stats().HotZones)
	}
}

func TestEachPeered(t *testing.T) {
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	peers := storetest.Secondary()
	l.Add(t, storetest.Create("plain.test."))
	l.Add(t, storetest.Change("policy.test.", zones.OpCreateZone{Settings: zones.ZoneSettings{SerialPolicy: zones.SerialDate, Frozen: true}, RRsets: storetest.Apex("policy.test.", 1)}))
	l.Add(t, storetest.Change("second.test.", zones.OpCreateZone{Settings: peers}))
	l.Add(t, storetest.Change("granted.test.", zones.OpCreateZone{Settings: zones.ZoneSettings{Grants: peers.Grants}, RRsets: storetest.Apex("granted.test.", 3)}))
	l.Add(t, storetest.Change("notified.test.", zones.OpCreateZone{Settings: zones.ZoneSettings{Notify: peers.Primaries}, RRsets: storetest.Apex("notified.test.", 4)}))
	l.Add(t, storetest.Change("catalog.test.", zones.OpCreateZone{Settings: zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced}}, RRsets: storetest.Apex("catalog.test.", 5)}))
	l.Add(t, storetest.Change("grouped.test.", zones.OpCreateZone{Settings: zones.ZoneSettings{Groups: []string{"g"}}, RRsets: storetest.Apex("grouped.test.", 6)}))
	apply(t, p, l.Records)
	var found []string
	which := p.EachPeered
	each := func(most int) {
		found = nil
		err := which(func(z store.ZoneInfo) bool {
			found = append(found, fmt.Sprintf("%s %d %t", z.Apex, z.Serial, z.Standing.Awaiting))
			return len(found) < most
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each(10)
	if want := []string{"catalog.test. 5 false", "notified.test. 4 false", "second.test. 0 true"}; !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
	if each(1); len(found) != 1 {
		t.Errorf("%q after the first was enough", found)
	}
	which = p.EachZone
	each(10)
	if want := []string{"catalog.test. 5 false", "granted.test. 3 false", "grouped.test. 6 false", "notified.test. 4 false", "plain.test. 1 false", "policy.test. 1 false", "second.test. 0 true"}; !slices.Equal(found, want) {
		t.Errorf("all: %q, want %q", found, want)
	}
}

// TestWhatCatalogsAreToldOf: outcomes say that a zone's settings are others, and of which generation one is that was made.
func TestWhatCatalogsAreToldOf(t *testing.T) {
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	grouped := zones.ZoneSettings{Groups: []string{"g"}}
	l.Add(t, storetest.Create("z.test."))
	l.Add(t, storetest.Change("z.test.", zones.OpSetSettings{Parts: zones.PartGroups, Settings: grouped}))
	l.Add(t, storetest.Change("z.test.", zones.OpSetSettings{Parts: zones.PartGroups, Settings: grouped}))
	l.Add(t, storetest.Put("z.test.", storetest.Set("www.z.test.", 60, zones.TypeA, "192.0.2.1")))
	l.Add(t, storetest.Change("z.test.", zones.OpReplaceZone{RRsets: storetest.Apex("z.test.", 9)}))
	l.Add(t, storetest.Change("z.test.", zones.OpDeleteZone{}))
	l.Add(t, storetest.Create("z.test."))
	for _, cs := range storetest.Stage("s.test.", zones.ChangeID{7}, storetest.Apex("s.test.", 1), 1) {
		l.Add(t, cs)
	}
	l.Add(t, storetest.Change("catalog.test.", zones.OpCreateZone{Settings: zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced}}, RRsets: storetest.Apex("catalog.test.", 5)}))
	var got []string
	for _, o := range apply(t, p, l.Records) {
		if !o.Changed {
			continue
		}
		got = append(got, fmt.Sprintf("%d %s created %t %d, resettled %t, peering %t", o.Offset, o.Zone, o.Created, o.Generation, o.Resettled, o.Peering != nil))
	}
	want := []string{
		"0 z.test. created true 0, resettled false, peering false",
		"1 z.test. created false 0, resettled true, peering false",
		"3 z.test. created false 0, resettled false, peering false",
		"4 z.test. created false 0, resettled false, peering false",
		"5 z.test. created false 0, resettled false, peering false",
		"6 z.test. created true 6, resettled false, peering false",
		"9 s.test. created true 7, resettled false, peering false",
		"10 catalog.test. created true 10, resettled false, peering true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSignedChanges lets a primary change signatures and denials record by record, and compares what is in memory with what is on disk.
func TestSignedChanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	hot, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	coldOpts := storetest.Options(t, t.TempDir())
	coldOpts.HotBytes = 1 // nothing fits
	cold, q := storetest.Open(t, coldOpts)
	var l storetest.Log
	l.Add(t, storetest.Change("s.test.", zones.OpCreateZone{Settings: storetest.Secondary()}))
	l.Add(t, storetest.From(zones.SourcePrimary, storetest.Change("s.test.", zones.OpReplaceZone{RRsets: storetest.Apex("s.test.", 1)})))
	labels := []string{"", "a.", "b.a.", "*.b.a.", "deep.er.", "ns.", "zz."}
	hashes := []string{"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.", "2t7b4g4vsa5smi47k61mv5bv1a22bojr.", "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv."}
	sets := func() zones.RRset {
		owner := labels[rng.IntN(len(labels))] + "s.test."
		signature := " 8 1 60 20300101000000 20260101000000 1 s.test. " + []string{"AAAA", "BBBB"}[rng.IntN(2)]
		switch rng.IntN(6) {
		case 0:
			return storetest.Set(owner, 60, zones.TypeNSEC, labels[rng.IntN(len(labels))]+"s.test. A NSEC")
		case 1:
			return storetest.Set(owner, 60, zones.TypeRRSIG, []string{"A", "NSEC", "SOA"}[rng.IntN(3)]+signature)
		case 2:
			return storetest.Set(hashes[rng.IntN(3)]+"s.test.", 60, zones.TypeNSEC3, "1 0 5 aabb "+strings.TrimSuffix(hashes[rng.IntN(3)], ".")+" A")
		case 3:
			return storetest.Set(hashes[rng.IntN(3)]+"s.test.", 60, zones.TypeRRSIG, "NSEC3"+signature)
		case 4:
			return storetest.Set(hashes[rng.IntN(3)]+"s.test.", 60, zones.TypeA, "192.0.2.7") // where the chain is, too
		}
		return storetest.Set(owner, 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", rng.IntN(9)))
	}
	from := 0
	for round := range 60 {
		cs := storetest.From(zones.SourcePrimary, storetest.Put("s.test.", storetest.Apex("s.test.", uint32(2+round))[1]))
		for range rng.IntN(8) {
			if set := sets(); rng.IntN(3) == 0 {
				cs.Ops = append(cs.Ops, zones.OpDeleteRecords{RRset: set})
			} else {
				cs.Ops = append(cs.Ops, zones.OpPutRRset{RRset: set})
			}
		}
		l.Add(t, cs)
		for _, out := range append(apply(t, p, l.From(int64(from))), apply(t, q, l.From(int64(from)))...) {
			if out.Status != store.StatusApplied {
				t.Fatalf("seed %d: %v", seed, out.Rejection)
			}
		}
		from = len(l.Records)
		cold.ReadWhole([]uint64{0, 32, 1 << 20}[round%3])
		if _, in := hot.FindHot(name("s.test."), zones.TypeA); !in && round > 0 {
			t.Fatalf("seed %d, round %d: a change put it out of memory", seed, round)
		}
		for _, label := range append(append([]string{"no.", "a.b.a.", "er.", "00000000000000000000000000000000."}, labels...), hashes...) {
			n := name(label + "s.test.")
			a, b := hot.Find(n, zones.TypeA), cold.Find(n, zones.TypeA)
			if a.Status != store.Here || b.Status != store.Here {
				t.Fatalf("%s: %s %v, %s %v", n, a.Status, a.Err, b.Status, b.Err)
			}
			if x, y := describe(a.View, n), describe(b.View, n); x != y {
				t.Fatalf("seed %d, round %d, %s: hot\n%scold\n%s", seed, round, n, x, y)
			}
			a.Release()
			b.Release()
		}
		warm(t, hot, name("s.test."))
	}
	check(t, p)
	check(t, q)
}
