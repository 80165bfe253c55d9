package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"balefire/replication/backup"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/store/snapshot"
)

// The embedded log is the only one that has it all, so what is trimmed from it must be found elsewhere: in snapshots of
// each partition, in Dir/snapshots/NNN/OFFSET.snapshot. The newest two are kept, and the log from the older one on. A file has that name
// only after it was read back and restored.
const (
	snapshotSuffix = ".snapshot"
	keptSnapshots  = 2
	// scratchName and unfinishedName are beside the snapshots while one is made, and removed before the next.
	scratchName    = "verify"
	unfinishedName = "unfinished"
	// A partition is not saved again before this many times the duration of the last time have gone by, as long as the
	// log is not over its limit: saving is a twentieth of the node's work at most.
	snapshotRest = 20
	// snapshotRoom is the free space that must remain beside what a snapshot and its trial restore take.
	snapshotRoom = 512 << 20

	// rebuildPatience is how long a damaged copy waits for the log, before a snapshot is taken that may be too old for it.
	rebuildPatience = 10 * time.Second

	defaultTrimAbove    = 64 << 20
	defaultTrimInterval = 10 * time.Second
)

// maintain looks now and then at where the log ends, and keeps the embedded one small.
func (n *Node) maintain() {
	var trouble bool
	for n.sleep(n.ctx, n.opts.TrimInterval) {
		n.mark()
		n.refreshEnds()
		err := n.trim(n.ctx)
		if err != nil && n.ctx.Err() == nil && !trouble {
			n.alarm(-1, "", fmt.Errorf("the log grows: %w", err))
		}
		trouble = err != nil
	}
}

// refreshEnds asks where the log ends, for the metrics of partitions that are not read.
func (n *Node) refreshEnds() {
	bounds, err := n.log.Bounds(n.ctx)
	if err != nil {
		return // the log's status says it
	}
	for r := range n.replicas() {
		if b, ok := bounds[r.number]; ok {
			r.mu.Lock()
			r.end = max(r.end, b.End)
			r.mu.Unlock()
		}
	}
}

// roomForLog is how large the embedded log may become before partitions are saved to make it smaller, in octets; 0 for no larger than
// the options say.
func (n *Node) roomForLog() int64 {
	if !n.opts.trimByTables {
		return 0
	}
	var tables int64
	for _, p := range n.store.Partitions() {
		tables += p.TableOctets()
	}
	return logBeside(tables)
}

// logBeside is the log's size beside partitions with so many octets of tables. The two snapshots of each that it is trimmed by take about half
// as much as the tables do: a log that is smaller than half of that is left alone, unless it is half-way to where the broker is
// in trouble.
func logBeside(tables int64) int64 { return min(tables/4, mutationlog.EmbeddedSoftLimit/2) }

// trim makes the embedded log smaller when it is too large, saving partitions first.
func (n *Node) trim(ctx context.Context) error {
	sizes, err := n.log.Sizes()
	if err != nil || len(sizes) == 0 {
		return err
	}
	var total int64
	for _, size := range sizes {
		total += size
	}
	n.metrics.logSize.Set(float64(total))
	if total <= n.opts.TrimAbove || total <= n.roomForLog() {
		return nil
	}
	pressed := total > mutationlog.EmbeddedSoftLimit
	replicas := slices.Collect(n.replicas())
	slices.SortFunc(replicas, func(a, b *replica) int { return cmp.Compare(sizes[b.number], sizes[a.number]) })
	var failed error
	for _, r := range replicas {
		if sizes[r.number] > n.opts.TrimAbove/int64(len(replicas)) {
			failed = errors.Join(failed, r.trim(ctx, pressed))
		}
	}
	return failed
}

// trim saves the partition, if that is due, and removes from the log what two snapshots have: or one, when the log is
// pressed for room.
func (r *replica) trim(ctx context.Context, pressed bool) error {
	p := r.opened()
	if p == nil {
		return nil
	}
	kept, err := r.snapshots()
	if err != nil {
		return err
	}
	due := pressed || time.Since(r.savedAt) > snapshotRest*r.savedIn
	if applied := p.Applied().Offset; due && applied >= 0 && (len(kept) == 0 || kept[0] < applied) {
		offset, err := r.save(ctx, p)
		r.node.metrics.saved(r.savedIn, err)
		if err != nil {
			return fmt.Errorf("save partition %d: %w", r.number, err)
		}
		kept = append([]int64{offset}, kept...)
	}
	for len(kept) > keptSnapshots {
		if err := os.Remove(r.snapshotFile(kept[len(kept)-1])); err != nil {
			return err
		}
		kept = kept[:len(kept)-1]
	}
	var before int64
	switch { // a copy that is built anew may be behind its snapshots, and reads what they have
	case pressed && len(kept) > 0:
		before = kept[0]
	case len(kept) == keptSnapshots:
		before = kept[keptSnapshots-1]
	}
	if before = min(before, p.Applied().Offset); before <= 0 {
		return nil
	}
	bounds, err := r.node.log.Bounds(ctx)
	if err != nil {
		return err
	}
	if before <= bounds[r.number].Start {
		return nil
	}
	// The record at the snapshot's own offset stays, to be compared with what was restored.
	return r.node.log.Trim(ctx, r.number, before)
}

// save writes a snapshot, and gives it its name when it has been restored from what is on the disk. A crash leaves files
// under other names, which the next time removes.
func (r *replica) save(ctx context.Context, p *store.Partition) (offset int64, err error) {
	began := time.Now()
	defer func() { r.savedAt, r.savedIn = time.Now(), time.Since(began) }()
	folder := r.snapshotFolder()
	unfinished, scratch := filepath.Join(folder, unfinishedName), filepath.Join(folder, scratchName)
	if err := errors.Join(os.MkdirAll(folder, 0o750), os.RemoveAll(unfinished), os.RemoveAll(scratch)); err != nil {
		return 0, err
	}
	if err := r.roomToSave(folder); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	written, err := writeSnapshot(ctx, p, unfinished)
	if err != nil {
		return 0, errors.Join(err, os.Remove(unfinished))
	}
	f, err := os.Open(unfinished)
	if err != nil {
		return 0, err
	}
	read, err := store.Restore(ctx, scratch, f, store.RestoreOptions{
		MemTableSize: r.node.opts.Store.MemTableSize, Logger: r.node.logger,
	})
	if err = errors.Join(err, f.Close()); err == nil && read != written {
		err = fmt.Errorf("written was %+v, read back %+v: %w", written, read, store.ErrCorrupt)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("read the snapshot back: %w", err), os.Remove(unfinished))
	}
	if err := os.Rename(unfinished, r.snapshotFile(written.Offset)); err != nil {
		return 0, err
	}
	return written.Offset, mutationlog.SyncFolder(folder)
}

func writeSnapshot(ctx context.Context, p *store.Partition, file string) (info store.SnapshotInfo, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return info, err
	}
	info, err = p.WriteSnapshot(ctx, f)
	return info, errors.Join(err, f.Sync(), f.Close())
}

// roomToSave keeps the trial restore away from a full disk, which would end the process.
func (r *replica) roomToSave(folder string) error {
	free, err := r.node.diskFree(folder)
	if err != nil {
		return err
	}
	size, err := folderSize(filepath.Join(r.node.opts.Dir, "partitions", fmt.Sprintf("%03d", r.number)))
	if err != nil {
		return err
	}
	if need := 3*size + snapshotRoom; free < need {
		return fmt.Errorf("%d MiB free, %d MiB needed: %w", free>>20, need>>20, store.ErrDiskReserve)
	}
	return nil
}

func folderSize(dir string) (size uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err) // compacted away meanwhile
		}
		size += uint64(info.Size())
		return nil
	})
	return size, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *replica) snapshotFolder() string {
	return filepath.Join(r.node.opts.Dir, "snapshots", fmt.Sprintf("%03d", r.number))
}

func (r *replica) snapshotFile(offset int64) string {
	return filepath.Join(r.snapshotFolder(), fmt.Sprintf("%020d%s", offset, snapshotSuffix))
}

// snapshots returns the offsets of the partition's snapshots, newest first. Those of another topic, whose offsets are not
// comparable, are left out, and alone.
func (r *replica) snapshots() ([]int64, error) {
	entries, err := os.ReadDir(r.snapshotFolder())
	if err != nil {
		return nil, ignoreGone(err)
	}
	var offsets []int64
	for _, e := range entries {
		name, ours := strings.CutSuffix(e.Name(), snapshotSuffix)
		offset, err := strconv.ParseInt(name, 10, 64)
		if !ours || err != nil {
			continue
		}
		if h, err := readHeader(r.snapshotFile(offset)); err == nil && h.TopicID != r.topic {
			continue
		}
		offsets = append(offsets, offset)
	}
	slices.Sort(offsets)
	slices.Reverse(offsets)
	return offsets, nil
}

func readHeader(file string) (snapshot.Header, error) {
	f, err := os.Open(file)
	if err != nil {
		return snapshot.Header{}, err
	}
	defer f.Close()
	r, err := snapshot.NewReader(f)
	if err != nil {
		return snapshot.Header{}, err
	}
	return r.Header(), nil
}

var (
	// errLater marks what is tried again when the log, or the object store, can be asked.
	errLater = errors.New("the copy can't be built anew just now")
	// errObjects marks that it isn't known which backups there are.
	errObjects = errors.New("the object store can't be asked")
)

// rebuild replaces a copy that contradicts itself: by a snapshot that the log reaches, or, if the log has it all, by reading
// that from its start. It is done once in a process: a second time, the fault is not in the files. The error is why, if
// there is nothing better than the copy, or marked errLater.
func (r *replica) rebuild(ctx context.Context, why error) error {
	if r.rebuilt {
		return why
	}
	r.rebuilt = true
	select {
	case <-r.node.log.Established(): // it says how far back it reaches
	case <-time.After(rebuildPatience):
	case <-ctx.Done():
		return ctx.Err()
	}
	bounds, err := r.node.log.Bounds(ctx)
	b, known := bounds[r.number]
	if (err != nil || !known) && r.opened() != nil {
		return r.rebuildLater(why) // what it holds is better than nothing
	}
	err = r.restoreFrom(ctx, b.Start-1, why)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil || !known || b.Start > 0 || b.End <= r.applied().Offset {
		if errors.Is(err, errObjects) {
			return fmt.Errorf("%w: %w", errUnavailable, r.rebuildLater(err))
		}
		return err
	}
	if err := r.setAside(why); err != nil {
		return err
	}
	return r.open(ctx)
}

// rebuildLater has a rebuild tried again.
func (r *replica) rebuildLater(why error) error {
	r.rebuilt = false
	if r.opened() != nil {
		r.contradicted(why)
	}
	return fmt.Errorf("%w: %w", errLater, why)
}

// restoreFrom replaces the copy by the newest snapshot that checks out, is of this topic, and is at the offset least or
// later: a local one, or else a backup. Without one, the copy stays, and the error is why.
func (r *replica) restoreFrom(ctx context.Context, least int64, why error) error {
	offsets, err := r.snapshots()
	if err != nil {
		return errors.Join(why, err)
	}
	for _, offset := range offsets {
		if offset < least {
			break
		}
		err := r.restore(ctx, r.snapshotFile(offset), why)
		if err == nil {
			return nil
		}
		r.node.alarm(r.number, "", fmt.Errorf("snapshot of partition %d at %d: %w", r.number, offset, err))
		if r.opened() == nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	err = r.restoreBackup(ctx, least, why)
	if errors.Is(err, backup.ErrNone) {
		return why
	}
	if err != nil {
		return fmt.Errorf("%w; %w: %v", why, errObjects, err)
	}
	return r.open(ctx)
}

func (r *replica) restore(ctx context.Context, file string, why error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// Before the copy is touched.
	info, err := snapshot.Verify(f)
	if err != nil {
		return err
	}
	if info.TopicID != r.topic || info.Partition != r.number {
		return store.ErrOtherTopic
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	if err := r.setAside(why); err != nil {
		return err
	}
	if _, err := r.node.store.RestorePartition(ctx, r.number, r.topic, f); err != nil {
		return err
	}
	r.node.logger.Warn().Int32("partition", r.number).Int64("offset", info.Offset).Msg("partition restored from a snapshot")
	return r.open(ctx)
}

// setAside closes the copy and moves its files away. The partition is not ready until another has caught up.
func (r *replica) setAside(why error) error {
	r.node.mark() // so that the next copy is not taken for one that is as far
	if err := r.closePartition(); err != nil {
		r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("closing a partition to rebuild it")
	}
	r.mu.Lock()
	r.reached, r.caughtUp, r.target = false, false, -2
	r.noteHolding()
	r.mu.Unlock()
	aside, err := r.node.store.SetAside(r.number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set partition %d aside: %w", r.number, err)
	}
	if why != nil {
		r.node.alarm(r.number, "", fmt.Errorf("partition %d is built anew, its files are in %s: %w", r.number, aside, why))
	}
	return nil
}
