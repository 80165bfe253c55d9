package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
)

// everyLog is what holds for every log, embedded or not.
var everyLog = map[string]func(*testing.T, backend){
	"PublishAndConsume":      testPublishAndConsume,
	"RestartKeepsEverything": testRestartKeepsEverything,
	"OutOfRangeIsAnAnswer":   testOutOfRangeIsAnAnswer,
	"ManyWritersShareWrites": testManyWritersShareWrites,
	"SlowReaderIsBounded":    testSlowReaderIsBounded,
	"TooLarge":               testTooLarge,
}

func runEveryLog(t *testing.T, b backend) {
	for name, test := range everyLog {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func TestEmbeddedLog(t *testing.T) {
	runEveryLog(t, backend{patience: patience, options: func(t *testing.T, namespace, _ string) Options {
		opts := options(t, t.TempDir())
		opts.Namespace, opts.Logger = namespace, zerolog.Nop()
		return opts
	}})
}

// removeBefore does at once what retention does in time.
func removeBefore(t *testing.T, l *Log, partition int32, offset int64) {
	t.Helper()
	var to kadm.Offsets
	to.Add(kadm.Offset{Topic: l.mutations, Partition: partition, At: offset})
	if done, err := l.admin.DeleteRecords(deadline(t), to); err != nil || done.Error() != nil {
		t.Fatal(err, done.Error())
	}
}

func testPublishAndConsume(t *testing.T, b backend) {
	l := b.open(t, "publishandconsume", "node")
	if l.Partitions() != 4 || l.TopicID() == ([16]byte{}) {
		t.Fatalf("partitions %d, topic %x", l.Partitions(), l.TopicID())
	}
	s, err := l.Consume(2, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if offset := publish(t, l, 2, fmt.Sprint("value ", i)); offset != int64(i) {
			t.Fatalf("offset %d, want %d", offset, i)
		}
	}
	for i, r := range read(t, s, 10) {
		if r.Offset != int64(i) || string(r.Value) != fmt.Sprint("value ", i) || string(r.Key) != "key" || r.Partition != 2 || r.Time.IsZero() {
			t.Fatalf("record %d: %+v", i, r)
		}
	}
	if _, err := l.Consume(2, 0, -1); err == nil {
		t.Fatal("a second stream of the same partition was opened")
	}
	s.Close()
	if _, err := s.Next(deadline(t)); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed stream gives %v", err)
	}
	// From the middle, with the leader epoch of the record before.
	again, err := l.Consume(2, 7, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, again, 3); got[0].Offset != 7 || len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	r, err := l.ReadAt(deadline(t), 2, 4)
	if err != nil || string(r.Value) != "value 4" {
		t.Fatalf("read at 4: %+v, %v", r, err)
	}
	bounds, err := l.Bounds(deadline(t))
	if err != nil || bounds[2] != (Bounds{0, 10}) || len(bounds) != 4 {
		t.Fatalf("bounds %v, %v", bounds, err)
	}
}

func testRestartKeepsEverything(t *testing.T, b backend) {
	opts := b.options(t, "restartkeepseverything", "node")
	l := b.openWith(t, opts)
	for i := range 5 {
		publish(t, l, 1, fmt.Sprint(i))
	}
	id, secrets := l.TopicID(), l.CookieSecrets()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Publish(deadline(t), 1, nil, []byte("late")); !errors.Is(err, ErrRefused) {
		t.Fatalf("publishing to a closed log: %v", err)
	}
	opts.Partitions = 16 // the namespace has its count already
	l = b.openWith(t, opts)
	if l.TopicID() != id || l.Partitions() != 4 || len(secrets) != 2 || l.CookieSecrets()[0] != secrets[0] {
		t.Fatalf("topic %x, partitions %d, secrets %d", l.TopicID(), l.Partitions(), len(secrets))
	}
	if offset := publish(t, l, 1, "5"); offset != 5 {
		t.Fatalf("the next offset is %d", offset)
	}
	s, err := l.Consume(1, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range read(t, s, 3) {
		if string(r.Value) != fmt.Sprint(3+i) {
			t.Fatalf("record %d is %q", 3+i, r.Value)
		}
	}
}

func testOutOfRangeIsAnAnswer(t *testing.T, b backend) {
	l := b.open(t, "outofrangeisananswer", "node")
	for i := range 10 {
		publish(t, l, 0, fmt.Sprint(i))
	}
	removeBefore(t, l, 0, 6)
	for _, offset := range []int64{2, 25} {
		s, err := l.Consume(0, offset, -1)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := s.Next(deadline(t))
		var outOfRange *OutOfRangeError
		if !errors.As(err, &outOfRange) || outOfRange.Offset != offset {
			t.Fatalf("consuming from %d: %d records, %v", offset, len(batch.Records), err)
		}
		s.Close()
		if _, err := l.ReadAt(deadline(t), 0, offset); !errors.As(err, &outOfRange) {
			t.Fatalf("reading at %d: %v", offset, err)
		}
	}
	// A checkpoint past the end with a leader epoch is a truncated log.
	s, err := l.Consume(0, 25, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Next(deadline(t))
	var diverged *DivergedError
	if !errors.As(err, &diverged) {
		t.Fatalf("a truncated log gives %v", err)
	}
	// Other partitions know nothing of it.
	other, err := l.Consume(3, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, l, 3, "fine")
	read(t, other, 1)
	// The same partition can be consumed again, from where the log reaches.
	s.Close()
	s, err = l.Consume(0, 6, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, 4); got[0].Offset != 6 {
		t.Fatalf("got %+v", got)
	}
}

func testManyWritersShareWrites(t *testing.T, b backend) {
	l := b.open(t, "manywriterssharewrites", "node")
	const writers, each = 64, 20
	offsets := make([][]int64, writers)
	before := l.sends.count.Load()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				offset, err := l.Publish(context.Background(), 0, []byte("k"), fmt.Appendf(nil, "%d/%d", w, i))
				if err != nil {
					t.Error(err)
					return
				}
				offsets[w] = append(offsets[w], offset)
			}
		})
	}
	wg.Wait()
	requests := l.sends.count.Load() - before
	if requests > writers*each/4 {
		t.Errorf("%d requests for %d records: no group commit", requests, writers*each)
	}
	s, err := l.Consume(0, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	records := read(t, s, writers*each)
	for w := range writers {
		for i, offset := range offsets[w] {
			if got := string(records[offset].Value); got != fmt.Sprintf("%d/%d", w, i) {
				t.Fatalf("offset %d holds %s, want %d/%d", offset, got, w, i)
			}
			if i > 0 && offset <= offsets[w][i-1] {
				t.Fatalf("writer %d: offset %d after %d", w, offset, offsets[w][i-1])
			}
		}
	}
}

func testSlowReaderIsBounded(t *testing.T, b backend) {
	l := b.open(t, "slowreaderisbounded", "node")
	const n, size = 500, 32 << 10
	random := rand.New(rand.NewPCG(3, 4))
	var wg sync.WaitGroup
	for range n {
		value := make([]byte, size) // hard to compress, so that a fetch brings what it says
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		wg.Go(func() {
			if _, err := l.Publish(context.Background(), 1, nil, value); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := l.Consume(1, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for paused := false; !paused; {
		select {
		case <-s.ready:
		case <-time.After(patience):
			t.Fatal("fetching goes on, or never began")
		}
		s.mu.Lock()
		paused = s.paused
		if s.size > windowMax+2<<20 {
			t.Fatalf("%d octets wait", s.size)
		}
		s.mu.Unlock()
	}
	next := int64(0)
	for _, r := range read(t, s, n) {
		if r.Offset != next {
			t.Fatalf("offset %d after %d", r.Offset, next-1)
		}
		next++
	}
}

func testTooLarge(t *testing.T, b backend) {
	l := b.open(t, "toolarge", "node")
	_, err := l.Publish(deadline(t), 0, []byte("k"), make([]byte, maxBatchBytes))
	if !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	for _, partition := range []int32{-1, 4} {
		if _, err := l.Publish(deadline(t), partition, nil, []byte("x")); !errors.Is(err, ErrRefused) {
			t.Fatalf("partition %d: %v", partition, err)
		}
	}
	if offset := publish(t, l, 0, "fits"); offset != 0 {
		t.Fatalf("the first record has offset %d", offset)
	}
}
