package replication

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/replication/gossip"
	"balefire/replication/objectstore"
	"balefire/store"
	"balefire/store/storetest"
)

// While the group can't be asked, no files are removed, whatever this node believes to have been given; and a node that has nothing of its
// own is as ready as it was.
func TestGroupIsAway(t *testing.T) {
	g := newRegion(t)
	o := g.options("a", "main")
	o.KeepLeft = time.Nanosecond
	a := ready(t, g.start(o))
	g.write(a, storetest.Create("example."))
	a.Close()
	if err := os.Remove(filepath.Join(o.Dir, "assignment.json")); err != nil {
		t.Fatal(err)
	}
	o.Log.Brokers = []string{"127.0.0.1:1"}
	a = g.start(o)
	for range 2 {
		a.sweep()
	}
	for partition := range int32(regionPartitions) {
		if _, left := a.store.LeftSince(partition); left || !a.store.Has(partition) {
			t.Errorf("partition %d: left %v, files there %v", partition, left, a.store.Has(partition))
		}
	}
	if ok, _ := a.Ready(); ok {
		t.Error("ready before it is known what is given")
	}
	a.wasReady.Store(true)
	eventually(t, a, "ready as before", func() bool { ok, _ := a.Ready(); return ok })
}

// A partition that is being let go is not remembered as one that is near the log's end, whoever writes down what there is just then.
func TestLettingGoIsForgotten(t *testing.T) {
	o := options(t, t.TempDir())
	n := ready(t, start(t, o))
	do(t, n, storetest.Create(zoneIn(t, n, 0)))
	n.mark()
	r := n.replica(0)
	if _, ok := n.marks.at(r.topic, 0); !ok {
		t.Fatal("not remembered")
	}
	r.mu.Lock()
	r.letGo = true
	r.mu.Unlock()
	n.forgetMark(0)
	n.mark()
	written, err := loadMarks(filepath.Join(o.Dir, "caught-up.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*marks{n.marks, written} {
		if at, ok := m.at(r.topic, 0); ok {
			t.Errorf("remembered at %d", at)
		}
	}
}

// However many digests differ, the copy is read whole by one at a time.
func TestDifferingDigestsReadOnce(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	o := do(t, n, storetest.Create(zoneIn(t, n, 1)))
	r := n.replica(1)
	r.scrubbing.Store(true)
	differ := gossip.Claim{Partition: 1, Checkpoint: o.Offset, Digest: [16]byte{1}}
	n.compareDigest("other", differ)
	r.scrubbing.Store(false)
	n.compareDigest("another", differ)
	eventually(t, n, "the copy was read", func() bool { return len(n.Alarms()) >= 3 && !r.scrubbing.Load() })
	if alarms := n.Alarms(); len(alarms) != 3 {
		t.Errorf("alarms: %v", alarms)
	}
}

// hanging is an object store that does not say what is in a partition's folder.
type hanging struct {
	objectstore.Store
	namespace string // the folder of all partitions: of that it says what is there
	asked     chan struct{}
}

func (h hanging) List(ctx context.Context, prefix string) iter.Seq2[objectstore.Info, error] {
	if prefix == h.namespace+"/" {
		return h.Store.List(ctx, prefix)
	}
	return func(yield func(objectstore.Info, error) bool) {
		select {
		case h.asked <- struct{}{}:
		case <-ctx.Done():
		}
		<-ctx.Done()
		yield(objectstore.Info{}, ctx.Err())
	}
}

// A node that is closed while it builds a copy anew has not found anything out about the partition.
func TestClosedWhileRebuilding(t *testing.T) {
	b := newBackedUp(t, true)
	h := hanging{b.objects, b.options.Log.Namespace, make(chan struct{})}
	b.options.Backup.Objects = h
	n := ready(t, start(t, b.options))
	eventually(t, n, "the log is there", func() bool { return n.Log().Status().Reachable })
	n.storeAlarm(store.Alarm{Partition: 0, Err: store.ErrCorrupt})
	select {
	case <-h.asked:
	case <-time.After(patience):
		t.Fatal("the object store was not asked")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, a := range n.Alarms() {
		if errors.Is(a.Err, ErrHalted) {
			t.Errorf("alarm: %v", a.Err)
		}
	}
}

// A damaged copy that can't be replaced now is, as soon as the object store is there again.
func TestRebuildWaitsForBackups(t *testing.T) {
	b := newBackedUp(t, true)
	b.objects.down.Store(true)
	n := ready(t, start(t, b.options))
	eventually(t, n, "in step with the log", func() bool { return digestsOf(n) == b.digests && n.Log().Status().Reachable })
	r := n.replica(0)
	damaged := r.opened()
	n.storeAlarm(store.Alarm{Partition: 0, Err: store.ErrCorrupt})
	eventually(t, n, "it can't be replaced", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.trouble != nil && strings.Contains(r.trouble.Error(), "out of reach")
	})
	b.objects.down.Store(false)
	eventually(t, n, "it is replaced", func() bool { p := r.opened(); return p != nil && p != damaged })
	b.whole(t, n)
}
