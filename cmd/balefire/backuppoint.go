package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"balefire/replication/backup"
	"balefire/replication/mutationlog"
	"balefire/store"
)

// point is what --at names: a position, or a time of the log, with all that is there until then. The zero point is the newest
// backup.
type point struct {
	position *store.Position
	time     time.Time
}

func parsePoint(text string) (at point, err error) {
	if text == "" {
		return at, nil
	}
	if position, err := store.ParsePosition(text); err == nil {
		return point{position: &position}, nil
	}
	if at.time, err = time.Parse(time.RFC3339, text); err != nil {
		return at, usagef("--at %q: want a time such as 2026-11-01T12:00:00Z, or a position such as 3@4711", text)
	}
	return at, nil
}

func (at point) isNewest() bool { return at.position == nil && at.time.IsZero() }

// excludes reports whether a record is after the point.
func (at point) excludes(r mutationlog.Record) bool {
	if at.position != nil {
		return r.Offset > at.position.Offset
	}
	return r.Time.After(at.time)
}

// backup returns the newest backup at the point or before.
func (at point) backup(ctx context.Context, b *backup.Backups, partition int32) (backup.Manifest, error) {
	switch {
	case at.isNewest():
		return b.Newest(ctx, partition)
	case at.position != nil:
		return b.AtOffset(ctx, partition, at.position.Offset)
	}
	return b.AtTime(ctx, partition, at.time)
}

// logPatience is how long the brokers may take to give the next records.
const logPatience = 30 * time.Second

// goOn applies what the log has after a backup to the copy that was restored from it, up to a point. The copy is the
// caller's own, and the log is only read.
func goOn(ctx context.Context, past *mutationlog.Past, p *store.Partition, partition int32, at point) error {
	bounds, err := past.Bounds(ctx)
	if err != nil {
		return err
	}
	b, ok := bounds[partition]
	applied := p.Applied()
	switch {
	case at.position != nil && applied.Offset == at.position.Offset:
		return nil
	case !ok:
		return errors.New("its broker does not answer")
	case at.position != nil && at.position.Offset >= b.End:
		return fmt.Errorf("the log ends at %d@%d: --at %s is not there yet", partition, b.End-1, at.position)
	case applied.Offset >= b.End:
		return fmt.Errorf("the log ends at offset %d, and the backup at %d: it is not this one's", b.End-1, applied.Offset)
	case b.Start > applied.Offset+1 && applied.Offset < 0:
		return fmt.Errorf("there is no backup at or before --at, and the log begins at %d@%d only", partition, b.Start)
	case b.Start > applied.Offset+1:
		return fmt.Errorf("the log begins at %d@%d, and the newest backup before --at ends at %d@%d, %s: what was between is gone. --nearest takes that backup",
			partition, b.Start, partition, applied.Offset, applied.Time.Format(time.RFC3339))
	}
	from := applied.Offset + 1
	compare := applied.Offset >= b.Start // the last record of the backup, too, so that it is known to be of this log
	if compare {
		from = applied.Offset
	}
	if from >= b.End {
		return nil
	}
	stream, err := past.Consume(partition, from)
	if err != nil {
		return err
	}
	defer stream.Close()
	for next := from; next < b.End; {
		batch, err := nextBatch(ctx, stream)
		if err != nil {
			return err
		}
		var records []store.Record
		for _, r := range batch.Records {
			if compare {
				if r.Offset != applied.Offset || store.HashRecord(r.Key, r.Value) != applied.RecordHash {
					return fmt.Errorf("the log has another record at offset %d than the backup: it is not this one's", applied.Offset)
				}
				compare = false
				continue
			}
			if at.excludes(r) {
				batch.Next = b.End
				break
			}
			records = append(records, store.Record{Offset: r.Offset, LeaderEpoch: r.LeaderEpoch, Time: r.Time, Key: r.Key, Value: r.Value})
		}
		// What is missing between these was read past, and is the brokers' own.
		if _, err := p.ApplyAfter(records); err != nil {
			return fmt.Errorf("apply the log: %w", err)
		}
		next = batch.Next
	}
	return nil
}

func nextBatch(ctx context.Context, stream *mutationlog.Stream) (mutationlog.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	batch, err := stream.Next(ctx)
	if err != nil {
		return batch, fmt.Errorf("read the log: %w", err)
	}
	return batch, nil
}
