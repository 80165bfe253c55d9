package catalogzones

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/catalog"
)

func TestProduces(t *testing.T) {
	n := newNode(t)
	n.do(create("all.catalog.", produced()))
	n.do(create("some.catalog.", produced("a", "b")))
	n.do(create("x.example.", zones.ZoneSettings{}))
	n.do(create("y.example.", zones.ZoneSettings{Groups: []string{"a"}}))
	n.do(create("secondary.example.", zones.ZoneSettings{Primaries: primaries}))
	n.settle()
	equal(t, "all", n.members("all.catalog."), []string{"x.example.", "y.example. a"})
	equal(t, "some", n.members("some.catalog."), []string{"y.example. a"})

	// Zones come and go, and change groups.
	n.do(create("z.example.", zones.ZoneSettings{Groups: []string{"b", "c"}}))
	n.do(remove("x.example."))
	n.do(set("y.example.", zones.PartGroups, zones.ZoneSettings{Groups: []string{"d"}}))
	called := n.label("all.catalog.", "y.example.")
	n.settle()
	equal(t, "all", n.members("all.catalog."), []string{"y.example. d", "z.example. b c"})
	equal(t, "some", n.members("some.catalog."), []string{"z.example. b c"})
	if got := n.label("all.catalog.", "y.example."); got != called {
		t.Errorf("a zone in other groups is called %s, and was %s", got, called)
	}

	// One catalog hands a zone over to the other.
	n.do(set("y.example.", zones.PartNewOwner, zones.ZoneSettings{NewOwner: name("some.catalog.")}))
	n.settle()
	equal(t, "all", n.members("all.catalog."), []string{"y.example. d to some.catalog.", "z.example. b c"})
	equal(t, "some", n.members("some.catalog."), []string{"y.example. d", "z.example. b c"})

	// What others write into it is undone.
	n.do(storetest.Change("all.catalog.", zones.OpPutRRset{RRset: storetest.Set("stray.zones.all.catalog.", 0, zones.TypePTR, "stray.")},
		zones.OpPutRRset{RRset: storetest.Set("version.all.catalog.", 0, zones.TypeTXT, `"3"`)}))
	n.settle()
	equal(t, "all, after it was spoilt", n.members("all.catalog."), []string{"y.example. d to some.catalog.", "z.example. b c"})

	// Even when one zone is called what another is.
	z := n.label("all.catalog.", "z.example.")
	n.do(storetest.Change("all.catalog.", zones.OpPutRRset{RRset: storetest.Set(z+".zones.all.catalog.", 0, zones.TypePTR, "y.example.")},
		zones.OpDeleteRRset{Owner: name(n.label("all.catalog.", "y.example.") + ".zones.all.catalog."), Type: zones.TypePTR}))
	n.restart() // which does not know how they were made
	n.settle()
	equal(t, "all, after two were confused", n.members("all.catalog."), []string{"y.example. d to some.catalog.", "z.example. b c"})

	// Of other groups, it lists other zones.
	n.do(set("some.catalog.", zones.PartCatalog, produced("d")))
	n.do(set("y.example.", zones.PartNewOwner, zones.ZoneSettings{}))
	n.settle()
	equal(t, "some, of other groups", n.members("some.catalog."), []string{"y.example. d"})
	n.do(set("some.catalog.", zones.PartCatalog, zones.ZoneSettings{}))
	n.do(remove("y.example."))
	n.settle()
	equal(t, "some, a catalog no more", n.members("some.catalog."), []string{"y.example. d"})
	if n.rejected > 0 {
		t.Errorf("%d change sets were rejected", n.rejected)
	}
}

// A zone that was made anew is called otherwise; one that was replaced is not, nor is any after a restart.
func TestLabels(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", produced()))
	for _, zone := range []string{"made.", "replaced.", "left."} {
		n.do(create(zone, zones.ZoneSettings{}))
	}
	n.settle()
	labels := func() []string {
		return []string{n.label("c.", "left."), n.label("c.", "replaced."), n.label("c.", "made.")}
	}
	before := labels()
	n.do(storetest.Change("replaced.", zones.OpReplaceZone{RRsets: storetest.Apex("replaced.", 2)}))
	n.do(remove("made."))
	n.do(create("made.", zones.ZoneSettings{}))
	n.settle()
	after := labels()
	if !slices.Equal(before[:2], after[:2]) || before[2] == after[2] {
		t.Errorf("%q became %q", before, after)
	}
	n.restart()
	n.settle()
	if got := labels(); !slices.Equal(got, after) {
		t.Errorf("after a restart, %q became %q", after, got)
	}
	// A node that has not seen how a zone was made calls it the same when it is the first to list it.
	n.do(create("late.", zones.ZoneSettings{}))
	n.restart()
	n.settle()
	first := n.label("c.", "late.")
	if want := catalog.MemberLabel(name("late."), bornAt(0, n.zone("late.").Generation.Offset)); first != want {
		t.Errorf("%s, want %s", first, want)
	}
}

// A burst of new zones comes to few change sets, each as large as it may be.
func TestBurst(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", produced()))
	const many = 4000
	var all []*zones.ChangeSet
	for i := range many {
		all = append(all, create(fmt.Sprintf("zone-%05d.example.", i), zones.ZoneSettings{}))
	}
	n.apply(all...)
	n.settle()
	if got := n.catalog("c.").Len(); got != many {
		t.Fatalf("%d members", got)
	}
	if got := len(n.published); got > many/1000+1 {
		t.Errorf("%d change sets for %d zones", got, many)
	}
	n.settle()
	if got := len(n.published); got > many/1000+1 {
		t.Errorf("%d change sets when there was nothing to do", got)
	}
}

// RRsets that are large, too, when they are taken away: what a change set may remove is less than what it can name.
func TestLargeGroups(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", produced()))
	var groups []string
	for i := range zones.MaxGroups {
		groups = append(groups, fmt.Sprintf("%02d%s", i, strings.Repeat("g", 200)))
	}
	var made, gone []*zones.ChangeSet
	for i := range 300 {
		zone := fmt.Sprintf("zone-%05d.example.", i)
		made = append(made, create(zone, zones.ZoneSettings{Groups: groups}))
		gone = append(gone, remove(zone))
	}
	n.apply(made...)
	n.settle()
	if got := n.catalog("c.").Len(); got != 300 {
		t.Fatalf("%d members: %v", got, n.keeper.Troubles())
	}
	n.apply(gone...)
	n.settle()
	if got := n.catalog("c.").Len(); got != 0 || len(n.keeper.Troubles()) > 0 {
		t.Errorf("%d members are left: %v", got, n.keeper.Troubles())
	}
}

// A copy that is behind does not take zones off a catalog, nor does one that can't be read.
func TestProducesNothingFromWhatIsNotKnown(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", produced()))
	n.do(create("x.", zones.ZoneSettings{}))
	n.do(create("y.", zones.ZoneSettings{}))
	n.settle()
	n.hidden[name("x.")] = true
	n.do(create("z.", zones.ZoneSettings{}))
	n.settle()
	equal(t, "behind", n.members("c."), []string{"x.", "y.", "z."})
	n.zonesErr = errAway
	n.do(remove("y."))
	n.settle()
	equal(t, "not listed", n.members("c."), []string{"x.", "y.", "z."})
	if troubles := n.keeper.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], "away") {
		t.Errorf("troubles %q", troubles)
	}
	n.zonesErr = nil
	n.settle()
	equal(t, "listed again", n.members("c."), []string{"x.", "z."})
	if troubles := n.keeper.Troubles(); len(troubles) > 0 {
		t.Errorf("troubles %q", troubles)
	}
}

// Two that do it at once: what one has decided no longer fits, and nothing is done twice.
func TestProducesBesideAnother(t *testing.T) {
	n := newNode(t)
	n.do(create("c.", produced()))
	n.do(create("x.", zones.ZoneSettings{}))
	other := n.keeper
	n.restart()
	n.before = func(*zones.ChangeSet) {
		n.before = nil
		other.look(t.Context())
		for _, e := range other.catalogs {
			e.due = never
			other.keep(t.Context(), e)
		}
	}
	n.settle()
	equal(t, "by two", n.members("c."), []string{"x."})
	if n.rejected != 1 || len(n.published) != 2 {
		t.Errorf("%d change sets, %d rejected", len(n.published), n.rejected)
	}
}

// Run does by itself what is to be done, as long as it is on duty.
func TestRun(t *testing.T) {
	n := newNode(t)
	n.offDuty = true
	n.do(create("c.", produced()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.keeper.Run(ctx)
	}()
	await := func(want ...string) {
		t.Helper()
		for {
			<-n.applied
			if slices.Equal(n.members("c."), want) {
				return
			}
		}
	}
	n.do(create("x.", zones.ZoneSettings{}))
	n.mu.Lock()
	n.offDuty = false
	n.mu.Unlock()
	await("x.")
	// When it has nothing left to do, only what happens has it look again.
	idle := func() bool {
		n.keeper.mu.Lock()
		defer n.keeper.mu.Unlock()
		e := n.keeper.catalogs[name("c.")]
		return e != nil && !e.due.Equal(never) && time.Until(e.due) > time.Minute
	}
	for tick := time.NewTicker(time.Millisecond); !idle(); {
		<-tick.C
	}
	n.do(create("y.", zones.ZoneSettings{}))
	await("x.", "y.")
	n.do(create("d.", produced())) // while it runs
	for n.zone("d.").RRsets < 5 {
		<-n.applied
	}
	n.mu.Lock()
	if n.rejected > 0 {
		t.Errorf("%d change sets were rejected", n.rejected)
	}
	n.mu.Unlock()
	n.do(remove("c.")) // for which there may be a change set under way, that is rejected
	n.do(remove("x."))
	for !slices.Equal(n.members("d."), []string{"y."}) {
		<-n.applied
	}
	cancel()
	<-ended
}
