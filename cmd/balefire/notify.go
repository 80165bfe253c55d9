package main

import (
	"context"
	"fmt"

	"github.com/rs/zerolog"

	"balefire/dnsserver/notify"
	"balefire/replication"
	"balefire/replication/keyring"
	"balefire/store"
	"balefire/zones"
)

// Notifying others: the node on duty for a partition tells servers of what changes in it.

// notified is what the notifier needs to know of a node.
type notified struct{ node *replication.Node }

var _ notify.Source = notified{}

func (n notified) Partitions() int32           { return n.node.Log().Partitions() }
func (n notified) OnDuty(partition int32) bool { return n.node.OnDuty(partition) }

func (n notified) EachNotified(ctx context.Context, partition int32, fn func(notify.Zone)) error {
	p := n.node.Store().Partition(partition)
	if p == nil {
		return fmt.Errorf("partition %d: %w", partition, store.ErrNotOpen)
	}
	return p.EachPeered(func(z store.ZoneInfo) (more bool) {
		if len(z.Settings.Notify) > 0 && z.Standing.Served() {
			fn(notify.Zone{Apex: z.Apex, Serial: z.Serial, At: z.Changed.Offset, Remote: z.Settings.Notify})
		}
		return ctx.Err() == nil
	})
}

// soa returns a zone's SOA as it is answered.
func (n notified) soa(apex zones.Name) (soa zones.RRset, ok bool) {
	h := n.node.Find(apex, zones.TypeSOA)
	defer h.Release()
	if h.Status != store.Here || h.Apex != apex {
		return soa, false
	}
	seen, ok := h.View.Apex().RRset(zones.TypeSOA)
	if !ok {
		return soa, false
	}
	soa, err := zones.NewRRset(apex, zones.TypeSOA, seen.TTL, seen.First()) // with memory of its own
	return soa, err == nil
}

func newNotifier(node *replication.Node, keys *keyring.Ring, cfg *Config, logger zerolog.Logger) *notify.Notifier {
	from := notified{node}
	session := func(key zones.Name) (notify.Session, error) {
		session, err := beginSession(keys, key)
		if err != nil {
			return nil, err // no session in an interface
		}
		return session, nil
	}
	return notify.New(notify.Options{Source: from, SOA: from.soa, Session: session, Allowed: parseNetworks(cfg.DNS.AllowPeers), Logger: logger})
}

// startNotifier begins to tell other servers of changes. stop ends it.
func startNotifier(n *notify.Notifier, node *replication.Node) (stop func() error, err error) {
	if err := n.Start(); err != nil {
		return nil, err
	}
	deaf := node.Changes(func(partition int32, changes []replication.ZoneChange) {
		if len(changes) == 0 {
			n.Reset(partition)
		}
		for _, c := range changes {
			if c.Peering == nil {
				continue
			}
			z := notify.Zone{Apex: c.Apex, Serial: c.Serial, At: c.At.Offset, Remote: c.Peering.Settings.Notify}
			n.Changed(partition, z, c.Deleted || !c.Peering.Standing.Served())
		}
	})
	return func() error { deaf(); return n.Close() }, nil
}
