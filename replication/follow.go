package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"balefire/replication/mutationlog"
	"balefire/store"
)

// followWhole is follow, which ends when the copy is found to contradict itself, whoever found it.
func (r *replica) followWhole(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.interrupt = cancel
	if r.contradiction != nil {
		cancel()
	}
	r.mu.Unlock()
	err := r.follow(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contradiction != nil {
		err, r.contradiction = r.contradiction, nil
	}
	return err
}

// contradicted has the copy rebuilt, if it can be. It may be called from anywhere.
func (r *replica) contradicted(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contradiction == nil {
		r.contradiction = err
	}
	if r.interrupt != nil {
		r.interrupt()
	}
}

// follow makes sure that the log is the copy's, and applies it until something is in the way.
func (r *replica) follow(ctx context.Context) error {
	select {
	case <-r.node.log.Established():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(retryWait): // why is in the log's status
		s := r.node.log.Status()
		if s.Fault != nil {
			return s.Fault
		}
		return fmt.Errorf("%w: %v", mutationlog.ErrNotEstablished, s.Trying)
	}
	bounds, err := r.node.log.Bounds(ctx)
	if err != nil {
		return err
	}
	b, ok := bounds[r.number]
	if !ok {
		return fmt.Errorf("partition %d: its broker does not answer", r.number)
	}
	if mark, ok := r.node.marks.at(r.topic, r.number); ok && mark >= b.End {
		// Copy and log may both have lost it.
		return fmt.Errorf("%w: it ends at offset %d, and this node had applied it up to %d", errHistory, b.End-1, mark)
	}
	if err := r.reachesBack(ctx, b); err != nil {
		return err
	}
	r.sawEnd(b.End)
	stream, compare, err := r.consume(b)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		if !compare {
			r.settle.Do(func() { close(r.settled) })
		}
		batch, err := stream.Next(ctx)
		if err != nil {
			return ofHistory(err)
		}
		records := convert(batch.Records)
		if compare && len(records) > 0 {
			if err := r.compareLast(records[0]); err != nil {
				return err
			}
			compare = false
		}
		if err := r.apply(ctx, records, contiguous(r.applied().Offset, batch.Records)); err != nil {
			return err
		}
		r.passed(batch.Next)
		r.sawEnd(batch.End)
	}
}

// ofHistory marks the errors of a stream that say that the log is another one than it was. Out of range is none: the log
// may only begin later than it did, which it is asked for again.
func ofHistory(err error) error {
	var diverged *mutationlog.DivergedError
	if errors.As(err, &diverged) {
		return fmt.Errorf("%w: %w", errHistory, err)
	}
	return err
}

// reachesBack requires that the log goes on where the copy ends. A copy that the log no longer reaches is replaced by a
// snapshot that it does.
func (r *replica) reachesBack(ctx context.Context, b mutationlog.Bounds) error {
	applied := r.applied()
	switch {
	case applied.Offset >= b.End:
		return fmt.Errorf("%w: it ends at offset %d, the copy at %d", errHistory, b.End-1, applied.Offset)
	case b.Start <= applied.Offset+1:
		return nil
	}
	gap := fmt.Errorf("%w: it begins at offset %d, the copy ends at %d: what was between is gone", errHistory, b.Start, applied.Offset)
	if err := r.restoreFrom(ctx, b.Start-1, gap); err != nil {
		if r.node.backups != nil && r.node.opts.Backup.Restore {
			return fmt.Errorf("%w: %v", errUnavailable, err) // there may be a backup later
		}
		return err
	}
	if applied := r.applied(); b.Start > applied.Offset+1 || applied.Offset >= b.End {
		return gap
	}
	return nil
}

// consume begins to read the log. compare says that the first record is the copy's last, to be compared.
func (r *replica) consume(b mutationlog.Bounds) (stream *mutationlog.Stream, compare bool, err error) {
	applied := r.applied()
	from, epoch := applied.Offset+1, applied.LeaderEpoch
	if compare = applied.Offset >= 0 && applied.Offset >= b.Start; compare {
		from = applied.Offset
	}
	if applied.Offset < 0 {
		epoch = -1
	}
	stream, err = r.node.log.Consume(r.number, from, epoch)
	return stream, compare, err
}

// compareLast compares the copy's last record with the log's at the same offset.
func (r *replica) compareLast(record store.Record) error {
	applied := r.applied()
	if record.Offset != applied.Offset {
		return fmt.Errorf("%w: offset %d, the copy's last, is not in it", errHistory, applied.Offset)
	}
	if store.HashRecord(record.Key, record.Value) != applied.RecordHash {
		return fmt.Errorf("%w: another record at offset %d", errHistory, applied.Offset)
	}
	return nil
}

func convert(records []mutationlog.Record) []store.Record {
	converted := make([]store.Record, len(records))
	for i, r := range records {
		converted[i] = store.Record{Offset: r.Offset, LeaderEpoch: r.LeaderEpoch, Time: r.Time, Key: r.Key, Value: r.Value}
	}
	return converted
}

// contiguous reports whether nothing is missing between what is applied and the records, nor between these, but what is
// the brokers' own.
func contiguous(applied int64, records []mutationlog.Record) bool {
	for _, r := range records {
		if r.Offset > applied && r.After > applied {
			return false
		}
		applied = max(applied, r.Offset)
	}
	return true
}

// passed notes that all before an offset was read. What follows the last record applied was the brokers' own, and nobody waits
// for it to be applied.
func (r *replica) passed(next int64) {
	applied := r.applied().Offset
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target < next && r.target > applied {
		r.target = applied
	}
}
