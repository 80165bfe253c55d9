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
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
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
	// MemTableSize of each partition's database, in octets. Default 16 MiB, which is also the least.
	MemTableSize int64

	// CrashPoint, when set, is called at each of CrashPoints. For tests.
	CrashPoint func(name string)
	// FailCommit, when set, is called before each commit, and fails it. For tests.
	FailCommit func() error
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
	// ErrAwaiting means that the zone is hosted, and that nothing has come from its primaries yet.
	ErrAwaiting = errors.New("the zone awaits its first transfer")
	// ErrExpired means that the zone's primaries have been silent for too long.
	ErrExpired = errors.New("the zone has expired")
	// ErrNoOutcome means that the position's outcome is not known here: not applied yet, or too long ago.
	ErrNoOutcome = errors.New("no outcome is kept for this position")
	// ErrNoRollback means that history does not reach back to the serial.
	ErrNoRollback = errors.New("history does not reach back to that serial")
)

// Store is all partitions of a node, the memory for their hot zones, and the index of their apexes.
// Its methods may be used by many goroutines at once.
type Store struct {
	opts   Options
	guard  *diskGuard
	hot    *hotSet
	loader *loader
	turns  turns

	tooLarge sync.Map // slots of zones of which sayTooLarge has spoken

	readWhole uint64 // zones with at most so many RRsets are read whole: smallRRsets, but for tests
	readings  atomic.Uint64
	verifying chan struct{} // capacity 1: held by the partition whose tables are being read through

	live atomic.Pointer[map[int32]*Partition] // a copy of partitions, for those who must not wait

	mu         sync.RWMutex // guards what follows; held over nothing that waits
	partitions map[int32]*Partition
	opening    map[int32]bool
	closed     bool
}

const memTableDefault = 16 << 20

// New makes a store over opts.Dir, without opening any partition. It makes the directory and the ballast.
func New(opts Options) (*Store, error) {
	opts.HotBytes = cmp.Or(opts.HotBytes, 256<<20)
	opts.HistoryChanges = cmp.Or(opts.HistoryChanges, 1000)
	opts.HistoryAge = cmp.Or(opts.HistoryAge, 90*24*time.Hour)
	opts.OutcomeAge = cmp.Or(opts.OutcomeAge, 7*24*time.Hour)
	opts.Ballast = cmp.Or(opts.Ballast, ballastDefault)
	opts.MemTableSize = max(opts.MemTableSize, memTableDefault)
	if opts.DiskFree == nil {
		opts.DiskFree = diskFree
	}
	if err := os.MkdirAll(filepath.Join(opts.Dir, "partitions"), 0o750); err != nil {
		return nil, err
	}
	// What a crash has left of a restore.
	left, err := filepath.Glob(filepath.Join(opts.Dir, "partitions", "*"+restoreSuffix))
	if err != nil {
		return nil, err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	s := &Store{
		opts: opts,
		guard: &diskGuard{
			dir: opts.Dir, reserve: opts.Reserve, ballast: opts.Ballast, free: opts.DiskFree,
			floor: uint64(6 * opts.MemTableSize), // the logs of two memtables, a value log, and room to write them out
		},
		hot:        newHotSet(opts.HotBytes),
		turns:      newTurns(),
		readWhole:  smallRRsets,
		verifying:  make(chan struct{}, 1),
		partitions: make(map[int32]*Partition),
		opening:    make(map[int32]bool),
	}
	s.copyLive()
	if err := s.guard.placeBallast(); err != nil {
		return nil, err
	}
	s.loader = newLoader(s)
	return s, nil
}

// Open opens a partition, making it when its directory does not exist. The topic's id and the partition's
// number must be those that it was made with (ErrOtherTopic); a format that this version does not know is
// ErrNewer; too little free space to open it, ErrDiskReserve. When Open returns, its zones are found by Find.
func (s *Store) Open(partition int32, topicID [16]byte) (*Partition, error) {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return nil, ErrClosed
	case s.partitions[partition] != nil || s.opening[partition]:
		s.mu.Unlock()
		return nil, errors.New("the partition is open already")
	}
	s.opening[partition] = true
	s.mu.Unlock()

	p, err := s.openPartition(partition, topicID)

	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.opening, partition)
	if err == nil && s.closed {
		err = errors.Join(ErrClosed, p.db.Close()) // meanwhile
	}
	if err != nil {
		return nil, err
	}
	s.partitions[partition] = p
	s.copyLive()
	p.start()
	return p, nil
}

// forget takes a closed partition out.
func (s *Store) forget(p *Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partitions[p.number] == p {
		delete(s.partitions, p.number)
		s.copyLive()
	}
}

// copyLive makes live what partitions is; s.mu is held, or s not shared yet.
func (s *Store) copyLive() {
	live := maps.Clone(s.partitions)
	s.live.Store(&live)
}

// Has reports whether the partition's files are there, open or not.
func (s *Store) Has(partition int32) bool {
	_, err := os.Stat(filepath.Join(partitionDir(s.opts.Dir, partition), metaFile))
	return err == nil
}

// WriteBuffers returns the memory, in octets, that the open partitions' databases have taken for what they write
// next. Little of it has been touched.
func (s *Store) WriteBuffers() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	// Badger adds the room of one transaction, and of the skip list's nodes, to the memtable: a quarter, measured.
	return int64(len(s.partitions)) * (s.opts.MemTableSize + s.opts.MemTableSize/4)
}

// Partition returns an open partition; nil when it is not open. It waits for nothing.
func (s *Store) Partition(n int32) *Partition { return (*s.live.Load())[n] }

// Partitions returns the open partitions, by number.
func (s *Store) Partitions() []*Partition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*Partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Partition) int { return cmp.Compare(a.number, b.number) })
	return all
}

// partitionOf returns the open partition that has a zone; nil when the zone is not hosted, ErrNotOpen when its
// partition is not open.
func (s *Store) partitionOf(apex zones.Name) (*Partition, error) {
	v, ok := s.hot.index.Get(apex)
	if !ok {
		return nil, nil
	}
	p := s.Partition(v.Partition)
	if p == nil {
		return nil, ErrNotOpen
	}
	return p, nil
}

// Close closes all partitions, and stops what runs in the background. It waits for readings to be closed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.loader.close()
	var errs []error
	for _, p := range s.Partitions() {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) alarm(a Alarm) {
	if s.opts.Alarm != nil {
		s.opts.Alarm(a)
	}
}

// Hosted returns the number of zones in the index.
func (s *Store) Hosted() int { return s.hot.index.Len() }

// Stats are counters and sizes for metrics.
type Stats struct {
	Zones              int
	IndexBytes         int
	HotZones           int
	HotBytes, HotLimit int64
	ColdFinds          uint64 // finds that went to Badger
	Readings           uint64 // positions opened for reading; nothing else reads Badger but applying
	Loads, Evictions   uint64 // zones brought into memory, and put out of it
}

// Stats returns the counters as they are now.
func (s *Store) Stats() Stats {
	return Stats{
		Zones: s.hot.index.Len(), IndexBytes: s.hot.index.Bytes(),
		HotZones: int(s.hot.count.Load()), HotBytes: s.hot.bytes.Load(), HotLimit: s.hot.limit,
		ColdFinds: s.hot.cold.Load(), Readings: s.readings.Load(), Loads: s.hot.loads.Load(), Evictions: s.hot.evictions.Load(),
	}
}
