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
	if n := l.Partitions(); partition < 0 || partition >= n {
		return -1, fmt.Errorf("publish to partition %d: %w: there are %d", partition, ErrRefused, n)
	}
	offset, err = l.send(ctx, l.mutations, partition, key, value)
	if err != nil {
		return -1, fmt.Errorf("publish to partition %d: %w", partition, err)
	}
	return offset, nil
}

// send appends a record to a topic. The record does not inherit the context: the client gives up all that waits for a
// partition when it gives up one, so one caller's haste would be everybody's. The client gives a record up after
// DeliveryTimeout only while it is certain that no broker got it; without that, waiting ends a little later.
func (l *Log) send(ctx context.Context, topic string, partition int32, key, value []byte) (int64, error) {
	if err := ctx.Err(); err != nil {
		return -1, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.DeliveryTimeout+deliverySlack)
	defer cancel()
	type result struct {
		offset int64
		err    error
	}
	done := make(chan result, 1)
	before := l.sends.count.Load()
	// The time is not set: the client sets it, and brokers replace it. The embedded one counts it for retention, which is off.
	l.client.TryProduce(l.ctx, &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value}, func(r *kgo.Record, err error) {
		done <- result{r.Offset, err}
	})
	select {
	case r := <-done:
		switch {
		case r.err == nil:
			return r.offset, nil
		case errors.Is(r.err, kerr.MessageTooLarge):
			return -1, fmt.Errorf("%w: %w", ErrTooLarge, r.err)
		case l.sends.count.Load() == before || errors.Is(r.err, kgo.ErrMaxBuffered):
			return -1, fmt.Errorf("%w: %w", ErrRefused, r.err)
		default:
			return -1, fmt.Errorf("%w: %w", ErrUnknown, r.err)
		}
	case <-ctx.Done():
		return -1, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
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
