// Package store keeps partitions on disk: one Badger database for each partition of the log, the records
// applied in order, and views of the zones in it, from memory when they are hot and from Badger when they
// are not. It knows offsets, but not Kafka; streams, but not object storage; zones, but no DNS messages.
//
// What holds:
//   - A partition's state is a function of its records up to the applied offset, and of nothing else. Data,
//     offset, outcomes, history and digest are committed in one synced transaction.
//   - Every answer, page and walk comes from one position.
//   - Absence is proven: what can't be read, or does not agree with its checksum, is an error.
package store

import (
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"balefire/zones"
)

// Options say how a Store works. Only Dir is needed.
type Options struct {
	// Dir is the data directory; partitions live in Dir/partitions/NNN.
	Dir string
	// HotBytes is the budget of memory for zones served from memory. Default 256 MiB.
	HotBytes int64
	// HistoryChanges is how many change sets of a zone history keeps. Default 1,000; negative keeps none.
	HistoryChanges int
	// HistoryAge is how long they are kept, in partition time. Default 90 days.
	HistoryAge time.Duration
	// OutcomeAge is how long outcomes can be asked for by position, in partition time. Default 7 days.
	OutcomeAge time.Duration
	// Reserve is the free space in octets below which nothing is applied; 0 means 15% of the file system,
	// but at most 8 GiB.
	Reserve uint64
	// Ballast is the size of the file that is kept in Dir only to be deleted when the disk is full. Default
	// 64 MiB; negative means none.
	Ballast int64
	// Belongs reports whether a record with that key belongs to the partition. Nil: all do. It must be
	// the same on all replicas, as records that do not belong are rejected.
	Belongs func(key []byte, partition int32) bool
	// Alarm is called, from any goroutine, when a partition contradicts itself or can't go on. It must not
	// call back into the store.
	Alarm func(Alarm)
	// Logger is used at edges only: opening, closing, recovery, and background errors.
	Logger zerolog.Logger
	// DiskFree returns free and total octets of the file system of a directory. Nil: statfs(2).
	DiskFree func(dir string) (free, total uint64, err error)
	// CrashPoint, when set, is called at each named crash point. For tests.
	CrashPoint func(name string)
	// MemTableSize of each partition's database, in octets. Default 16 MiB.
	MemTableSize int64
}

// Alarm is a partition's contradiction or refusal that people should know of.
type Alarm struct {
	Partition int32
	Zone      zones.Name // "" when it is not about one zone
	Err       error
}

// Errors that callers tell apart, with errors.Is.
var (
	// ErrCorrupt marks what contradicts itself: a checksum, a count, a digest, a key that is missing. The
	// partition is to be rebuilt.
	ErrCorrupt = errors.New("stored data contradict themselves")
	// ErrDiskReserve means that free space is below the reserve: nothing is applied until there is more.
	ErrDiskReserve = errors.New("free disk space is below the reserve")
	// ErrPoisoned means that an earlier commit failed, or that applying panicked: the partition goes on answering,
	// and must be closed and opened again to apply.
	ErrPoisoned = errors.New("partition must be reopened: an earlier commit did not end well")
	// ErrGap means that records between the applied offset and the batch are missing.
	ErrGap = errors.New("records are missing before the batch")
	// ErrClosed means that the partition or the store is closed.
	ErrClosed = errors.New("partition is closed")
	// ErrNotOpen means that the partition is not open in this store.
	ErrNotOpen = errors.New("partition is not open")
	// ErrNewer means that the disk format, or the format level of a partition, is newer than this program.
	ErrNewer = errors.New("written by a newer version")
	// ErrOtherTopic means that the files belong to another topic or partition.
	ErrOtherTopic = errors.New("belongs to another topic or partition")
	// ErrNoZone means that the zone is not hosted here.
	ErrNoZone = errors.New("no such zone")
	// ErrNoOutcome means that the position's outcome is not known here: not applied yet, or too long ago.
	ErrNoOutcome = errors.New("no outcome is kept for this position")
	// ErrNoRollback means that history does not reach back to the serial.
	ErrNoRollback = errors.New("history does not reach back to that serial")
)

// Store is all partitions of a node, the memory for their hot zones, and the index of their apexes.
// Its methods may be used by many goroutines at once.
type Store struct {
	opts Options

	mu         sync.Mutex // guards what follows
	partitions map[int32]*Partition
	closed     bool
}

// New makes a store over opts.Dir, without opening any partition. It makes the directory and the ballast.
func New(opts Options) (*Store, error) { panic("being built") }

// Open opens a partition, making it when its directory does not exist. The topic's id and the partition's
// number must be those that it was made with (ErrOtherTopic); a format that this version does not know is
// ErrNewer; too little free space, ErrDiskReserve. Its zones are found by Find when Open returns.
func (s *Store) Open(partition int32, topicID [16]byte) (*Partition, error) { panic("being built") }

// Partition returns an open partition; nil when it is not open.
func (s *Store) Partition(n int32) *Partition { panic("being built") }

// Partitions returns the open partitions, by number.
func (s *Store) Partitions() []*Partition { panic("being built") }

// Close closes all partitions.
func (s *Store) Close() error { panic("being built") }

// Status says what a Find found.
type Status uint8

const (
	// NotHosted: no hosted zone is at or above the name.
	NotHosted Status = iota
	// Unavailable: the zone is hosted, but can't be read; Holding.Err says why.
	Unavailable
	// Here: Holding.View is the zone.
	Here
)

// Holding is what the store holds for a name. Release must be called once after the view's last use.
type Holding struct {
	Status Status
	Apex   zones.Name // "" when NotHosted; may share the index's memory, valid until Release
	View   zones.View // when Here. One goroutine may use it
	Err    error      // when Unavailable
	cold   *coldView
}

type coldView struct{}

// Release gives the view up: it, and what it returned, must not be used any more.
func (h *Holding) Release() {}

// Find returns the view of the zone with the longest hosted apex at or above qname. For a DS at an apex
// it prefers a hosted parent (RFC 4035 §3.1.4.1). It does not wait for the disk when the zone is hot.
func (s *Store) Find(qname zones.Name, qtype zones.Type) Holding { panic("being built") }

// Hosted returns the number of zones of all open partitions.
func (s *Store) Hosted() int { panic("being built") }

// Stats are counters and sizes for metrics.
type Stats struct {
	Zones              int
	HotZones           int
	HotBytes, HotLimit int64
	HotHits            uint64 // finds answered from memory
	ColdFinds          uint64 // finds answered from Badger directly
	Loads, Evictions   uint64 // zones brought into memory, and put out of it
}

// Stats returns a snapshot of the counters.
func (s *Store) Stats() Stats { panic("being built") }
