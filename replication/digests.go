package replication

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"balefire/replication/gossip"
	"balefire/store"
)

// Replicas at the same position hold the same bytes. Each node tells the digests of its partitions at round offsets, and compares
// what it hears with its own. Where two differ, both read theirs whole: the one that contradicts its own digest is built anew,
// by the way that any contradiction goes. When neither does, people are told: one of them has applied a record otherwise.

const (
	// digestEvery is the distance of offsets at which partitions remember their digests.
	digestEvery = store.CheckpointEvery
	// compareInterval is how often what was heard is compared.
	compareInterval = 5 * time.Second
)

// ErrDigestDiffers says that two copies of a partition differ at the same position.
var ErrDigestDiffers = errors.New("two copies differ at the same position")

// told is a digest that was compared, or found to differ.
type told struct {
	checkpoint int64
	digest     [16]byte
}

// compareDigests compares digests for as long as the node runs.
func (n *Node) compareDigests() {
	compared := make(map[string]map[int32]told) // by node
	for n.sleep(n.ctx, compareInterval) {
		known := n.region.gossip.Map()
		maps.DeleteFunc(compared, func(id string, _ map[int32]told) bool { return known.Peer(id) == nil })
		for _, p := range known.Peers() {
			if p.ID == n.opts.NodeID {
				continue
			}
			if compared[p.ID] == nil {
				compared[p.ID] = make(map[int32]told)
			}
			for _, c := range p.Claims {
				now := told{c.Checkpoint, c.Digest}
				if c.Digest == ([16]byte{}) || compared[p.ID][c.Partition] == now {
					continue
				}
				if n.compareDigest(p.ID, c) {
					compared[p.ID][c.Partition] = now
				}
			}
		}
	}
}

// compareDigest compares one digest, and reports whether it could.
func (n *Node) compareDigest(peer string, c gossip.Claim) bool {
	r := n.replica(c.Partition)
	if r == nil {
		return false
	}
	p := r.opened()
	if p == nil {
		return false
	}
	own, ok, err := p.DigestAt(c.Checkpoint)
	if err != nil || !ok {
		return false // not so far yet, or too far
	}
	whole := own.Bytes()
	if [16]byte(whole[:16]) == c.Digest {
		n.metrics.digests.WithLabelValues("equal").Inc()
		return true
	}
	n.metrics.digests.WithLabelValues("different").Inc()
	n.alarm(c.Partition, "", fmt.Errorf("%w: partition %d at offset %d is %x here, and %x on %s; reading this copy whole",
		ErrDigestDiffers, c.Partition, c.Checkpoint, whole[:16], c.Digest, peer))
	if r.scrubbing.Swap(true) {
		return true // more of them say no more
	}
	n.work.Go(func() {
		defer r.scrubbing.Store(false)
		err := p.Scrub(n.ctx)
		switch {
		case n.ctx.Err() != nil || errors.Is(err, store.ErrClosed):
		case err != nil: // the store has raised the alarm, by which the copy is built anew
			n.metrics.scrubs.WithLabelValues("failed").Inc()
		default:
			n.metrics.scrubs.WithLabelValues("clean").Inc()
			n.alarm(c.Partition, "", fmt.Errorf("%w: partition %d agrees with itself on this node; if it does on %s, too, one of them has applied a record otherwise: compare versions, and restore one from a backup",
				ErrDigestDiffers, c.Partition, peer))
		}
	})
	return true
}
