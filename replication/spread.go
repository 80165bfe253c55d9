package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"balefire/replication/assignment"
	"balefire/store"
)

// In a replica group of several nodes each has some of the partitions. The group says which; what this file does is to
// take those, and to give up others without a moment in which nobody answers:
//
//	given ──► taken: restored, caught up, ready ──► given to another: leaving, still applied and answered from
//	                                                      │ when that one is ready
//	                                                      ▼
//	                                               let go: closed, its files kept for a while
//
// A crash in between leaves files that are opened again when the partition is given to this node, and removed otherwise.

const (
	// spreadInterval is how often it is looked whether those who get a partition are ready, beside being told.
	spreadInterval = time.Second
	// sweepInterval is how often the files of partitions that went elsewhere are looked at.
	sweepInterval = time.Minute
)

// joinGroup makes this node a member of its replica group.
func (n *Node) joinGroup() (*assignment.Assignment, error) {
	return assignment.Open(assignment.Options{
		Client: n.log.ClientOptions(), Topic: n.log.MutationsTopic(), TopicID: n.log.TopicID(),
		Group: n.log.GroupName(n.opts.Region, n.opts.Group), Instance: n.opts.NodeID, Protocol: n.opts.GroupProtocol,
		File:   filepath.Join(n.opts.Dir, "assignment.json"),
		Logger: n.logger.With().Str("part", "group").Logger(),
	})
}

// spread does what the group says, for as long as the node runs. It alone takes partitions and lets them go.
func (n *Node) spread() {
	tick := time.NewTicker(spreadInterval)
	defer tick.Stop()
	var swept time.Time
	for {
		changed := n.group.Load().Changed()
		given, _ := n.group.Load().Current()
		n.assign(given)
		n.handOver()
		if time.Since(swept) > sweepInterval {
			swept = time.Now()
			n.sweep()
		}
		select {
		case <-changed:
		case <-n.freed:
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// assign takes the partitions that are given and not here, and marks the others as leaving.
func (n *Node) assign(given []int32) {
	for partition := range n.count() {
		wanted := slices.Contains(given, partition)
		r := n.replica(partition)
		if r == nil {
			if wanted {
				n.take(partition)
			}
			continue
		}
		at := r.applied().Offset
		r.mu.Lock()
		was := r.assigned
		r.assigned = wanted
		if was && !wanted {
			r.leftAt = at
		}
		r.mu.Unlock()
		if was != wanted {
			n.logger.Info().Int32("partition", partition).Bool("ours", wanted).Msg("the group has moved a partition")
			n.stateChanged()
		}
	}
}

// handOver lets those partitions go that are leaving, and that another node of the group is ready for; or that were of no
// use here yet.
func (n *Node) handOver() {
	for r := range n.replicas() {
		r.mu.Lock()
		leaving, at := !r.assigned && !r.letGo, r.leftAt
		r.mu.Unlock()
		if !leaving || n.Holds(r.number) && !n.succeeded(r.number, at) {
			continue
		}
		r.mu.Lock()
		r.letGo = true
		r.mu.Unlock()
		n.work.Go(func() {
			n.letGo(r)
			select {
			case n.freed <- struct{}{}:
			case <-n.ctx.Done():
			}
		})
	}
}

// letGo stops applying a partition, and closes it. From now on its zones are asked for elsewhere, at the position that
// this node has answered from, or later.
func (n *Node) letGo(r *replica) {
	r.cancel()
	<-r.ended
	applied := r.applied().Offset
	n.forgetMark(r.number)
	if err := r.closePartition(); err != nil {
		n.logger.Warn().Err(err).Int32("partition", r.number).Msg("closing a partition that went to another node")
	}
	r.waiters.fail(ErrNotOpen)
	if n.ctx.Err() != nil {
		return
	}
	if err := n.store.Leave(r.number); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.logger.Warn().Err(err).Int32("partition", r.number).Msg("marking the files of a partition that went to another node")
	}
	n.catalogTakesOver(r.number, applied)
	n.copies.Load().at[r.number].Store(nil)
	n.logger.Info().Int32("partition", r.number).Int64("offset", applied).Msg("partition let go")
	n.stateChanged()
}

// LeaveGroup takes this node out of its replica group for good: its partitions go to the other nodes of the group, and it answers
// from each until that one is ready. A restart brings it back.
func (n *Node) LeaveGroup(ctx context.Context) error {
	if n.group.Load() == nil {
		return errors.New("this node is in no replica group: nobody could take its partitions over")
	}
	return n.group.Load().Leave(ctx)
}

// sweep removes the files of partitions that went elsewhere long ago, or that take room that is needed. What isn't known to be elsewhere
// stays: while the group can't be asked, these may be the only files that there are.
func (n *Node) sweep() {
	given, fresh := n.group.Load().Current()
	if !fresh {
		return
	}
	pressed := errors.Is(n.store.Room(), store.ErrDiskReserve)
	for partition := range n.count() {
		if n.replica(partition) != nil || slices.Contains(given, partition) || !n.store.Has(partition) {
			continue
		}
		since, left := n.store.LeftSince(partition)
		if !left {
			if err := n.store.Leave(partition); err != nil {
				n.logger.Warn().Err(err).Int32("partition", partition).Msg("marking the files of a partition that is not this node's")
			}
			continue
		}
		if !pressed && time.Since(since) < n.opts.KeepLeft {
			continue
		}
		if err := n.store.Remove(partition); err != nil {
			n.logger.Warn().Err(err).Int32("partition", partition).Msg("removing the files of a partition that went to another node")
			continue
		}
		n.logger.Info().Int32("partition", partition).Msg("files of a partition that went to another node removed")
	}
}
