package mutationlog

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
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
	if err != nil || len(before) != 1 || after[0] >= before[0] || after[0] > 9<<20 {
		t.Fatalf("%d octets before, %d after, %v", before[0], after[0], err)
	}
	if r, err := l.ReadAt(deadline(t), 0, last); err != nil || r.Offset != last {
		t.Fatalf("the last record is gone: %v", err)
	}
	if err := l.Trim(deadline(t), 0, last+100); err == nil {
		t.Fatal("trimmed beyond the end")
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
	if took := time.Since(began); took > patience {
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
