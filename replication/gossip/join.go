package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// keepJoining asks seeds for a whole exchange: while this node is alone until one answers, then now and then those that it does not
// know as living. Memberlist forgets nodes that are gone, so without that two halves of a region that lost each other for long
// would never meet again.
func (g *Gossip) keepJoining() {
	backoff := g.timings.Join
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-g.joinNow:
			backoff = g.timings.Join
		case address := <-g.ask:
			// Memberlist logs it when it fails, and the next exchange or the next time brings it.
			_, _ = g.list.Join([]string{address})
			continue
		case <-g.ctx.Done():
			return
		}
		alone := g.join()
		wait := g.timings.Rejoin
		if alone && len(g.options.Join) > 0 {
			wait, backoff = backoff, min(2*backoff, g.timings.Rejoin)
		} else {
			backoff = g.timings.Join
		}
		// Nodes that were started together shall not all come at once.
		next.Reset(wait/2 + rand.N(wait))
	}
}

// maxSeedAddresses are tried of one name.
const maxSeedAddresses = 16

// join asks those that might be nodes and are not known as living, until one answers. It reports whether this node is still alone.
func (g *Gossip) join() (alone bool) {
	candidates, failures := g.seeds()
	known := map[string]bool{g.address: true}
	g.mu.Lock()
	gone, reached := "", false
	for _, r := range g.ledger.records {
		switch {
		case r == g.ledger.self:
		case r.alive:
			known[r.address], reached = true, true
		case r.address != "":
			gone = r.address // any of them
		}
	}
	g.mu.Unlock()
	if gone != "" {
		candidates = append(candidates, gone)
	}
	for _, c := range candidates {
		if known[c] {
			continue
		}
		if g.ctx.Err() != nil {
			return false
		}
		known[c] = true
		if _, err := g.list.Join([]string{c}); err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		reached = true
		break
	}
	if g.ctx.Err() != nil {
		return false
	}
	if reached {
		failures = nil
	}
	g.troubles.joined(failures, g.now())
	return !reached
}

// seeds are the addresses of gossip.join, in an order of chance.
func (g *Gossip) seeds() (addresses []string, failures error) {
	for _, seed := range g.options.Join {
		host, port, err := net.SplitHostPort(seed)
		if err != nil {
			failures = errors.Join(failures, err)
			continue
		}
		if net.ParseIP(host) != nil {
			addresses = append(addresses, seed)
			continue
		}
		ctx, cancel := context.WithTimeout(g.ctx, g.timings.Stream)
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		cancel()
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("look up seed %s: %w", host, err))
			continue
		}
		for _, ip := range ips[:min(len(ips), maxSeedAddresses)] {
			addresses = append(addresses, net.JoinHostPort(ip.Unmap().String(), port))
		}
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	return addresses, failures
}
