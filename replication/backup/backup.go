// Package backup keeps snapshots of partitions in object storage, and brings them back. A backup is two objects: the
// snapshot, and a manifest that says what it is, which is written when the snapshot has been read back and restored.
// What has no manifest is no backup. The format is in docs/formats/backup.md.
//
// What holds:
//   - A manifest never names a snapshot that was not restored, whole, from the object store it is in.
//   - Two writers that both think that a partition is theirs can't harm each other: manifests are numbered, each number is
//     taken once, and who comes second learns it (ErrFenced).
//   - Nothing of another namespace, topic or partition is ever taken for this one's.
package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/objectstore"
	"balefire/store"
)

// Errors that callers tell apart, with errors.Is.
var (
	// ErrFenced: another node has made a backup of the partition meanwhile.
	ErrFenced = errors.New("another node has backed up the partition meanwhile")
	// ErrNone: there is no backup that serves.
	ErrNone = errors.New("no backup that serves")
	// ErrDamaged: the object is not what its manifest says, or the manifest not what was written.
	ErrDamaged = errors.New("the backup is damaged")
)

// Options of Backups. All but Keep, MemTableSize and Logger are needed.
type Options struct {
	Objects   objectstore.Store
	Namespace string
	TopicID   [16]byte
	Node      string // who makes backups
	// Scratch is a directory for trial restores, on the file system of the data. What is in it may be removed.
	Scratch string
	// Keep is how many backups of a partition are kept; 0 means 3.
	Keep int
	// MemTableSize is that of the store's databases; 0 is the store's default.
	MemTableSize int64
	Logger       zerolog.Logger
}

const defaultKeep = 3

// Backups are those of one topic's partitions. Its methods may be used by many goroutines, but Save by one at a time for
// each partition.
type Backups struct{ opts Options }

// New makes Backups. It asks nothing of the object store.
func New(opts Options) *Backups {
	opts.Keep = cmp.Or(opts.Keep, defaultKeep)
	return &Backups{opts: opts}
}

// String says where they are, without secrets.
func (b *Backups) String() string { return b.opts.Objects.String() }

// Save backs a partition up, as it is at its published position, and removes backups that are too many. The snapshot goes
// up while it is made, is read back and restored beside the data, and only then gets its manifest.
func (b *Backups) Save(ctx context.Context, p *store.Partition, number int32) (Manifest, error) {
	m, err := b.save(ctx, p, number)
	if err != nil {
		return Manifest{}, fmt.Errorf("back up partition %d to %s: %w", number, b, err)
	}
	if err := b.prune(ctx, number, m.Number); err != nil { // there is one more than should be, no less
		b.opts.Logger.Warn().Err(err).Int32("partition", number).Msg("removing old backups")
	}
	return m, nil
}

func (b *Backups) save(ctx context.Context, p *store.Partition, number int32) (Manifest, error) {
	last, err := b.lastNumber(ctx, number)
	if err != nil {
		return Manifest{}, err
	}
	// Its own name, whoever else is writing: the number is only taken by the manifest.
	object := fmt.Sprintf("%s%s%d-%s%s", b.folder(number), snapshotName, time.Now().UnixNano(), b.opts.Node, snapshotSuffix)
	at := p.Applied()
	written, err := b.upload(ctx, p, object)
	if err != nil {
		return Manifest{}, errors.Join(err, b.forget(ctx, object))
	}
	if written.Offset != at.Offset {
		at.Time = time.Time{} // it went on between the two
	}
	m := Manifest{
		V: version, Number: last + 1, Namespace: b.opts.Namespace, Topic: b.opts.TopicID, Partition: number,
		Offset: written.Offset, LeaderEpoch: written.LeaderEpoch, Time: at.Time.UTC(), Made: time.Now().UTC(), Node: b.opts.Node,
		Entries: written.Entries, Raw: written.Raw, Size: written.Size,
		Digest: written.Digest.String(), SHA256: written.SHA256, Object: strings.TrimPrefix(object, b.folder(number)),
	}
	if err := b.Verify(ctx, m); err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("read back: %w", err), b.forget(ctx, object))
	}
	text, err := m.text()
	if err != nil {
		return Manifest{}, err
	}
	_, err = b.opts.Objects.Put(ctx, b.manifestKey(number, m.Number), strings.NewReader(text), int64(len(text)), objectstore.IfAbsent())
	if errors.Is(err, objectstore.ErrPrecondition) {
		err = fmt.Errorf("%w: %w", ErrFenced, err)
	}
	if err != nil {
		// It may have been written all the same: then its object must stay.
		if _, headErr := b.opts.Objects.Head(ctx, b.manifestKey(number, m.Number)); errors.Is(err, ErrFenced) || errors.Is(headErr, objectstore.ErrNotFound) {
			err = errors.Join(err, b.forget(ctx, object))
		}
		return Manifest{}, err
	}
	return m, nil
}

// upload writes a snapshot into the object store as it is made.
func (b *Backups) upload(ctx context.Context, p *store.Partition, object string) (store.SnapshotInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	type result struct {
		info store.SnapshotInfo
		err  error
	}
	made := make(chan result, 1)
	go func() {
		info, err := p.WriteSnapshot(ctx, w)
		w.CloseWithError(err) // nil is the end of the object
		made <- result{info, err}
	}()
	_, err := b.opts.Objects.Put(ctx, object, r, -1, objectstore.IfAbsent())
	r.CloseWithError(cmp.Or(err, io.ErrClosedPipe)) // whoever still writes must not wait
	if err != nil {
		cancel()
	}
	got := <-made
	if got.err != nil && !errors.Is(got.err, io.ErrClosedPipe) && (err == nil || errors.Is(err, got.err)) {
		return got.info, got.err
	}
	return got.info, err
}

// forget removes an object that became nothing, also when the context is what ended.
func (b *Backups) forget(ctx context.Context, object string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := b.opts.Objects.Delete(ctx, object); err != nil {
		return fmt.Errorf("(left behind: %w)", err)
	}
	return nil
}

// Verify reads a backup whole, restores it into the scratch directory, and removes that again.
func (b *Backups) Verify(ctx context.Context, m Manifest) (err error) {
	dir := filepath.Join(b.opts.Scratch, fmt.Sprintf("verify-%03d", m.Partition))
	if err := errors.Join(os.MkdirAll(b.opts.Scratch, 0o750), os.RemoveAll(dir)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return b.RestoreInto(ctx, dir, m)
}

// RestoreInto makes dir, which must not exist, a partition's directory from a backup. The directory appears when all that
// is in it has been compared with the manifest and with itself.
func (b *Backups) RestoreInto(ctx context.Context, dir string, m Manifest) error {
	if m.Topic != b.opts.TopicID || m.Namespace != b.opts.Namespace {
		return fmt.Errorf("it is of topic %x of %s: %w", m.Topic, m.Namespace, store.ErrOtherTopic)
	}
	r, info, err := b.opts.Objects.Get(ctx, b.folder(m.Partition)+m.Object)
	if errors.Is(err, objectstore.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if uint64(info.Size) != m.Size {
		return fmt.Errorf("%s has %d octets, and had %d: %w", m.Object, info.Size, m.Size, ErrDamaged)
	}
	got, err := store.Restore(ctx, dir, io.LimitReader(r, info.Size), store.RestoreOptions{MemTableSize: b.opts.MemTableSize, Logger: b.opts.Logger})
	if err != nil {
		return err
	}
	if got.SHA256 != m.SHA256 || got.Digest.String() != m.Digest || got.Offset != m.Offset || got.Partition != m.Partition || got.TopicID != m.Topic {
		return errors.Join(fmt.Errorf("%s is whole, but not what its manifest says: %w", m.Object, ErrDamaged), os.RemoveAll(dir))
	}
	return nil
}
