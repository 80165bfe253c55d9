package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// Partition is one partition of the log on disk. One goroutine at a time applies (others wait); any
// number read.
type Partition struct {
	store   *Store
	number  int32
	topicID [16]byte
	db      *badger.DB
	log     zerolog.Logger

	unread []tableFile // at the opening; until start

	maxEntries int // of a transaction
	maxBytes   int64

	// published is what readers see: the last committed state.
	published  atomic.Pointer[publication]
	settled    atomic.Int64 // its offset, once the zones in memory have reached it, too
	suspicious atomic.Pointer[error]
	reached    atomic.Bool  // CaughtUp was called: what it does not have is not hosted
	verified   atomic.Int64 // offset after which changes are kept for increments; −1 for none
	keptOctets atomic.Int64 // written since then, by this process

	closing       chan struct{} // closed by Close
	wakeCollector chan struct{}
	background    sync.WaitGroup

	applyMu  sync.Mutex // held by the one writer; taken before viewMu
	poisoned error
	expiry   expiryCursor
	trim     trimCursor

	keepMu      sync.Mutex // held while KEPT changes; taken before readMu
	keptRecords int64      // keptRecords, but for tests

	viewMu sync.Mutex   // held while publishing, and while installing a zone in memory; taken before readMu
	before []zones.Name // what it had when it was open before, until CaughtUp; by viewMu

	readMu  sync.Mutex
	readers map[uint64]int // open readers of each timestamp
	savings map[*Saving]struct{}
	idle    sync.Cond // no reader is open; on readMu
	closed  bool
}

// publication is a committed state, immutable.
type publication struct{ progress }

// format is the version of the disk format: what keys.go and the values say.
const format = 1

// meta is the file META of a partition's directory: what must be known before its database is opened.
type meta struct {
	Format    int    `json:"format"`
	Partition int32  `json:"partition"`
	TopicID   string `json:"topic_id"`
	// Sum is the CRC-32C, in hex, of the text without it. Programs before it wrote none.
	Sum string `json:"crc32c,omitempty"`
}

const (
	metaFile    = "META"
	badgerDir   = "badger"
	keyRegistry = "KEYREGISTRY" // Badger's
)

func partitionDir(dir string, n int32) string {
	return filepath.Join(dir, "partitions", fmt.Sprintf("%03d", n))
}

func (m meta) text() ([]byte, error) {
	b, err := json.Marshal(m)
	return append(b, '\n'), err
}

// summed returns m with its sum.
func (m meta) summed() (meta, error) {
	m.Sum = ""
	b, err := m.text()
	m.Sum = fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return m, err
}

func writeMeta(dir string, partition int32, topicID [16]byte) error {
	m, err := meta{Format: format, Partition: partition, TopicID: hex.EncodeToString(topicID[:])}.summed()
	if err != nil {
		return err
	}
	b, err := m.text()
	if err != nil {
		return err
	}
	return writeFileSynced(filepath.Join(dir, metaFile), b)
}

// readMeta reads and checks META. A missing one is fs.ErrNotExist.
func readMeta(dir string) (m meta, topicID [16]byte, err error) {
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return m, topicID, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, topicID, fmt.Errorf("%s: %w: %w", metaFile, err, ErrCorrupt)
	}
	// Damage may leave JSON that says something else, another topic or format among it.
	if summed, err := m.summed(); err != nil || m.Sum != "" && m != summed {
		return m, topicID, fmt.Errorf("%s does not have its checksum: %w", metaFile, ErrCorrupt)
	}
	if m.Format > format {
		return m, topicID, fmt.Errorf("disk format %d, this program knows %d: %w", m.Format, format, ErrNewer)
	}
	// Only what was written is read.
	if written, err := m.text(); err != nil || !bytes.Equal(b, written) {
		return m, topicID, fmt.Errorf("%s is not what was written: %w", metaFile, ErrCorrupt)
	}
	id, err := hex.DecodeString(m.TopicID)
	if err != nil || len(id) != len(topicID) {
		return m, topicID, fmt.Errorf("%s: topic id %q: %w", metaFile, m.TopicID, ErrCorrupt)
	}
	copy(topicID[:], id)
	return m, topicID, nil
}

// blockCache is what Badger keeps of a partition's blocks after decompressing them, in octets. Queries are served from hot zones, and what
// they read of a cold one is in one block or two; this is for what changes read and write time after time.
const blockCache = 512 << 10

// badgerOptions are lean, since a node has many partitions. A transaction is at most 15% of the memtable, which
// must hold the largest record (minTransaction). Blocks are compressed: small zones are much alike, and take less than half.
func badgerOptions(dir string, memTable int64, log zerolog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(badgerLog{log}).
		WithSyncWrites(true).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(math.MaxInt32).
		WithMemTableSize(memTable).
		WithNumMemtables(1).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithNumCompactors(2).
		WithCompression(options.Snappy).
		WithBlockCacheSize(blockCache).
		WithIndexCacheSize(0).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(16 << 20).
		WithMetricsEnabled(false).
		WithNumGoroutines(1)
}

// What one record of format level 1 can need of a transaction: the octets it touches, in keys (where an octet of
// a name may take two) and in history, and what it writes besides.
// valueThreshold is from how many octets on a value is in Badger's value log instead of its tables.
const valueThreshold = 1 << 20

const (
	minTransaction        = 2 << 20
	minTransactionEntries = 4096
)

// damageTexts are of Badger's errors that speak of damage, which it does not wrap; others may pass.
var damageTexts = []string{"checksum mismatch", "Invalid datakey id", "bad magic", "failed to decode compressed data"}

// openDatabase opens the database in dir, and returns which of its tables are yet to be read through. Badger panics on some kinds
// of damage.
func openDatabase(dir string, memTable int64, log zerolog.Logger) (db *badger.DB, unread []tableFile, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("badger panicked: %v: %w", r, ErrCorrupt)
		}
	}()
	if err := removeUnbegunLogs(dir); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	// Nothing is encrypted, so it has no keys, and Badger makes it anew; damaged, it would only keep the database closed.
	if err := os.Remove(filepath.Join(dir, keyRegistry)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	opts := badgerOptions(dir, memTable, log)
	if unread, err = verifyTables(dir, opts); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	db, err = badger.OpenManaged(opts)
	if err != nil {
		err = fmt.Errorf("open %s: %w", dir, err)
		for _, text := range damageTexts {
			if strings.Contains(err.Error(), text) {
				return nil, nil, fmt.Errorf("%w: %w", err, ErrCorrupt)
			}
		}
		return nil, nil, err
	}
	if db.MaxBatchSize() < minTransaction || db.MaxBatchCount() < minTransactionEntries {
		return nil, nil, errors.Join(errors.New("the memtable is too small for the largest record"), db.Close())
	}
	return db, unread, nil
}

// removeUnbegunLogs removes memtable logs without content: a crash between their creation and their first octet
// leaves one, which Badger then refuses to open.
func removeUnbegunLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		info, err := os.Stat(log)
		if err != nil {
			return err
		}
		if info.Size() > 0 {
			continue
		}
		if err := os.Remove(log); err != nil {
			return err
		}
	}
	return nil
}

// openPartition opens what is in dir, or makes it.
func (s *Store) openPartition(number int32, topicID [16]byte) (*Partition, error) {
	dir := partitionDir(s.opts.Dir, number)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if err := s.guard.mayOpen(); err != nil {
		return nil, err
	}
	if err := returned(dir); err != nil {
		return nil, err
	}
	m, id, err := readMeta(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		// Only the first opening comes here: META is written before the database is made.
		if _, err := os.Stat(filepath.Join(dir, badgerDir)); err == nil {
			return nil, fmt.Errorf("%s has a database but no %s: %w", dir, metaFile, ErrCorrupt)
		}
		if err := errors.Join(writeMeta(dir, number, topicID), syncDir(filepath.Dir(dir))); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case m.Partition != number || id != topicID:
		return nil, fmt.Errorf("%s is partition %d of topic %x: %w", dir, m.Partition, id, ErrOtherTopic)
	}
	p := &Partition{
		store: s, number: number, topicID: topicID,
		log:           s.opts.Logger.With().Int32("partition", number).Logger(),
		closing:       make(chan struct{}),
		wakeCollector: make(chan struct{}, 1),
		readers:       make(map[uint64]int),
		savings:       make(map[*Saving]struct{}),
		keptRecords:   keptRecords,
	}
	p.idle.L = &p.readMu
	p.verified.Store(keptNone)
	if p.db, p.unread, err = openDatabase(filepath.Join(dir, badgerDir), s.opts.MemTableSize, p.log); err != nil {
		return nil, err
	}
	// Badger takes what is below its limits; the rest is for the applied offset and the state.
	p.maxEntries = int(p.db.MaxBatchCount()) - 8
	p.maxBytes = p.db.MaxBatchSize() - 4096
	if err := p.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open partition %d: %w", number, err), p.db.Close())
	}
	kept, err := p.readKept()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open partition %d: %w", number, err), p.db.Close())
	}
	p.verified.Store(kept)
	return p, nil
}

// recover reads how far the partition has come, and puts its zones into the index.
func (p *Partition) recover() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("badger panicked: %v: %w", r, ErrCorrupt)
		}
	}()
	r := openReader(p.db, math.MaxUint64, nil) // nobody writes yet
	defer r.close()
	g, err := readProgress(r)
	if err != nil {
		return err
	}
	p.published.Store(&publication{g})
	p.settled.Store(g.offset)
	if p.before = p.store.hot.zonesOf(p); len(p.before) == 0 {
		p.store.hot.index.Reserve(int(g.zones))
	}
	var count int64
	err = r.scan([]byte{kindZone}, []byte{kindZone + 1}, func(e entry) (bool, error) {
		apex, err := apexOfKey(e.key)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		p.store.hot.create(p, apex)
		count++
		return true, nil
	})
	if err != nil {
		return err
	}
	if count != g.zones {
		return fmt.Errorf("%d zones where %d were counted: %w", count, g.zones, ErrCorrupt)
	}
	return nil
}

// CaughtUp says that the partition is as far as it was when it was open before in this store, and as the rest of the
// namespace. Until then the zones that it had, or that others say it has, are Unavailable where it does not have them: they may
// only not be there yet.
func (p *Partition) CaughtUp() {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	p.reached.Store(true)
	before := p.before
	p.before = nil
	if len(before) == 0 {
		return
	}
	r, err := p.begin()
	if err != nil {
		return
	}
	defer r.end()
	for _, apex := range before {
		_, ok, err := r.get(zoneKey(nil, apex))
		if err != nil {
			p.suspect(apex, err) // it stays unavailable
			continue
		}
		if !ok {
			p.store.hot.remove(apex)
		}
	}
}

// start begins what runs in the background.
func (p *Partition) start() {
	if len(p.unread) > 0 {
		p.background.Add(1)
		go p.verifyRest(p.unread, verifyAfter)
		p.unread = nil
	}
	p.background.Add(1)
	go p.collector()
	p.wakeCollector <- struct{}{} // a crash may have left a dead generation
}

// Number returns the partition's number.
func (p *Partition) Number() int32 { return p.number }

// TopicID returns the id of the topic that the partition belongs to.
func (p *Partition) TopicID() [16]byte { return p.topicID }

// Applied returns how far the partition has come: what readers see. It may be called at any time.
func (p *Partition) Applied() Applied {
	return p.published.Load().applied()
}

// Settled returns the offset that every Find from now on is of, or of a later one; −1 for none.
func (p *Partition) Settled() int64 { return p.settled.Load() }

func (g progress) applied() Applied {
	return Applied{Offset: g.offset, LeaderEpoch: g.epoch, RecordHash: g.hash, Time: fromMillis(g.time), Level: g.level}
}

// Zones returns the number of zones in the partition.
func (p *Partition) Zones() int { return int(p.published.Load().zones) }

// TableOctets is what the partition's tables take on disk. What was written last is in none yet.
func (p *Partition) TableOctets() (octets int64) {
	r, err := p.begin() // so that it is not closed meanwhile
	if err != nil {
		return 0
	}
	defer r.end()
	for _, t := range p.db.Tables() {
		octets += int64(t.OnDiskSize)
	}
	return octets
}

// Suspicious returns the first contradiction that was found in the partition's data; nil when none was.
func (p *Partition) Suspicious() error {
	if err := p.suspicious.Load(); err != nil {
		return *err
	}
	return nil
}

// suspect passes err on. When it is a contradiction, the partition is marked, and the first time an alarm raised.
func (p *Partition) suspect(zone zones.Name, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	if p.suspicious.CompareAndSwap(nil, &err) {
		p.log.Error().Err(err).Str("zone", zone.String()).Msg("stored data contradict themselves")
		p.store.alarm(Alarm{Partition: p.number, Zone: zone, Err: err})
	}
	return err
}

// session is a reader of the published state, counted until end.
type session struct {
	*reader
	p  *Partition
	at *publication
}

// begin opens a reader at the published position. Versions that it needs are kept until end.
func (p *Partition) begin() (session, error) {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if p.closed {
		return session{}, ErrClosed
	}
	p.store.readings.Add(1)
	at := p.published.Load()
	p.readers[at.ts()]++
	return session{reader: openReader(p.db, at.ts(), nil), p: p, at: at}, nil
}

func (r session) end() {
	r.close()
	p := r.p
	p.readMu.Lock()
	defer p.readMu.Unlock()
	ts := r.at.ts()
	if p.readers[ts]--; p.readers[ts] == 0 {
		delete(p.readers, ts)
	}
	if len(p.readers) == 0 {
		p.idle.Broadcast()
	}
}

// discard tells Badger which versions nobody needs any more.
func (p *Partition) discard() {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	if !p.closed {
		p.db.SetDiscardTs(p.discardTs())
	}
}

// discardTs is up to where versions that have a later one may go: the published state, the oldest open reader, the
// last verified snapshot, which increments may follow, or one that is being made. The caller holds readMu.
func (p *Partition) discardTs() uint64 {
	ts := p.published.Load().ts()
	for open := range p.readers {
		ts = min(ts, open)
	}
	for saving := range p.savings {
		ts = min(ts, saving.at.ts())
	}
	if verified := p.verified.Load(); verified >= 0 {
		ts = min(ts, commitTs(verified))
	}
	return ts
}

// isClosing reports whether Close was called.
func (p *Partition) isClosing() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

// Close stops what runs in the background, waits for readers, and closes the database. The partition's zones
// are then Unavailable, until it is opened again.
func (p *Partition) Close() error {
	p.readMu.Lock()
	if p.closed {
		p.readMu.Unlock()
		return nil
	}
	p.closed = true
	p.readMu.Unlock()
	close(p.closing)
	p.background.Wait()
	defer p.store.forget(p)

	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.poisoned == nil {
		p.poisoned = ErrClosed
	}
	p.viewMu.Lock()
	p.store.hot.closePartition(p)
	p.viewMu.Unlock()
	p.readMu.Lock()
	for len(p.readers) > 0 {
		p.idle.Wait()
	}
	p.readMu.Unlock()
	if err := p.db.Close(); err != nil {
		return fmt.Errorf("close partition %d: %w", p.number, err)
	}
	return nil
}

// badgerLog passes what Badger has to say on to the partition's log.
type badgerLog struct{ log zerolog.Logger }

func (l badgerLog) Errorf(format string, args ...any) {
	l.log.Error().Str("badger", fmt.Sprintf(format, args...)).Msg("database")
}

func (l badgerLog) Warningf(format string, args ...any) {
	l.log.Warn().Str("badger", fmt.Sprintf(format, args...)).Msg("database")
}
func (badgerLog) Infof(string, ...any)  {}
func (badgerLog) Debugf(string, ...any) {}

// writeFileSynced writes a file so that after a crash it is whole or not there, and syncs its directory.
func writeFileSynced(path string, content []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
