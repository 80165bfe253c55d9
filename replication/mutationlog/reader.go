package mutationlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Bounds are a partition's first offset and the one after its last: equal, if it is empty.
type Bounds struct{ Start, End int64 }

// Consume begins to read a partition at an offset. leaderEpoch is that of the record before it, or -1 if it is not
// known; with it, a log that was truncated meanwhile is found out. One stream at a time can be open for a partition.
func (l *Log) Consume(partition int32, offset int64, leaderEpoch int32) (*Stream, error) {
	if err := l.usable(); err != nil {
		return nil, fmt.Errorf("consume partition %d: %w", partition, err)
	}
	s, err := l.consumer.open(l.mutations, partition, offset, leaderEpoch)
	if err != nil {
		return nil, fmt.Errorf("consume partition %d: %w", partition, err)
	}
	return s, nil
}

// Bounds asks the brokers for the bounds of all partitions. A partition that they can't answer for is missing.
func (l *Log) Bounds(ctx context.Context) (map[int32]Bounds, error) {
	if err := l.usable(); err != nil {
		return nil, fmt.Errorf("bounds of the log: %w", err)
	}
	return l.bounds(ctx, l.mutations)
}

func (l *Log) bounds(ctx context.Context, topic string) (map[int32]Bounds, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	starts, startErr := l.admin.ListStartOffsets(ctx, topic)
	ends, endErr := l.admin.ListEndOffsets(ctx, topic)
	all := make(map[int32]Bounds)
	var failed error
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(topic, end.Partition)
		if failed = errors.Join(failed, end.Err, start.Err); ok && end.Err == nil && start.Err == nil {
			all[end.Partition] = Bounds{Start: start.Offset, End: end.Offset}
		}
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("bounds of topic %s: %w", topic, errors.Join(startErr, endErr, failed, errors.New("no partition answered")))
	}
	return all, nil
}

// ReadAt reads the one record at an offset, beside whoever consumes the partition. An offset that the log does not
// hold is a *OutOfRangeError.
func (l *Log) ReadAt(ctx context.Context, partition int32, offset int64) (Record, error) {
	bounds, err := l.Bounds(ctx)
	if err != nil {
		return Record{}, err
	}
	b, ok := bounds[partition]
	if !ok {
		return Record{}, fmt.Errorf("read %d@%d: the partition's broker does not answer", partition, offset)
	}
	outOfRange := &OutOfRangeError{Partition: partition, Offset: offset, Start: b.Start, End: b.End}
	if offset < b.Start || offset >= b.End {
		return Record{}, outOfRange
	}
	client, err := l.newClient()
	if err != nil {
		return Record{}, err
	}
	aside := newConsumer(client)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		aside.run()
	}()
	defer func() {
		client.Close()
		<-stopped
	}()
	s, err := aside.open(l.mutations, partition, offset, -1)
	if err != nil {
		return Record{}, err
	}
	batch, err := s.Next(ctx)
	if err != nil {
		return Record{}, fmt.Errorf("read %d@%d: %w", partition, offset, err)
	}
	if len(batch.Records) == 0 || batch.Records[0].Offset != offset {
		return Record{}, outOfRange
	}
	return batch.Records[0], nil
}

// Trim removes the records of a partition below an offset from the embedded log. The space comes back when whole
// segments are gone, and after a crash some of the records may be back. Real brokers forget by themselves.
func (l *Log) Trim(ctx context.Context, partition int32, before int64) error {
	if err := l.usable(); err != nil {
		return fmt.Errorf("trim partition %d: %w", partition, err)
	}
	if l.embedded == nil {
		return fmt.Errorf("trim partition %d: only the embedded log is trimmed", partition)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var to kadm.Offsets
	to.Add(kadm.Offset{Topic: l.mutations, Partition: partition, At: before})
	done, err := l.admin.DeleteRecords(ctx, to)
	if err == nil {
		err = done.Error()
	}
	if err != nil {
		return fmt.Errorf("trim partition %d to %d: %w", partition, before, err)
	}
	return nil
}
