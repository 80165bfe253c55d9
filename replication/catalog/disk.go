package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// The database has, beside the progress, an entry for each apex (numbers are big-endian):
//
//	key    0x01 ‖ partition (u32) ‖ apex in wire form
//	value  state (u8) ‖ offset (u64) ‖ reading (u32)
//
//	key    0x00
//	value  version (u8) ‖ log id (16) ‖ topic id (16) ‖ next offset (u64) ‖ reading (u32) ‖ flags (u8): 1 whole, 2 refill
//
// Deleted zones stay, so that an older entry that says otherwise is known to be older. An entry's reading is the last in which
// it was in the topic.
const (
	kindProgress = 0
	kindEntry    = 1

	diskVersion  = 1
	progressSize = 1 + 16 + 16 + 8 + 4 + 1
	valueSize    = 1 + 8 + 4

	flagWhole  = 1
	flagRefill = 2

	// page is how many entries are read at once: nobody who is given them keeps the files from being replaced.
	page = 4096
)

var errDisk = fmt.Errorf("%w contradicts itself", errOwnFiles)

// progress is how far the topic has been read.
type progress struct {
	log, topic [16]byte
	next       int64
	reading    uint32 // how often reading began at the start
	whole      bool   // it has once been read to the end that it had
	refill     bool   // what an earlier reading had may be missing in the topic
}

// known is an entry on disk.
type known struct {
	apex      zones.Name
	partition int32
	Entry
	reading uint32
}

// open opens the files, and reads how far they have come.
func (c *Catalog) open() (err error) {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	return c.openFiles()
}

// renew begins with new files.
func (c *Catalog) renew() error {
	c.filesMu.Lock()
	defer c.filesMu.Unlock()
	if c.db != nil {
		if err := c.db.Close(); err != nil {
			c.log.Warn().Err(err).Msg("closing the damaged copy of the catalog")
		}
		c.db = nil
	}
	if err := os.RemoveAll(c.opts.Dir); err != nil {
		return err
	}
	return c.openFiles()
}

// openFiles opens the database; filesMu is held alone. Damage may end the process, as the database reads its tables in goroutines of
// its own. What it is about to read is therefore noted in a file; where that is found, the last attempt has not returned.
func (c *Catalog) openFiles() error {
	if err := c.opts.RoomToOpen(); err != nil {
		// A database under memory-mapped files would end the process.
		c.log.Warn().Err(err).Msg("no room for the copy of the catalog: until the next start it is in memory, and the topic is read anew")
		db, err := openDatabase("", c.log)
		if err != nil {
			return err
		}
		c.use(db, progress{log: c.opts.LogID})
		c.inMemory = true
		return nil
	}
	attempt := c.opts.Dir + ".opening"
	if _, err := os.Stat(attempt); err == nil {
		c.log.Warn().Msg("opening the copy of the catalog did not end last time; the topic is read anew")
		if err := os.RemoveAll(c.opts.Dir); err != nil {
			return err
		}
	}
	if err := os.WriteFile(attempt, nil, 0o600); err != nil {
		return err
	}
	db, err := openDatabase(c.opts.Dir, c.log)
	if err := errors.Join(err, os.Remove(attempt)); err != nil {
		return err
	}
	state, err := readProgress(db)
	if errors.Is(err, badger.ErrKeyNotFound) { // new, or from before anything was read
		state, err = progress{log: c.opts.LogID}, nil
	}
	if err == nil && state.log != c.opts.LogID {
		err = errors.New("it is of another log")
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	c.use(db, state)
	return nil
}

// use takes a database; filesMu is held alone.
func (c *Catalog) use(db *badger.DB, state progress) {
	c.db, c.inMemory = db, false
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
}

// openDatabase opens what is in a directory; without one, the database is in memory.
func openDatabase(dir string, log zerolog.Logger) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("badger panicked: %v", r)
		}
	}()
	return badger.Open(badger.DefaultOptions(dir).
		WithInMemory(dir == "").
		WithLogger(badgerLog{log}).
		WithSyncWrites(true).
		WithDetectConflicts(false). // there is one writer
		WithNumVersionsToKeep(1).
		WithMemTableSize(8 << 20).
		WithNumMemtables(2).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithValueThreshold(1 << 10). // all values are shorter, so that the value log stays empty
		WithValueLogFileSize(16 << 20).
		WithChecksumVerificationMode(options.OnTableRead).
		WithMetricsEnabled(false).
		WithNumGoroutines(1))
}

// view reads from the files.
func (c *Catalog) view(read func(*badger.Txn) error) error {
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	if c.db == nil {
		return fmt.Errorf("%w: there are no files", errDisk)
	}
	return ownFiles(c.db.View(read))
}

// update writes to the files, in one synced transaction. Only Run calls it.
func (c *Catalog) update(write func(*badger.Txn) error) error {
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	if c.db == nil {
		return fmt.Errorf("%w: there are no files", errDisk)
	}
	if !c.inMemory {
		if err := c.opts.Room(); err != nil {
			return ownFiles(err)
		}
	}
	return ownFiles(c.db.Update(write))
}

func ownFiles(err error) error {
	if err == nil || errors.Is(err, errOwnFiles) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", errOwnFiles, err)
}

func entryKey(partition int32, apex zones.Name) []byte {
	key := make([]byte, 0, 5+len(apex))
	key = append(key, kindEntry)
	key = binary.BigEndian.AppendUint32(key, uint32(partition))
	return append(key, apex...)
}

func (k known) pack() []byte {
	v := make([]byte, 0, valueSize)
	v = append(v, stateOf(k.Entry))
	v = binary.BigEndian.AppendUint64(v, uint64(k.Offset))
	return binary.BigEndian.AppendUint32(v, k.reading)
}

// parse reads a key and its value into k.
func (k *known) parse(key, v []byte) error {
	if len(key) < 6 || len(v) != valueSize || v[0] > stateHosted {
		return errDisk
	}
	apex, n, err := zones.NameFromWire(key[5:])
	if err != nil || n != len(key)-5 {
		return errDisk
	}
	*k = known{
		apex: apex, partition: int32(binary.BigEndian.Uint32(key[1:])),
		Entry:   Entry{Hosted: v[0] == stateHosted, Offset: int64(binary.BigEndian.Uint64(v[1:]))},
		reading: binary.BigEndian.Uint32(v[9:]),
	}
	return nil
}

func readProgress(db *badger.DB) (p progress, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte{kindProgress})
		if err != nil {
			return err
		}
		return item.Value(p.parse)
	})
	return p, err
}

func (p *progress) parse(v []byte) error {
	if len(v) != progressSize || v[0] != diskVersion {
		return errDisk
	}
	copy(p.log[:], v[1:])
	copy(p.topic[:], v[17:])
	p.next, p.reading = int64(binary.BigEndian.Uint64(v[33:])), binary.BigEndian.Uint32(v[41:])
	p.whole, p.refill = v[45]&flagWhole != 0, v[45]&flagRefill != 0
	return nil
}

func setProgress(txn *badger.Txn, p progress) error {
	v := make([]byte, 0, progressSize)
	v = append(v, diskVersion)
	v = append(append(v, p.log[:]...), p.topic[:]...)
	v = binary.BigEndian.AppendUint64(v, uint64(p.next))
	v = binary.BigEndian.AppendUint32(v, p.reading)
	var flags byte
	if p.whole {
		flags |= flagWhole
	}
	if p.refill {
		flags |= flagRefill
	}
	return txn.Set([]byte{kindProgress}, append(v, flags))
}

func getEntry(txn *badger.Txn, key []byte) (k known, ok bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return k, false, nil
	}
	if err != nil {
		return k, false, err
	}
	err = item.Value(func(v []byte) error { return k.parse(key, v) })
	return k, err == nil, err
}

func (c *Catalog) get(apex zones.Name) (k known, ok bool, err error) {
	err = c.view(func(txn *badger.Txn) error {
		k, ok, err = getEntry(txn, entryKey(c.opts.PartitionOf(apex), apex))
		return err
	})
	return k, ok, err
}

// all yields the entries whose keys have a prefix. What changes meanwhile may be seen or not. The names are the caller's.
func (c *Catalog) all(ctx context.Context, prefix []byte) iter.Seq2[known, error] {
	return func(yield func(known, error) bool) {
		from := prefix
		entries := make([]known, 0, page)
		for {
			var err error
			if entries, err = c.some(prefix, from, entries[:0]); err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(known{}, err)
				return
			}
			for _, k := range entries {
				if !yield(k, nil) {
					return
				}
			}
			if len(entries) < page {
				return
			}
			last := entries[page-1]
			from = append(entryKey(last.partition, last.apex), 0)
		}
	}
}

// some appends a page of entries, from a key on.
func (c *Catalog) some(prefix, from []byte, entries []known) ([]known, error) {
	err := c.view(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix, o.PrefetchValues = prefix, false
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Seek(from); it.Valid() && len(entries) < page; it.Next() {
			var k known
			item := it.Item()
			if err := item.Value(func(v []byte) error { return k.parse(item.Key(), v) }); err != nil {
				return err
			}
			entries = append(entries, k)
		}
		return nil
	})
	return entries, err
}

// badgerLog passes on what the database warns of.
type badgerLog struct{ log zerolog.Logger }

func (l badgerLog) Errorf(format string, args ...any) {
	l.log.Error().Str("badger", fmt.Sprintf(format, args...)).Msg("database of the catalog")
}

func (l badgerLog) Warningf(format string, args ...any) {
	l.log.Warn().Str("badger", fmt.Sprintf(format, args...)).Msg("database of the catalog")
}
func (badgerLog) Infof(string, ...any)  {}
func (badgerLog) Debugf(string, ...any) {}
