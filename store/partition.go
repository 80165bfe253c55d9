package store

import (
	"context"
	"io"
	"time"

	"balefire/zones"
)

// Partition is one partition of the log on disk. One goroutine applies; any number read.
type Partition struct{}

// Number returns the partition's number.
func (p *Partition) Number() int32 { panic("being built") }

// Applied returns how far the partition has come. It may be called at any time.
func (p *Partition) Applied() Applied { panic("being built") }

// Digest returns the digest at the applied offset, and that offset.
func (p *Partition) Digest() (zones.Digest, int64) { panic("being built") }

// DigestAt returns the digest that was remembered at an offset: that of every 1,000th is, and the last.
func (p *Partition) DigestAt(offset int64) (zones.Digest, bool, error) { panic("being built") }

// Zones returns the number of zones in the partition.
func (p *Partition) Zones() int { panic("being built") }

// Suspicious returns the first contradiction that was found in the partition's data; nil when none was.
func (p *Partition) Suspicious() error { panic("being built") }

// Close waits for readers of Badger, and closes the database. Zones of the partition are then Unavailable.
func (p *Partition) Close() error { panic("being built") }

// Verified tells the partition that a snapshot at offset has been verified: versions up to it may go.
func (p *Partition) Verified(offset int64) { panic("being built") }

// Outcome returns the outcome of the record at the offset; ErrNoOutcome when it is not kept (any more), or
// the offset is past the applied one.
func (p *Partition) Outcome(offset int64) (Outcome, error) { panic("being built") }

// LookupID returns the outcome of the first change set with that ID, while the partition remembers the
// ID; ErrNoOutcome when it does not.
func (p *Partition) LookupID(id zones.ChangeID) (Outcome, error) { panic("being built") }

// Scrub reads the whole partition as it is at one position, and compares: every checksum, every zone's
// counts and digest, every index, and the partition's digest. What contradicts is an error marked ErrCorrupt,
// which also raises an alarm. It reads in the background of everything else, and stops with ctx.
func (p *Partition) Scrub(ctx context.Context) error { panic("being built") }

// WriteSnapshot writes the partition, as it is at the published position, to w.
func (p *Partition) WriteSnapshot(ctx context.Context, w io.Writer) (SnapshotInfo, error) {
	panic("being built")
}

// SnapshotInfo says what is in a snapshot.
type SnapshotInfo struct {
	Partition int32
	TopicID   [16]byte
	Applied   Applied
	Digest    zones.Digest
	Keys      uint64
	Bytes     uint64
}

// Restore makes dir, which must not exist or be empty, a partition's directory from a snapshot read from r. It
// verifies checksums, counts and digest before dir appears under its name: after an error, or a crash, it
// is not there.
func Restore(ctx context.Context, dir string, r io.Reader) (SnapshotInfo, error) {
	panic("being built")
}

// RestorePartition restores a partition that is not open and not there into the store's own directory. The
// snapshot must be of that partition and topic.
func (s *Store) RestorePartition(ctx context.Context, partition int32, topicID [16]byte, r io.Reader) (SnapshotInfo, error) {
	panic("being built")
}

// Compact makes room: it removes what dead generations still hold, until there is none.
func (p *Partition) Compact(ctx context.Context) error { panic("being built") }

// ChangeStatus is what became of a change set.
type ChangeStatus uint8

const (
	// StatusApplied: it took effect.
	StatusApplied ChangeStatus = 1
	// StatusRejected: it changed nothing; Outcome.Rejection says why.
	StatusRejected ChangeStatus = 2
)

func (s ChangeStatus) String() string {
	switch s {
	case StatusApplied:
		return "applied"
	case StatusRejected:
		return "rejected"
	}
	return "unknown"
}

// Outcome is what became of the record at a position.
type Outcome struct {
	Position
	ID        zones.ChangeID // zero when the record could not be decoded
	Zone      zones.Name     // "" when the record could not be decoded
	Status    ChangeStatus
	Rejection *zones.Rejection // when StatusRejected
	Serial    zones.Serial     // the zone's serial after it; 0 when there is no zone
	Time      time.Time        // the partition's time when it was applied
	// Duplicate says that the record is the same change set again, and changed nothing: Status, Rejection
	// and Serial are those of the first, which is at offset First.
	Duplicate bool
	First     int64
}
