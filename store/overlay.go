package store

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/btree"
)

// write is one pending write: a sealed value, or nil for a deletion.
type write struct {
	key   string
	value []byte
}

func writeLess(a, b write) bool { return a.key < b.key }

// overlay holds the writes of a batch in order, over what is on disk, until they are committed together.
// Reading through it avoids Badger's iterators in a write transaction, each of which sorts all that is pending.
// It can take back what was written since a mark: what a record did before it failed.
type overlay struct {
	tree  *btree.BTreeG[write]
	size  int64  // as Badger counts a transaction's size
	undos []undo // what to put back, newest last
	room  []byte // where the next keys and values go: one large block instead of two allocations for each write
}

// undo is what was pending for a key before a write; had is false when nothing was.
type undo struct {
	before write
	had    bool
}

func newOverlay() *overlay {
	return &overlay{tree: btree.NewG(16, writeLess)}
}

// entryOverhead is what Badger adds to key and value for each entry of a transaction, rounded up.
const entryOverhead = 24

func (w write) size() int64 { return int64(len(w.key)+len(w.value)) + entryOverhead }

// Blocks of an overlay's memory: small for the batches of one record, large for those of many.
const (
	firstBlock = 4 << 10
	lastBlock  = 128 << 10
)

// take returns room for n octets, which are never moved.
func (o *overlay) take(n int) []byte {
	if cap(o.room)-len(o.room) < n {
		o.room = make([]byte, 0, max(n, min(max(firstBlock, 2*cap(o.room)), lastBlock)))
	}
	at := len(o.room)
	o.room = o.room[:at+n]
	return o.room[at : at : at+n]
}

// keep copies a key.
func (o *overlay) keep(key []byte) string { return textOf(append(o.take(len(key)), key...)) }

// textOf is b as a string, which shares its memory: for look-ups, and for what is never written to again.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// octetsOf is the reverse of textOf. They must not be written to.
func octetsOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// set makes value pending for the key. It copies both.
func (o *overlay) set(key, value []byte) {
	o.put(write{o.keep(key), seal(key, append(o.take(len(value)+crcLen), value...))})
}

// remove makes a deletion pending.
func (o *overlay) remove(key []byte) { o.put(write{key: o.keep(key)}) }

func (o *overlay) put(w write) {
	before, had := o.tree.ReplaceOrInsert(w)
	o.size += w.size()
	if had {
		o.size -= before.size()
	} else {
		before.key = w.key
	}
	o.undos = append(o.undos, undo{before, had})
}

// mark returns the present state, for rollback.
func (o *overlay) mark() int { return len(o.undos) }

// rollback takes back all writes since the mark.
func (o *overlay) rollback(mark int) {
	for i := len(o.undos) - 1; i >= mark; i-- {
		u := o.undos[i]
		if u.had {
			now, _ := o.tree.ReplaceOrInsert(u.before)
			o.size += u.before.size() - now.size()
		} else if now, ok := o.tree.Delete(u.before); ok {
			o.size -= now.size()
		}
	}
	o.undos = o.undos[:mark]
}

// len returns the number of pending writes.
func (o *overlay) len() int { return o.tree.Len() }

// seek returns the first pending write whose key is at or after from.
func (o *overlay) seek(from []byte) (w write, ok bool) {
	o.tree.AscendGreaterOrEqual(write{key: textOf(from)}, func(found write) bool {
		w, ok = found, true
		return false
	})
	return w, ok
}

// reader reads keys at one position: what is on disk, under an overlay when there is one. It is for one
// goroutine, and holds a transaction of Badger until close.
type reader struct {
	txn  *badger.Txn
	it   *badger.Iterator // forward over all versions of all keys, made when first needed
	past []byte           // scratch of nextKey
	over *overlay         // nil when there is nothing pending
}

// openReader reads at a commit timestamp.
func openReader(db *badger.DB, ts uint64, over *overlay) *reader {
	return &reader{txn: db.NewTransactionAt(ts, false), over: over}
}

func (r *reader) close() {
	if r.it != nil {
		r.it.Close()
		r.it = nil
	}
	r.txn.Discard()
}

// get returns the checked value of a key, in memory of its own; ok is false when there is none.
func (r *reader) get(key []byte) (value []byte, ok bool, err error) {
	if r.over != nil {
		if w, found := r.over.tree.Get(write{key: textOf(key)}); found {
			if w.value == nil {
				return nil, false, nil
			}
			value, err = unseal(key, w.value)
			return value, err == nil, err
		}
	}
	item, err := r.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read key %x: %w", key, err)
	}
	var sealed []byte
	if item.ValueSize() < valueThreshold/2 { // a guess, for those in the value log
		// The item is this call's alone, and so is the memory of its value.
		err = item.Value(func(v []byte) error {
			sealed = v
			return nil
		})
	} else { // that is the value log's
		sealed, err = item.ValueCopy(nil)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read value of key %x: %w", key, err)
	}
	value, err = unseal(key, sealed)
	return value, err == nil, err
}

// entry is what a scan is at. It is valid until the scan goes on.
type entry struct {
	key    []byte
	item   *badger.Item
	sealed []byte // when it comes from the overlay
}

// value returns the checked value, in memory of its own.
func (e entry) value() ([]byte, error) {
	sealed := e.sealed
	if e.item != nil {
		var err error
		if sealed, err = e.item.ValueCopy(nil); err != nil {
			return nil, fmt.Errorf("read value of key %x: %w", e.key, err)
		}
	}
	return unseal(e.key, sealed)
}

// scan calls fn for each entry with from ≤ key < end (nil: no end), in order, until it returns false.
// Scans of one reader can't be nested; get can be called within one.
func (r *reader) scan(from, end []byte, fn func(e entry) (more bool, err error)) error {
	r.seekKey(from, end)
	it := r.it
	var pending write
	var havePending bool
	if r.over != nil {
		pending, havePending = r.over.seek(from)
	}
	var keyBuf []byte
	for {
		var disk []byte
		if it.Valid() {
			disk = it.Item().Key()
		}
		var e entry
		switch {
		case havePending && (disk == nil || pending.key <= string(disk)):
			if disk != nil && pending.key == string(disk) {
				r.nextKey(end)
			}
			keyBuf = append(keyBuf[:0], pending.key...)
			e = entry{key: keyBuf, sealed: pending.value}
			pending, havePending = r.over.seek(append(keyBuf[:len(keyBuf):len(keyBuf)], 0))
			if e.sealed == nil {
				if end != nil && bytes.Compare(e.key, end) >= 0 {
					return nil
				}
				continue
			}
		case disk != nil:
			e = entry{key: disk, item: it.Item()}
		default:
			return nil
		}
		if end != nil && bytes.Compare(e.key, end) >= 0 {
			return nil
		}
		more, err := fn(e)
		if err != nil || !more {
			return err
		}
		if e.item != nil {
			r.nextKey(end)
		}
	}
}

// confine prepares scans of keys with a prefix, and no others from then on: only the tables that may have some are looked at.
func (r *reader) confine(prefix []byte) {
	r.it = r.txn.NewIterator(badger.IteratorOptions{AllVersions: true, Prefix: prefix})
}

// seekKey moves the iterator to the first key on disk that is at or after from, and not deleted, or to one at or after end.
func (r *reader) seekKey(from, end []byte) {
	if r.it == nil {
		// All versions, newest first: left to itself the iterator walks over every older version of a key to
		// reach the next one, and a zone that changes often has thousands of its SOA.
		r.it = r.txn.NewIterator(badger.IteratorOptions{AllVersions: true})
	}
	r.it.Seek(from)
	if r.atDeleted(end) {
		r.nextKey(end)
	}
}

// atDeleted reports whether the iterator is at a deleted key before end. Those from end on, which may be the many of
// another kind, are not passed over.
func (r *reader) atDeleted(end []byte) bool {
	return r.it.Valid() && r.it.Item().IsDeletedOrExpired() && (end == nil || bytes.Compare(r.it.Item().Key(), end) < 0)
}

// versionSteps is how many older versions of a key are stepped over before the next key is sought instead.
const versionSteps = 3

// nextKey moves the iterator from the key that it is at to the next one that is not deleted, or to one at or after end.
func (r *reader) nextKey(end []byte) {
	it := r.it
	for deleted := true; deleted; deleted = r.atDeleted(end) {
		r.past = append(append(r.past[:0], it.Item().Key()...), 0) // the least key after it
		here := r.past[:len(r.past)-1]
		it.Next()
		for steps := 1; it.Valid() && bytes.Equal(it.Item().Key(), here); steps++ {
			if steps == versionSteps {
				it.Seek(r.past)
				break
			}
			it.Next()
		}
	}
}

// first returns the first key at or after from and before end, in memory of its own; nil when there is none.
func (r *reader) first(from, end []byte) (key []byte, err error) {
	err = r.scan(from, end, func(e entry) (bool, error) {
		key = bytes.Clone(e.key)
		return false, nil
	})
	return key, err
}

// scanBack calls fn for each entry with start ≤ key ≤ from, backwards, until it returns false. It reads
// the disk only.
func (r *reader) scanBack(from, start []byte, fn func(e entry) (more bool, err error)) error {
	it := r.txn.NewIterator(badger.IteratorOptions{Reverse: true})
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		item := it.Item()
		if bytes.Compare(item.Key(), start) < 0 {
			return nil
		}
		if more, err := fn(entry{key: item.Key(), item: item}); err != nil || !more {
			return err
		}
	}
	return nil
}
