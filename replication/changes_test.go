package replication

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// heard is what a ChangesFunc was told.
type heard struct {
	mu      sync.Mutex
	changes []ZoneChange
	anew    []int32
}

func (h *heard) note(partition int32, changes []ZoneChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(changes) == 0 {
		h.anew = append(h.anew, partition)
	}
	for _, c := range changes {
		if c.At.Partition != partition {
			panic(fmt.Sprintf("%+v as of partition %d", c, partition))
		}
	}
	h.changes = append(h.changes, changes...)
}

func (h *heard) all() []ZoneChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.changes)
}

func TestChangesAreToldOnceTheyAreSeen(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	var h heard
	stop := n.Changes(func(partition int32, changes []ZoneChange) {
		for _, c := range changes {
			// What is told is what is answered from.
			if info, err := n.Store().Zone(c.Apex); (err == nil) != !c.Deleted || err == nil && info.Serial != c.Serial {
				panic(fmt.Sprintf("told %+v, and there is %+v, %v", c, info, err))
			}
		}
		h.note(partition, changes)
	})
	apex := zones.MustParseName("example.")
	created := do(t, n, storetest.Create("example."))
	do(t, n, storetest.Create("example.")) // rejected: nothing changes
	put := storetest.Put("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.1"))
	changed := do(t, n, put)
	again, err := n.Publish(deadline(t), put) // a duplicate: nothing changes
	if err != nil {
		t.Fatal(err)
	}
	if o, err := n.Wait(deadline(t), again, ThisNode); err != nil || !o.Duplicate {
		t.Fatalf("%+v, %v", o, err)
	}
	deleted := do(t, n, &zones.ChangeSet{Zone: apex, Ops: []zones.Op{zones.OpDeleteZone{}}})
	want := []ZoneChange{
		{Apex: apex, At: created.Position, Serial: created.Serial, Created: true},
		{Apex: apex, At: changed.Position, Serial: changed.Serial},
		{Apex: apex, At: deleted.Position, Deleted: true},
	}
	// A waiter may be told before the listeners of a later batch, but these come in order.
	eventually(t, n, "three changes were told", func() bool { return len(h.all()) >= len(want) })
	if got := h.all(); !slices.Equal(got, want) {
		t.Fatalf("told %+v, want %+v", got, want)
	}
	stop()
	do(t, n, storetest.Create("example."))
	do(t, n, storetest.Create("example.")) // comes after whatever was on its way
	if got := h.all(); len(got) != len(want) {
		t.Fatalf("told %+v after the end", got[len(want):])
	}
}

func TestACopyThatIsAnotherIsTold(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	do(t, n, storetest.Create("example."))
	partition, _ := n.PartitionOf(zones.MustParseName("example."))
	var h heard
	defer n.Changes(h.note)()
	n.storeAlarm(store.Alarm{Partition: partition, Err: store.ErrCorrupt})
	eventually(t, n, "the copy was rebuilt, and that was told", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Contains(h.anew, partition)
	})
}

// Of zones that have to do with other servers, a change says how they are.
func TestChangesOfPeeredZones(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	var h heard
	defer n.Changes(h.note)()
	apex := zones.MustParseName("example.")
	notify := zones.ZoneSettings{Notify: []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}}
	do(t, n, storetest.Change("example.", zones.OpCreateZone{Settings: notify, RRsets: storetest.Apex("example.", 1)}))
	do(t, n, storetest.Put("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.1")))
	do(t, n, storetest.Change("example.", zones.OpSetSettings{Parts: zones.PartNotify})) // the last word of it
	do(t, n, storetest.Put("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.2")))
	do(t, n, storetest.Change("example.", zones.OpSetSettings{Parts: zones.PartNotify, Settings: notify}))
	do(t, n, storetest.Change("example.", zones.OpDeleteZone{}))
	do(t, n, storetest.Change("example.", zones.OpCreateZone{Settings: storetest.Secondary()}))
	want := []string{"notified served", "notified served", "alone served", "-", "notified served", "alone served", "secondary awaits"}
	eventually(t, n, "all were told", func() bool { return len(h.all()) >= len(want) })
	for i, c := range h.all() {
		got := "-"
		if p := c.Peering; p != nil {
			got = "alone"
			switch {
			case len(p.Settings.Notify) > 0:
				got = "notified"
			case p.Settings.IsSecondary():
				got = "secondary"
			}
			if got += " served"; !p.Standing.Served() {
				got = strings.TrimSuffix(got, "served") + "awaits"
			}
		}
		if c.Apex != apex || got != want[i] {
			t.Errorf("%d: %+v is %q, want %q", i, c, got, want[i])
		}
	}
}
