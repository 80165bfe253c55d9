package replication

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"balefire/replication/assignment"
	"balefire/replication/backup"
	"balefire/replication/catalog"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/change"
)

// Options say what a node is made of.
type Options struct {
	// Dir is the node's data directory.
	Dir string
	// Log says which log. Its Dir and CacheFile are set here.
	Log mutationlog.Options
	// Store is handed to the store. Its Dir, Belongs and Alarm are set here.
	Store store.Options
	// TrimAbove is the size in octets above which the embedded log is trimmed; 0 means 64 MiB, or more beside large partitions.
	TrimAbove    int64
	trimByTables bool // TrimAbove was 0
	// TrimInterval is how often that is looked at; 0 means 10 s.
	TrimInterval time.Duration
	// ScrubInterval is the time in which every partition is read whole and compared with its digest; 0 means a day,
	// negative never.
	ScrubInterval time.Duration
	// NodeID is the node's name, unique in the namespace.
	NodeID string
	// Region is the place of the node; Group, the full copy of the data in that place that it is part of. With the embedded
	// log, or without a Group, a node has every partition.
	Region, Group string
	// GroupProtocol is how the brokers spread partitions: classic (the default) or consumer.
	GroupProtocol string
	// Peers are the other nodes of the region.
	Peers PeerOptions
	// KeepLeft is for how long the files of partitions that went to other nodes are kept.
	KeepLeft time.Duration
	// Backup says what is done with an object store.
	Backup BackupOptions
	// LookInterval is how often it is looked whether other nodes are where they should not be; 0 means a minute.
	LookInterval time.Duration
	// Metrics are registered here; nil means nowhere.
	Metrics prometheus.Registerer
	Logger  zerolog.Logger
}

// Scope says how far a change must have come for Wait.
type Scope uint8

const (
	// ThisNode: applied on this node.
	ThisNode Scope = iota
	// Region: applied on every node of this region that has the partition.
	Region
	// Everywhere: applied on every node of the namespace that has the partition.
	Everywhere
)

var (
	// ErrHalted means that the partition has stopped applying for good, until the node is started again or the
	// partition rebuilt.
	ErrHalted = errors.New("the partition has stopped applying")
	// ErrScope means that this node can't tell how far others have come.
	ErrScope = errors.New("how far other nodes have come is not known here")
	// ErrNotOpen means that the partition isn't held by this node, or not open yet.
	ErrNotOpen = errors.New("the partition is not open on this node")
	// ErrClosed means that the node is being closed.
	ErrClosed = errors.New("the node is closed")
)

// An Alarm is something that people should know of, and that the node can't mend.
type Alarm struct {
	Partition int32 // -1: not about one
	Zone      zones.Name
	Err       error
	Time      time.Time
}

// maxAlarms bounds how many alarms are kept to be shown. All are logged and counted.
const maxAlarms = 100

// Node is a node's part in its namespace: all partitions, or those that its replica group gives to it. Its methods may be used
// from many goroutines.
type Node struct {
	opts    Options
	logger  zerolog.Logger
	log     *mutationlog.Log
	store   *store.Store
	metrics *metrics
	marks   *marks
	backups *backup.Backups // set before replicas; nil without an object store

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	close  sync.Once

	copies  atomic.Pointer[copies]                // nil until the number of partitions is known
	catalog atomic.Pointer[catalog.Catalog]       // nil without brokers, and until then
	group   atomic.Pointer[assignment.Assignment] // nil for a node that has every partition, and until copies is set
	region  *region                               // nil for a node that knows no other

	listeners listeners // who are told of changes

	changedState chan struct{} // capacity 1: the others are to be told something
	cameFurther  chan struct{} // capacity 1: something is to be committed
	freed        chan struct{} // a partition was let go

	marking  sync.Mutex                // held from the look at the partitions until it is written what was seen
	wasReady atomic.Bool               // in this process
	ownReady atomic.Pointer[time.Time] // when it was ready but for others; nil: not yet
	answers  sync.Pool                 // of *answer.Answer, for questions of other nodes
	unasked  zerolog.Logger            // of questions that other nodes did not answer: a few each second

	strangers, namesakes, objects atomic.Pointer[string] // troubles; nil for none

	alarmMu    sync.Mutex
	alarms     []Alarm
	alarmOfLog sync.Once
}

// Start opens the log and the store under Options.Dir, and begins to take every partition through its phases. It
// waits for neither the log nor the partitions: see Ready. The error is about the node's own directory, which another process may
// have, or about its options.
func Start(opts Options) (_ *Node, err error) {
	if opts.TrimAbove == 0 {
		opts.TrimAbove, opts.trimByTables = defaultTrimAbove, true
	}
	if opts.TrimInterval == 0 {
		opts.TrimInterval = defaultTrimInterval
	}
	if opts.ScrubInterval == 0 {
		opts.ScrubInterval = defaultScrubInterval
	}
	if opts.LookInterval == 0 {
		opts.LookInterval = defaultLookInterval
	}
	if opts.Backup.Interval == 0 {
		opts.Backup.Interval = defaultBackupInterval
	}
	n := &Node{
		opts: opts, logger: opts.Logger,
		changedState: make(chan struct{}, 1), cameFurther: make(chan struct{}, 1), freed: make(chan struct{}),
	}
	n.unasked = opts.Logger.Sample(&zerolog.BurstSampler{Burst: 4, Period: time.Second})
	n.answers.New = func() any { return new(answer.Answer) }
	n.metrics = newMetrics(n)
	opts.Log.Dir = filepath.Join(opts.Dir, "log")
	opts.Log.CacheFile = filepath.Join(opts.Dir, "control.json")
	opts.Log.Logger = opts.Logger.With().Str("part", "log").Logger()
	opts.Store.Dir = opts.Dir
	opts.Store.Alarm = n.storeAlarm
	// The number is that of the copies, and not what the control topic says now: what is applied never depends on that.
	opts.Store.Belongs = func(key []byte, partition int32) bool {
		return mutationlog.PartitionOf(key, n.count()) == partition
	}
	// The store makes the directory that the log's files go into.
	if n.store, err = store.New(opts.Store); err != nil {
		return nil, fmt.Errorf("store in %s: %w", opts.Dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.store.Close())
		}
	}()
	if n.marks, err = loadMarks(filepath.Join(opts.Dir, "caught-up.json")); err != nil {
		n.logger.Warn().Err(err).Msg("how far the partitions had come is not known; they are ready when they have caught up again")
	}
	if n.log, err = mutationlog.Open(opts.Log); err != nil {
		return nil, err
	}
	if opts.Metrics != nil {
		if err := opts.Metrics.Register(n.metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("metrics: %w", err), n.log.Close())
		}
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if opts.Peers.GossipListen != "" {
		if n.region, err = n.enterRegion(); err != nil {
			n.cancel()
			return nil, errors.Join(err, n.log.Close())
		}
	}
	if n.log.Partitions() > 0 { // as the control topic said last
		if err = n.takePartitions(); err != nil {
			n.cancel()
			n.work.Wait()
			return nil, errors.Join(err, n.leaveGroup(), n.region.close(), n.log.Close())
		}
	}
	n.work.Go(n.run)
	n.work.Go(n.logTroubles)
	if b := opts.Backup; b.Objects != nil && (b.Create || b.Restore) {
		n.work.Go(n.watchObjects)
	}
	return n, nil
}

// run waits for the log to be known, and then keeps the embedded one small.
func (n *Node) run() {
	if n.copies.Load() == nil {
		select {
		case <-n.log.Established():
			if err := n.takePartitions(); err != nil {
				n.alarm(-1, "", fmt.Errorf("this node can't begin: %w", err))
				return
			}
		case <-n.ctx.Done():
			return
		}
	}
	n.maintain()
}

// takePartitions begins with the partitions of the namespace: all, or those that the group gives to this node.
func (n *Node) takePartitions() error {
	n.backups = n.backupsOf(n.log.TopicID())
	if !n.log.Status().Embedded && n.opts.Group != "" {
		group, err := n.joinGroup()
		if err != nil {
			return err
		}
		n.group.Store(group)
	}
	n.copies.Store(newCopies(n.log.Partitions(), n.log.TopicID()))
	n.remember()
	if !n.log.Status().Embedded {
		c, err := n.openCatalog()
		if err != nil {
			return err
		}
		n.catalog.Store(c)
		n.work.Go(func() { n.followCatalog(c) })
	}
	if n.group.Load() != nil {
		n.work.Go(n.spread)
		n.work.Go(n.commit)
		n.work.Go(n.registerGroup)
		n.work.Go(n.lookAround)
	} else {
		for partition := range n.count() {
			n.take(partition)
		}
	}
	if n.region != nil {
		n.work.Go(n.listen)
		n.work.Go(n.tell)
		n.work.Go(n.compareDigests)
	}
	if n.opts.ScrubInterval > 0 {
		n.work.Go(n.scrub)
	}
	if n.backups != nil && n.opts.Backup.Create {
		n.work.Go(n.backUp)
	}
	return nil
}

// Store returns the store, to read from.
func (n *Node) Store() *store.Store { return n.store }

// Log returns the log, for its status, the control topic and the cookie secrets.
func (n *Node) Log() *mutationlog.Log { return n.log }

// Failed gives the failure after which the process should end, to begin again with what is on its disk: the embedded broker
// could not keep its files.
func (n *Node) Failed() <-chan error { return n.log.Failed() }

// Publish appends a change set to the log and returns its position. It is not checked here but for its size: a
// *zones.Rejection. An error of the log is marked mutationlog.ErrRefused, ErrTooLarge or ErrUnknown; after ErrUnknown the
// change set may be published again with the same ID.
func (n *Node) Publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
	began := time.Now()
	position, err := n.publish(ctx, cs)
	n.metrics.published(time.Since(began), err)
	if err != nil {
		return store.Position{}, fmt.Errorf("publish change set %s: %w", cs.ID, err)
	}
	return position, nil
}

func (n *Node) publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
	value, err := change.Encode(cs)
	if err != nil {
		return store.Position{}, err
	}
	count := n.log.Partitions()
	if count == 0 {
		return store.Position{}, fmt.Errorf("%w: %w", mutationlog.ErrRefused, mutationlog.ErrNotEstablished)
	}
	key := []byte(cs.Zone.String())
	partition := mutationlog.PartitionOf(key, count)
	if err := n.roomFor(partition); err != nil {
		return store.Position{}, fmt.Errorf("%w: %w", mutationlog.ErrRefused, err)
	}
	if r := n.replica(partition); r != nil && n.log.Status().Reachable {
		if err := r.mayPublish(ctx); err != nil {
			return store.Position{}, fmt.Errorf("%w: %w", mutationlog.ErrRefused, err)
		}
	}
	offset, err := n.log.Publish(ctx, partition, key, value)
	if err != nil {
		return store.Position{}, err
	}
	return store.Position{Partition: partition, Offset: offset}, nil
}

// roomFor refuses what the embedded log would take while nothing is applied for want of space: both are on one disk,
// and what is left is kept for those who answer from it.
func (n *Node) roomFor(partition int32) error {
	r := n.replica(partition)
	if r == nil || !n.log.Status().Embedded {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(r.trouble, store.ErrDiskReserve) {
		return r.trouble
	}
	return nil
}

// PartitionOf returns the partition of a zone; ok is false while the number of partitions is not known.
func (n *Node) PartitionOf(apex zones.Name) (partition int32, ok bool) {
	count := n.log.Partitions()
	if count == 0 {
		return 0, false
	}
	return mutationlog.PartitionOf([]byte(apex.String()), count), true
}

// Wait waits until the change set at a position is applied or rejected, and returns what became of it. A position
// that was applied long ago is store.ErrNoOutcome; a partition that has stopped, ErrHalted. When ctx ends while others than
// this node lack it, a *MissingError comes with the outcome.
func (n *Node) Wait(ctx context.Context, position store.Position, scope Scope) (store.Outcome, error) {
	if scope != ThisNode && n.group.Load() == nil && !n.log.Status().Embedded {
		return store.Outcome{}, fmt.Errorf("wait for %s: %w", position, ErrScope)
	}
	r := n.replica(position.Partition)
	if r == nil {
		return store.Outcome{}, fmt.Errorf("wait for %s: %w", position, ErrNotOpen)
	}
	outcome, err := r.wait(ctx, position.Offset)
	if err != nil {
		return store.Outcome{}, fmt.Errorf("wait for %s: %w", position, err)
	}
	n.saw(position.Partition, position.Offset)
	if scope == ThisNode || n.group.Load() == nil {
		return outcome, nil
	}
	var apex zones.Name
	if outcome.Created || outcome.Deleted {
		apex = outcome.Zone
	}
	return outcome, n.waitForGroups(ctx, position, scope, apex)
}

// Alarms returns the latest alarms, oldest first.
func (n *Node) Alarms() []Alarm {
	n.alarmMu.Lock()
	defer n.alarmMu.Unlock()
	return append([]Alarm(nil), n.alarms...)
}

// storeAlarm is what the store calls. A copy that contradicts itself is rebuilt.
func (n *Node) storeAlarm(a store.Alarm) {
	n.alarm(a.Partition, a.Zone, a.Err)
	if r := n.replica(a.Partition); r != nil && errors.Is(a.Err, store.ErrCorrupt) {
		r.contradicted(a.Err)
	}
}

func (n *Node) alarm(partition int32, zone zones.Name, err error) {
	n.metrics.alarms.Inc()
	event := n.logger.Error().Err(err).Int32("partition", partition)
	if zone != "" {
		event = event.Str("zone", zone.String())
	}
	event.Msg("alarm")
	n.alarmMu.Lock()
	defer n.alarmMu.Unlock()
	if len(n.alarms) == maxAlarms {
		n.alarms = n.alarms[1:]
	}
	n.alarms = append(n.alarms, Alarm{Partition: partition, Zone: zone, Err: err, Time: time.Now()})
}

// leaveGroup ends this node's part in its group until it is started again.
func (n *Node) leaveGroup() error {
	if group := n.group.Load(); group != nil {
		return group.Close()
	}
	return nil
}

// Close stops applying, then closes the log and the store. It waits for those who read.
func (n *Node) Close() error {
	var err error
	n.close.Do(func() {
		if n.region != nil {
			n.leaveRegion()
		}
		n.cancel()
		n.work.Wait()
		if n.copies.Load() != nil {
			n.mark()
		}
		err = errors.Join(err, n.leaveGroup(), n.region.close())
		if c := n.catalog.Load(); c != nil {
			err = errors.Join(err, c.Close())
		}
		if n.opts.Metrics != nil {
			n.opts.Metrics.Unregister(n.metrics)
		}
		err = errors.Join(err, n.log.Close(), n.store.Close())
	})
	return err
}
