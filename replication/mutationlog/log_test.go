package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

const patience = 30 * time.Second

func options(t *testing.T, dir string) Options {
	t.Helper()
	return Options{
		Namespace: "test", Dir: filepath.Join(dir, "log"), CacheFile: filepath.Join(dir, "control.json"), Partitions: 4,
		Logger: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
}

// open opens a log and waits until it is established.
func open(t *testing.T, opts Options) *Log {
	t.Helper()
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	select {
	case <-l.Established():
	case <-time.After(patience):
		t.Fatalf("not established: %+v", l.Status())
	}
	return l
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func publish(t *testing.T, l *Log, partition int32, value string) int64 {
	t.Helper()
	offset, err := l.Publish(deadline(t), partition, []byte("key"), []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

// read returns n records of a stream.
func read(t *testing.T, s *Stream, n int) []Record {
	t.Helper()
	var all []Record
	for len(all) < n {
		batch, err := s.Next(deadline(t))
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(all), n, err)
		}
		all = append(all, batch.Records...)
	}
	return all
}

func TestPublishAndConsume(t *testing.T) {
	opts := options(t, t.TempDir())
	l := open(t, opts)
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
	if sizes, err := l.Sizes(); err != nil || sizes[2] == 0 || len(sizes) != 1 {
		t.Fatalf("sizes %v, %v", sizes, err)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	opts := options(t, t.TempDir())
	l := open(t, opts)
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
	l = open(t, opts)
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

func TestOutOfRangeIsAnAnswer(t *testing.T) {
	l := open(t, options(t, t.TempDir()))
	for i := range 10 {
		publish(t, l, 0, fmt.Sprint(i))
	}
	if err := l.Trim(deadline(t), 0, 6); err != nil {
		t.Fatal(err)
	}
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

func TestTrimFreesSpace(t *testing.T) {
	l := open(t, options(t, t.TempDir()))
	value := make([]byte, 250<<10)
	for i := range value {
		value[i] = byte(i * i >> 3) // hard to compress
	}
	var last int64
	for i := range 60 {
		for j := range value {
			value[j] ^= byte(i*j>>2) + byte(j%251)
		}
		last = publish(t, l, 0, string(value))
	}
	before, err := l.Sizes()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Trim(deadline(t), 0, last); err != nil {
		t.Fatal(err)
	}
	after, err := l.Sizes()
	if err != nil || after[0] >= before[0] || after[0] > 9<<20 {
		t.Fatalf("%d octets before, %d after, %v", before[0], after[0], err)
	}
	if r, err := l.ReadAt(deadline(t), 0, last); err != nil || r.Offset != last {
		t.Fatalf("the last record is gone: %v", err)
	}
	if err := l.Trim(deadline(t), 0, last+100); err == nil {
		t.Fatal("trimmed beyond the end")
	}
}

func TestManyWritersShareWrites(t *testing.T) {
	l := open(t, options(t, t.TempDir()))
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

func TestSlowReaderIsBounded(t *testing.T) {
	l := open(t, options(t, t.TempDir()))
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

func TestTooLarge(t *testing.T) {
	l := open(t, options(t, t.TempDir()))
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

func TestDirectoryIsLocked(t *testing.T) {
	opts := options(t, t.TempDir())
	first := open(t, opts)
	_, err := Open(opts)
	if err == nil || !strings.Contains(err.Error(), opts.Dir) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second broker on the same directory: %v", err)
	}
	first.Close()
	open(t, opts)
}

func TestUnreachableBrokers(t *testing.T) {
	opts := options(t, t.TempDir())
	opts.Brokers, opts.Dir = []string{"127.0.0.1:1"}, ""
	began := time.Now()
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if took := time.Since(began); took > time.Second {
		t.Fatalf("opening took %v", took)
	}
	if _, err := l.Publish(deadline(t), 0, nil, []byte("x")); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNotEstablished) {
		t.Fatalf("publish: %v", err)
	}
	if _, err := l.Consume(0, 0, -1); !errors.Is(err, ErrNotEstablished) {
		t.Fatalf("consume: %v", err)
	}
	if s := l.Status(); s.Established || s.Reachable || s.Fault != nil {
		t.Fatalf("status %+v", s)
	}
}

func TestBadNamespace(t *testing.T) {
	for _, name := range []string{"", "a.b", "-a", "a/b", strings.Repeat("x", 201)} {
		opts := options(t, t.TempDir())
		opts.Namespace = name
		if l, err := Open(opts); err == nil {
			l.Close()
			t.Errorf("namespace %q was taken", name)
		}
	}
}
