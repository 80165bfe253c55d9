package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"balefire/replication/objectstore"
)

// shelf is what the object store has of one partition, as it was listed.
type shelf struct {
	numbers   []int64 // of all manifests, newest first
	manifests map[int64]Manifest
	unusable  map[int64]error             // why a number has no manifest here
	snapshots map[string]objectstore.Info // by their names
}

// last returns the highest number that is taken; 0 when none is.
func (s *shelf) last() int64 {
	if len(s.numbers) == 0 {
		return 0
	}
	return s.numbers[0]
}

// heavy reports whether the increments that m follows, and it, are more than the full snapshot under them: a new one is
// then cheaper to restore.
func (s *shelf) heavy(m Manifest) bool {
	full := m
	for full.Follows != 0 {
		full = s.manifests[full.Follows]
	}
	return m.Raw > 2*full.Raw
}

// shelf lists a partition's objects, and reads the manifests that it has not read before.
func (b *Backups) shelf(ctx context.Context, partition int32) (*shelf, error) {
	s := &shelf{manifests: make(map[int64]Manifest), unusable: make(map[int64]error), snapshots: make(map[string]objectstore.Info)}
	folder := b.folder(partition)
	infos := make(map[int64]objectstore.Info)
	for info, err := range b.opts.Objects.List(ctx, folder) {
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(info.Key, folder)
		digits, ours := strings.CutSuffix(name, manifestSuffix)
		if number, err := strconv.ParseInt(digits, 10, 64); ours && err == nil && number > 0 {
			infos[number] = info
			s.numbers = append(s.numbers, number)
		} else if strings.HasPrefix(name, snapshotName) {
			s.snapshots[name] = info
		}
	}
	slices.Sort(s.numbers)
	slices.Reverse(s.numbers)
	gone := make(map[int64]bool)
	for _, number := range s.numbers {
		m, err := b.manifest(ctx, partition, number, infos[number])
		switch {
		case err == nil:
			s.manifests[number] = m
		case errors.Is(err, objectstore.ErrNotFound): // removed meanwhile
			gone[number] = true
		case errors.Is(err, ErrDamaged):
			s.unusable[number] = err
		default:
			return nil, err
		}
	}
	s.numbers = slices.DeleteFunc(s.numbers, func(number int64) bool { return gone[number] })
	b.forgetAllBut(folder, infos)
	return s, nil
}

// forgetAllBut drops what is remembered of manifests in a folder that are not there any more.
func (b *Backups) forgetAllBut(folder string, infos map[int64]objectstore.Info) {
	there := make(map[string]bool, len(infos))
	for _, info := range infos {
		there[info.Key] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.read {
		if strings.HasPrefix(key, folder) && !there[key] {
			delete(b.read, key)
		}
	}
}

// chain returns what a restore of m reads, the full backup first. What is missing, too long or short, known to be damaged,
// or does not fit together, is ErrDamaged.
func (b *Backups) chain(s *shelf, m Manifest) ([]Manifest, error) {
	chain := []Manifest{m}
	for {
		at := chain[len(chain)-1]
		object, ok := s.snapshots[at.Object]
		b.mu.Lock()
		damaged := b.damaged[b.folder(at.Partition)+at.Object]
		b.mu.Unlock()
		switch {
		case !ok:
			return nil, fmt.Errorf("backup %d: %s is missing: %w", at.Number, at.Object, ErrDamaged)
		case uint64(object.Size) != at.Size:
			return nil, fmt.Errorf("backup %d: %s has %d octets, and had %d: %w", at.Number, at.Object, object.Size, at.Size, ErrDamaged)
		case damaged:
			return nil, fmt.Errorf("backup %d: %s was read, and is not what its manifest says: %w", at.Number, at.Object, ErrDamaged)
		case at.Follows == 0 && at.Length == 0 && at.Since == -1:
			slices.Reverse(chain)
			return chain, nil
		}
		before, ok := s.manifests[at.Follows]
		switch {
		case !ok:
			return nil, fmt.Errorf("backup %d follows %d, which is missing: %w", at.Number, at.Follows, errors.Join(ErrDamaged, s.unusable[at.Follows]))
		case before.Number >= at.Number || before.Length != at.Length-1 || before.Offset != at.Since || at.Offset < at.Since:
			return nil, fmt.Errorf("backup %d does not follow %d: %w", at.Number, before.Number, ErrDamaged)
		}
		chain = append(chain, before)
	}
}

// List returns a partition's backups that can be restored, as far as their manifests and lengths say, newest first, and an
// error for each other one.
func (b *Backups) List(ctx context.Context, partition int32) (found []Manifest, bad []error, err error) {
	s, err := b.shelf(ctx, partition)
	if err != nil {
		return nil, nil, err
	}
	for _, number := range s.numbers {
		m, ok := s.manifests[number]
		if !ok {
			bad = append(bad, s.unusable[number])
			continue
		}
		if _, err := b.chain(s, m); err != nil {
			bad = append(bad, err)
			continue
		}
		found = append(found, m)
	}
	return found, bad, nil
}

// Newest returns the newest backup that can be used, by its manifest. Without one, it is ErrNone.
func (b *Backups) Newest(ctx context.Context, partition int32) (Manifest, error) {
	return b.find(ctx, partition, func(Manifest) bool { return true })
}

// AtOffset returns the newest backup of the offset or an earlier one. Without one, it is ErrNone.
func (b *Backups) AtOffset(ctx context.Context, partition int32, offset int64) (Manifest, error) {
	return b.find(ctx, partition, func(m Manifest) bool { return m.Offset <= offset })
}

// AtTime returns the newest backup whose last record is from that time, in the log's time, or an earlier one. Without
// one, it is ErrNone.
func (b *Backups) AtTime(ctx context.Context, partition int32, at time.Time) (Manifest, error) {
	return b.find(ctx, partition, func(m Manifest) bool { return !m.Time.After(at) })
}

func (b *Backups) find(ctx context.Context, partition int32, serves func(Manifest) bool) (Manifest, error) {
	found, bad, err := b.List(ctx, partition)
	if err != nil {
		return Manifest{}, err
	}
	for _, m := range found {
		if serves(m) {
			return m, nil
		}
	}
	return Manifest{}, errors.Join(fmt.Errorf("partition %d in %s: %w", partition, b, ErrNone), errors.Join(bad...))
}

// Prune removes all but the newest chains, and snapshots that never got a manifest. It removes manifests before what they
// name, and increments before what they follow: what ends it in between leaves less, but nothing that is not whole.
func (b *Backups) Prune(ctx context.Context, partition int32) error {
	s, err := b.shelf(ctx, partition)
	if err != nil {
		return err
	}
	// Numbers from this one on are kept: what follows a full backup has a higher one.
	oldest, kept := int64(0), 0
	for _, number := range s.numbers {
		m, ok := s.manifests[number]
		if !ok || m.Follows != 0 {
			continue
		}
		if _, err := b.chain(s, m); err != nil {
			continue // it is no backup to rely on
		}
		if kept++; kept == b.opts.Keep {
			oldest = number
			break
		}
	}
	folder := b.folder(partition)
	used := make(map[string]bool)
	var old []string
	for _, number := range s.numbers { // newest first
		m, ok := s.manifests[number]
		if number >= oldest {
			used[m.Object] = ok
			continue
		}
		if err := b.opts.Objects.Delete(ctx, b.manifestKey(partition, number)); err != nil {
			return err
		}
		if ok {
			old = append(old, m.Object)
		}
	}
	for _, name := range old {
		if err := b.opts.Objects.Delete(ctx, folder+name); err != nil {
			return err
		}
		used[name] = true // gone already
	}
	for name, info := range s.snapshots {
		if !used[name] && time.Since(info.Modified) > orphanAge {
			if err := b.opts.Objects.Delete(ctx, info.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stored is what an object store has of a namespace: the partitions of one topic.
type Stored struct {
	Topic      [16]byte
	Partitions []int32
}

// Inventory returns which topics and partitions of a namespace an object store has backups of.
func Inventory(ctx context.Context, objects objectstore.Store, namespace string) ([]Stored, error) {
	var all []Stored
	for info, err := range objects.List(ctx, namespace+"/") {
		if err != nil {
			return nil, err
		}
		parts := strings.Split(info.Key, "/")
		if len(parts) != 4 || !strings.HasSuffix(parts[3], manifestSuffix) {
			continue
		}
		id, err := hex.DecodeString(parts[1])
		partition, err2 := strconv.ParseInt(parts[2], 10, 32)
		if err != nil || err2 != nil || len(id) != 16 {
			continue
		}
		if len(all) == 0 || all[len(all)-1].Topic != [16]byte(id) {
			all = append(all, Stored{Topic: [16]byte(id)})
		}
		s := &all[len(all)-1]
		if len(s.Partitions) == 0 || s.Partitions[len(s.Partitions)-1] != int32(partition) {
			s.Partitions = append(s.Partitions, int32(partition))
		}
	}
	return all, nil
}
