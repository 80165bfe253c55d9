package replication

import (
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// publish publishes a change set without waiting for it as one who is told of it does, which would count as an answer.
func publish(t *testing.T, n *Node, cs *zones.ChangeSet) store.Position {
	t.Helper()
	pos := published(t, n, cs)
	eventually(t, n, "applied", func() bool { return n.replica(pos.Partition).applied().Offset >= pos.Offset })
	return pos
}

// A copy that is closed, for whatever reason, has been answered from: while it is away others are asked for what is not older.
func TestClosedCopyWasAnsweredFrom(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	pos := publish(t, n, storetest.Create(zoneIn(t, n, 0)))
	damaged := n.replica(0).opened()
	n.storeAlarm(store.Alarm{Partition: 0, Err: store.ErrCorrupt})
	eventually(t, n, "the copy is closed", func() bool { return n.Store().Partition(0) != damaged })
	if least := n.leastOf(0); least < pos.Offset {
		t.Errorf("answers may be from offset %d on, and were from %d", least, pos.Offset)
	}
}

// A copy is not answered from before it is as far as what others have answered meanwhile, wherever the log ended at first.
func TestCopyIsBehindAnswersOfOthers(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	apex := zoneIn(t, n, 0)
	pos := publish(t, n, storetest.Create(apex))
	r := n.replica(0)
	damaged := r.opened()
	n.saw(0, pos.Offset+2)
	n.storeAlarm(store.Alarm{Partition: 0, Err: store.ErrCorrupt})
	eventually(t, n, "another copy is at the log's end", func() bool {
		p := r.opened()
		r.mu.Lock()
		defer r.mu.Unlock()
		return p != nil && p != damaged && p.Applied().Offset == pos.Offset && r.target == pos.Offset
	})
	for range 2 {
		n.sleep(t.Context(), 10*time.Millisecond)
		if n.Holds(0) {
			t.Fatalf("the copy is answered from at %d, and others have answered from %d", r.applied().Offset, pos.Offset+2)
		}
		publish(t, n, storetest.Put(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
	}
	eventually(t, n, "the copy is answered from", func() bool { return n.Holds(0) })
}

// An answer that another node has given is passed on only when this node's own copy, if that is answered from by now, is as far.
func TestAnswerWaitsForOwnCopy(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	pos := publish(t, n, storetest.Create(zoneIn(t, n, 0)))
	n.Saw(pos) // as far already
	r := n.replica(0)
	eventually(t, n, "the answer waits", func() bool {
		n.work.Go(func() { n.Saw(store.Position{Partition: 0, Offset: pos.Offset + 1}) })
		n.sleep(t.Context(), time.Millisecond)
		r.waiters.mu.Lock()
		defer r.waiters.mu.Unlock()
		return r.waiters.count > 0
	})
}

// Who takes a partition over has come as far as who gives it up was; and what is known of a partition that went is said again
// when it comes back.
func TestSuccessorIsAsFar(t *testing.T) {
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "main")))
	b := ready(t, g.start(g.options("b", "main")))
	eventually(t, a, "half is b's", func() bool { return len(g.holding(a)) == regionPartitions/2 && len(g.holding(b)) == regionPartitions/2 })
	partition := g.holding(b)[0]
	eventually(t, a, "a knows of it", func() bool { return a.succeeded(partition, b.replica(partition).applied().Offset) })
	if a.succeeded(partition, b.replica(partition).applied().Offset+1) {
		t.Error("b is taken for a successor that is further than it is")
	}
	committed := map[int32]int64{partition: 7}
	eventually(t, a, "a is in its group", func() bool { _, fresh := a.group.Load().Current(); return fresh })
	a.due(committed, 0)
	if len(committed) > 0 {
		t.Error("of a partition that is b's, a remembers what it has committed")
	}
}
