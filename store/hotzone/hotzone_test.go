package hotzone_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"balefire/store/hotzone"
	"balefire/zones"
	"balefire/zones/zonestest"
)

func rrset(t testing.TB, owner string, typ zones.Type, values ...string) zones.RRset {
	t.Helper()
	return rrsetAt(t, zones.MustParseName(owner), typ, values...)
}

// rrsetAt makes an RRset whose RDATA is the text itself (nothing here reads RDATA), or, where the type
// demands a name, that name; the type covered by an RRSIG is NSEC3 for "nsec3…", and A for all others.
func rrsetAt(t testing.TB, owner zones.Name, typ zones.Type, values ...string) zones.RRset {
	t.Helper()
	var data [][]byte
	for _, v := range values {
		switch typ {
		case zones.TypeNS, zones.TypeNSEC:
			data = append(data, []byte(zones.MustParseName(v)))
		case zones.TypeA:
			data = append(data, append([]byte(v), 0, 0, 0, 0)[:4])
		case zones.TypeSOA:
			data = append(data, append([]byte(zones.Root+zones.Root), bytes.Repeat([]byte(v[:1]), 20)...))
		case zones.TypeRRSIG:
			covered := []byte{0, byte(zones.TypeA)}
			if len(v) > 5 && v[:5] == "nsec3" {
				covered[1] = byte(zones.TypeNSEC3)
			}
			data = append(data, append(append(covered, make([]byte, 16)...), append([]byte(zones.Root), v...)...))
		default:
			data = append(data, []byte(v))
		}
	}
	s, err := zones.NewRRset(owner, typ, 300, data...)
	if err != nil {
		t.Fatalf("%s %s: %v", owner, typ, err)
	}
	return s
}

func build(t testing.TB, apex zones.Name, view *zonestest.View) *hotzone.Zone {
	t.Helper()
	b := hotzone.NewBuilder(apex)
	for _, n := range view.Nodes() {
		if err := b.Add(n); err != nil {
			t.Fatalf("add %s: %v", n.Owner, err)
		}
	}
	for _, n := range view.HashedNodes() {
		if err := b.AddHashed(n); err != nil {
			t.Fatalf("add hashed %s: %v", n.Owner, err)
		}
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func show(at zones.Location) string {
	return fmt.Sprintf("exact %v node %s encloser %s cut %s", at.Exact, showNode(at.Node), showNode(at.Encloser), showNode(at.Cut))
}

func showNode(n zones.Node) string {
	if n.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%s/%x", n.Owner, n.Packed())
}

// compare fails the test where the zone and the view disagree about n.
func compare(t testing.TB, z *hotzone.Zone, v zones.View, n zones.Name) {
	t.Helper()
	var got, want zones.Location
	if err := z.Find(n, &got); err != nil {
		t.Fatalf("find %s: %v", n, err)
	}
	if err := v.Find(n, &want); err != nil {
		t.Fatal(err)
	}
	if show(got) != show(want) {
		t.Fatalf("find %s:\n got %s\nwant %s", n, show(got), show(want))
	}
	gotNode, err := z.FindNSEC(n)
	wantNode, _ := v.FindNSEC(n)
	if err != nil || showNode(gotNode) != showNode(wantNode) {
		t.Fatalf("find NSEC of %s: got %s (%v), want %s", n, showNode(gotNode), err, showNode(wantNode))
	}
	gotNode, err = z.FindNSEC3(n)
	wantNode, _ = v.FindNSEC3(n)
	if err != nil || showNode(gotNode) != showNode(wantNode) {
		t.Fatalf("find NSEC3 of %s: got %s (%v), want %s", n, showNode(gotNode), err, showNode(wantNode))
	}
}

func TestFind(t *testing.T) {
	apex := zones.MustParseName("example.")
	sets := []zones.RRset{
		rrset(t, "example.", zones.TypeSOA, "1"),
		rrset(t, "example.", zones.TypeNS, "ns.example."),
		rrset(t, "www.example.", zones.TypeA, "1234"),
		rrset(t, "*.wild.example.", zones.TypeTXT, "w"),
		rrset(t, "x.*.star.example.", zones.TypeTXT, "below an ENT asterisk"),
		rrset(t, "a.b.c.d.example.", zones.TypeTXT, "deep"),
		rrset(t, "sub.example.", zones.TypeNS, "ns.sub.example."),
		rrset(t, "ns.sub.example.", zones.TypeA, "glue"),
		rrset(t, "in.sub.example.", zones.TypeNS, "occluded."),
		rrset(t, "deep.ent.sub.example.", zones.TypeA, "occluded"),
		rrset(t, `a\.b.example.`, zones.TypeTXT, "a dot"),
		rrset(t, `\000\001.example.`, zones.TypeTXT, "low octets"),
	}
	view := zonestest.NewView(apex, sets)
	z := build(t, apex, view)
	for _, c := range []struct {
		name, node, encloser, cut string
		exact, empty              bool
	}{
		{name: "example.", exact: true, encloser: "example."},
		{name: "www.example.", exact: true, encloser: "www.example."},
		{name: "no.example.", encloser: "example."},
		{name: "x.y.no.example.", encloser: "example."},
		{name: "below.www.example.", encloser: "www.example."},
		{name: "wild.example.", exact: true, empty: true, encloser: "wild.example."},
		{name: "x.wild.example.", encloser: "wild.example."},
		{name: "*.wild.example.", exact: true, encloser: "*.wild.example."},
		{name: "*.star.example.", exact: true, empty: true, encloser: "*.star.example."},
		{name: "b.c.d.example.", exact: true, empty: true, encloser: "b.c.d.example."},
		{name: "z.c.d.example.", encloser: "c.d.example."},
		{name: "sub.example.", exact: true, encloser: "sub.example.", cut: "sub.example."},
		{name: "ns.sub.example.", exact: true, encloser: "ns.sub.example.", cut: "sub.example."},
		{name: "in.sub.example.", exact: true, encloser: "in.sub.example.", cut: "sub.example."},
		{name: "x.in.sub.example.", encloser: "in.sub.example.", cut: "sub.example."},
		{name: "ent.sub.example.", exact: true, empty: true, encloser: "ent.sub.example.", cut: "sub.example."},
		{name: "q.deep.ent.sub.example.", encloser: "deep.ent.sub.example.", cut: "sub.example."},
		{name: "b.example.", encloser: "example."},
		{name: `a\.b.example.`, exact: true, encloser: `a\.b.example.`},
		{name: `\000.example.`, encloser: "example."},
	} {
		n := zones.MustParseName(c.name)
		var at zones.Location
		if err := z.Find(n, &at); err != nil {
			t.Fatal(err)
		}
		cut := ""
		if !at.Cut.IsZero() {
			cut = at.Cut.Owner.String()
		}
		if at.Exact != c.exact || at.Exact && at.Node.Owner != n || at.Exact && at.Node.IsEmpty() != c.empty ||
			at.Encloser.Owner.String() != c.encloser || cut != c.cut {
			t.Errorf("%s: %s", c.name, show(at))
		}
		compare(t, z, view, n)
	}
	if z.Names() != 18 || z.Delegations() != 2 || z.Wildcards() != 2 {
		t.Errorf("%d names, %d delegations, %d wildcards", z.Names(), z.Delegations(), z.Wildcards())
	}
	var at zones.Location
	for _, outside := range []string{".", "com.", "xexample.", "www.com."} {
		if err := z.Find(zones.MustParseName(outside), &at); err == nil {
			t.Errorf("%s found: %s", outside, show(at))
		}
	}
	// "example" as the end of a label's content is not the apex.
	if err := z.Find(zones.MustParseName(`a\007example.`), &at); err == nil {
		t.Errorf("a label that ends like the apex was found: %s", show(at))
	}
}

func TestBuilderRefuses(t *testing.T) {
	apex := zones.MustParseName("example.")
	node := func(owner string) zones.Node {
		return zones.NewNode(zones.MustParseName(owner), []zones.RRset{rrset(t, owner, zones.TypeTXT, "x")})
	}
	for _, c := range []struct {
		name  string
		nodes []string
		want  error
	}{
		{"nothing", nil, hotzone.ErrNoApex},
		{"no apex", []string{"a.example."}, hotzone.ErrNoApex},
		{"twice", []string{"example.", "a.example.", "a.example."}, hotzone.ErrOrder},
		{"apex twice", []string{"example.", "example."}, hotzone.ErrOrder},
		{"backwards", []string{"example.", "b.example.", "a.example."}, hotzone.ErrOrder},
		{"child before parent", []string{"example.", "x.a.example.", "a.example."}, hotzone.ErrOrder},
		{"outside", []string{"example.", "x.test."}, hotzone.ErrOrder},
		{"above", []string{"example.", "."}, hotzone.ErrOrder},
	} {
		b := hotzone.NewBuilder(apex)
		var err error
		for _, n := range c.nodes {
			if err = b.Add(node(n)); err != nil {
				break
			}
		}
		if _, got := b.Build(); got != c.want || err != nil && err != c.want {
			t.Errorf("%s: add %v, build %v, want %v", c.name, err, got, c.want)
		}
		b.Reset(apex)
		if err := b.Add(node("example.")); err != nil {
			t.Errorf("%s: after a reset: %v", c.name, err)
		}
		if _, err := b.Build(); err != nil {
			t.Errorf("%s: after a reset: %v", c.name, err)
		}
	}
	b := hotzone.NewBuilder(apex)
	for _, owner := range []string{"b.example.", "a.example."} {
		s := rrset(t, owner, zones.TypeNSEC3, "h")
		if err := b.AddHashed(zones.NewNode(s.Owner, []zones.RRset{s})); (err != nil) != (owner == "a.example.") {
			t.Errorf("hashed %s: %v", owner, err)
		}
	}
}

// world is a zone in the making: names over a small alphabet, so that they meet often.
type world struct {
	t    testing.TB
	rng  *rand.Rand
	apex zones.Name
	sets map[string]zones.RRset // by owner and key
}

var labels = []string{"a", "b", "*", "c", `\000`, `\001`, `\001\001`, "A-long-label-that-fills-the-pages-a-bit", `x\.y`, `\255`, "ns"}

func (w *world) name(depth int) zones.Name {
	n := w.apex
	for range w.rng.IntN(depth + 1) {
		label := labels[w.rng.IntN(len(labels))]
		if w.rng.IntN(3) == 0 {
			label = fmt.Sprintf("n%d", w.rng.IntN(40))
		}
		child := zones.MustParseName(label + ".")
		next, err := n.Child(child.Label())
		if err != nil {
			w.t.Fatal(err)
		}
		n = next
	}
	return n
}

func (w *world) randomSet() zones.RRset {
	types := []zones.Type{zones.TypeA, zones.TypeTXT, zones.TypeNS, zones.TypeNSEC, zones.TypeRRSIG, zones.TypeNSEC3}
	typ := types[w.rng.IntN(len(types))]
	value := fmt.Sprintf("v%d", w.rng.IntN(1000))
	switch {
	case typ == zones.TypeNSEC3, typ == zones.TypeRRSIG && w.rng.IntN(2) == 0:
		hash, err := w.apex.Child(fmt.Sprintf("h%d", w.rng.IntN(300)))
		if err != nil {
			w.t.Fatal(err)
		}
		return rrsetAt(w.t, hash, typ, "nsec3"+value)
	case w.rng.IntN(60) == 0:
		value += string(bytes.Repeat([]byte{'x'}, 200+w.rng.IntN(6000)))
		typ = zones.TypeTXT
	}
	return rrsetAt(w.t, w.name(4), typ, value)
}

func key(s zones.RRset) string { return string(s.Owner) + s.Key.String() }

// step makes a delta of up to n changes, and applies it to the sets.
func (w *world) step(n int) zones.Delta {
	changed := map[string]zones.RRsetChange{}
	for range 1 + w.rng.IntN(n) {
		s := w.randomSet()
		if w.rng.IntN(2) == 0 {
			keys := make([]string, 0, len(w.sets))
			for k := range w.sets {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			s = w.sets[keys[w.rng.IntN(len(keys))]]
		}
		k := key(s)
		if _, again := changed[k]; again {
			continue
		}
		c := zones.RRsetChange{Owner: s.Owner, Key: s.Key, Before: w.sets[k]}
		if c.Before.IsZero() || s.Type == zones.TypeSOA || w.rng.IntN(3) == 0 {
			c.After = s.WithTTL(uint32(w.rng.IntN(1000)))
			w.sets[k] = c.After
		} else {
			delete(w.sets, k)
		}
		changed[k] = c
	}
	var d zones.Delta
	for _, c := range changed {
		d.Changes = append(d.Changes, c)
	}
	slices.SortFunc(d.Changes, func(a, b zones.RRsetChange) int {
		return zones.CompareRRsets(zones.RRset{Owner: a.Owner, Key: a.Key}, zones.RRset{Owner: b.Owner, Key: b.Key})
	})
	return d
}

func (w *world) view() *zonestest.View {
	sets := make([]zones.RRset, 0, len(w.sets))
	for _, s := range w.sets {
		sets = append(sets, s)
	}
	return zonestest.NewView(w.apex, sets)
}

func newWorld(t testing.TB, seed uint64, apex string) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 2)), apex: zones.MustParseName(apex), sets: map[string]zones.RRset{}}
	soa := rrsetAt(t, w.apex, zones.TypeSOA, "1")
	w.sets[key(soa)] = soa
	return w
}

// check asks zone and view for many names, and the zone for what it counts.
func (w *world) check(z *hotzone.Zone, queries int) {
	w.t.Helper()
	v := w.view()
	for range queries {
		n := w.name(6)
		if w.rng.IntN(3) == 0 {
			hash, err := w.apex.Child(fmt.Sprintf("h%d", w.rng.IntN(400)))
			if err != nil {
				w.t.Fatal(err)
			}
			n = hash
		}
		compare(w.t, z, v, n)
	}
	fresh := build(w.t, w.apex, v)
	if z.Names() != fresh.Names() || z.Delegations() != fresh.Delegations() || z.Wildcards() != fresh.Wildcards() {
		w.t.Fatalf("patched: %d names, %d delegations, %d wildcards; built: %d, %d, %d", z.Names(), z.Delegations(),
			z.Wildcards(), fresh.Names(), fresh.Delegations(), fresh.Wildcards())
	}
	if showNode(z.Apex()) != showNode(v.Apex()) {
		w.t.Fatalf("apex %s, want %s", showNode(z.Apex()), showNode(v.Apex()))
	}
}

// TestAgainstReference patches zones at random, and compares them, and zones built afresh, with the
// plain view of zonestest.
func TestAgainstReference(t *testing.T) {
	for _, apex := range []string{".", "example.", `x.\000.example.`} {
		for _, sizes := range [][2]int{{1, 40}, {12, 24}, {300, 8}} { // changes in a delta, deltas
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%s/%d/seed %d", apex, sizes[0], seed), func(t *testing.T) {
				w := newWorld(t, seed, apex)
				z := build(t, w.apex, w.view())
				for range sizes[1] {
					next, err := z.Patch(w.step(sizes[0]))
					if err != nil {
						t.Fatal(err)
					}
					z = next
					w.check(z, 40)
				}
				w.check(build(t, w.apex, w.view()), 200)
				old, before := z, w.view()
				for range 3 { // an old version is not touched by what follows it
					next, err := z.Patch(w.step(50))
					if err != nil {
						t.Fatal(err)
					}
					z = next
				}
				for range 100 {
					compare(t, old, before, w.name(6))
				}
				for len(w.sets) > 1 { // down to the apex
					var d zones.Delta
					for k, s := range w.sets {
						if s.Type != zones.TypeSOA && len(d.Changes) < 40 {
							d.Changes = append(d.Changes, zones.RRsetChange{Owner: s.Owner, Key: s.Key, Before: s})
							delete(w.sets, k)
						}
					}
					next, err := z.Patch(d)
					if err != nil {
						t.Fatal(err)
					}
					z = next
					w.check(z, 10)
				}
				if z.Names() != 1 {
					t.Fatalf("%d names are left", z.Names())
				}
			})
		}
	}
}

func TestPatchRefuses(t *testing.T) {
	w := newWorld(t, 1, "example.")
	a := rrset(t, "a.example.", zones.TypeA, "1")
	w.sets[key(a)] = a
	z := build(t, w.apex, w.view())
	soa := z.Apex()
	soaSet, _ := soa.RRset(zones.TypeSOA)
	other := rrset(t, "a.example.", zones.TypeA, "2")
	txt := rrset(t, "a.example.", zones.TypeTXT, "2")
	for name, c := range map[string]zones.RRsetChange{
		"other data":      {Owner: a.Owner, Key: a.Key, Before: other, After: txt.WithTTL(1)},
		"other TTL":       {Owner: a.Owner, Key: a.Key, Before: a.WithTTL(1)},
		"already there":   {Owner: a.Owner, Key: a.Key, After: other},
		"not there":       {Owner: a.Owner, Key: txt.Key, Before: txt},
		"another type":    {Owner: a.Owner, Key: a.Key, Before: a, After: txt},
		"out of the zone": {Owner: zones.MustParseName("test."), Key: a.Key, After: a},
		"no apex":         {Owner: w.apex, Key: soaSet.Key, Before: soaSet},
	} {
		if _, err := z.Patch(zones.Delta{Changes: []zones.RRsetChange{c}}); err == nil {
			t.Errorf("%s: patched", name)
		}
	}
	compare(t, z, w.view(), a.Owner)
}
