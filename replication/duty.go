package replication

import (
	"slices"
	"time"

	"balefire/replication/gossip"
	"balefire/replication/relay"
	"balefire/zones"
)

// What is to be done once for a region, one of its nodes does: of those that hold a partition, the one on duty for it. All decide by
// themselves who that is, from what gossip says, so for a moment there may be two, or none; what is done on duty must bear that. Whoever
// becomes it looks at everything anew.
//
// What is to be done once for the namespace, the regions try one after the other, in an order that is another for each zone.

// A candidate is a node that could be on duty for a partition.
type candidate struct {
	id      string
	fitness fitness
}

// fitness is how well a candidate fits. Only the best are chosen from.
type fitness uint8

const (
	// unfit: it has stopped applying, or was not heard of for long: it would not see what is to be done.
	unfit fitness = iota
	// going: it is about to let the partition go, or to stop, or is not ready for other reasons.
	going
	fit
)

// chosen returns the candidate on duty: of the fittest, the one with the lowest weight; "" when there is none.
func chosen(partition int32, all []candidate) (id string) {
	var best candidate
	var least uint64
	for _, c := range all {
		w := weight(c.id, uint64(partition))
		if id == "" || c.fitness > best.fitness || c.fitness == best.fitness && (w < least || w == least && c.id < id) {
			id, best, least = c.id, c, w
		}
	}
	return id
}

// weight is a number that depends on all of both, so that each thing has another order of places, and most keep theirs when one comes or
// goes. All nodes of a namespace must compute the same.
func weight(place string, thing uint64) uint64 {
	h := textHash(place) ^ thing*0x9e3779b97f4a7c15
	for range 2 {
		h ^= h >> 32
		h *= 0xd6e8feb86659fd93
	}
	return h ^ h>>32
}

// textHash is FNV-1a.
func textHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// OnDuty reports whether this node is the one of its region that does for a partition what is done once for the region. A node alone is,
// for what it holds.
func (n *Node) OnDuty(partition int32) bool {
	return n.ctx.Err() == nil && n.Holds(partition) && (n.region == nil || n.duty(partition) == n.opts.NodeID)
}

// Duty returns the other node of the region that is on duty for a partition. ok is false when this node is, or nobody that can be asked.
func (n *Node) Duty(partition int32) (p relay.Peer, ok bool) {
	if n.region == nil {
		return p, false
	}
	id := n.duty(partition)
	if id == "" || id == n.opts.NodeID {
		return p, false
	}
	return n.Peer(id)
}

func (n *Node) duty(partition int32) (id string) {
	var room [16]candidate
	all := room[:0]
	outdated := int64(-1)
	if r := n.replica(partition); r != nil && n.Holds(partition) {
		all = append(all, candidate{n.opts.NodeID, n.ownFitness(r)})
		outdated = r.outdated.Load()
	}
	for _, h := range n.region.gossip.Map().Holders(partition) {
		c := candidate{h.Peer.ID, going}
		switch {
		case h.Claim.Position < outdated:
			c.fitness = unfit
		case h.Claim.State == gossip.Ready && h.Peer.Ready && !h.Peer.Draining:
			c.fitness = fit
		}
		all = append(all, c)
	}
	return chosen(partition, all)
}

// ownFitness is how this node fits.
func (n *Node) ownFitness(r *replica) fitness {
	r.mu.Lock()
	state, halted := r.state(), r.halted != nil
	r.mu.Unlock()
	switch {
	case halted:
		return unfit
	case state == gossip.Ready && n.region.ready.Load() && !n.region.draining.Load():
		return fit
	}
	return going
}

// outdatedAfter is how old a position is at least that every node that applies has come to.
const outdatedAfter = 30 * time.Second

// noteOutdated notes, now and then, which position of each partition is that old.
func (n *Node) noteOutdated() {
	for r := range n.replicas() {
		r.outdated.Store(r.lately)
		r.lately = r.applied().Offset
	}
}

// Rank returns the place of this node's region in the order in which the regions try to do what is done once for the namespace and a
// zone: 0 is the first. A region that is not registered comes after all others.
func (n *Node) Rank(apex zones.Name) int {
	if n.log.Status().Embedded || n.opts.Group == "" {
		return 0
	}
	var regions []string
	for _, g := range n.log.Groups() { // by region
		if len(regions) == 0 || regions[len(regions)-1] != g.Region {
			regions = append(regions, g.Region)
		}
	}
	return rankOf(n.opts.Region, regions, apex)
}

func rankOf(own string, regions []string, apex zones.Name) (rank int) {
	if !slices.Contains(regions, own) {
		return len(regions)
	}
	zone := textHash(string(apex))
	w := weight(own, zone)
	for _, other := range regions {
		if v := weight(other, zone); v < w || v == w && other < own {
			rank++
		}
	}
	return rank
}
