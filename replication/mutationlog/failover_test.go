//go:build kafka

package mutationlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/kafkatest"
)

// electionPatience is long: three Java programs may share the machine with other tests.
const electionPatience = 4 * time.Minute

// acknowledged is what publishers were told, by partition and offset.
type acknowledged struct {
	mu sync.Mutex
	at map[[2]int64][]byte
	n  [3]atomic.Int64 // by partition
}

// Each broker is killed once while records are written to the partitions that it leads. What was acknowledged is there
// afterwards, at its offset; who reads all the time gets every record once, in order; and writing goes on.
func TestKafkaLeaderKilled(t *testing.T) {
	brokers := kafkatest.StartThree(t)
	var seeds []string
	for _, b := range brokers {
		seeds = append(seeds, b.Address())
	}
	l := openKafka(t, Options{
		Namespace: "three", Brokers: seeds, Partitions: 3,
		CacheFile: filepath.Join(t.TempDir(), "control.json"), DeliveryTimeout: 20 * time.Second, Logger: zerolog.Nop(),
	})
	for _, c := range l.Status().Complaints {
		t.Errorf("three brokers can do all that is wanted, but: %s", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var told acknowledged
	told.at = make(map[[2]int64][]byte)
	var work sync.WaitGroup
	for p := range int32(3) {
		for w := range 3 {
			work.Go(func() { told.publish(ctx, t, l, p, w) })
		}
	}
	read := make([][]Record, 3)
	var last [3]atomic.Int64 // offset that was read
	var readers sync.WaitGroup
	reading, stopReading := context.WithCancel(t.Context())
	defer stopReading()
	for p := range int32(3) {
		stream, err := l.Consume(p, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer stream.Close()
			for reading.Err() == nil {
				batch, err := stream.Next(reading)
				if err != nil && reading.Err() == nil && final(err) {
					t.Errorf("partition %d can't be read on: %v", p, err)
					return
				}
				if read[p] = append(read[p], batch.Records...); len(batch.Records) > 0 {
					last[p].Store(batch.Records[len(batch.Records)-1].Offset)
				}
			}
		})
	}
	for _, b := range brokers {
		told.more(t, 40)
		led := leads(t, l, b.Number())
		b.Kill()
		told.more(t, 40) // on all partitions, those that it led, too
		t.Logf("broker %d, which led partitions %v, was killed", b.Number(), led)
		b.Restart()
		inSync(t, l)
	}
	cancel()
	work.Wait()

	bounds, err := l.Bounds(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for p := range int32(3) {
		for last[p].Load() < bounds[p].End-1 {
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("partition %d was read up to %d, its log ends at %d", p, last[p].Load(), bounds[p].End)
			}
		}
	}
	stopReading()
	readers.Wait()
	for at, value := range told.at {
		records := read[at[0]]
		i, ok := slices.BinarySearchFunc(records, at[1], func(r Record, offset int64) int { return int(r.Offset - offset) })
		if !ok || !bytes.Equal(records[i].Value, value) {
			t.Errorf("%d@%d was acknowledged as %q and is not there", at[0], at[1], value)
		}
	}
	total := 0
	for p, records := range read {
		for i, r := range records {
			if i > 0 && r.Offset <= records[i-1].Offset {
				t.Fatalf("partition %d: offset %d came after %d", p, r.Offset, records[i-1].Offset)
			}
		}
		total += len(records)
	}
	t.Logf("%d acknowledged, %d in the log", len(told.at), total)
}

// final reports whether a stream's error is its end.
func final(err error) bool {
	var outOfRange *OutOfRangeError
	var diverged *DivergedError
	var mismatch *MismatchError
	return errors.As(err, &outOfRange) || errors.As(err, &diverged) || errors.As(err, &mismatch) || errors.Is(err, ErrClosed)
}

// publish writes until ctx ends. What may be in the log or not is written again, as a node does.
func (a *acknowledged) publish(ctx context.Context, t *testing.T, l *Log, partition int32, writer int) {
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Appendf(nil, "%d-%d-%d", partition, writer, n)
		for ctx.Err() == nil {
			offset, err := l.Publish(t.Context(), partition, []byte("key"), value)
			if err == nil {
				a.mu.Lock()
				at := [2]int64{int64(partition), offset}
				if before, ok := a.at[at]; ok {
					t.Errorf("%v was acknowledged as %q and as %q", at, before, value)
				}
				a.at[at] = value
				a.mu.Unlock()
				a.n[partition].Add(1)
				break
			}
			if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrRefused) {
				t.Errorf("publish: %v", err)
				return
			}
			pause(ctx)
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond):
	}
}

// more waits until so many more records have been acknowledged in each partition.
func (a *acknowledged) more(t *testing.T, n int64) {
	t.Helper()
	var before [3]int64
	for p := range before {
		before[p] = a.n[p].Load()
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(electionPatience)
	for p := range before {
		for a.n[p].Load() < before[p]+n {
			select {
			case <-tick.C:
			case <-end:
				t.Fatalf("partition %d takes no records any more", p)
			}
		}
	}
}

// leads returns the partitions that a broker leads.
func leads(t *testing.T, l *Log, broker int) (partitions []int32) {
	t.Helper()
	topics, err := l.admin.ListTopics(deadline(t), l.mutations)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range topics[l.mutations].Partitions.Sorted() {
		if p.Leader == int32(broker) {
			partitions = append(partitions, p.Partition)
		}
	}
	return partitions
}

// inSync waits until every partition has its three replicas again: with two away, nothing could be acknowledged.
func inSync(t *testing.T, l *Log) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(electionPatience); ; {
		topics, err := l.admin.ListTopics(deadline(t), l.mutations)
		whole := err == nil
		if whole {
			for _, p := range topics[l.mutations].Partitions {
				whole = whole && len(p.ISR) == 3
			}
		}
		if whole {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the brokers are not in sync again")
		}
	}
}
