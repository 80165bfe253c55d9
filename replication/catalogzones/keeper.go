// Package catalogzones keeps catalog zones (RFC 9432) and the zones that they list in step. A catalog that is produced has the list of
// zones that are hosted here as its content; of one that is consumed, the zones that it lists are hosted as secondary zones. The node on duty for
// the catalog's partition does that, by change sets like anybody else's.
//
// What it doesn't know: how zones are transferred, Kafka, and where zones of other partitions are read.
//
// Invariants:
//
//   - What is to be done follows from what is hosted and what the catalog says, each time anew: nothing is remembered that a restart could lose.
//   - A zone is deleted, or given other settings, only while it says that it is this catalog's, which the change set has as its precondition.
//   - A catalog that is broken, or has expired, changes nothing.
//   - Two nodes that do the same at once do no harm.
//   - The work is bounded: a catalog is looked at once a second at most, and for a small part of the time.
package catalogzones

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"balefire/store"
	"balefire/zones"
)

// Zone is a hosted zone.
type Zone struct {
	Apex zones.Name
	// Settings are those of the zone that are about catalogs, and its primaries. The others may be zero.
	Settings zones.ZoneSettings
	// Generation is another one after the zone was made anew, and may be another one at other times.
	Generation int64
}

// Content is a catalog's zone at one position. The RRsets are the caller's.
type Content struct {
	Info   store.ZoneInfo
	RRsets []zones.RRset
}

// Source is what is to be known of a node, and done by it.
type Source interface {
	// Partitions returns how many there are, 0 while that is not known; PartitionOf, that of a zone.
	Partitions() int32
	PartitionOf(apex zones.Name) (partition int32, ok bool)
	// OnDuty reports whether this node does for a partition, which it holds then, what is done once for the region.
	OnDuty(partition int32) bool
	// Rank is the region's place among those who do what is done once for the namespace.
	Rank(apex zones.Name) int
	// EachCatalog calls fn for the catalogs in a partition that this node holds.
	EachCatalog(ctx context.Context, partition int32, fn func(store.ZoneInfo)) error
	// EachZone calls fn for each zone of a partition, wherever it is held. Fresh demands that what was in the log at the call is seen. An
	// error means that fn may not have been called for all.
	EachZone(ctx context.Context, partition int32, fresh bool, fn func(Zone)) error
	// Content reads a zone that this node has; store.ErrNoZone when there is none.
	Content(ctx context.Context, apex zones.Name) (Content, error)
	// CatchUp waits until this node's copy of a partition, which it holds, has all that was in the log at the call.
	CatchUp(ctx context.Context, partition int32) error
	// Publish appends a change set to the log.
	Publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error)
	// Applied waits until the record at a position is applied or rejected on this node. ErrElsewhere when this node does not hold the
	// partition.
	Applied(ctx context.Context, at store.Position) (store.Outcome, error)
}

// Timing says how soon things are done.
type Timing struct {
	// Settle is how long changes are gathered before a catalog is looked at, and how long it is left alone at least between two looks.
	Settle time.Duration
	// EachRank is how much longer the regions wait that are not the first to do it.
	EachRank time.Duration
	// Retry is when something that failed is tried again, and Recheck, when all is looked at that seems to be well.
	Retry, Recheck time.Duration
	// Duty is how often it is asked who is on duty.
	Duty time.Duration
}

// DefaultTiming is for nodes that serve.
var DefaultTiming = Timing{Settle: time.Second, EachRank: 5 * time.Second, Retry: 30 * time.Second, Recheck: 10 * time.Minute, Duty: time.Second}

// share is how many times as long as it took to find out what is to be done a catalog is left alone.
const share = 10

// Options say what a Keeper is made of.
type Options struct {
	Source Source
	Timing Timing // zero: DefaultTiming
	Logger zerolog.Logger
}

// Change is what became of a zone.
type Change struct {
	Apex zones.Name
	// Created and Deleted say that it is hosted now, or not any more; Resettled, that its settings are others.
	Created, Deleted, Resettled bool
	// Generation is that of a zone that was Created.
	Generation int64
	// Catalog is what the zone is as a catalog.
	Catalog zones.Catalog
}

// Keeper keeps the catalogs that this node is on duty for. Its methods may be used from many goroutines.
type Keeper struct {
	opts    Options
	log     zerolog.Logger
	now     zerolog.Logger // for what may be said each second
	metrics metrics
	wake    chan struct{}

	mu       sync.Mutex
	stale    map[int32]bool // partitions whose catalogs are to be looked for, once this node is on duty
	onDuty   map[int32]bool // as it was last seen
	catalogs map[zones.Name]*entry
	born     births
}

// entry is a catalog in a partition that this node is on duty for.
type entry struct {
	apex      zones.Name
	partition int32
	catalog   zones.Catalog
	due       time.Time // when it is to be looked at; never zero
	notBefore time.Time
	found     finding
}

// finding is what was found at the last look, for people.
type finding struct {
	problem string // "" when all is well
	broken  bool
	clashes int
}

// New makes a Keeper, which does nothing until Run.
func New(opts Options) *Keeper {
	if opts.Timing == (Timing{}) {
		opts.Timing = DefaultTiming
	}
	return &Keeper{
		opts: opts, log: opts.Logger, now: opts.Logger.Sample(&zerolog.BurstSampler{Burst: 2, Period: time.Minute}), metrics: newMetrics(), wake: make(chan struct{}, 1),
		stale: map[int32]bool{}, onDuty: map[int32]bool{}, catalogs: map[zones.Name]*entry{}, born: births{},
	}
}

// Reset says that a partition is another copy than before, or was opened: each zone of it may be as it was at any time.
func (k *Keeper) Reset(partition int32) {
	k.mu.Lock()
	k.stale[partition] = true
	k.mu.Unlock()
}

// Elsewhere says that zones may have come, gone or changed in partitions that this node does not hold.
func (k *Keeper) Elsewhere() {
	k.mu.Lock()
	k.allDue()
	k.mu.Unlock()
	k.stir()
}

// Changed tells of changes in a partition that this node holds. It does not wait.
func (k *Keeper) Changed(partition int32, changes []Change) {
	now := time.Now()
	any := false
	k.mu.Lock()
	for _, c := range changes {
		if c.Created {
			k.born.add(c.Apex, c.Generation, now)
		}
		e := k.catalogs[c.Apex]
		switch {
		case e != nil && (c.Deleted || c.Catalog.Role == zones.NoCatalog):
			delete(k.catalogs, c.Apex)
		case e != nil:
			e.catalog = c.Catalog
			k.setDue(e, now)
		case !c.Deleted && c.Catalog.Role != zones.NoCatalog && k.onDuty[partition]:
			k.enter(c.Apex, partition, c.Catalog, now)
		}
		any = any || c.Created || c.Deleted || c.Resettled
	}
	if any {
		k.allDue()
	}
	any = len(k.catalogs) > 0
	k.mu.Unlock()
	if any {
		k.stir()
	}
}

// enter begins to keep a catalog; k.mu is held.
func (k *Keeper) enter(apex zones.Name, partition int32, c zones.Catalog, now time.Time) {
	e := k.catalogs[apex]
	if e == nil {
		e = &entry{apex: apex, partition: partition, due: never}
		k.catalogs[apex] = e
	}
	e.catalog = c
	k.setDue(e, now)
}

// never is later than all else.
var never = time.Unix(math.MaxInt32, 0).AddDate(1000, 0, 0)

// setDue has a catalog looked at soon; k.mu is held.
func (k *Keeper) setDue(e *entry, now time.Time) {
	due := now.Add(k.opts.Timing.Settle + time.Duration(k.opts.Source.Rank(e.apex))*k.opts.Timing.EachRank)
	if due.Before(e.notBefore) {
		due = e.notBefore
	}
	if due.Before(e.due) {
		e.due = due
	}
}

// allDue has all catalogs looked at soon; k.mu is held.
func (k *Keeper) allDue() {
	now := time.Now()
	for _, e := range k.catalogs {
		k.setDue(e, now)
	}
}

func (k *Keeper) stir() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run keeps catalogs until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(k.opts.Timing.Duty)
	defer tick.Stop()
	k.look(ctx)
	for ctx.Err() == nil {
		e, wait := k.next()
		if e != nil {
			k.keep(ctx, e)
			wait = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-k.wake:
		case <-timer.C:
		case <-tick.C:
			k.look(ctx)
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// look finds the catalogs of partitions that this node is on duty for, and forgets the others.
func (k *Keeper) look(ctx context.Context) {
	for partition := range k.opts.Source.Partitions() {
		onDuty := k.opts.Source.OnDuty(partition)
		k.mu.Lock()
		was := k.onDuty[partition]
		k.onDuty[partition] = onDuty
		if was && !onDuty {
			for apex, e := range k.catalogs {
				if e.partition == partition {
					delete(k.catalogs, apex)
				}
			}
		}
		scan := onDuty && (!was || k.stale[partition])
		delete(k.stale, partition)
		k.mu.Unlock()
		if !scan {
			continue
		}
		err := k.opts.Source.EachCatalog(ctx, partition, func(z store.ZoneInfo) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.enter(z.Apex, partition, z.Settings.Catalog, time.Now())
		})
		if err != nil {
			k.mu.Lock()
			k.stale[partition] = true // and again at the next tick
			k.mu.Unlock()
			if ctx.Err() == nil {
				k.now.Warn().Err(err).Int32("partition", partition).Msg("catalog zones can't be looked for")
			}
		}
	}
}

// next returns the catalog that is to be looked at now, or how long there is none.
func (k *Keeper) next() (first *entry, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.born.forget(now)
	for _, e := range k.catalogs {
		if first == nil || e.due.Before(first.due) {
			first = e
		}
	}
	if first == nil {
		return nil, k.opts.Timing.Recheck
	}
	if wait = first.due.Sub(now); wait > 0 {
		return nil, min(wait, k.opts.Timing.Recheck)
	}
	first.due = never // what changes from now on has it looked at again
	return first, 0
}

// keep looks at a catalog, and does what is to be done.
func (k *Keeper) keep(ctx context.Context, e *entry) {
	began := time.Now()
	var did work
	content, err := k.opts.Source.Content(ctx, e.apex)
	is := content.Info.Settings.Catalog
	if errors.Is(err, store.ErrNoZone) || err == nil && is.Role == zones.NoCatalog {
		k.mu.Lock()
		if k.catalogs[e.apex] == e && e.due.Equal(never) { // or it is another one by now
			delete(k.catalogs, e.apex)
		}
		k.mu.Unlock()
		return
	}
	if err == nil {
		switch is.Role {
		case zones.CatalogProduced:
			did, err = k.produce(ctx, content)
		case zones.CatalogConsumed:
			did, err = k.consume(ctx, content)
		default:
			did, err = k.end(ctx, content)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		did.found.problem = err.Error()
		did.again = true
	}
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if is.Role != zones.NoCatalog {
		e.catalog = is
	}
	if did.decided.IsZero() {
		did.decided = now
	}
	e.notBefore = now.Add(max(k.opts.Timing.Settle, share*did.decided.Sub(began)))
	later := k.opts.Timing.Recheck
	if did.again || did.found.problem != "" {
		later = k.opts.Timing.Retry
	}
	if did.soon {
		k.setDue(e, now)
	}
	if due := now.Add(later); due.Before(e.due) {
		e.due = due
	}
	if e.due.Before(e.notBefore) {
		e.due = e.notBefore
	}
	k.report(e, did)
}

// work is what came of a look.
type work struct {
	found finding
	// decided is when it was known what is to be done; what follows is mostly waiting for the log.
	decided time.Time
	// done are the zones that were created, deleted and so on; of a produced catalog, the RRsets that were changed.
	done int
	// soon: what is hosted has changed meanwhile, or will have; again: something did not work.
	soon, again bool
}

// report tells people what has changed since the last look; k.mu is held.
func (k *Keeper) report(e *entry, did work) {
	log := k.log.With().Stringer("catalog", e.apex).Stringer("role", e.catalog.Role).Logger()
	if did.done > 0 {
		log.Info().Int("changes", did.done).Msg("a catalog and the zones that are hosted were brought into step")
	}
	if did.found.problem != e.found.problem {
		if did.found.problem == "" {
			log.Info().Msg("a catalog is well again")
		} else {
			log.Warn().Str("problem", did.found.problem).Msg("a catalog can't be kept as it should be")
		}
	}
	e.found = did.found
}

// Troubles says, for people, what is wrong with the catalogs that this node keeps.
func (k *Keeper) Troubles() (all []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.catalogs {
		if e.found.problem != "" {
			all = append(all, fmt.Sprintf("catalog %s: %s", e.apex, e.found.problem))
		}
	}
	slices.Sort(all)
	return all
}
