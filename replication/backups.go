package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"balefire/replication/backup"
	"balefire/replication/objectstore"
	"balefire/store"
)

// BackupOptions say what a node does with an object store. Without Objects it does nothing.
type BackupOptions struct {
	Objects objectstore.Store
	// Create: make backups of the partitions that this node has.
	Create bool
	// Restore: take a partition that is missing, damaged, or left behind by the log, from the newest backup.
	Restore bool
	// Interval is the time in which each partition is backed up, if it has changed; 0 means an hour.
	Interval time.Duration
	// Keep is how many backups of a partition are kept; 0 means 3.
	Keep int
}

const (
	defaultBackupInterval = time.Hour
	// backupRetry is how long a partition that can't be had now waits before the object store is asked again.
	backupRetry = 10 * time.Second
	// restoredName is where a backup is restored, until it takes the place of the copy.
	restoredName = "restored"
)

// errUnavailable marks a partition that neither the log nor a backup has whole, or not now.
var errUnavailable = errors.New("the partition is unavailable")

// backupsOf makes the node's access to its backups, once the topic is known; nil when there is no object store.
func (n *Node) backupsOf(topic [16]byte) *backup.Backups {
	o := n.opts.Backup
	if o.Objects == nil {
		return nil
	}
	return backup.New(backup.Options{
		Objects: o.Objects, Namespace: n.opts.Log.Namespace, TopicID: topic, Node: n.opts.NodeID, Keep: o.Keep,
		Scratch: filepath.Join(n.opts.Dir, "scratch"), MemTableSize: n.opts.Store.MemTableSize,
		Logger: n.logger.With().Str("part", "backup").Logger(),
	})
}

// backUp backs partitions up, one at a time, for as long as the node runs: each once in every interval.
func (n *Node) backUp() {
	var failing bool
	for {
		for partition := range n.count() {
			if !n.sleep(n.ctx, n.opts.Backup.Interval/time.Duration(n.count())) {
				return
			}
			r := n.replica(partition)
			if r == nil {
				continue
			}
			made, err := r.backUp(n.ctx)
			switch {
			case n.ctx.Err() != nil:
				return
			case errors.Is(err, store.ErrClosed): // it is being opened again
			case errors.Is(err, backup.ErrFenced): // another node was faster: there is one
				r.noteNoBackup(nil)
				n.metrics.backups.WithLabelValues("fenced").Inc()
			case err != nil:
				r.noteNoBackup(err)
				n.metrics.backups.WithLabelValues("failed").Inc()
				n.logger.Error().Err(err).Int32("partition", r.number).Msg("no backup")
				if !failing {
					n.alarm(r.number, "", err)
				}
				failing = true
			case made:
				failing = false
				n.metrics.backups.WithLabelValues("made").Inc()
			}
		}
	}
}

// backUp makes a backup if the partition has changed since the newest.
func (r *replica) backUp(ctx context.Context) (made bool, err error) {
	p := r.opened()
	r.mu.Lock()
	whole := r.caughtUp
	r.mu.Unlock()
	if p == nil || !whole || p.Applied().Offset < 0 {
		return false, nil
	}
	newest, err := r.node.backups.Newest(ctx, r.number)
	switch {
	case errors.Is(err, backup.ErrNone):
	case err != nil:
		return false, err
	case newest.Offset >= p.Applied().Offset, time.Since(newest.Made) < r.node.opts.Backup.Interval/2:
		r.noteBackup(newest)
		return false, nil
	}
	if err := r.roomToSave(r.node.opts.Dir); err != nil {
		return false, fmt.Errorf("no room for the trial restore of partition %d: %w", r.number, err)
	}
	m, err := r.node.backups.Save(ctx, p, r.number)
	if err != nil {
		return false, err
	}
	r.noteBackup(m)
	r.node.logger.Info().Int32("partition", r.number).Int64("offset", m.Offset).Uint64("octets", m.Size).Msg("backed up")
	return true, nil
}

func (r *replica) noteBackup(m backup.Manifest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backedUp, r.backedUpTo, r.noBackup = m.Made, m.Offset, nil
}

// noteNoBackup remembers why the last backup could not be made; nil when there is one.
func (r *replica) noteNoBackup(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noBackup = err
}

// restoreBackup puts the newest backup that checks out, at the offset least or later, in the place of the copy, if there
// is one. The copy goes on answering until the backup is whole beside it. ErrNone says that no backup serves.
func (r *replica) restoreBackup(ctx context.Context, least int64, why error) error {
	b := r.node.backups
	if b == nil || !r.node.opts.Backup.Restore {
		return backup.ErrNone
	}
	found, bad, err := b.List(ctx, r.number)
	if err != nil {
		return fmt.Errorf("backups of partition %d: %w", r.number, err)
	}
	for _, err := range bad {
		r.node.alarm(r.number, "", err)
	}
	dir := filepath.Join(r.node.opts.Dir, "scratch", fmt.Sprintf("%s-%03d", restoredName, r.number))
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o750), os.RemoveAll(dir)); err != nil {
		return err
	}
	for _, m := range found {
		if m.Offset < least {
			break
		}
		if err := r.roomToRestore(m); err != nil {
			return err
		}
		began := time.Now()
		err := b.RestoreInto(ctx, dir, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.node.alarm(r.number, "", fmt.Errorf("backup of partition %d at offset %d: %w", r.number, m.Offset, err))
			continue
		}
		if err := r.setAside(why); err != nil {
			return err
		}
		if err := r.node.store.Adopt(r.number, r.topic, dir); err != nil {
			return err
		}
		r.node.logger.Warn().Int32("partition", r.number).Int64("offset", m.Offset).Dur("took", time.Since(began)).Msg("partition restored from a backup")
		r.restored = m.Offset
		r.noteBackup(m)
		return nil
	}
	return backup.ErrNone
}

// roomToRestore keeps a restore away from a full disk, which would end the process.
func (r *replica) roomToRestore(m backup.Manifest) error {
	free, err := r.node.diskFree(r.node.opts.Dir)
	if err != nil {
		return err
	}
	if need := 2*m.Raw + snapshotRoom; free < need {
		return fmt.Errorf("restore partition %d: %d MiB free, %d MiB needed: %w", r.number, free>>20, need>>20, store.ErrDiskReserve)
	}
	return nil
}

// BackupMade is what became of one partition's backup.
type BackupMade struct {
	Partition int32
	Offset    int64 // of the last record in it
	Octets    uint64
	Made      time.Time // zero when Skipped
	Skipped   string    // why none was needed; "" when one was made
	Err       error     // why none was made
}

// BackUp backs up partitions now, nil meaning all that this node holds. Those that have not changed since their newest backup are
// left as they are. The error says that there can be none at all.
func (n *Node) BackUp(ctx context.Context, partitions []int32) (made []BackupMade, err error) {
	if n.opts.Backup.Objects == nil {
		return nil, errors.New("this node has no object store for backups: set backup.url")
	}
	if n.count() == 0 || n.backups == nil { // in this order: backups are set before the count
		return nil, errors.New("the namespace is not known yet")
	}
	for r := range n.replicas() {
		if (partitions == nil || slices.Contains(partitions, r.number)) && n.Holds(r.number) {
			made = append(made, r.backUpNow(ctx))
		}
	}
	return made, ctx.Err()
}

func (r *replica) backUpNow(ctx context.Context) BackupMade {
	b := BackupMade{Partition: r.number}
	p := r.opened()
	if p == nil {
		b.Err = ErrNotOpen
		return b
	}
	applied := p.Applied().Offset
	if applied < 0 {
		b.Offset, b.Skipped = -1, "nothing is in it"
		return b
	}
	newest, err := r.node.backups.Newest(ctx, r.number)
	if err == nil && newest.Offset >= applied {
		b.Offset, b.Skipped = newest.Offset, "nothing has changed since the newest"
		return b
	}
	if err != nil && !errors.Is(err, backup.ErrNone) {
		b.Err = err
		return b
	}
	if b.Err = r.roomToSave(r.node.opts.Dir); b.Err != nil {
		return b
	}
	m, err := r.node.backups.Save(ctx, p, r.number)
	if errors.Is(err, backup.ErrFenced) { // another node was faster: there is one
		b.Offset, b.Skipped = applied, "another node has made one just now"
		return b
	}
	if err != nil {
		b.Err = err
		return b
	}
	r.noteBackup(m)
	b.Offset, b.Octets, b.Made = m.Offset, m.Size, m.Made
	return b
}
