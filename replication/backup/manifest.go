package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"balefire/replication/objectstore"
	"balefire/store"
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
	Number      int64     `json:"number"`  // counts up in a partition; a higher one was written later
	Follows     int64     `json:"follows"` // the number of the backup that this is an increment to; 0 when it is full
	Length      int       `json:"length"`  // how many backups it follows, down to the full one
	Namespace   string    `json:"namespace"`
	Topic       [16]byte  `json:"-"`
	TopicHex    string    `json:"topic_id"`
	Partition   int32     `json:"partition"`
	Since       int64     `json:"since"`  // the offset of the backup that it follows; -1 when it is full
	Offset      int64     `json:"offset"` // of the last record in it; -1 for none
	LeaderEpoch int32     `json:"leader_epoch"`
	Time        time.Time `json:"time"` // the partition's time at Offset
	Made        time.Time `json:"made"`
	Node        string    `json:"node"`
	Entries     uint64    `json:"entries"`
	Deleted     uint64    `json:"deleted"`    // of the entries, those that say that a key is gone
	Raw         uint64    `json:"raw_octets"` // of the entries that a restore writes: of those that it follows, too
	Size        uint64    `json:"octets"`     // of the object
	Digest      string    `json:"digest"`     // the partition's
	SHA256      [32]byte  `json:"-"`
	SHA256Hex   string    `json:"sha256"` // of the object
	Object      string    `json:"object"` // its name beside the manifest
	// Check is the SHA-256 of this manifest's text with an empty Check.
	Check string `json:"check"`
}

// describe takes over what was written. Raw has been that of the backup before.
func (m *Manifest) describe(written store.SnapshotInfo) {
	m.Offset, m.LeaderEpoch = written.Offset, written.LeaderEpoch
	m.Entries, m.Deleted, m.Size = written.Entries, written.Deleted, written.Size
	m.Raw += written.Raw
	m.Digest, m.SHA256 = written.Digest.String(), written.SHA256
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

// readText reads a manifest's octets.
func (b *Backups) readText(ctx context.Context, key string) ([]byte, error) {
	r, _, err := b.opts.Objects.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return text, nil
}

// readManifest is a manifest as it was read, and the object that it was read from.
type readManifest struct {
	from objectstore.Info
	m    Manifest
}

// manifest reads the manifest in an object, or remembers it.
func (b *Backups) manifest(ctx context.Context, partition int32, number int64, info objectstore.Info) (Manifest, error) {
	b.mu.Lock()
	known, ok := b.read[info.Key]
	b.mu.Unlock()
	if ok && known.from == info {
		return known.m, nil
	}
	text, err := b.readText(ctx, info.Key)
	if err != nil {
		return Manifest{}, err
	}
	m, err := parseManifest(text)
	if err == nil && (m.Number != number || m.Partition != partition || m.Topic != b.opts.TopicID || m.Namespace != b.opts.Namespace) {
		err = fmt.Errorf("it is of another place: %w", ErrDamaged)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", info.Key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read[info.Key] = readManifest{info, m}
	return m, nil
}
