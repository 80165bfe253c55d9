package secondary

import (
	"context"
	"fmt"
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
)

const apexText = "example."

var apex = zones.MustParseName(apexText)

// rig is a node with one partition, to which what is published is applied at once.
type rig struct {
	t         testing.TB
	store     *store.Store
	partition *store.Partition

	mu  sync.Mutex
	log storetest.Log
	// before is called with each change set before it is published; its error is what publishing comes to.
	before func(*zones.ChangeSet) error
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t}
	r.store, r.partition = storetest.Open(t, storetest.Options(t, t.TempDir()))
	return r
}

func (r *rig) Publish(_ context.Context, cs *zones.ChangeSet) (store.Position, error) {
	if r.before != nil {
		if err := r.before(cs); err != nil {
			return store.Position{}, err
		}
	}
	return r.apply(cs), nil
}

func (r *rig) apply(cs *zones.ChangeSet) store.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	offset := r.log.Add(r.t, cs)
	r.log.Records[offset].Time = time.Now().UTC()
	if _, err := r.partition.Apply(r.log.From(offset)); err != nil {
		r.t.Error(err)
	}
	return store.Position{Offset: offset}
}

func (r *rig) Applied(_ context.Context, at store.Position) (store.Outcome, error) {
	return r.partition.Outcome(at.Offset)
}

// create makes a secondary zone that awaits its content.
func (r *rig) create(apex zones.Name, primaries ...zones.Remote) {
	at := r.apply(&zones.ChangeSet{Zone: apex, Author: "test", Ops: []zones.Op{zones.OpCreateZone{Settings: zones.ZoneSettings{Primaries: primaries}}}})
	if o, err := r.partition.Outcome(at.Offset); err != nil || o.Rejection != nil {
		r.t.Fatalf("create %s: %v %v", apex, o.Rejection, err)
	}
}

func (r *rig) info(apex zones.Name) store.ZoneInfo {
	info, err := r.store.Zone(apex)
	if err != nil {
		r.t.Fatal(err)
	}
	return info
}

// present is the zone as it is, RRset by RRset.
func (r *rig) present(apex zones.Name) []zones.RRset {
	reading, err := r.store.Read(apex)
	if err != nil {
		r.t.Fatal(err)
	}
	defer reading.Close()
	var all []zones.RRset
	for set, err := range reading.All(context.Background()) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, set)
	}
	return all
}

func (r *rig) secondary(change ...func(*Options)) *Secondary {
	opts := Options{
		Zones: StoreZones{r.store}, Publisher: r, Node: "node", TempDir: r.t.TempDir(), Logger: zerolog.Nop(),
		Client: Client{Limits: Limits{UDP: 10 * time.Second, Connect: time.Minute, Idle: time.Minute}},
	}
	for _, c := range change {
		c(&opts)
	}
	s, err := New(opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func at(addr string) zones.Remote { return zones.Remote{Addr: netip.MustParseAddrPort(addr)} }

func sortSets(sets []zones.RRset) []zones.RRset {
	return slices.SortedFunc(slices.Values(sets), zones.CompareRRsets)
}

// must fails unless a zone is as wanted.
func (r *rig) must(apex zones.Name, want []zones.RRset) {
	r.t.Helper()
	got, want := r.present(apex), sortSets(want)
	if slices.EqualFunc(got, want, zones.RRset.Equal) {
		return
	}
	r.t.Errorf("the zone %s has %d RRsets, want %d:\n%s\nwant:\n%s", apex, len(got), len(want), textOf(got), textOf(want))
}

func textOf(sets []zones.RRset) string {
	var b strings.Builder
	for i, s := range sets {
		if i == 20 {
			return b.String() + "…\n"
		}
		for rd := range s.RDatas() {
			fmt.Fprintf(&b, "%s %d %s %x\n", s.Owner, s.TTL, s.Key, rd)
		}
	}
	return b.String()
}
