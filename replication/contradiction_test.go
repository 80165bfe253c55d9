package replication

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestContradictionIsMended: a copy in which somebody finds a contradiction is built anew, from the log when that has it
// all, and from then on it is applied to again. Meanwhile its zones are unavailable, never absent.
func TestContradictionIsMended(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	apex := zoneIn(t, n, 0)
	do(t, n, storetest.Create(apex))
	do(t, n, storetest.Put(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
	before := digestsOf(n)
	r := n.replica(0)
	damaged := r.opened()

	stop, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		for {
			select {
			case <-stop:
				return
			default:
			}
			h := n.Store().Find(zones.MustParseName("www."+apex), zones.TypeA)
			if h.Status == store.NotHosted {
				t.Errorf("%s is not hosted", apex)
			}
			h.Release()
		}
	}()
	n.storeAlarm(store.Alarm{Partition: 0, Err: store.ErrCorrupt})
	eventually(t, n, "rebuilt", func() bool {
		p := r.opened()
		ok, _ := n.Ready()
		return ok && p != nil && p != damaged
	})
	close(stop)
	<-asked
	if after := digestsOf(n); after != before {
		t.Fatalf("digests %s, were %s", after, before)
	}
	if o := do(t, n, storetest.Put(apex, storetest.Set("x."+apex, 60, zones.TypeA, "192.0.2.1"))); o.Status != store.StatusApplied {
		t.Fatalf("%+v", o)
	}
}

// TestControlTopicChangesNoOutcome: whoever writes another number of partitions into the control topic stops the node from
// applying, and changes nothing of what records come to that are being applied.
func TestControlTopicChangesNoOutcome(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	eventually(t, n, "established", func() bool { return n.Log().Status().Established })
	apex := zoneIn(t, n, 2)
	var ns map[string]any
	value, _ := n.Log().Control().Get("namespace")
	if err := json.Unmarshal(value, &ns); err != nil {
		t.Fatal(err)
	}
	ns["partitions"] = 1
	value, err := json.Marshal(ns)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	n.Log().PutControl(ctx, "namespace", value) // read back or not, the log is at fault from then on
	eventually(t, n, "at fault", func() bool { return n.Log().Status().Fault != nil })
	var l storetest.Log
	l.Add(t, storetest.Create(apex))
	outcomes, err := n.replica(2).opened().Apply(l.Records)
	if err != nil || len(outcomes) != 1 || outcomes[0].Status != store.StatusApplied {
		t.Fatalf("%+v %v", outcomes, err)
	}
}

// TestSnapshotsOfAnotherTopicTrimNothing: what another topic left in the directory says nothing of this one.
func TestSnapshotsOfAnotherTopicTrimNothing(t *testing.T) {
	o := options(t, t.TempDir())
	o.Log.Partitions, o.TrimInterval = 1, time.Hour
	n := ready(t, start(t, o))
	do(t, n, storetest.Create("example."))
	r := n.replica(0)
	if _, err := r.save(t.Context(), r.opened()); err != nil {
		t.Fatal(err)
	}
	kept, err := r.snapshots()
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	// As if the log had been made anew in an old directory.
	data, err := os.ReadFile(r.snapshotFile(kept[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.snapshotFile(7), data, 0o600); err != nil {
		t.Fatal(err)
	}
	other := newReplica(n, 0, [16]byte{1})
	if kept, err := other.snapshots(); err != nil || len(kept) != 0 {
		t.Fatalf("snapshots of another topic: %v %v", kept, err)
	}
	if err := other.restoreFrom(t.Context(), 0, store.ErrCorrupt); !errors.Is(err, store.ErrCorrupt) {
		t.Fatal(err)
	}
}
