// Package catalog knows which zones the namespace hosts, also in partitions that the node does not hold. It follows the
// catalog topic, in which the owners of partitions say what is hosted and what is not any more, keeps what it has read on
// disk, and feeds the store's index of apexes.
//
// What it doesn't know: Kafka, gossip, and what is in a zone.
//
// Invariants:
//
//   - It says where to ask; the partition says what is true. An entry that is wrong, old or repeated costs a question that finds
//     nothing, or a zone that is found a moment later.
//   - Of two entries for an apex that with the higher position counts, whichever was read first.
//   - What was read and how far are one synced transaction. Damage of the files means that the topic is read anew.
//   - A partition that the node holds decides for itself, whatever is said here.
//   - What the topic has lost is written again by the owners: what was read of an earlier topic is known, but not said.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

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
	// must begin at the start; after any other another reader is opened.
	Next(ctx context.Context) (records []Record, next int64, err error)
	Close()
}

// ErrAnew marks errors of a Reader after which reading begins at the topic's start: it was replaced, or what was to be read next is
// gone.
var ErrAnew = errors.New("the catalog is to be read from its start")

// Publisher writes to the topic.
type Publisher interface {
	// PublishAll returns when all records are safe. After an error some may be there.
	PublishAll(ctx context.Context, records []Record) error
}

// Index is told what is hosted in partitions that the node does not hold; *store.Store satisfies it.
type Index interface {
	PutElsewhere(apex zones.Name, partition int32)
	RemoveElsewhere(apex zones.Name)
	ReplaceElsewhere(partition int32, said iter.Seq2[zones.Name, bool])
}

// AllPartitions stands for all of them where Options.Doubt is told of one.
const AllPartitions = -1

// Options say what a catalog is made of.
type Options struct {
	// Dir is its own directory, made when it isn't there.
	Dir string
	// LogID is the id of the mutations topic: the one that entries' positions are of. What is on disk of another is not used.
	LogID     [16]byte
	Source    Source
	Publisher Publisher
	Index     Index
	// PartitionOf is the partition of a zone.
	PartitionOf func(apex zones.Name) int32
	// Rank is this node's place among those who would say in the catalog what became of a zone: 0 says it at once, others only
	// when it was not said. Nil: 0.
	Rank func(apex zones.Name) int
	// Doubt is told that the catalog may lack what a partition has, so that Reconcile is called for it if the node owns it. It must
	// not wait. Nil: nobody is told.
	Doubt func(partition int32)
	// RoomToOpen and Room return an error when there is not enough free space to open the files, and to write to them. Nil: there is.
	RoomToOpen, Room func() error
	Logger           zerolog.Logger
}

// Entry is what is said of an apex.
type Entry struct {
	Hosted bool
	// Offset is the position, in the zone's partition, at which it was so.
	Offset int64
}

// newer reports whether an entry says more than what is known. At the same position both say the same, unless one is forged.
func newer(e, known Entry) bool { return e.Offset > known.Offset }

// Catalog is the node's copy of the catalog. Its methods may be used from many goroutines.
type Catalog struct {
	opts  Options
	log   zerolog.Logger
	queue queue

	ignored atomic.Uint64 // records that could not be used

	feedMu sync.Mutex // held from the writing of entries until the index has them; taken before the others

	filesMu  sync.RWMutex // held shared while db is used, and alone while it is replaced
	db       *badger.DB
	inMemory bool // there was no room for files

	mu      sync.Mutex
	state   progress      // changed by Run only
	indexed bool          // the index has had all of the catalog
	read    chan struct{} // closed when the topic was read to the end that it had
	changed chan struct{} // closed and replaced when more was read
}

// Open opens the copy on disk. One that is damaged, or of another log, is removed. The index gets what is in it with Run.
func Open(opts Options) (*Catalog, error) {
	if opts.Rank == nil {
		opts.Rank = func(zones.Name) int { return 0 }
	}
	if opts.Doubt == nil {
		opts.Doubt = func(int32) {}
	}
	always := func() error { return nil }
	if opts.RoomToOpen == nil {
		opts.RoomToOpen = always
	}
	if opts.Room == nil {
		opts.Room = always
	}
	c := &Catalog{opts: opts, log: opts.Logger, read: make(chan struct{}), changed: make(chan struct{})}
	c.queue.init()
	if err := os.MkdirAll(filepath.Dir(opts.Dir), 0o750); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	err := c.open()
	if err != nil {
		c.log.Warn().Err(err).Msg("the copy of the catalog can't be used; the topic is read anew")
		if err := os.RemoveAll(opts.Dir); err != nil {
			return nil, fmt.Errorf("catalog: %w", err)
		}
		err = c.open()
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	return c, nil
}

// Close closes the files. Run has returned.
func (c *Catalog) Close() error {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	if c.db == nil {
		return nil
	}
	return c.db.Close()
}

// Position returns the offset of the topic that is read next.
func (c *Catalog) Position() int64 { return c.progress().next }

func (c *Catalog) progress() progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Whole reports whether the index has had all of the catalog once: that of the topic when it was first read to its end, or what
// was on disk of one that was.
func (c *Catalog) Whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.indexed
}

// Changed returns a channel that is closed when more was read.
func (c *Catalog) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// tell wakes those who wait; c.mu is held.
func (c *Catalog) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Ignored returns how many records could not be used.
func (c *Catalog) Ignored() uint64 { return c.ignored.Load() }

// Get returns what is known of an apex; ok is false when nothing is.
func (c *Catalog) Get(apex zones.Name) (e Entry, ok bool, err error) {
	k, ok, err := c.get(apex)
	return k.Entry, ok, err
}

// TakeOver gives the index what is known of a partition that was closed for good, and that had come to an offset, -1 for none. What
// was said of it up to there it knew itself, and better: what it did last may not have been read here yet.
func (c *Catalog) TakeOver(ctx context.Context, partition int32, applied int64) error {
	c.feedMu.Lock() // or what is read meanwhile would be overwritten by what was known before
	defer c.feedMu.Unlock()
	var failed error
	c.opts.Index.ReplaceElsewhere(partition, func(yield func(zones.Name, bool) bool) {
		for k, err := range c.all(ctx, entryKey(partition, "")) {
			if err != nil {
				failed = fmt.Errorf("catalog of partition %d: %w", partition, err)
				return
			}
			if k.Offset > applied && !yield(k.apex, k.Hosted) {
				return
			}
		}
	})
	return failed
}
