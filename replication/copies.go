package replication

import (
	"context"
	"iter"
	"sync/atomic"
	"time"
)

// copies are this node's copies of the namespace's partitions: the replicas, by number, nil where it has none. Their number
// never changes.
type copies struct {
	topic [16]byte
	at    []atomic.Pointer[replica]
	holds []atomic.Bool  // by partition: open, and has been near the log's end
	held  atomic.Int32   // how many of them are true
	slots chan struct{}  // few are opened at once: opening reads the disk, and all would only wait for each other
	seen  []atomic.Int64 // by partition: the highest offset that an answer from elsewhere was from, plus one
}

const openAtOnce = 4

func newCopies(count int32, topic [16]byte) *copies {
	return &copies{
		topic: topic,
		at:    make([]atomic.Pointer[replica], count), holds: make([]atomic.Bool, count), seen: make([]atomic.Int64, count),
		slots: make(chan struct{}, openAtOnce),
	}
}

// count returns the number of partitions of the namespace; 0 while it is not known.
func (n *Node) count() int32 {
	if c := n.copies.Load(); c != nil {
		return int32(len(c.at))
	}
	return 0
}

// replica returns this node's replica of a partition; nil when it has none.
func (n *Node) replica(partition int32) *replica {
	if partition < 0 || partition >= n.count() {
		return nil
	}
	return n.copies.Load().at[partition].Load()
}

// replicas yields the replicas that this node has, by number.
func (n *Node) replicas() iter.Seq[*replica] {
	return func(yield func(*replica) bool) {
		for i := range n.count() {
			if r := n.replica(i); r != nil && !yield(r) {
				return
			}
		}
	}
}

// take begins with a partition that this node has no replica of.
func (n *Node) take(partition int32) {
	all := n.copies.Load()
	ctx, cancel := context.WithCancel(n.ctx)
	r := newReplica(n, partition, all.topic)
	r.assigned, r.cancel, r.late = true, cancel, n.wasReady.Load()
	all.at[partition].Store(r)
	n.work.Go(func() {
		defer close(r.ended)
		r.run(ctx, all.slots)
		if n.ctx.Err() != nil {
			r.waiters.fail(ErrClosed)
		}
	})
}

// markInterval is how often it is remembered which positions answers were from: what a crash loses of that is as old as this
// at most, and all nodes have come further when this one is back.
const markInterval = 2 * time.Second

// remember takes over which positions answers were from before the last start, and keeps that remembered.
func (n *Node) remember() {
	for partition, offset := range n.marks.seen(n.copies.Load().topic) {
		n.saw(partition, offset)
	}
	if n.region == nil {
		return
	}
	n.work.Go(func() {
		for n.sleep(n.ctx, markInterval) {
			if !n.HoldsAll() {
				n.mark()
			}
		}
	})
}

// Holds reports whether this node has the partition whole: open, and once near the end of the log. Only then does a
// zone that isn't found in it not exist.
func (n *Node) Holds(partition int32) bool {
	return partition >= 0 && partition < n.count() && n.copies.Load().holds[partition].Load()
}

// HoldsAll reports whether this node holds every partition of the namespace. It costs next to nothing.
func (n *Node) HoldsAll() bool {
	all := n.copies.Load()
	return all != nil && int(all.held.Load()) == len(all.at)
}

// noteHolding counts the partition among those that the node holds, or no longer; r.mu is held.
func (r *replica) noteHolding() {
	all := r.node.copies.Load()
	holding := r.partition != nil && r.caughtUp
	if all.holds[r.number].Load() == holding {
		return
	}
	r.node.store.Doubt(func() { // what is here for one is elsewhere for the other
		all.holds[r.number].Store(holding)
		if holding {
			all.held.Add(1)
		} else {
			all.held.Add(-1)
		}
	})
}
