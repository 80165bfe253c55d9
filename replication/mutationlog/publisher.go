package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// What waits to be sent is bounded, so that a log out of reach does not fill the memory.
	maxBuffered      = 10_000
	maxBufferedBytes = 64 << 20
	// maxBatchBytes is the client's own limit for a batch, before compression. A topic must take as much.
	maxBatchBytes = 1_000_012
	// maxWrite bounds a request, whose batches are of many partitions, in octets.
	maxWrite = 8 << 20
	// deliverySlack is how much later than the client this side gives up.
	deliverySlack = time.Second
)

// Publish appends a record to a partition and returns its offset, once all in-sync replicas have it. The key and
// value must not change until then. An error is marked ErrRefused, ErrTooLarge or ErrUnknown; only after ErrUnknown may the
// record be in the log. Calls at the same time share requests.
func (l *Log) Publish(ctx context.Context, partition int32, key, value []byte) (offset int64, err error) {
	if err := l.usable(); err != nil {
		return -1, fmt.Errorf("publish to partition %d: %w: %w", partition, ErrRefused, err)
	}
	if s := l.Status(); !s.Reachable {
		// Not even buffered: it would be sent when the log is back, long after its writer has given up.
		return -1, fmt.Errorf("publish to partition %d: %w: the log is out of reach: %w", partition, ErrRefused, s.Trying)
	}
	if f, frozen := l.Frozen(); frozen {
		return -1, fmt.Errorf("publish to partition %d: %w: %w: %v", partition, ErrRefused, ErrFrozen, f)
	}
	if n := l.Partitions(); partition < 0 || partition >= n {
		return -1, fmt.Errorf("publish to partition %d: %w: there are %d", partition, ErrRefused, n)
	}
	offset, err = l.send(ctx, l.mutations, partition, key, value)
	if err != nil {
		return -1, fmt.Errorf("publish to partition %d: %w", partition, err)
	}
	return offset, nil
}

// send appends a record to a topic and returns its offset.
func (l *Log) send(ctx context.Context, topic string, partition int32, key, value []byte) (int64, error) {
	// The time is not set: the client sets it, and brokers replace it. The embedded one counts it for retention, which is off.
	r := &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value}
	if err := l.sendAll(ctx, []*kgo.Record{r}); err != nil {
		return -1, err // without a look at the record: it may still be the client's
	}
	return r.Offset, nil
}

// sendAll appends records and waits for them all; after an error some of them may be in. The records do not inherit the
// context: the client gives up all that waits for a partition when it gives up one, so one caller's haste would be everybody's.
// The client gives a record up after DeliveryTimeout only while it is certain that no broker got it; without that, waiting ends
// a little later.
func (l *Log) sendAll(ctx context.Context, records []*kgo.Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.DeliveryTimeout+deliverySlack)
	defer cancel()
	done := make(chan error, len(records))
	before := l.sends.count.Load()
	for _, r := range records {
		l.client.TryProduce(l.ctx, r, func(_ *kgo.Record, err error) { done <- err })
	}
	var failed error
	for range records {
		select {
		case err := <-done:
			if failed == nil {
				failed = err
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
		}
	}
	switch {
	case failed == nil:
		return nil
	case errors.Is(failed, kerr.MessageTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, failed)
	case l.sends.count.Load() == before || errors.Is(failed, kgo.ErrMaxBuffered):
		return fmt.Errorf("%w: %w", ErrRefused, failed)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, failed)
}

// sendCounter counts the produce requests that this client has begun to write. A record that failed while none was
// written can't have reached a broker; otherwise the client does not tell whether it was in one of them.
type sendCounter struct{ count atomic.Uint64 }

var _ kgo.HookBrokerWrite = (*sendCounter)(nil)

// OnBrokerWrite is called by the client after each write, also after one that failed half-way.
func (s *sendCounter) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == int16(kmsg.Produce) {
		s.count.Add(1)
	}
}
