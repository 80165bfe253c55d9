package catalogzones

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/catalog"
	"balefire/zones/change"
)

func name(s string) zones.Name { return zones.MustParseName(s) }

// node is a Source of one partition of a store, in which each change set is applied as it is published.
type node struct {
	tb     testing.TB
	store  *store.Store
	part   *store.Partition
	keeper *Keeper

	mu         sync.Mutex
	log        storetest.Log
	published  []*zones.ChangeSet // by a keeper
	rejected   int
	applied    chan struct{} // gets something after each of these
	offDuty    bool
	elsewhere  bool                            // outcomes can't be waited for
	zonesErr   error                           // of EachZone
	catchUpErr error                           // of CatchUp
	hidden     map[zones.Name]bool             // zones that are not seen unless it is to be fresh
	behind     map[zones.Name]Content          // what is read of zones before CatchUp
	before     func(cs *zones.ChangeSet)       // is called before what a keeper publishes is
	refuse     func(cs *zones.ChangeSet) error // what publishing fails with
}

func newNode(tb testing.TB) *node {
	st, p := storetest.Open(tb, storetest.Options(tb, tb.TempDir()))
	n := &node{tb: tb, store: st, part: p, applied: make(chan struct{}, 1), hidden: map[zones.Name]bool{}}
	n.restart()
	return n
}

// restart makes another keeper.
func (n *node) restart() {
	quick := Timing{Settle: time.Millisecond, Retry: 10 * time.Millisecond, Recheck: time.Hour, Duty: time.Millisecond}
	k := New(Options{Source: n, Timing: quick, Logger: zerolog.Nop()})
	n.mu.Lock()
	n.keeper = k
	n.mu.Unlock()
}

func (n *node) Partitions() int32                    { return 1 }
func (n *node) PartitionOf(zones.Name) (int32, bool) { return 0, true }
func (n *node) Rank(zones.Name) int                  { return 0 }

func (n *node) OnDuty(int32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.offDuty
}

func (n *node) EachCatalog(_ context.Context, _ int32, fn func(store.ZoneInfo)) error {
	return n.part.EachPeered(func(z store.ZoneInfo) bool {
		if z.Settings.Catalog.Role != zones.NoCatalog {
			fn(z)
		}
		return true
	})
}

func (n *node) EachZone(_ context.Context, _ int32, fresh bool, fn func(Zone)) error {
	n.mu.Lock()
	err := n.zonesErr
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return n.part.EachZone(func(z store.ZoneInfo) bool {
		if fresh || !n.hidden[z.Apex] {
			fn(Zone{z.Apex, z.Settings, z.Generation.Offset})
		}
		return true
	})
}

func (n *node) CatchUp(context.Context, int32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.behind = nil
	return n.catchUpErr
}

func (n *node) Content(_ context.Context, apex zones.Name) (c Content, err error) {
	n.mu.Lock()
	old, behind := n.behind[apex]
	n.mu.Unlock()
	if behind {
		return old, nil
	}
	r, err := n.store.Read(apex)
	if err != nil {
		return c, err
	}
	defer r.Close()
	c.Info = r.Info
	for at := (*store.Cursor)(nil); ; {
		page, err := r.RRsets("", at, 1000)
		if err != nil {
			return c, err
		}
		for _, s := range page.RRsets {
			c.RRsets = append(c.RRsets, s.WithOwner(zones.Name(strings.Clone(string(s.Owner)))))
		}
		if at = page.Next; at == nil {
			return c, nil
		}
	}
}

func (n *node) Publish(_ context.Context, cs *zones.ChangeSet) (store.Position, error) {
	if n.before != nil {
		n.before(cs)
	}
	if n.refuse != nil {
		if err := n.refuse(cs); err != nil {
			return store.Position{}, err
		}
	}
	if rej := change.Check(cs); rej != nil {
		n.tb.Errorf("a change set that no door would let pass: %v", rej)
	}
	out := n.apply(cs)
	n.mu.Lock()
	n.published = append(n.published, cs)
	if out.Rejection != nil {
		n.rejected++
	}
	n.mu.Unlock()
	select {
	case n.applied <- struct{}{}:
	default:
	}
	return out.Position, nil
}

func (n *node) Applied(_ context.Context, at store.Position) (store.Outcome, error) {
	if n.elsewhere {
		return store.Outcome{}, ErrElsewhere
	}
	return n.part.Outcome(at.Offset)
}

// apply applies change sets of anybody's, and tells the keeper.
func (n *node) apply(all ...*zones.ChangeSet) store.Outcome {
	n.tb.Helper()
	n.mu.Lock()
	from := len(n.log.Records)
	for _, cs := range all {
		if (cs.ID == zones.ChangeID{}) {
			cs.ID = n.log.NextID()
		}
		value, err := change.Encode(cs)
		if err != nil {
			n.tb.Error(err)
		}
		n.log.Raw(cs.Zone.String(), value)
	}
	outcomes, err := n.part.Apply(n.log.Records[from:])
	if err != nil {
		n.tb.Error(err)
	}
	keeper := n.keeper
	n.mu.Unlock()
	var changes []Change
	for _, o := range outcomes {
		if !o.Changed {
			continue
		}
		c := Change{Apex: o.Zone, Created: o.Created, Deleted: o.Deleted, Resettled: o.Resettled, Generation: o.Generation}
		if o.Peering != nil {
			c.Catalog = o.Peering.Settings.Catalog
		}
		changes = append(changes, c)
	}
	keeper.Changed(0, changes)
	return outcomes[len(outcomes)-1]
}

// do is apply of something that is not to be rejected.
func (n *node) do(cs *zones.ChangeSet) {
	n.tb.Helper()
	if out := n.apply(cs); out.Rejection != nil {
		n.tb.Fatalf("%s: %v", cs.Zone, out.Rejection)
	}
}

// settle has the keeper look at all catalogs until there is nothing left to do.
func (n *node) settle() {
	n.tb.Helper()
	ctx := n.tb.Context()
	for round := 0; ; round++ {
		n.mu.Lock()
		before := len(n.published)
		n.mu.Unlock()
		n.keeper.look(ctx)
		for _, e := range n.kept() {
			n.keeper.mu.Lock()
			e.due = never
			n.keeper.mu.Unlock()
			n.keeper.keep(ctx, e)
		}
		n.mu.Lock()
		done := len(n.published) == before
		n.mu.Unlock()
		if done && round > 0 {
			return
		}
		if round == 20 {
			n.tb.Fatalf("it is never done: %v", n.keeper.Troubles())
		}
	}
}

func (n *node) kept() (all []*entry) {
	n.keeper.mu.Lock()
	defer n.keeper.mu.Unlock()
	for _, e := range n.keeper.catalogs {
		all = append(all, e)
	}
	return all
}

// catalog reads a catalog as others do.
func (n *node) catalog(apex string) *catalog.Catalog {
	n.tb.Helper()
	content, err := n.Content(n.tb.Context(), name(apex))
	if err != nil {
		n.tb.Fatal(err)
	}
	c, err := catalog.Parse(name(apex), slices.Values(content.RRsets))
	if err != nil {
		n.tb.Fatal(err)
	}
	return c
}

// members are what a catalog lists, without labels.
func (n *node) members(apex string) (all []string) {
	n.tb.Helper()
	for _, m := range n.catalog(apex).Members() {
		text := m.Zone.String()
		for _, g := range m.Groups {
			text += " " + g
		}
		if m.NewOwner != "" {
			text += " to " + m.NewOwner.String()
		}
		all = append(all, text)
	}
	return all
}

func (n *node) label(apex, zone string) string {
	m, _ := n.catalog(apex).Member(name(zone))
	return m.Label
}

// hosts are the zones that there are, with what they are to catalogs.
func (n *node) hosts() (all []string) {
	n.tb.Helper()
	err := n.part.EachZone(func(z store.ZoneInfo) bool {
		text := z.Apex.String()
		if m := z.Settings.Member; m.Catalog != "" {
			text += " of " + m.Catalog.String() + " as " + m.Label
		}
		for _, r := range z.Settings.Primaries {
			text += " from " + r.Addr.String()
		}
		if z.Settings.Catalog.Role == zones.NoCatalog {
			all = append(all, text)
		}
		return true
	})
	if err != nil {
		n.tb.Fatal(err)
	}
	return all
}

func (n *node) zone(apex string) store.ZoneInfo {
	n.tb.Helper()
	z, err := n.store.Zone(name(apex))
	if err != nil {
		n.tb.Fatal(err)
	}
	return z
}

// Change sets of others.

func create(apex string, s zones.ZoneSettings) *zones.ChangeSet {
	op := zones.OpCreateZone{Settings: s}
	if !s.IsSecondary() {
		op.RRsets = storetest.Apex(apex, 1)
	}
	return storetest.Change(apex, op)
}

func remove(apex string) *zones.ChangeSet { return storetest.Change(apex, zones.OpDeleteZone{}) }

func set(apex string, parts zones.SettingsPart, s zones.ZoneSettings) *zones.ChangeSet {
	return storetest.Change(apex, zones.OpSetSettings{Parts: parts, Settings: s})
}

func produced(groups ...string) zones.ZoneSettings {
	return zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: groups}}
}

var primaries = []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.1:53"), Key: name("key."), TLS: true}}

func consumed() zones.ZoneSettings {
	return zones.ZoneSettings{Primaries: primaries, Catalog: zones.Catalog{Role: zones.CatalogConsumed}}
}

// says is a catalog that comes from its primary.
func says(tb testing.TB, apex string, serial zones.Serial, members ...catalog.Member) *zones.ChangeSet {
	tb.Helper()
	c, err := catalog.New(name(apex), members)
	if err != nil {
		tb.Fatal(err)
	}
	sets, err := c.RRsets(serial, catalog.DefaultTiming)
	if err != nil {
		tb.Fatal(err)
	}
	return storetest.From(zones.SourcePrimary, storetest.Change(apex, zones.OpReplaceZone{RRsets: sets}))
}

func member(zone, label string, groups ...string) catalog.Member {
	return catalog.Member{Zone: name(zone), Label: label, Groups: groups}
}

func equal(tb testing.TB, what string, got, want []string) {
	tb.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		tb.Errorf("%s: %q, want %q", what, got, want)
	}
}

var errAway = errors.New("away")
