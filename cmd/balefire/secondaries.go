package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/dnsserver/secondary"
	"balefire/replication"
	"balefire/replication/keyring"
	"balefire/store"
	"balefire/zones"
)

// Secondary zones: the node on duty for a partition keeps those in it as their primaries have them.

// published is the log, as who publishes transfers sees it.
type published struct{ *replication.Node }

func (p published) Applied(ctx context.Context, at store.Position) (store.Outcome, error) {
	return p.Wait(ctx, at, replication.ThisNode)
}

// openSecondaries makes who keeps secondary zones; it does nothing before its Run.
func openSecondaries(node *replication.Node, keys *keyring.Ring, cfg *Config, scratch string, logger zerolog.Logger) (*secondary.Secondary, error) {
	var roots *x509.CertPool
	if file := cfg.Secondary.CA; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("secondary.tls-ca: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("secondary.tls-ca: %s has no certificate: want PEM", file)
		}
	}
	sign := func(key zones.Name) (secondary.Signer, error) {
		session, err := beginSession(keys, key)
		if err != nil {
			return nil, secondary.ErrNoKey
		}
		return session, nil
	}
	allowed := parseNetworks(cfg.DNS.AllowPeers)
	c := cfg.Secondary
	return secondary.New(secondary.Options{
		Zones: secondary.StoreZones{Store: node.Store()}, Publisher: published{node}, Duty: node,
		Client: secondary.Client{Sign: sign, Roots: roots},
		Check:  func(r zones.Remote) error { return r.Check(allowed) },
		Timing: secondary.Timing{MinRefresh: c.MinRefresh, MaxRefresh: c.MaxRefresh, MinRetry: c.MinRetry, MaxRetry: c.MaxRetry},
		Node:   cfg.NodeID, TempDir: scratch,
		Checks: c.Checks, PerPrimary: c.PerPrimary, Transfers: c.Transfers,
		Logger: logger,
	})
}

// zoneFeed tells who keeps secondary zones which there are: of each change, and of all in a partition that was opened or restored.
type zoneFeed struct {
	node   *replication.Node
	kept   *secondary.Secondary
	logger zerolog.Logger

	mu     sync.Mutex
	anew   map[int32]bool // partitions that are to be looked through
	wake   chan struct{}  // capacity 1
	looked map[int32]bool // partitions that were; of run alone
}

func newZoneFeed(node *replication.Node, kept *secondary.Secondary, logger zerolog.Logger) *zoneFeed {
	return &zoneFeed{node: node, kept: kept, logger: logger, anew: map[int32]bool{}, wake: make(chan struct{}, 1), looked: map[int32]bool{}}
}

// heed takes a NOTIFY of a zone that this node is on duty for.
func (f *zoneFeed) heed(n dnsserver.Notification) { f.kept.Notified(n.Apex, n.From, n.Serial) }

// changed is a replication.ChangesFunc.
func (f *zoneFeed) changed(partition int32, changes []replication.ZoneChange) {
	if len(changes) == 0 {
		f.lookThrough(partition)
	}
	for _, c := range changes {
		switch {
		case c.Peering == nil:
		case c.Deleted:
			f.kept.Remove(c.Apex)
		default:
			f.kept.Put(store.ZoneInfo{Apex: c.Apex, Serial: c.Serial, Settings: c.Peering.Settings, Standing: c.Peering.Standing, Changed: c.At})
		}
	}
}

func (f *zoneFeed) lookThrough(partition int32) {
	f.mu.Lock()
	f.anew[partition] = true
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

const (
	// lookAgain is when a partition is looked through again that could not be read.
	lookAgain = 5 * time.Second
	// leftLook is how often it is looked whether there are zones of partitions that this node does not hold any more.
	leftLook = 10 * time.Minute
)

// run looks through partitions until ctx ends.
func (f *zoneFeed) run(ctx context.Context) {
	stop := f.node.Changes(f.changed)
	defer stop()
	for _, p := range f.node.Store().Partitions() {
		f.lookThrough(p.Number())
	}
	left := time.NewTicker(leftLook)
	defer left.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-f.wake:
		case <-again.C:
		case <-left.C:
			f.dropLeft()
			continue
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		due := f.anew
		f.anew = map[int32]bool{}
		f.mu.Unlock()
		for partition := range due {
			if err := f.look(ctx, partition); err != nil && ctx.Err() == nil {
				f.logger.Warn().Err(err).Int32("partition", partition).Msg("the partition can't be searched for secondary zones; it is tried again")
				f.mu.Lock()
				f.anew[partition] = true
				f.mu.Unlock()
				again.Reset(lookAgain)
			}
		}
	}
}

// look tells of all zones of a partition, and of those that are not there any more.
func (f *zoneFeed) look(ctx context.Context, partition int32) error {
	before := f.kept.In(partition)
	p := f.node.Store().Partition(partition)
	if p == nil {
		return nil // who opens it tells of it
	}
	f.looked[partition] = true
	there := map[zones.Name]bool{}
	err := p.EachPeered(func(z store.ZoneInfo) (more bool) {
		if z.Settings.IsSecondary() {
			there[z.Apex] = true
			f.kept.Put(z)
		}
		return ctx.Err() == nil
	})
	if errors.Is(err, store.ErrClosed) {
		return nil
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	for apex, told := range before {
		if !there[apex] {
			f.kept.Forget(apex, told)
		}
	}
	return nil
}

// dropLeft forgets the zones of partitions that are not here any more.
func (f *zoneFeed) dropLeft() {
	for partition := range f.looked {
		if f.node.Store().Partition(partition) == nil {
			delete(f.looked, partition)
			for apex, told := range f.kept.In(partition) {
				f.kept.Forget(apex, told)
			}
		}
	}
}
