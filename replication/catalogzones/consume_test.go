package catalogzones

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/catalog"
)

const from = " from 192.0.2.1:53"

func TestConsumes(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	n.do(create("ours.", zones.ZoneSettings{}))
	n.settle()
	equal(t, "nothing has come", n.hosts(), []string{"ours."})
	if troubles := n.keeper.Troubles(); len(troubles) > 0 {
		t.Errorf("a catalog that awaits its content is in trouble: %q", troubles)
	}

	n.do(says(t, "c.", 1, member("x.", "1"), member("y.", "2", "g", "h"), member("ours.", "3")))
	n.settle()
	equal(t, "at first", n.hosts(), []string{"ours.", "x. of c. as 1" + from, "y. of c. as 2" + from})
	if s := n.zone("y.").Settings; !slices.Equal(s.Groups, []string{"g", "h"}) || s.Primaries[0] != primaries[0] || !n.zone("y.").Standing.Awaiting {
		t.Errorf("y. has %+v", s)
	}
	if troubles := n.keeper.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], "ours.") {
		t.Errorf("a clash is reported as %q", troubles)
	}
	if n.zone("ours.").RRsets == 0 {
		t.Error("a zone of the operator's was taken")
	}

	// Operators' settings of a member stay; what the catalog says is followed.
	n.do(set("y.", zones.PartNotify, zones.ZoneSettings{Notify: primaries}))
	x, y := n.zone("x.").Generation, n.zone("y.").Generation
	n.do(says(t, "c.", 2, member("x.", "1b"), member("y.", "2", "i")))
	n.settle()
	equal(t, "then", n.hosts(), []string{"ours.", "x. of c. as 1b" + from, "y. of c. as 2" + from})
	if n.zone("x.").Generation == x {
		t.Error("a zone under another label is the same as before")
	}
	if z := n.zone("y."); z.Generation != y || !slices.Equal(z.Settings.Groups, []string{"i"}) || len(z.Settings.Notify) != 1 {
		t.Errorf("a zone in other groups has %+v, generation %v", z.Settings, z.Generation)
	}
	if troubles := n.keeper.Troubles(); len(troubles) > 0 {
		t.Errorf("troubles %q when there is no clash any more", troubles)
	}

	// The members come from where the catalog comes from.
	moved := []zones.Remote{{Addr: primaries[0].Addr}}
	n.do(set("c.", zones.PartPrimaries, zones.ZoneSettings{Primaries: moved}))
	n.settle()
	if got := n.zone("y.").Settings.Primaries; !slices.Equal(got, moved) {
		t.Errorf("a member comes from %v", got)
	}

	// What somebody removes comes back, and what they take off the catalog is theirs.
	n.do(remove("x."))
	n.do(set("y.", zones.PartMember, zones.ZoneSettings{}))
	n.settle()
	equal(t, "after people were there", n.hosts(), []string{"ours.", "x. of c. as 1b" + from, "y." + from})
	n.do(says(t, "c.", 3))
	n.settle()
	equal(t, "at last", n.hosts(), []string{"ours.", "y." + from})
	if n.rejected > 0 {
		t.Errorf("%d change sets were rejected", n.rejected)
	}
}

// A node whose copy of a catalog is behind takes nothing away that another node has made by the newer one: it looks at the newest before.
func TestBehind(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	n.do(says(t, "c.", 1, member("x.", "1"), member("y.", "2")))
	n.settle()
	old, err := n.Content(t.Context(), name("c."))
	if err != nil {
		t.Fatal(err)
	}
	// What another region's node did by serial 2: z. is new, y. has another label.
	n.do(says(t, "c.", 2, member("x.", "1"), member("y.", "2b"), member("z.", "3")))
	as := func(label string) zones.ZoneSettings {
		return zones.ZoneSettings{Primaries: primaries, Member: zones.Membership{Catalog: name("c."), Label: label}}
	}
	n.do(remove("y."))
	n.do(create("y.", as("2b")))
	n.do(create("z.", as("3")))
	want := []string{"x. of c. as 1" + from, "y. of c. as 2b" + from, "z. of c. as 3" + from}
	y, z := n.zone("y.").Generation, n.zone("z.").Generation
	for _, err := range []error{errAway, nil} {
		n.mu.Lock()
		n.behind, n.catchUpErr = map[zones.Name]Content{name("c."): old}, err
		n.mu.Unlock()
		n.keeper.look(t.Context())
		for _, e := range n.kept() {
			n.keeper.keep(t.Context(), e)
		}
		equal(t, fmt.Sprint("behind, ", err), n.hosts(), want)
		if troubles := n.keeper.Troubles(); (len(troubles) > 0) != (err != nil) {
			t.Errorf("troubles %q", troubles)
		}
	}
	if n.zone("y.").Generation != y || n.zone("z.").Generation != z {
		t.Error("a zone was made anew")
	}
	n.do(says(t, "c.", 3, member("x.", "1")))
	n.settle()
	equal(t, "at last", n.hosts(), want[:1])
}

// A catalog that is broken, or has expired, changes nothing, and says why.
func TestBroken(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	n.do(says(t, "c.", 1, member("x.", "1")))
	n.settle()
	want := []string{"x. of c. as 1" + from}
	equal(t, "whole", n.hosts(), want)
	primary := func(ops ...zones.Op) { n.do(storetest.From(zones.SourcePrimary, storetest.Change("c.", ops...))) }
	soa := func(serial int) zones.Op {
		return zones.OpPutRRset{RRset: storetest.Set("c.", 0, zones.TypeSOA, fmt.Sprintf("invalid. invalid. %d 1 1 1 0", serial))}
	}
	version := func(texts ...string) zones.Op {
		return zones.OpPutRRset{RRset: storetest.Set("version.c.", 0, zones.TypeTXT, texts...)}
	}
	gone := zones.OpDeleteRRset{Owner: name("1.zones.c."), Type: zones.TypePTR}
	for i, c := range []struct {
		what string
		op   zones.Op
		says string
	}{
		{"another version", version(`"3"`), "version"},
		{"several versions", version(`"1"`, `"2"`), "version"},
		{"no version", zones.OpDeleteRRset{Owner: name("version.c."), Type: zones.TypeTXT}, "version"},
		{"expired", zones.OpSetStanding{Expired: true}, "silent"},
	} {
		if _, standing := c.op.(zones.OpSetStanding); standing {
			primary(soa(100), version(`"2"`))
			primary(c.op)
		} else {
			primary(gone, c.op, soa(2+i))
		}
		n.settle()
		equal(t, c.what, n.hosts(), want)
		if troubles := n.keeper.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], c.says) {
			t.Errorf("%s: reported as %q", c.what, troubles)
		}
		if r, err := n.keeper.Show(t.Context(), name("c.")); err != nil || !strings.Contains(r.Problem, c.says) {
			t.Errorf("%s: shown as %+v, %v", c.what, r, err)
		}
	}
	primary(zones.OpSetStanding{})
	n.settle()
	equal(t, "whole again", n.hosts(), nil)
	if troubles := n.keeper.Troubles(); len(troubles) > 0 {
		t.Errorf("troubles %q", troubles)
	}
}

// A zone changes hands when both catalogs say so, and with all that is in it unless its label is another.
func TestChangeOfOwnership(t *testing.T) {
	n := newNode(t)
	n.do(create("old.", consumed()))
	n.do(create("new.", consumed()))
	offered := func(zone, label, to string) catalog.Member {
		m := member(zone, label)
		if to != "" {
			m.NewOwner = name(to)
		}
		return m
	}
	n.do(says(t, "old.", 1, offered("x.", "1", ""), offered("y.", "2", "third.")))
	n.do(says(t, "new.", 1))
	n.settle()
	old := []string{"x. of old. as 1" + from, "y. of old. as 2" + from}
	equal(t, "before", n.hosts(), old)
	x, y := n.zone("x.").Generation, n.zone("y.").Generation

	n.do(says(t, "new.", 2, member("x.", "1"), member("y.", "2")))
	n.settle()
	equal(t, "only the new one says so", n.hosts(), old)
	if r, err := n.keeper.Show(t.Context(), name("new.")); err != nil || r.Clashes != 2 || r.Members[0].Pending != catalog.Clash || r.Members[0].Owner != name("old.") {
		t.Errorf("shown as %+v, %v", r, err)
	}
	n.do(says(t, "old.", 2, offered("x.", "1", "new."), offered("y.", "2", "new.")))
	n.do(says(t, "new.", 3, member("x.", "1"), member("y.", "2b")))
	n.settle()
	equal(t, "both say so", n.hosts(), []string{"x. of new. as 1" + from, "y. of new. as 2b" + from})
	if n.zone("x.").Generation != x || n.zone("y.").Generation == y {
		t.Error("x. began anew, or y. did not")
	}
	n.do(says(t, "old.", 3))
	n.settle()
	equal(t, "the old one has let go", n.hosts(), []string{"x. of new. as 1" + from, "y. of new. as 2b" + from})
	n.do(says(t, "new.", 4))
	n.settle()
	equal(t, "the new one lets go", n.hosts(), nil)
}

// What is done is done only if the zone is still the catalog's.
func TestNothingIsDoneToWhatWasGivenAway(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	n.do(says(t, "c.", 1, member("gone.", "1"), member("kept.", "2"), member("anew.", "3")))
	n.settle()
	n.do(says(t, "c.", 2, member("kept.", "2", "g"), member("anew.", "3b"), member("taken.", "4")))
	people := sync.OnceFunc(func() { // before the first of several that are published at once
		for _, zone := range []string{"gone.", "kept.", "anew."} {
			n.do(set(zone, zones.PartMember, zones.ZoneSettings{}))
		}
		n.do(create("taken.", zones.ZoneSettings{}))
	})
	n.before = func(*zones.ChangeSet) { people() }
	n.settle()
	equal(t, "given away in the last moment", n.hosts(), []string{"anew." + from, "gone." + from, "kept." + from, "taken."})
	if len(n.zone("kept.").Settings.Groups) > 0 {
		t.Error("a zone that was given away has other groups")
	}
	if n.rejected != 4 {
		t.Errorf("%d change sets were rejected", n.rejected)
	}
}

// Many members, and a restart in the middle: it goes on where it was.
func TestManyMembersAndARestart(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	const many = 1500
	members := make([]catalog.Member, many)
	for i := range members {
		members[i] = member(fmt.Sprintf("zone-%05d.", i), fmt.Sprintf("l%d", i))
	}
	n.apply(says(t, "c.", 1)) // a catalog of so many members is larger than a change set
	c, err := catalog.New(name("c."), members)
	if err != nil {
		t.Fatal(err)
	}
	content, err := n.Content(t.Context(), name("c."))
	if err != nil {
		t.Fatal(err)
	}
	ops, err := c.Differences(slices.Values(content.RRsets))
	if err != nil {
		t.Fatal(err)
	}
	serial := 2
	for chunk := range slices.Chunk(ops, 900) {
		soa := zones.OpPutRRset{RRset: storetest.Set("c.", 0, zones.TypeSOA, fmt.Sprintf("invalid. invalid. %d 1 1 1 0", serial))}
		n.do(storetest.From(zones.SourcePrimary, storetest.Change("c.", append([]zones.Op{soa}, chunk...)...)))
		serial++
	}
	ctx, cancel := context.WithCancel(t.Context())
	var published atomic.Int32
	n.refuse = func(*zones.ChangeSet) error {
		if published.Add(1) > many/3 {
			cancel() // the process ends
			return errors.New("the process has ended")
		}
		return nil
	}
	n.keeper.look(ctx)
	for _, e := range n.kept() {
		n.keeper.keep(ctx, e)
	}
	if got := len(n.hosts()); got < many/3 || got >= many {
		t.Fatalf("%d zones when the process ended", got)
	}
	n.refuse = nil
	n.restart()
	n.settle()
	if got := len(n.hosts()); got != many {
		t.Errorf("%d zones", got)
	}
	if n.rejected > 0 || len(n.published) != many {
		t.Errorf("%d change sets, %d rejected", len(n.published), n.rejected)
	}
}

// Zones of partitions that this node does not hold: nobody waits, and what came of it is seen later.
func TestConsumesElsewhere(t *testing.T) {
	n := newNode(t)
	n.elsewhere = true
	n.do(create("c.", consumed()))
	n.do(says(t, "c.", 1, member("x.", "1"), member("y.", "2")))
	n.settle()
	n.do(says(t, "c.", 2, member("x.", "1b")))
	n.settle()
	equal(t, "elsewhere", n.hosts(), []string{"x. of c. as 1b" + from})
	if n.rejected > 0 {
		t.Errorf("%d change sets were rejected", n.rejected)
	}
}

// The end of a subscription: the members go with it, or become the operator's.
func TestEnd(t *testing.T) {
	for role, want := range map[zones.CatalogRole][]string{
		zones.CatalogDissolved: {"other. of d. as 9" + from, "ours."},
		zones.CatalogReleased:  {"other. of d. as 9" + from, "ours.", "x." + from, "y." + from},
	} {
		n := newNode(t)
		n.do(create("ours.", zones.ZoneSettings{}))
		n.do(create("c.", consumed()))
		n.do(create("d.", consumed()))
		n.do(says(t, "d.", 1, member("other.", "9")))
		n.settle()
		n.do(says(t, "c.", 1, member("x.", "1", "g"), member("y.", "2"), member("ours.", "3"), member("other.", "4")))
		n.settle()
		wasX := n.zone("x.").Generation
		n.do(set("c.", zones.PartCatalog, zones.ZoneSettings{Catalog: zones.Catalog{Role: role}}))
		n.settle()
		equal(t, role.String(), n.hosts(), want)
		if _, err := n.store.Zone(name("c.")); err == nil {
			t.Errorf("%s: the catalog is there still", role)
		}
		if role == zones.CatalogReleased {
			if z := n.zone("x."); z.Generation != wasX || !slices.Equal(z.Settings.Groups, []string{"g"}) {
				t.Errorf("a zone that was let go has %+v", z)
			}
		}
		if n.rejected > 0 {
			t.Errorf("%s: %d change sets were rejected", role, n.rejected)
		}
	}
}

// Who is not on duty does nothing, and stops in the middle when another takes over.
func TestOffDuty(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	n.do(says(t, "c.", 1, member("x.", "1"), member("y.", "2"), member("z.", "3")))
	n.offDuty = true
	n.settle()
	equal(t, "off duty", n.hosts(), nil)
	n.offDuty = false
	n.settle()
	equal(t, "on duty", n.hosts(), []string{"x. of c. as 1" + from, "y. of c. as 2" + from, "z. of c. as 3" + from})
	n.do(says(t, "c.", 2))
	n.offDuty = true
	for _, e := range n.kept() {
		n.keeper.keep(t.Context(), e)
	}
	if got := len(n.hosts()); got != 3 {
		t.Errorf("%d zones are left after somebody who is no longer on duty went on", got)
	}
}

// A frozen member is not deleted, which is reported; the others are.
func TestFrozenMember(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", consumed()))
	n.do(says(t, "c.", 1, member("x.", "1"), member("y.", "2")))
	n.settle()
	n.do(set("x.", zones.PartFrozen, zones.ZoneSettings{Frozen: true}))
	n.do(says(t, "c.", 2))
	n.keeper.look(t.Context())
	for _, e := range n.kept() {
		n.keeper.keep(t.Context(), e)
	}
	equal(t, "frozen", n.hosts(), []string{"x. of c. as 1" + from})
	if troubles := n.keeper.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], "x.") || !strings.Contains(troubles[0], "frozen") {
		t.Errorf("reported as %q", troubles)
	}
	n.do(set("x.", zones.PartFrozen, zones.ZoneSettings{}))
	n.settle()
	equal(t, "thawed", n.hosts(), nil)
}
