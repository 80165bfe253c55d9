package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"

	"balefire/store/snapshot"
)

// restoreSuffix is that of the directory in which a restore works, until it takes its name.
const restoreSuffix = ".restoring"

// RestoreOptions say how a restore works.
type RestoreOptions struct {
	MemTableSize int64          // as in Options; 0 is the default
	Logger       zerolog.Logger // of the database
	Room         func() error   // asked now and then whether there is room for more; nil: there is
	CrashPoint   func(name string)
}

// ErrChain means that snapshots do not follow each other: the first must be full, and each other one the increment
// after the offset of the one before, of the same partition and topic.
var ErrChain = errors.New("the snapshots are not a chain")

// Restore is RestoreChain of one full snapshot.
func Restore(ctx context.Context, dir string, r io.Reader, o RestoreOptions) (SnapshotInfo, error) {
	return RestoreChain(ctx, dir, func(yield func(io.Reader, error) bool) { yield(r, nil) }, o)
}

// RestoreChain makes dir, which must not exist, a partition's directory from a full snapshot and its increments, in
// order. It reads each to its end before it asks for the next; an error of the sequence ends it. It checks the streams,
// then every checksum, count and digest of what it has written, before dir appears: after an error, or a crash, it is
// not there. What it returns is of the last snapshot.
func RestoreChain(ctx context.Context, dir string, links iter.Seq2[io.Reader, error], o RestoreOptions) (SnapshotInfo, error) {
	return restoreChain(ctx, dir, links, o, nil)
}

// restoreChain is RestoreChain, with one more check of the first header.
func restoreChain(ctx context.Context, dir string, links iter.Seq2[io.Reader, error], o RestoreOptions, check func(snapshot.Header) error) (info SnapshotInfo, err error) {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return info, errors.Join(fmt.Errorf("restore into %s: it exists", dir), err)
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = memTableDefault
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	if o.CrashPoint == nil {
		o.CrashPoint = func(string) {}
	}
	work := dir + restoreSuffix
	if err := os.RemoveAll(work); err != nil {
		return info, err
	}
	if err := os.MkdirAll(work, 0o750); err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("restore into %s: %w", dir, err), os.RemoveAll(work))
		}
	}()
	db, _, err := openDatabase(filepath.Join(work, badgerDir), o.MemTableSize, o.Logger)
	if err != nil {
		return info, err
	}
	l := &loading{RestoreOptions: o, db: db, check: check}
	info, err = l.chain(ctx, links)
	// Closing writes out and syncs what is in memory.
	if err = errors.Join(err, db.Close()); err != nil {
		return info, err
	}
	if err := writeMeta(work, info.Partition, info.TopicID); err != nil {
		return info, err
	}
	o.CrashPoint(CrashRestoreVerified)
	if err := os.Rename(work, dir); err != nil {
		return info, err
	}
	return info, syncDir(filepath.Dir(dir))
}

// loading is a database that snapshots are loaded into.
type loading struct {
	RestoreOptions
	db    *badger.DB
	check func(snapshot.Header) error

	ts  uint64 // at which is written
	txn *badger.Txn
}

func (l *loading) chain(ctx context.Context, links iter.Seq2[io.Reader, error]) (info SnapshotInfo, err error) {
	n := 0
	for r, err := range links {
		if err != nil {
			return info, err
		}
		next, err := l.link(ctx, r, n == 0, info)
		if err != nil {
			return info, fmt.Errorf("snapshot %d of the chain: %w", n, err)
		}
		info = next
		n++
	}
	if n == 0 {
		return info, fmt.Errorf("no snapshot: %w", ErrChain)
	}
	return info, verifyRestored(ctx, l.db, info)
}

// link loads one snapshot over those before.
func (l *loading) link(ctx context.Context, r io.Reader, first bool, before SnapshotInfo) (info SnapshotInfo, err error) {
	in, err := snapshot.NewReader(r)
	if err != nil {
		return info, err
	}
	h := in.Header()
	switch {
	case first && h.Since >= 0:
		return info, fmt.Errorf("it is an increment: %w", ErrChain)
	case !first && (h.Partition != before.Partition || h.TopicID != before.TopicID):
		return info, fmt.Errorf("it is of partition %d of topic %x: %w", h.Partition, h.TopicID, ErrChain)
	case !first && (h.Since != before.Offset || h.Offset < h.Since):
		return info, fmt.Errorf("it goes from offset %d to %d, and the one before ends at %d: %w", h.Since, h.Offset, before.Offset, ErrChain)
	}
	if first && l.check != nil {
		if err := l.check(h); err != nil {
			return info, err
		}
	}
	l.begin(max(1, commitTs(h.Offset))) // an empty partition has nothing to write
	defer l.discard()
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return info, err
		}
		if err := ctx.Err(); err != nil {
			return info, err
		}
		if e.Deleted {
			if first {
				return info, fmt.Errorf("a full snapshot says that key %x is gone: %w", e.Key, ErrCorrupt)
			}
			err = l.remove(append([]byte(nil), e.Key...))
		} else {
			key := append([]byte(nil), e.Key...)
			err = l.set(key, seal(key, append(make([]byte, 0, len(e.Value)+crcLen), e.Value...)))
		}
		if err != nil {
			return info, err
		}
	}
	if err := l.commit(); err != nil {
		return info, err
	}
	info = in.Info()
	return info, verifyProgress(l.db, info)
}

func (l *loading) begin(ts uint64) {
	l.ts, l.txn = ts, l.db.NewTransactionAt(ts, true)
}

// commit writes what is pending, in transactions as large as can be. Until all is verified it need not be atomic.
func (l *loading) commit() error {
	l.CrashPoint(CrashRestore)
	if err := l.Room(); err != nil {
		return err
	}
	return l.txn.CommitAt(l.ts, nil)
}

func (l *loading) discard() { l.txn.Discard() }

func (l *loading) set(key, value []byte) error {
	return l.write(func() error { return l.txn.Set(key, value) })
}

func (l *loading) remove(key []byte) error {
	return l.write(func() error { return l.txn.Delete(key) })
}

func (l *loading) write(op func() error) error {
	err := op()
	if !errors.Is(err, badger.ErrTxnTooBig) {
		return err
	}
	if err := l.commit(); err != nil {
		return err
	}
	l.begin(l.ts)
	return op()
}

// verifyProgress compares what was written last with what the snapshot says.
func verifyProgress(db *badger.DB, info SnapshotInfo) error {
	r := openReader(db, commitTs(info.Offset), nil)
	defer r.close()
	g, err := readProgress(r)
	if err != nil {
		return err
	}
	if g.offset != info.Offset || g.digest != info.Digest {
		return fmt.Errorf("the snapshot says offset %d with digest %s, its content %d and %s: %w",
			info.Offset, info.Digest, g.offset, g.digest, ErrCorrupt)
	}
	return nil
}

// verifyRestored compares all that was written with itself.
func verifyRestored(ctx context.Context, db *badger.DB, info SnapshotInfo) error {
	r, inner := openReader(db, commitTs(info.Offset), nil), openReader(db, commitTs(info.Offset), nil)
	defer r.close()
	defer inner.close()
	return scrub(ctx, r, inner)
}

// RestorePartition is RestoreChain of one full snapshot.
func (s *Store) RestorePartition(ctx context.Context, partition int32, topicID [16]byte, r io.Reader) (SnapshotInfo, error) {
	return s.RestoreChain(ctx, partition, topicID, func(yield func(io.Reader, error) bool) { yield(r, nil) })
}

// RestoreChain restores a partition that is not open, and has no directory, into the store's own, from a full snapshot
// and its increments. Those of another partition or topic are ErrOtherTopic; too little room for them, ErrDiskReserve.
func (s *Store) RestoreChain(ctx context.Context, partition int32, topicID [16]byte, links iter.Seq2[io.Reader, error]) (SnapshotInfo, error) {
	if err := s.guard.mayApply(); err != nil {
		return SnapshotInfo{}, err
	}
	return restoreChain(ctx, partitionDir(s.opts.Dir, partition), links, RestoreOptions{
		MemTableSize: s.opts.MemTableSize, Logger: s.opts.Logger, CrashPoint: s.opts.CrashPoint, Room: s.guard.mayApply,
	}, func(h snapshot.Header) error {
		if h.Partition != partition || h.TopicID != topicID {
			return fmt.Errorf("the snapshot is of partition %d of topic %x: %w", h.Partition, h.TopicID, ErrOtherTopic)
		}
		return nil
	})
}

// Room reports whether there is room to write snapshots' content down: ErrDiskReserve when not.
func (s *Store) Room() error { return s.guard.mayApply() }

// RoomToOpen returns an error when there is not even the free space to open a database. It gives up the ballast for that.
func (s *Store) RoomToOpen() error { return s.guard.mayOpen() }
