// Package catalog knows which zones the namespace hosts, also in partitions that the node does not hold. It follows the
// catalog topic, in which the owners of partitions say what is hosted and what is not any more, keeps what it has read on
// disk, and feeds the store's index of apexes.
//
// What it doesn't know: Kafka, gossip, and what is in a zone.
//
// Invariants:
//
//   - It says where to ask; the partition says what is true. An entry that is wrong, old or forged costs a question that finds
//     nothing, or a zone that is found a moment later.
//   - Of two entries for an apex that with the higher position counts, whichever was read first.
//   - What was read and how far are one synced transaction. Damage of the files means that the topic is read anew.
//   - A partition that the node holds decides for itself, whatever is said here.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// Record is a record of the catalog topic.
type Record struct {
	Offset     int64
	Key, Value []byte
}

// Source is the catalog topic.
type Source interface {
	// TopicID returns the topic's id; zeros while it is not known.
	TopicID() [16]byte
	// Bounds returns the offset of the first record, and that after the last.
	Bounds(ctx context.Context) (start, end int64, err error)
	// Open begins to read at an offset. One reader is open at a time.
	Open(offset int64) (Reader, error)
}

// Reader reads the topic.
type Reader interface {
	// Next waits for records, and returns them with the offset that reading has come to. An error marked ErrAnew says that reading
	// must begin at the start; any other may pass, and the reader may be asked again, or another opened.
	Next(ctx context.Context) (records []Record, next int64, err error)
	Close()
}

// ErrAnew marks errors of a Reader after which reading begins at the topic's start: it was replaced, or what was to be read next is
// gone.
var ErrAnew = errors.New("the catalog is to be read from its start")

// Publisher writes to the topic.
type Publisher interface {
	PublishAll(ctx context.Context, records []Record) error
}

// Index is told what is hosted in partitions that the node does not hold; *store.Store satisfies it.
type Index interface {
	PutElsewhere(apex zones.Name, partition int32)
	RemoveElsewhere(apex zones.Name)
}

// Options say what a catalog is made of.
type Options struct {
	// Dir is its own directory, made when it isn't there.
	Dir       string
	Source    Source
	Publisher Publisher
	Index     Index
	// PartitionOf is the partition of a zone.
	PartitionOf func(apex zones.Name) int32
	// Rank is this node's place among those who would say in the catalog what became of a zone: 0 says it at once, others only
	// when it was not said. Nil: 0.
	Rank   func(apex zones.Name) int
	Logger zerolog.Logger
}

// Entry is what is said of an apex.
type Entry struct {
	Hosted bool
	// Offset is the position, in the zone's partition, at which it was so.
	Offset int64
}

// Catalog is the node's copy of the catalog. Its methods may be used from many goroutines.
type Catalog struct {
	opts  Options
	log   zerolog.Logger
	db    *badger.DB
	queue queue

	ignored atomic.Uint64 // records that could not be used

	mu      sync.Mutex
	state   progress
	changed chan struct{} // closed when more was read
}

// retryWait is how long it is waited before what may pass is tried again.
const retryWait = time.Second

// Open opens the copy on disk. One that is damaged is removed. The index gets what is in it with Run.
func Open(opts Options) (*Catalog, error) {
	if opts.Rank == nil {
		opts.Rank = func(zones.Name) int { return 0 }
	}
	c := &Catalog{opts: opts, log: opts.Logger, changed: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(opts.Dir), 0o750); err != nil {
		return nil, err
	}
	err := c.open()
	if err != nil {
		c.log.Warn().Err(err).Msg("the copy of the catalog can't be used; it is read anew")
		if err := os.RemoveAll(opts.Dir); err != nil {
			return nil, fmt.Errorf("catalog: %w", err)
		}
		err = c.open()
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	c.queue.init()
	return c, nil
}

func (c *Catalog) open() (err error) {
	if c.db, err = openDatabase(c.opts.Dir, c.log); err != nil {
		return err
	}
	if c.state, err = c.readProgress(); err != nil {
		return errors.Join(err, c.db.Close())
	}
	return nil
}

// Close closes the files. Run has returned.
func (c *Catalog) Close() error { return c.db.Close() }

// Position returns the offset of the topic that is read next.
func (c *Catalog) Position() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.next
}

// Whole reports whether the index has had all of the catalog once: that of the topic when it was first read to its end, or what
// was on disk of one that was.
func (c *Catalog) Whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.whole && c.state.loaded
}

// Changed returns a channel that is closed when more was read.
func (c *Catalog) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Ignored returns how many records could not be used.
func (c *Catalog) Ignored() uint64 { return c.ignored.Load() }

// Run gives the index what is on disk, follows the topic, and says in it what Announce and Reconcile are told, until ctx ends.
func (c *Catalog) Run(ctx context.Context) {
	if err := c.load(ctx); err != nil && ctx.Err() == nil {
		c.log.Error().Err(err).Msg("the copy of the catalog can't be read; the topic is read anew")
		c.forget()
	}
	var work sync.WaitGroup
	work.Go(func() { c.announce(ctx) })
	defer work.Wait()
	for ctx.Err() == nil {
		err := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrAnew) {
			c.log.Info().Err(err).Msg("reading the catalog from its start")
			c.startAnew()
			continue
		}
		c.log.Debug().Err(err).Msg("the catalog can't be read just now")
		sleep(ctx, retryWait)
	}
}

// follow reads the topic until something is in the way.
func (c *Catalog) follow(ctx context.Context) error {
	topic := c.opts.Source.TopicID()
	if topic == ([16]byte{}) {
		return errors.New("the catalog topic is not known yet")
	}
	c.beginTopic(topic)
	start, end, err := c.opts.Source.Bounds(ctx)
	if err != nil {
		return err
	}
	from := max(c.Position(), start) // compaction keeps the last record of each key: starting late misses nothing
	if from > end {
		return fmt.Errorf("%w: it ends at %d, and was read to %d", ErrAnew, end, from)
	}
	c.reached(from, end)
	reader, err := c.opts.Source.Open(from)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		records, next, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if err := c.apply(topic, records, next); err != nil {
			return err
		}
		c.reached(next, end)
	}
}

// reached notes that the topic was read to an offset, which may be the end that it had.
func (c *Catalog) reached(next, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next < end || c.state.whole {
		return
	}
	c.state.whole = true
	if err := c.writeProgress(); err != nil {
		c.log.Warn().Err(err).Msg("the copy of the catalog can't be marked as whole")
	}
	c.tell()
}

// tell wakes those who wait; c.mu is held.
func (c *Catalog) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
