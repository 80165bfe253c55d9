package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"balefire/store/snapshot"
)

// SnapshotInfo says what is in a snapshot.
type SnapshotInfo = snapshot.Info

// WriteSnapshot writes the partition, as it is at the published position, to w. Dead generations are left
// out. The partition goes on applying meanwhile; closing it ends the writing.
func (p *Partition) WriteSnapshot(ctx context.Context, w io.Writer) (SnapshotInfo, error) {
	s, err := p.Save()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer s.Close()
	return s.WriteFull(ctx, w)
}

// WriteFull writes the partition, as it is at the position that is held, to w. Dead generations are left out. The
// partition goes on applying meanwhile; closing it ends the writing.
func (s *Saving) WriteFull(ctx context.Context, w io.Writer) (SnapshotInfo, error) {
	r, err := s.begin()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer r.end()
	p := s.p
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
	dead, err := deadAt(r.reader)
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

// deadAt returns those that are dead at the reader's position. They may be collected while it reads, at its very
// timestamp; those that die later are alive in it.
func deadAt(r *reader) (map[int64]bool, error) {
	dead := make(map[int64]bool)
	err := r.scan([]byte{kindDead}, []byte{kindDead + 1}, func(e entry) (bool, error) {
		generation, err := parseNumberKey(e.key, kindDead)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		dead[generation] = true
		return true, nil
	})
	return dead, err
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
