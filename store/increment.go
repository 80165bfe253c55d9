package store

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/dgraph-io/badger/v4"

	"balefire/store/snapshot"
)

// WriteIncrement writes what has changed after the offset since, up to the published position, to w: over a copy that is
// at since, it gives one that is at the published position. ErrNoIncrement when what is needed is not all kept.
func (p *Partition) WriteIncrement(ctx context.Context, w io.Writer, since int64) (SnapshotInfo, error) {
	s, err := p.Save()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer s.Close()
	return s.WriteIncrement(ctx, w, since)
}

// WriteIncrement writes what has changed after the offset since, up to the position that is held. ErrNoIncrement when
// what is needed is not all kept.
func (s *Saving) WriteIncrement(ctx context.Context, w io.Writer, since int64) (SnapshotInfo, error) {
	p := s.p
	// What is kept now stays so while this writes, whatever is verified meanwhile: an earlier position is held.
	base, err := p.holdAt(since)
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer base.Close()
	r, err := s.begin()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer r.end()
	ctx, cancel := p.untilClosed(ctx)
	defer cancel()
	info, err := p.writeIncrement(ctx, w, r, since)
	if err != nil {
		return SnapshotInfo{}, p.suspect("", fmt.Errorf("increment of %s after %d: %w", Position{p.number, r.at.offset}, since, err))
	}
	return info, nil
}

// holdAt holds a position from which all is kept.
func (p *Partition) holdAt(since int64) (*Saving, error) {
	p.readMu.Lock()
	defer p.readMu.Unlock()
	switch {
	case p.closed:
		return nil, ErrClosed
	case !p.mayIncrement(since):
		return nil, fmt.Errorf("increment after %s: %w", Position{p.number, since}, ErrNoIncrement)
	}
	s := &Saving{p: p, at: &publication{progress{offset: since}}}
	p.savings[s] = struct{}{}
	return s, nil
}

// writeIncrement writes, of each key that has a version after since, the newest that r sees.
//
// A dead generation's keys go at the timestamp of whatever is published then: that of an increment already made, perhaps,
// so that the next one would not show it. So dead generations are only named, all that are there, without their keys,
// and stay named: what a chain still has of them is removed where it is restored, in the background as ever. One that no
// increment has named was alive at since, and all its keys have gone after it; or it is not in the full snapshot either.
func (p *Partition) writeIncrement(ctx context.Context, w io.Writer, r session, since int64) (SnapshotInfo, error) {
	if since > r.at.offset {
		return SnapshotInfo{}, fmt.Errorf("the position is before %d: %w", since, ErrNoIncrement)
	}
	out, err := snapshot.NewWriter(w, snapshot.Header{
		TopicID: p.topicID, Partition: p.number, Since: since, Offset: r.at.offset, LeaderEpoch: r.at.epoch,
	})
	if err != nil {
		return SnapshotInfo{}, err
	}
	dead, err := deadAt(r.reader)
	if err != nil {
		return SnapshotInfo{}, err
	}
	it := r.txn.NewIterator(badger.IteratorOptions{AllVersions: true, SinceTs: commitTs(since)})
	defer it.Close()
	var last []byte
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n++; n%1024 == 0 {
			p.crash(CrashSnapshot)
			if err := ctx.Err(); err != nil {
				return SnapshotInfo{}, err
			}
		}
		item := it.Item()
		if item.Version() <= commitTs(since) || bytes.Equal(item.Key(), last) {
			continue // an older version
		}
		last = append(last[:0], item.Key()...)
		e := snapshot.Entry{Key: last, Version: item.Version(), Deleted: item.IsDeletedOrExpired()}
		switch last[0] {
		case kindDead:
			continue // those that are there come below; one that was named stays so
		case kindData:
			generation, _, _, _, err := splitDataKey(last)
			if err != nil {
				return SnapshotInfo{}, fmt.Errorf("key %x: %w: %w", last, err, ErrCorrupt)
			}
			if dead[generation] {
				continue
			}
		}
		if !e.Deleted {
			if e.Value, err = (entry{key: last, item: item}).value(); err != nil {
				return SnapshotInfo{}, err
			}
		}
		if err := out.Write(e); err != nil {
			return SnapshotInfo{}, err
		}
	}
	for generation := range dead {
		// The value, the apex it was of, is for people.
		if err := out.Write(snapshot.Entry{Key: deadKey(nil, generation), Version: r.at.ts()}); err != nil {
			return SnapshotInfo{}, err
		}
	}
	p.crash(CrashSnapshot)
	return out.Close(r.at.digest)
}
