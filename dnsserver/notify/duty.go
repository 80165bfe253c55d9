package notify

import (
	"context"
	"time"

	"balefire/zones"
)

// part is the zones of a partition that this node is on duty for.
type part struct {
	zones map[zones.Name]*zone
	stale bool // they are to be looked at anew
	// scanning says that they are being looked at. What is deleted meanwhile is in gone, by the offset, so that an older word does not bring it back.
	scanning bool
	gone     map[zones.Name]int64
	scan     uint32 // the number of the last look; zones have that in which they were seen last
}

// zone is a zone that servers are notified of.
type zone struct {
	apex    zones.Name
	serial  zones.Serial
	at      int64
	scan    uint32
	targets []*target
}

// follow keeps the partitions as the source says, until ctx ends.
func (n *Notifier) follow(ctx context.Context) {
	tick := time.NewTicker(dutyInterval)
	defer tick.Stop()
	for {
		for partition := range n.opts.Source.Partitions() {
			n.lookAt(ctx, partition)
		}
		select {
		case <-tick.C:
		case <-n.look:
		case <-ctx.Done():
			return
		}
	}
}

// lookAt begins or ends to notify for a partition, or looks at it anew.
func (n *Notifier) lookAt(ctx context.Context, partition int32) {
	onDuty := n.opts.Source.OnDuty(partition)
	n.mu.Lock()
	p := n.parts[partition]
	switch {
	case !onDuty && p != nil:
		for _, z := range p.zones {
			n.drop(p, z)
		}
		delete(n.parts, partition)
	case onDuty && p == nil:
		p = &part{zones: make(map[zones.Name]*zone), stale: true}
		n.parts[partition] = p
	}
	if !onDuty || !p.stale {
		n.mu.Unlock()
		return
	}
	p.stale, p.scanning, p.gone = false, true, make(map[zones.Name]int64)
	p.scan++
	n.mu.Unlock()

	err := n.opts.Source.EachNotified(ctx, partition, func(z Zone) {
		n.mu.Lock()
		n.set(p, z, false)
		n.mu.Unlock()
		n.stir()
	})

	n.mu.Lock()
	defer n.mu.Unlock()
	p.scanning, p.gone = false, nil
	if err != nil {
		p.stale = true // and again at the next tick
		if ctx.Err() == nil {
			n.opts.Logger.Warn().Err(err).Int32("partition", partition).Msg("zones whose servers are to be notified can't be read")
		}
		return
	}
	for _, z := range p.zones {
		if z.scan != p.scan {
			n.drop(p, z)
		}
	}
}
