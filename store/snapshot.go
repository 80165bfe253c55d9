package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"

	"balefire/store/snapshot"
)

// SnapshotInfo says what is in a snapshot.
type SnapshotInfo = snapshot.Info

// WriteSnapshot writes the partition, as it is at the published position, to w. Dead generations are left
// out. The partition goes on applying meanwhile; closing it ends the writing.
func (p *Partition) WriteSnapshot(ctx context.Context, w io.Writer) (SnapshotInfo, error) {
	r, err := p.begin()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer r.end()
	ctx, cancel := p.untilClosed(ctx)
	defer cancel()
	info, err := p.writeSnapshot(ctx, w, r)
	if err != nil {
		return SnapshotInfo{}, p.suspect("", fmt.Errorf("snapshot of %s: %w", Position{p.number, r.at.offset}, err))
	}
	return info, nil
}

func (p *Partition) writeSnapshot(ctx context.Context, w io.Writer, r session) (SnapshotInfo, error) {
	out, err := snapshot.NewWriter(w, snapshot.Header{
		TopicID: p.topicID, Partition: p.number, Since: -1, Offset: r.at.offset, LeaderEpoch: r.at.epoch,
	})
	if err != nil {
		return SnapshotInfo{}, err
	}
	// Dead generations may be collected while this reads, at its very timestamp; later ones are alive in it.
	dead := make(map[int64]bool)
	err = r.scan([]byte{kindDead}, []byte{kindDead + 1}, func(e entry) (bool, error) {
		generation, err := parseNumberKey(e.key, kindDead)
		dead[generation] = true
		return true, err
	})
	if err != nil {
		return SnapshotInfo{}, err
	}
	n := 0
	err = r.scan([]byte{0}, nil, func(e entry) (bool, error) {
		switch e.key[0] {
		case kindDead:
			return true, nil
		case kindData:
			generation, _, _, _, err := splitDataKey(e.key)
			if err != nil {
				return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
			}
			if dead[generation] {
				return true, nil
			}
		}
		value, err := e.value()
		if err != nil {
			return false, err
		}
		if n++; n%1024 == 0 {
			p.crash(CrashSnapshot)
			if err := ctx.Err(); err != nil {
				return false, err
			}
		}
		// The value goes without its checksum, which the restore makes anew: the frame has its own.
		return true, out.Write(snapshot.Entry{Key: e.key, Value: value, Version: e.item.Version()})
	})
	if err != nil {
		return SnapshotInfo{}, err
	}
	p.crash(CrashSnapshot)
	return out.Close(r.at.digest)
}

// restoreSuffix is that of the directory in which a restore works, until it takes its name.
const restoreSuffix = ".restoring"

// RestoreOptions say how a restore works.
type RestoreOptions struct {
	MemTableSize int64          // as in Options; 0 is the default
	Logger       zerolog.Logger // of the database
	CrashPoint   func(name string)
}

// Restore makes dir, which must not exist, a partition's directory from the full snapshot in r. It checks the
// stream, then every checksum, count and digest of what it has written, before dir appears: after an error, or
// a crash, it is not there.
func Restore(ctx context.Context, dir string, r io.Reader, o RestoreOptions) (info SnapshotInfo, err error) {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return info, errors.Join(fmt.Errorf("restore into %s: it exists", dir), err)
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = memTableDefault
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
	crash := func(point string) {
		if o.CrashPoint != nil {
			o.CrashPoint(point)
		}
	}
	in, err := snapshot.NewReader(r)
	if err != nil {
		return info, err
	}
	h := in.Header()
	if h.Since >= 0 {
		return info, errors.New("the snapshot is an increment")
	}
	db, err := openDatabase(filepath.Join(work, badgerDir), o.MemTableSize, o.Logger)
	if err != nil {
		return info, err
	}
	err = loadSnapshot(ctx, db, in, crash)
	if err == nil {
		info = in.Info()
		err = verifyRestored(ctx, db, info)
	}
	// Closing writes out and syncs what is in memory.
	if err = errors.Join(err, db.Close()); err != nil {
		return info, err
	}
	if err := writeMeta(work, h.Partition, h.TopicID); err != nil {
		return info, err
	}
	crash(CrashRestoreVerified)
	if err := os.Rename(work, dir); err != nil {
		return info, err
	}
	return info, syncDir(filepath.Dir(dir))
}

// loadSnapshot writes all entries at the snapshot's timestamp, in transactions as large as can be.
func loadSnapshot(ctx context.Context, db *badger.DB, in *snapshot.Reader, crash func(string)) error {
	ts := commitTs(in.Header().Offset)
	if ts == 0 {
		ts = 1 // an empty partition; there is nothing to write
	}
	txn := db.NewTransactionAt(ts, true)
	defer func() { txn.Discard() }()
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			crash(CrashRestore)
			return txn.CommitAt(ts, nil)
		}
		if err != nil {
			return err
		}
		if e.Deleted {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		key := append([]byte(nil), e.Key...)
		value := seal(key, append(make([]byte, 0, len(e.Value)+crcLen), e.Value...))
		err = txn.Set(key, value)
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err := txn.CommitAt(ts, nil); err != nil {
				return err
			}
			crash(CrashRestore)
			txn = db.NewTransactionAt(ts, true)
			err = txn.Set(key, value)
		}
		if err != nil {
			return err
		}
	}
}

// verifyRestored compares what was written with what the snapshot says, and with itself.
func verifyRestored(ctx context.Context, db *badger.DB, info SnapshotInfo) error {
	r, inner := openReader(db, commitTs(info.Offset), nil), openReader(db, commitTs(info.Offset), nil)
	defer r.close()
	defer inner.close()
	g, err := readProgress(r)
	if err != nil {
		return err
	}
	if g.offset != info.Offset || g.digest != info.Digest {
		return fmt.Errorf("the snapshot says offset %d with digest %s, its content %d and %s: %w",
			info.Offset, info.Digest, g.offset, g.digest, ErrCorrupt)
	}
	return scrub(ctx, r, inner)
}

// RestorePartition restores a partition that is not open, and has no directory, into the store's own. A
// snapshot of another partition or topic is ErrOtherTopic.
func (s *Store) RestorePartition(ctx context.Context, partition int32, topicID [16]byte, r io.Reader) (SnapshotInfo, error) {
	if err := s.guard.mayApply(); err != nil {
		return SnapshotInfo{}, err
	}
	dir := partitionDir(s.opts.Dir, partition)
	info, err := Restore(ctx, dir, r, RestoreOptions{
		MemTableSize: s.opts.MemTableSize, Logger: s.opts.Logger, CrashPoint: s.opts.CrashPoint,
	})
	if err == nil && (info.Partition != partition || info.TopicID != topicID) {
		err = errors.Join(fmt.Errorf("the snapshot is of partition %d of topic %x: %w", info.Partition, info.TopicID, ErrOtherTopic), os.RemoveAll(dir))
	}
	return info, err
}

// SetAside moves the directory of a partition that is not open out of the way, and returns where it is, so that
// another can be restored, and people can look at what was there.
func (s *Store) SetAside(partition int32) (string, error) {
	if s.Partition(partition) != nil {
		return "", fmt.Errorf("partition %d is open", partition)
	}
	dir := partitionDir(s.opts.Dir, partition)
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.aside-%d", dir, n)
		if _, err := os.Stat(aside); err == nil {
			continue
		}
		if err := os.Rename(dir, aside); err != nil {
			return "", err
		}
		return aside, syncDir(filepath.Dir(dir))
	}
}
