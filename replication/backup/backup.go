// Package backup keeps snapshots of partitions in object storage, and brings them back. A backup is two objects: the
// snapshot, and a manifest that says what it is, which is written when the snapshot has been read back. What has no
// manifest is no backup. A full snapshot stands alone; an increment follows another backup, and with those that it
// follows, down to a full one, is a chain. The format is in docs/formats/backup.md.
//
// What holds:
//   - A manifest never names a snapshot that was not read back, whole, from the object store it is in; a full one was
//     restored, too.
//   - Two writers that both think that a partition is theirs can't harm each other: manifests are numbered, each number is
//     taken once, and who comes second learns it (ErrFenced), and goes on from what the first wrote.
//   - Nothing of another namespace, topic or partition is ever taken for this one's.
package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/objectstore"
	"balefire/store"
)

// Errors that callers tell apart, with errors.Is.
var (
	// ErrFenced: another node has made a backup of the partition meanwhile, or of a later position.
	ErrFenced = errors.New("another node has backed up the partition meanwhile")
	// ErrNone: there is no backup that serves.
	ErrNone = errors.New("no backup that serves")
	// ErrDamaged: the object is not what its manifest says, or the manifest not what was written.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrDiverged: the backup is of the same position, and of another content.
	ErrDiverged = errors.New("the backup and the partition have different digests at the same position")
)

// Options of Backups. Objects, Namespace and TopicID are needed; Node and Scratch for those who save or verify.
type Options struct {
	Objects   objectstore.Store
	Namespace string
	TopicID   [16]byte
	Node      string // who makes backups
	// Scratch is a directory for trial restores, on the file system of the data. What is in it may be removed.
	Scratch string
	// FullEvery is how many backups a chain has at most; 0 means 24, 1 that all are full.
	FullEvery int
	// Keep is how many chains of a partition are kept; 0 means 3.
	Keep int
	// MemTableSize is that of the store's databases; 0 is the store's default.
	MemTableSize int64
	// Room is asked now and then while a restore writes, and ends it; nil: there is always room.
	Room   func() error
	Logger zerolog.Logger
}

const (
	defaultKeep      = 3
	defaultFullEvery = 24
)

// Backups are those of one topic's partitions. Its methods may be used by many goroutines, but Save by one at a time for
// each partition.
type Backups struct {
	opts Options

	mu      sync.Mutex
	read    map[string]readManifest // manifests that were read, by key: they don't change
	damaged map[string]bool         // keys of snapshots that were read whole and are not what they should be
}

// New makes Backups. It asks nothing of the object store.
func New(opts Options) *Backups {
	opts.Keep = cmp.Or(opts.Keep, defaultKeep)
	opts.FullEvery = cmp.Or(opts.FullEvery, defaultFullEvery)
	return &Backups{opts: opts, read: make(map[string]readManifest), damaged: make(map[string]bool)}
}

// String says where they are, without secrets.
func (b *Backups) String() string { return b.opts.Objects.String() }

// Save backs a partition up, as it is at its published position, and removes chains that are too many. An increment is
// made when the newest backup can be followed, the partition has kept what changed since, and the chain is not too long;
// otherwise a full snapshot. It goes up while it is made, is read back, and only then gets its manifest. When the newest
// backup is of the same position, that is returned.
func (b *Backups) Save(ctx context.Context, p *store.Partition, number int32) (Manifest, error) {
	m, err := b.save(ctx, p, number)
	if err != nil {
		return Manifest{}, fmt.Errorf("back up partition %d to %s: %w", number, b, err)
	}
	if err := b.Prune(ctx, number); err != nil { // there is one more than should be, no less
		b.opts.Logger.Warn().Err(err).Int32("partition", number).Msg("removing old backups")
	}
	return m, nil
}

func (b *Backups) save(ctx context.Context, p *store.Partition, number int32) (Manifest, error) {
	shelf, err := b.shelf(ctx, number)
	if err != nil {
		return Manifest{}, err
	}
	saving, err := p.Save()
	if err != nil {
		return Manifest{}, err
	}
	defer saving.Close()
	at := saving.Applied()
	before, follow, err := b.newest(shelf, at.Offset)
	if err != nil {
		return Manifest{}, err
	}
	if follow && before.Offset == at.Offset {
		if digest, at2 := p.Digest(); at2 == at.Offset && digest.String() != before.Digest {
			return Manifest{}, fmt.Errorf("offset %d has digest %s, and %s in backup %d: %w", at.Offset, digest, before.Digest, before.Number, ErrDiverged)
		}
		b.keep(saving.Verified(), number)
		return before, nil
	}
	if kept := p.Kept(); follow && kept >= 0 && kept < before.Offset {
		b.keep(p.Verified(before.Offset), number) // another's: nothing will follow an earlier one
	}
	m := Manifest{
		V: version, Number: shelf.last() + 1, Namespace: b.opts.Namespace, Topic: b.opts.TopicID, Partition: number,
		Since: -1, Time: at.Time.UTC(), Made: time.Now().UTC(), Node: b.opts.Node,
		Object: fmt.Sprintf("%s%d-%s%s", snapshotName, time.Now().UnixNano(), strings.ToLower(rand.Text()), snapshotSuffix),
	}
	if follow && before.Length+1 < b.opts.FullEvery && !shelf.heavy(before) {
		m.Follows, m.Since, m.Length, m.Raw = before.Number, before.Offset, before.Length+1, before.Raw
	}
	object := b.folder(number) + m.Object
	written, err := b.upload(ctx, saving, object, m.Since)
	if errors.Is(err, store.ErrNoIncrement) {
		m.Follows, m.Since, m.Length, m.Raw = 0, -1, 0, 0
		written, err = b.upload(ctx, saving, object, m.Since)
	}
	if err != nil {
		return Manifest{}, errors.Join(err, b.forget(ctx, object))
	}
	m.describe(written)
	if err := b.readBack(ctx, m); err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("read back: %w", err), b.forget(ctx, object))
	}
	if err := b.publish(ctx, m); err != nil {
		return Manifest{}, err
	}
	b.keep(saving.Verified(), number)
	return m, nil
}

// keep says that changes could not be kept for the next increment. The backup is there all the same: the next will be full.
func (b *Backups) keep(err error, number int32) {
	if err != nil && !errors.Is(err, store.ErrClosed) {
		b.opts.Logger.Warn().Err(err).Int32("partition", number).Msg("keeping changes for the next increment")
	}
}

// newest returns the newest backup, and whether one can follow it: it can be restored, as far as is known, and is of the
// offset at or before it.
func (b *Backups) newest(s *shelf, at int64) (m Manifest, follow bool, err error) {
	if len(s.numbers) == 0 {
		return m, false, nil
	}
	m, ok := s.manifests[s.numbers[0]]
	if !ok {
		return m, false, nil // its manifest is damaged
	}
	if _, err := b.chain(s, m); err != nil {
		return m, false, nil
	}
	if m.Offset > at {
		return m, false, fmt.Errorf("backup %d by %s is of offset %d, and this partition at %d: %w", m.Number, m.Node, m.Offset, at, ErrFenced)
	}
	return m, true, nil
}

// publish writes the manifest, if its number is still free.
func (b *Backups) publish(ctx context.Context, m Manifest) error {
	text, err := m.text()
	if err != nil {
		return err
	}
	key, object := b.manifestKey(m.Partition, m.Number), b.folder(m.Partition)+m.Object
	_, err = b.opts.Objects.Put(ctx, key, strings.NewReader(text), int64(len(text)), objectstore.IfAbsent())
	if err == nil {
		return nil
	}
	// It may have been written all the same, by an attempt whose answer was lost.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	there, readErr := b.readText(asking, key)
	switch {
	case readErr == nil && string(there) == text:
		return nil
	case errors.Is(err, objectstore.ErrPrecondition) && readErr == nil:
		return errors.Join(fmt.Errorf("%w: %w", ErrFenced, err), b.forget(ctx, object))
	case errors.Is(readErr, objectstore.ErrNotFound):
		return errors.Join(err, b.forget(ctx, object))
	}
	return err // nobody knows: if it is not named, the object goes when it is old
}

// upload writes a snapshot into the object store as it is made: a full one when since is negative.
func (b *Backups) upload(ctx context.Context, saving *store.Saving, object string, since int64) (store.SnapshotInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	type result struct {
		info store.SnapshotInfo
		err  error
	}
	made := make(chan result, 1)
	go func() {
		var got result
		if since < 0 {
			got.info, got.err = saving.WriteFull(ctx, w)
		} else {
			got.info, got.err = saving.WriteIncrement(ctx, w, since)
		}
		w.CloseWithError(got.err) // nil is the end of the object
		made <- got
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

// patience is how long is cleaned up after something has ended.
const patience = 10 * time.Second

// forget removes an object that became nothing, also when the context is what ended.
func (b *Backups) forget(ctx context.Context, object string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := b.opts.Objects.Delete(ctx, object); err != nil {
		return fmt.Errorf("(left behind: %w)", err)
	}
	return nil
}
