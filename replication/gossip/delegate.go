package gossip

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls, some of it under locks of its own. Everything here takes the gossip's lock for
// short, and calls nothing of memberlist's.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.PingDelegate     = delegate{}
)

// NodeMeta is nothing: who a node is is in its record.
func (d delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg takes a rumour.
func (d delegate) NotifyMsg(b []byte) { d.g.hear(b, false) }

// GetBroadcasts gives rumours for a packet.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ledger.rumours.len() == 0 {
		return nil
	}
	return g.ledger.tell(overhead, limit, retransmissions(g.ledger.living()))
}

// LocalState gives everything for a whole exchange.
func (d delegate) LocalState(bool) []byte {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own.refresh(g.ledger)
	return g.ledger.exchange(shuffleRecords)
}

// MergeRemoteState takes everything from a whole exchange, node by node, so that nobody has to wait for all of it.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	g := d.g
	if err := decodeExchange(b, func(statement []byte) { g.hear(statement, true) }); err != nil {
		g.unreadable(err)
	}
}

func (g *Gossip) hear(b []byte, exchanged bool) {
	st, err := decodeStatement(b)
	if err != nil {
		g.unreadable(err)
		return
	}
	g.metrics.statements.Inc()
	now := g.now()
	g.mu.Lock()
	result := nothingNew
	outdid := false
	if st.id != g.options.ID {
		result, err = g.ledger.hear(&st, now, exchanged)
	} else if g.troubles.mayOutdo(now) {
		outdid = g.ledger.disown(&st)
	}
	g.mu.Unlock()
	if err != nil {
		g.unreadable(err)
	}
	if outdid {
		g.troubles.outdid(now)
		g.options.Logger.Warn().Uint64("incarnation", st.incarnation).Msg("somebody else gossips in this node's name: saying everything anew")
	}
	if outdid || result != nothingNew {
		g.changed()
	}
}

func (g *Gossip) unreadable(err error) {
	newer := errors.Is(err, errVersion)
	g.troubles.unreadable(err, newer, g.now())
	if newer {
		g.metrics.dropped.WithLabelValues("newer").Inc()
	} else {
		g.metrics.dropped.WithLabelValues("unreadable").Inc()
	}
}

// NotifyAlive keeps out IDs that are none, and nodes that are too many.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if err := validID(n.Name); err != nil {
		return err
	}
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.ledger.records[n.Name]; r != nil && r.alive {
		return nil
	}
	if g.ledger.living() >= MaxMembers {
		g.ledger.refused++
		return errors.New("there are too many nodes")
	}
	return nil
}

// NotifyJoin is called when a node is alive that was not.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.alive(n, true) }

// NotifyUpdate is called when a node's address has changed.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.alive(n, true) }

// NotifyLeave is called when a node has left, or failed.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.alive(n, false) }

func (d delegate) alive(n *memberlist.Node, alive bool) {
	g := d.g
	if n.Name == g.options.ID {
		return
	}
	now := g.now()
	g.mu.Lock()
	r := g.ledger.records[n.Name]
	if r == nil && alive {
		r = g.ledger.admit(n.Name, now)
	}
	if r != nil {
		r.address = n.Address()
		r.seen = now
		if r.alive != alive {
			r.alive, r.since = alive, now
		}
		if !alive {
			r.skew = 0
		}
		r.peer = nil
	}
	alone := g.ledger.living() == 1
	g.mu.Unlock()
	g.changed()
	if alone {
		select {
		case g.joinNow <- struct{}{}:
		default: // asked for already
		}
	}
}

// NotifyConflict is called when a node's ID comes from another address than that of the living node.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.g.troubles.conflict(other.Name, existing.Address(), other.Address(), d.g.now())
}

// AckPayload is this node's clock, for those who look whether it lives.
func (d delegate) AckPayload() []byte {
	return binary.BigEndian.AppendUint64([]byte{version}, uint64(d.g.now().UnixNano()))
}

// minSkewNews is a difference that is worth a new map.
const minSkewNews = time.Second

// NotifyPingComplete is called when a node has answered.
func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	g := d.g
	now := g.now()
	r := reader{b: payload}
	v, theirs := r.octet(), r.uint64()
	g.mu.Lock()
	record := g.ledger.records[n.Name]
	if record == nil {
		g.mu.Unlock()
		return
	}
	record.seen = now
	news := false
	if !r.failed && v == version {
		skew := time.Unix(0, int64(theirs)).Add(rtt / 2).Sub(now)
		news = (skew - record.skew).Abs() >= minSkewNews
		record.skew = skew
	}
	g.mu.Unlock()
	if news {
		g.changed()
	}
}
