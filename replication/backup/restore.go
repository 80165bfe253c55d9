package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"path/filepath"

	"balefire/replication/objectstore"
	"balefire/store"
	"balefire/store/snapshot"
)

// RestoreInto makes dir, which must not exist, a partition's directory from a backup and those that it follows. The
// directory appears when all that is in it has been compared with the manifests and with itself. What was found damaged
// once is not read again.
func (b *Backups) RestoreInto(ctx context.Context, dir string, m Manifest) error {
	if m.Topic != b.opts.TopicID || m.Namespace != b.opts.Namespace {
		return fmt.Errorf("it is of topic %x of %s: %w", m.Topic, m.Namespace, store.ErrOtherTopic)
	}
	s, err := b.shelf(ctx, m.Partition)
	if err != nil {
		return err
	}
	if there, ok := s.manifests[m.Number]; !ok || there.Object != m.Object || there.SHA256 != m.SHA256 {
		return fmt.Errorf("backup %d is not there any more: %w", m.Number, ErrNone)
	}
	chain, err := b.chain(s, m)
	if err != nil {
		return err
	}
	return b.restore(ctx, dir, chain)
}

// Verify reads a backup and those that it follows whole, restores them into the scratch directory, and removes that again.
func (b *Backups) Verify(ctx context.Context, m Manifest) error {
	return b.inScratch(m.Partition, func(dir string) error { return b.RestoreInto(ctx, dir, m) })
}

func (b *Backups) inScratch(partition int32, do func(dir string) error) (err error) {
	dir := filepath.Join(b.opts.Scratch, fmt.Sprintf("verify-%03d", partition))
	if err := errors.Join(os.MkdirAll(b.opts.Scratch, 0o750), os.RemoveAll(dir)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return do(dir)
}

// readBack reads a snapshot that was just written. A full one is restored: all that follow stand on it.
func (b *Backups) readBack(ctx context.Context, m Manifest) error {
	if m.Follows == 0 {
		return b.inScratch(m.Partition, func(dir string) error { return b.restore(ctx, dir, []Manifest{m}) })
	}
	l, err := b.openLink(ctx, m)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := snapshot.Verify(l); err != nil {
		return err
	}
	return l.whole()
}

// restore restores a chain, the full one first.
func (b *Backups) restore(ctx context.Context, dir string, chain []Manifest) error {
	last := chain[len(chain)-1]
	at := 0
	got, err := store.RestoreChain(ctx, dir, b.links(ctx, chain, &at), store.RestoreOptions{
		MemTableSize: b.opts.MemTableSize, Logger: b.opts.Logger, Room: b.opts.Room,
	})
	if err != nil {
		return fmt.Errorf("backup %d: %w", chain[at].Number, errors.Join(err, b.audit(ctx, chain[at])))
	}
	if got.Digest.String() != last.Digest || got.Offset != last.Offset || got.Partition != last.Partition || got.TopicID != last.Topic {
		return errors.Join(fmt.Errorf("%s is whole, but not what its manifest says: %w", last.Object, ErrDamaged), os.RemoveAll(dir))
	}
	return nil
}

// links opens one snapshot of a chain after the other, and compares each, when it has been read, with its manifest. It
// notes which one it is at.
func (b *Backups) links(ctx context.Context, chain []Manifest, at *int) iter.Seq2[io.Reader, error] {
	return func(yield func(io.Reader, error) bool) {
		for i, m := range chain {
			*at = i
			l, err := b.openLink(ctx, m)
			if err != nil {
				yield(nil, err)
				return
			}
			more := yield(l, nil)
			l.close()
			if !more {
				return
			}
			if err := l.whole(); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// link is a snapshot that is being read.
type link struct {
	io.Reader
	close func() error
	m     Manifest
	sum   hash.Hash
}

// openLink opens the object of a manifest, if it is as long as it was.
func (b *Backups) openLink(ctx context.Context, m Manifest) (*link, error) {
	r, info, err := b.opts.Objects.Get(ctx, b.folder(m.Partition)+m.Object)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	if uint64(info.Size) != m.Size {
		return nil, errors.Join(fmt.Errorf("%s has %d octets, and had %d: %w", m.Object, info.Size, m.Size, ErrDamaged), r.Close())
	}
	l := &link{close: r.Close, m: m, sum: sha256.New()}
	l.Reader = io.TeeReader(bufio.NewReaderSize(io.LimitReader(r, info.Size+1), 1<<18), l.sum)
	return l, nil
}

// whole compares what was read, to the end, with the manifest.
func (l *link) whole() error {
	if [32]byte(l.sum.Sum(nil)) != l.m.SHA256 {
		return fmt.Errorf("%s is not what its manifest says: %w", l.m.Object, ErrDamaged)
	}
	return nil
}

// audit reads a snapshot that could not be restored once more, only to compare it with its manifest, so that a cut
// connection is not taken for damage: what is damaged is not read again, and not followed. The error, if any, says so.
func (b *Backups) audit(ctx context.Context, m Manifest) error {
	if ctx.Err() != nil {
		return nil // it is what ended the restore
	}
	l, err := b.openLink(ctx, m)
	if err == nil {
		defer l.close()
		if _, err = io.Copy(io.Discard, l); err == nil {
			err = l.whole()
		}
	}
	if !errors.Is(err, ErrDamaged) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.damaged[b.folder(m.Partition)+m.Object] = true
	return err
}
