package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"balefire/replication/gossip"
	"balefire/replication/relay"
	"balefire/store"
)

// PeerOptions are how the nodes of a region know of each other, and ask each other. Without GossipListen a node is by itself.
type PeerOptions struct {
	GossipListen, GossipAdvertise string
	Join                          []string
	Key                           []byte // that gossip is encrypted with
	// RelayListen is where the others ask this node; empty: nowhere, and it asks nobody.
	RelayListen, RelayAdvertise string
	// Identity is shown to the others. The zero value: one that is made now, and known by gossip.
	Identity relay.Identity
	// DNS, Admin and Version are told to the others, for people.
	DNS, Admin, Version string
}

// region is what a node has to do with the others of its region.
type region struct {
	gossip *gossip.Gossip
	relay  *relay.Relay // nil: this node neither asks nor is asked
	routes atomic.Pointer[routes]
	calls  atomic.Pointer[http.Handler] // what serves the API's calls that others pass on

	ready, draining atomic.Bool
}

// routes say whom to ask for each partition. They are made anew when gossip says something new.
type routes struct {
	of           *gossip.Map
	holders      [][]relay.Peer // by partition; last those that gossip has lost
	living       []int          // how many of them gossip has not lost
	fingerprints map[[32]byte]bool
}

// tellInterval is how often this node tells the others how far it is, if not even something has changed that they wait for.
const tellInterval = time.Second

// enterRegion starts to listen to the others, and to be heard by them.
func (n *Node) enterRegion() (_ *region, err error) {
	o := n.opts.Peers
	g := &region{}
	member := gossip.Member{ID: n.opts.NodeID, Region: n.opts.Region, Group: n.opts.Group, Version: o.Version, DNS: o.DNS, Admin: o.Admin}
	if o.RelayListen != "" {
		if o.Identity.Fingerprint() == ([32]byte{}) {
			if o.Identity, err = relay.SelfSigned(n.opts.NodeID); err != nil {
				return nil, err
			}
		}
		g.relay, err = relay.Start(relay.Options{
			Listen: o.RelayListen, Identity: o.Identity, Trusted: g.trusts,
			Handler: n.answerAsked, HTTP: http.HandlerFunc(g.serveCall),
			Logger: n.logger.With().Str("part", "relay").Logger(), Registerer: n.opts.Metrics,
		})
		if err != nil {
			return nil, err
		}
		member.Relay, member.Fingerprint = reachable(o.RelayAdvertise, g.relay.Addr()), g.relay.Fingerprint()
	}
	g.gossip, err = gossip.Start(gossip.Options{
		Member: member, Namespace: n.opts.Log.Namespace, Listen: o.GossipListen, Advertise: o.GossipAdvertise, Join: o.Join, Key: o.Key,
		Logger: n.logger.With().Str("part", "gossip").Logger(),
	})
	if err != nil {
		if g.relay != nil {
			err = errors.Join(err, g.relay.Close())
		}
		return nil, err
	}
	if n.opts.Metrics != nil {
		if err := n.opts.Metrics.Register(g.gossip.Collector()); err != nil {
			return nil, errors.Join(fmt.Errorf("metrics of gossip: %w", err), g.close())
		}
	}
	return g, nil
}

// reachable is the address that others are told.
func reachable(advertise string, listening net.Addr) string {
	if advertise != "" {
		return advertise
	}
	return listening.String()
}

func (g *region) close() error {
	if g == nil {
		return nil
	}
	err := g.gossip.Close()
	if g.relay != nil {
		err = errors.Join(err, g.relay.Close())
	}
	return err
}

// trusts reports whether a certificate is that of a node that gossip knows.
func (g *region) trusts(fingerprint [32]byte) bool {
	known := g.routes.Load()
	return known != nil && known.fingerprints[fingerprint]
}

// serveCall serves a call of the API that another node passes on.
func (g *region) serveCall(w http.ResponseWriter, r *http.Request) {
	if h := g.calls.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	http.Error(w, "the API of this node is not served yet", http.StatusServiceUnavailable)
}

// ServeCalls has a handler serve the API's calls that other nodes of the region pass on.
func (n *Node) ServeCalls(h http.Handler) {
	if n.region != nil {
		n.region.calls.Store(&h)
	}
}

// SetReadiness says what the others are told of this node.
func (n *Node) SetReadiness(ready, draining bool) {
	if n.region == nil {
		return
	}
	was := n.region.ready.Swap(ready) == ready
	if n.region.draining.Swap(draining) != draining || !was {
		n.stateChanged()
	}
}

// holders returns whom to ask for a partition, best first; last those that gossip has lost: it may be all that does not reach them. The
// slice is shared.
func (n *Node) holders(partition int32) []relay.Peer {
	all, _ := n.whoHolds(partition)
	return all
}

// Holders returns the nodes of the region that say that they hold a partition, best first, without this one; when there are none, those
// that said so before gossip lost them. The slice is shared.
func (n *Node) Holders(partition int32) []relay.Peer {
	all, living := n.whoHolds(partition)
	if living > 0 {
		return all[:living:living]
	}
	return all
}

func (n *Node) whoHolds(partition int32) (all []relay.Peer, living int) {
	if n.region == nil || n.region.relay == nil {
		return nil, 0
	}
	known := n.region.routes.Load()
	if known == nil || int(partition) >= len(known.holders) {
		return nil, 0
	}
	return known.holders[partition], known.living[partition]
}

// Peer returns a node of the region; ok is false when it is not known, or takes no questions.
func (n *Node) Peer(id string) (p relay.Peer, ok bool) {
	if n.region == nil || n.region.relay == nil {
		return p, false
	}
	known := n.region.gossip.Map().Peer(id)
	if known == nil || known.Relay == "" {
		return p, false
	}
	return asPeer(known), true
}

// Saw notes that this node has answered from a position of a partition, or acknowledged it: none of its answers may be from
// before that.
func (n *Node) Saw(at store.Position) { n.sawElsewhere(n.ctx, at.Partition, at.Offset) }

// Transport returns what carries calls of the API to another node, which trusts that they are this node's.
func (n *Node) Transport(p relay.Peer) http.RoundTripper { return n.region.relay.Transport(p) }

// listen keeps the routes as gossip says, and compares digests, for as long as the node runs.
func (n *Node) listen() {
	for {
		changed := n.region.gossip.Changed()
		n.route(n.region.gossip.Map())
		select {
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}

// route makes the routes of a map.
func (n *Node) route(m *gossip.Map) {
	next := &routes{of: m, holders: make([][]relay.Peer, n.count()), living: make([]int, n.count()), fingerprints: make(map[[32]byte]bool)}
	var everybody []relay.Peer
	for _, p := range m.Peers() {
		if p.ID == n.opts.NodeID || p.Relay == "" {
			continue
		}
		next.fingerprints[p.Fingerprint] = true
		if p.Alive {
			everybody = append(everybody, asPeer(p))
		}
	}
	for partition := range next.holders {
		// Those that stay before those that are about to let go.
		for _, state := range []gossip.State{gossip.Ready, gossip.Leaving} {
			for _, h := range m.Holders(int32(partition)) {
				if h.Claim.State == state && h.Peer.Relay != "" {
					next.holders[partition] = append(next.holders[partition], asPeer(h.Peer))
				}
			}
		}
		next.living[partition] = len(next.holders[partition])
		for _, h := range m.Lost(int32(partition)) {
			if h.Peer.Relay != "" {
				next.holders[partition] = append(next.holders[partition], asPeer(h.Peer))
			}
		}
	}
	n.region.routes.Store(next)
	if n.region.relay != nil && !n.HoldsAll() {
		n.region.relay.Prepare(everybody)
	}
}

func asPeer(p *gossip.Peer) relay.Peer {
	return relay.Peer{ID: p.ID, Address: p.Relay, Fingerprint: p.Fingerprint}
}

// succeeded reports whether another node of this node's group is ready for a partition that was given to it, and has come to an
// offset: one that comes back is ready with what it had when it went.
func (n *Node) succeeded(partition int32, offset int64) bool {
	if n.region == nil {
		return n.succeededByLog(partition, offset)
	}
	known := n.region.routes.Load() // not a newer map: what is let go must be asked for there at once
	if known == nil {
		return false
	}
	for _, h := range known.of.Holders(partition) {
		if h.Peer.Group == n.opts.Group && h.Claim.Assigned && h.Claim.State == gossip.Ready && h.Claim.Position >= offset {
			return true
		}
	}
	return false
}

// tell tells the others what this node holds, for as long as it runs.
func (n *Node) tell() {
	tick := time.NewTicker(tellInterval)
	defer tick.Stop()
	idle := make(map[int32]int64) // by partition, where it was the last time
	noted := time.Now()
	for {
		if time.Since(noted) > outdatedAfter {
			noted = time.Now()
			n.noteOutdated()
		}
		var claims []gossip.Claim
		for r := range n.replicas() {
			claims = append(claims, r.claim(idle))
		}
		n.region.gossip.Claim(claims)
		n.region.gossip.SetCondition(gossip.Condition{
			Ready: n.region.ready.Load(), Draining: n.region.draining.Load(), Catalog: n.catalogPosition(),
		})
		select {
		case <-n.changedState:
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// stateChanged says that the others are to be told something now.
func (n *Node) stateChanged() {
	select {
	case n.changedState <- struct{}{}:
	default: // they will be
	}
}

// claim is what the others are told of a replica. idle is where each partition was the last time.
func (r *replica) claim(idle map[int32]int64) gossip.Claim {
	applied := r.applied().Offset
	r.mu.Lock()
	c := gossip.Claim{Partition: r.number, Assigned: r.assigned, Position: applied, Checkpoint: -1, State: r.state()}
	p := r.partition
	r.mu.Unlock()
	if p == nil || applied < 0 {
		return c
	}
	// The digest of the last round offset, or, when nothing happens, of where all will be.
	c.Checkpoint = applied - applied%digestEvery
	if idle[r.number] == applied {
		c.Checkpoint = applied
	}
	idle[r.number] = applied
	if digest, ok, err := p.DigestAt(c.Checkpoint); err == nil && ok {
		whole := digest.Bytes()
		copy(c.Digest[:], whole[:])
	} else {
		c.Checkpoint = -1
	}
	return c
}

// state is what the others are told; r.mu is held.
func (r *replica) state() gossip.State {
	switch {
	case r.partition == nil:
		return gossip.Restoring
	case !r.caughtUp && r.halted != nil:
		return gossip.Halted
	case !r.caughtUp:
		return gossip.CatchingUp
	case !r.assigned:
		return gossip.Leaving
	}
	return gossip.Ready // halted or not: it answers
}

// leaveRegion says goodbye, so that the others need not find out. When nobody hears it, they do.
func (n *Node) leaveRegion() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.region.gossip.Leave(ctx); err != nil {
		n.logger.Info().Err(err).Msg("left the region without a goodbye")
	}
}
