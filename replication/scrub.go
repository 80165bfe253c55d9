package replication

import (
	"errors"
	"time"

	"balefire/store"
)

const defaultScrubInterval = 24 * time.Hour

// scrub goes through the partitions, one at a time, for as long as the node runs: each is read whole once in every
// ScrubInterval, and what contradicts itself is an alarm, which the store raises.
func (n *Node) scrub() {
	for {
		for partition := range n.count() {
			if !n.sleep(n.ctx, n.opts.ScrubInterval/time.Duration(n.count())) {
				return
			}
			r := n.replica(partition)
			if r == nil {
				continue
			}
			p := r.opened()
			if p == nil {
				continue
			}
			began := time.Now()
			err := p.Scrub(n.ctx)
			switch {
			case n.ctx.Err() != nil:
				return
			case errors.Is(err, store.ErrClosed): // it is being opened again
			case err != nil:
				n.metrics.scrubs.WithLabelValues("failed").Inc()
				n.logger.Error().Err(err).Int32("partition", r.number).Msg("scrub")
			default:
				n.metrics.scrubs.WithLabelValues("clean").Inc()
				n.logger.Debug().Int32("partition", r.number).Dur("took", time.Since(began)).Msg("scrubbed")
			}
		}
	}
}
