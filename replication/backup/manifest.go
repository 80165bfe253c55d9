package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"balefire/replication/objectstore"
)

const (
	version        = 1
	maxManifest    = 16 << 10 // octets
	manifestSuffix = ".manifest"
	snapshotName   = "snapshot-"
	snapshotSuffix = ".bfsnap"
	// orphanAge is after which a snapshot without a manifest is nobody's: no upload takes that long.
	orphanAge = 48 * time.Hour
)

// Manifest says what one backup is.
type Manifest struct {
	V           int       `json:"v"`
	Number      int64     `json:"number"` // counts up in a partition; a higher one was written later
	Namespace   string    `json:"namespace"`
	Topic       [16]byte  `json:"-"`
	TopicHex    string    `json:"topic_id"`
	Partition   int32     `json:"partition"`
	Offset      int64     `json:"offset"` // of the last record in it; -1 for none
	LeaderEpoch int32     `json:"leader_epoch"`
	Time        time.Time `json:"time"` // the partition's time at Offset; zero when it isn't known
	Made        time.Time `json:"made"`
	Node        string    `json:"node"`
	Entries     uint64    `json:"entries"`
	Raw         uint64    `json:"raw_octets"`
	Size        uint64    `json:"octets"` // of the object
	Digest      string    `json:"digest"` // the partition's
	SHA256      [32]byte  `json:"-"`
	SHA256Hex   string    `json:"sha256"` // of the object
	Object      string    `json:"object"` // its name beside the manifest
	// Check is the SHA-256 of this manifest's text with an empty Check.
	Check string `json:"check"`
}

// text writes a manifest.
func (m Manifest) text() (string, error) {
	m.TopicHex, m.SHA256Hex, m.Check = hex.EncodeToString(m.Topic[:]), hex.EncodeToString(m.SHA256[:]), ""
	unchecked, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(unchecked)
	m.Check = hex.EncodeToString(sum[:])
	text, err := json.Marshal(m)
	return string(text) + "\n", err
}

// parseManifest reads what text wrote, and nothing else.
func parseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if m.V != version {
		return m, fmt.Errorf("version %d, known is %d: %w", m.V, version, ErrDamaged)
	}
	topic, err := hex.DecodeString(m.TopicHex)
	sum, err2 := hex.DecodeString(m.SHA256Hex)
	if err != nil || err2 != nil || len(topic) != len(m.Topic) || len(sum) != len(m.SHA256) {
		return m, fmt.Errorf("topic id or sum: %w", ErrDamaged)
	}
	copy(m.Topic[:], topic)
	copy(m.SHA256[:], sum)
	if again, err := m.text(); err != nil || !bytes.Equal([]byte(again), text) {
		return m, fmt.Errorf("it is not what was written: %w", ErrDamaged)
	}
	return m, nil
}

func (b *Backups) folder(partition int32) string {
	return fmt.Sprintf("%s/%x/%05d/", b.opts.Namespace, b.opts.TopicID, partition)
}

func (b *Backups) manifestKey(partition int32, number int64) string {
	return fmt.Sprintf("%s%012d%s", b.folder(partition), number, manifestSuffix)
}

// numbers returns the numbers of a partition's manifests, newest first.
func (b *Backups) numbers(ctx context.Context, partition int32) (numbers []int64, orphans []objectstore.Info, err error) {
	folder := b.folder(partition)
	for info, err := range b.opts.Objects.List(ctx, folder) {
		if err != nil {
			return nil, nil, err
		}
		name := strings.TrimPrefix(info.Key, folder)
		digits, ours := strings.CutSuffix(name, manifestSuffix)
		if number, err := strconv.ParseInt(digits, 10, 64); ours && err == nil && number > 0 {
			numbers = append(numbers, number)
		} else if strings.HasPrefix(name, snapshotName) {
			orphans = append(orphans, info) // for now
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, orphans, nil
}

func (b *Backups) lastNumber(ctx context.Context, partition int32) (int64, error) {
	numbers, _, err := b.numbers(ctx, partition)
	if err != nil || len(numbers) == 0 {
		return 0, err
	}
	return numbers[0], nil
}

func (b *Backups) manifest(ctx context.Context, partition int32, number int64) (Manifest, error) {
	key := b.manifestKey(partition, number)
	r, _, err := b.opts.Objects.Get(ctx, key)
	if err != nil {
		return Manifest{}, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", key, err)
	}
	m, err := parseManifest(text)
	if err == nil && (m.Number != number || m.Partition != partition || m.Topic != b.opts.TopicID || m.Namespace != b.opts.Namespace) {
		err = fmt.Errorf("it is of another place: %w", ErrDamaged)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", key, err)
	}
	return m, nil
}

// List returns a partition's backups, newest first, and an error for each manifest that can't be used.
func (b *Backups) List(ctx context.Context, partition int32) (found []Manifest, bad []error, err error) {
	numbers, _, err := b.numbers(ctx, partition)
	if err != nil {
		return nil, nil, err
	}
	for _, number := range numbers {
		m, err := b.manifest(ctx, partition, number)
		switch {
		case err == nil:
			found = append(found, m)
		case errors.Is(err, objectstore.ErrNotFound): // removed meanwhile
		case errors.Is(err, ErrDamaged):
			bad = append(bad, err)
		default:
			return nil, nil, err
		}
	}
	return found, bad, nil
}

// Newest returns the newest backup that can be used, by its manifest. Without one, it is ErrNone.
func (b *Backups) Newest(ctx context.Context, partition int32) (Manifest, error) {
	found, bad, err := b.List(ctx, partition)
	if err != nil {
		return Manifest{}, err
	}
	if len(found) == 0 {
		return Manifest{}, errors.Join(fmt.Errorf("partition %d in %s: %w", partition, b, ErrNone), errors.Join(bad...))
	}
	return found[0], nil
}

// prune removes all but the newest backups, and snapshots that never got a manifest.
func (b *Backups) prune(ctx context.Context, partition int32, newest int64) error {
	numbers, snapshots, err := b.numbers(ctx, partition)
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	kept := 0
	for _, number := range numbers {
		m, err := b.manifest(ctx, partition, number)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err // and leave everything as it is
		}
		if number > newest || kept < b.opts.Keep {
			used[b.folder(partition)+m.Object] = true
			if err == nil {
				kept++
			}
			continue
		}
		// The manifest first: what it names may be gone, but what is there must never be named by nothing.
		if err := b.opts.Objects.Delete(ctx, b.manifestKey(partition, number)); err != nil {
			return err
		}
		if err == nil {
			if err := b.opts.Objects.Delete(ctx, b.folder(partition)+m.Object); err != nil {
				return err
			}
			used[b.folder(partition)+m.Object] = true // gone already
		}
	}
	for _, s := range snapshots {
		if !used[s.Key] && time.Since(s.Modified) > orphanAge {
			if err := b.opts.Objects.Delete(ctx, s.Key); err != nil {
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
