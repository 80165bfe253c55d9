package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// The database has, beside the progress, an entry for each apex:
//
//	key    0x01 ‖ partition (u32) ‖ apex in wire form     value  state (u8) ‖ offset (u64)
//	key    0x00                                           value  version (u8) ‖ topic id (16) ‖ next offset (u64) ‖ whole (u8)
//
// Deleted zones stay, so that an older entry that says otherwise is known to be older.
const (
	kindProgress = 0
	kindEntry    = 1

	diskVersion  = 1
	progressSize = 1 + 16 + 8 + 1
	valueSize    = 1 + 8
	// maxBatch bounds a transaction.
	maxBatch = 5000
)

var errDisk = errors.New("the files of the catalog contradict themselves")

// progress is how far the topic has been read.
type progress struct {
	topic [16]byte
	next  int64
	whole bool // it has once been read to the end that it had
	// loaded: the index has what is on disk. It is not kept.
	loaded bool
}

func openDatabase(dir string, log zerolog.Logger) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("badger panicked: %v", r)
		}
	}()
	return badger.Open(badger.DefaultOptions(dir).
		WithLogger(badgerLog{log}).
		WithSyncWrites(true).
		WithNumVersionsToKeep(1).
		WithMemTableSize(8 << 20).
		WithNumMemtables(1).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithValueThreshold(1 << 10).
		WithValueLogFileSize(16 << 20).
		WithChecksumVerificationMode(options.OnTableRead).
		WithMetricsEnabled(false).
		WithNumGoroutines(1))
}

func entryKey(partition int32, apex zones.Name) []byte {
	key := make([]byte, 0, 5+len(apex))
	key = append(key, kindEntry)
	key = binary.BigEndian.AppendUint32(key, uint32(partition))
	return append(key, apex...)
}

func packEntry(e Entry) []byte {
	return binary.BigEndian.AppendUint64([]byte{stateOf(e)}, uint64(e.Offset))
}

func parseEntry(v []byte) (Entry, error) {
	if len(v) != valueSize || v[0] > stateHosted {
		return Entry{}, errDisk
	}
	return Entry{Hosted: v[0] == stateHosted, Offset: int64(binary.BigEndian.Uint64(v[1:]))}, nil
}

func (c *Catalog) readProgress() (p progress, err error) {
	err = c.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte{kindProgress})
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if len(v) != progressSize || v[0] != diskVersion {
				return errDisk
			}
			copy(p.topic[:], v[1:])
			p.next, p.whole = int64(binary.BigEndian.Uint64(v[17:])), v[25] == 1
			return nil
		})
	})
	return p, err
}

func (p progress) pack() []byte {
	v := append([]byte{diskVersion}, p.topic[:]...)
	v = binary.BigEndian.AppendUint64(v, uint64(p.next))
	if p.whole {
		return append(v, 1)
	}
	return append(v, 0)
}

// writeProgress writes the progress alone; c.mu is held.
func (c *Catalog) writeProgress() error {
	return c.db.Update(func(txn *badger.Txn) error { return txn.Set([]byte{kindProgress}, c.state.pack()) })
}

// beginTopic makes the topic the one that is read, from its start when it was another. What that one said stays: it speaks of the
// same partitions.
func (c *Catalog) beginTopic(topic [16]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.topic == topic {
		return
	}
	c.state.topic, c.state.next = topic, 0
	if err := c.writeProgress(); err != nil {
		c.log.Warn().Err(err).Msg("the copy of the catalog can't be written")
	}
}

// startAnew has the topic read from its start. What is known stays: the entries' positions say which are newer.
func (c *Catalog) startAnew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.next = 0
	if err := c.writeProgress(); err != nil {
		c.log.Warn().Err(err).Msg("the copy of the catalog can't be written")
	}
}

// forget removes everything, after damage.
func (c *Catalog) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.db.DropAll(); err != nil {
		c.log.Error().Err(err).Msg("the copy of the catalog can't be removed")
	}
	c.state = progress{loaded: true}
}

// apply takes over records: those that are newer than what is known, in transactions with the offset that they bring reading to.
func (c *Catalog) apply(topic [16]byte, records []Record, next int64) error {
	for len(records) > 0 {
		n := min(len(records), maxBatch)
		upTo := next
		if n < len(records) {
			upTo = records[n-1].Offset + 1
		}
		if err := c.applyBatch(topic, records[:n], upTo); err != nil {
			return err
		}
		records = records[n:]
	}
	c.mu.Lock()
	behind := c.state.next < next
	c.mu.Unlock()
	if behind {
		return c.applyBatch(topic, nil, next)
	}
	return nil
}

// taken is an entry that is newer than what was known.
type taken struct {
	apex      zones.Name
	partition int32
	Entry
}

func (c *Catalog) applyBatch(topic [16]byte, records []Record, next int64) error {
	newest := make(map[zones.Name]taken, len(records))
	for _, r := range records {
		if r.Value == nil {
			continue // removed from the topic, long after the zone was
		}
		apex, partition, e, err := parseRecord(r)
		if err != nil || partition != c.opts.PartitionOf(apex) {
			c.ignored.Add(1)
			continue
		}
		if known, ok := newest[apex]; !ok || newer(e, known.Entry) {
			newest[apex] = taken{apex, partition, e}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.state
	state.topic, state.next = topic, next
	err := c.db.Update(func(txn *badger.Txn) error {
		for apex, t := range newest {
			key := entryKey(t.partition, apex)
			known, ok, err := get(txn, key)
			if err != nil {
				return err
			}
			if ok && !newer(t.Entry, known) {
				delete(newest, apex)
				continue
			}
			if err := txn.Set(key, packEntry(t.Entry)); err != nil {
				return err
			}
		}
		return txn.Set([]byte{kindProgress}, state.pack())
	})
	if err != nil {
		return fmt.Errorf("catalog at %d: %w", next, err)
	}
	c.state = state
	for apex, t := range newest {
		if t.Hosted {
			c.opts.Index.PutElsewhere(apex, t.partition)
		} else {
			c.opts.Index.RemoveElsewhere(apex)
		}
	}
	c.tell()
	return nil
}

// newer reports whether an entry says more than what is known. At the same position both say the same, unless one is forged.
func newer(e, known Entry) bool { return e.Offset > known.Offset }

func get(txn *badger.Txn, key []byte) (e Entry, ok bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	err = item.Value(func(v []byte) error {
		e, err = parseEntry(v)
		return err
	})
	return e, err == nil, err
}

// Get returns what is said of an apex; ok is false when nothing is.
func (c *Catalog) Get(apex zones.Name) (e Entry, ok bool, err error) {
	err = c.db.View(func(txn *badger.Txn) error {
		e, ok, err = get(txn, entryKey(c.opts.PartitionOf(apex), apex))
		return err
	})
	return e, ok, err
}

// load gives the index everything that is hosted.
func (c *Catalog) load(ctx context.Context) error {
	for t, err := range c.all(ctx, []byte{kindEntry}) {
		if err != nil {
			return err
		}
		if t.Hosted {
			c.opts.Index.PutElsewhere(t.apex, t.partition)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.loaded = true
	c.tell()
	return nil
}

// Hosted yields the zones of a partition, as the catalog has them. The names are the caller's.
func (c *Catalog) Hosted(ctx context.Context, partition int32) iter.Seq2[zones.Name, error] {
	return func(yield func(zones.Name, error) bool) {
		for t, err := range c.all(ctx, entryKey(partition, "")) {
			if err != nil {
				yield("", err)
				return
			}
			if t.Hosted && !yield(t.apex, nil) {
				return
			}
		}
	}
}

// all yields the entries whose keys have a prefix.
func (c *Catalog) all(ctx context.Context, prefix []byte) iter.Seq2[taken, error] {
	return func(yield func(taken, error) bool) {
		err := c.db.View(func(txn *badger.Txn) error {
			o := badger.DefaultIteratorOptions
			o.Prefix, o.PrefetchValues = prefix, false
			it := txn.NewIterator(o)
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				if err := ctx.Err(); err != nil {
					return err
				}
				t, err := entryOf(it.Item())
				if err != nil {
					return err
				}
				if !yield(t, nil) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(taken{}, err)
		}
	}
}

func entryOf(item *badger.Item) (t taken, err error) {
	key := item.KeyCopy(nil)
	if len(key) < 6 {
		return t, errDisk
	}
	t.partition = int32(binary.BigEndian.Uint32(key[1:]))
	apex, n, err := zones.NameFromWire(key[5:])
	if err != nil || n != len(key)-5 {
		return t, errDisk
	}
	t.apex = apex
	err = item.Value(func(v []byte) error {
		t.Entry, err = parseEntry(v)
		return err
	})
	return t, err
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
