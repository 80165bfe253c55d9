package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"balefire/zones"
)

// topic is a catalog topic in memory.
type topic struct {
	mu       sync.Mutex
	id       [16]byte
	start    int64
	records  []Record
	more     chan struct{} // closed and replaced when something changes
	refuses  error         // what publishing fails with
	calls    int           // of PublishAll
	breaking int           // so many readers fail at their first record
	brokenBy error
}

func newTopic() *topic { return &topic{id: [16]byte{1}, more: make(chan struct{})} }

func (t *topic) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.more)
	t.more = make(chan struct{})
}

// add appends records, which gives them their offsets.
func (t *topic) add(records ...Record) {
	t.change(func() {
		for _, r := range records {
			r.Offset = t.end()
			t.records = append(t.records, r)
		}
	})
}

// end is with mu held.
func (t *topic) end() int64 {
	if n := len(t.records); n > 0 {
		return t.records[n-1].Offset + 1
	}
	return t.start
}

// replace makes the topic anew.
func (t *topic) replace() {
	t.change(func() { t.id[0]++; t.start, t.records = 0, nil })
}

// said returns what the topic says, in order, as text.
func (t *topic) said() (all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.records {
		_, partition, e, err := parseRecord(r)
		if err != nil {
			all = append(all, err.Error())
			continue
		}
		all = append(all, fmt.Sprintf("%s %v %d@%d", r.Key, e.Hosted, partition, e.Offset))
	}
	return all
}

func (t *topic) TopicID() [16]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.id
}

func (t *topic) Bounds(context.Context) (start, end int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.start, t.end(), nil
}

func (t *topic) PublishAll(_ context.Context, records []Record) error {
	t.mu.Lock()
	t.calls++
	err := t.refuses
	t.mu.Unlock()
	if err != nil {
		t.change(func() {}) // who waits for an attempt sees it
		return err
	}
	t.add(records...)
	return nil
}

func (t *topic) Open(offset int64) (Reader, error) {
	return &topicReader{t: t, id: t.TopicID(), next: offset}, nil
}

type topicReader struct {
	t    *topic
	id   [16]byte
	next int64
}

func (r *topicReader) Next(ctx context.Context) (records []Record, next int64, err error) {
	for {
		r.t.mu.Lock()
		if r.t.id != r.id {
			err = fmt.Errorf("%w: replaced", ErrAnew)
		} else if r.t.breaking > 0 {
			r.t.breaking--
			err = r.t.brokenBy
		}
		for _, record := range r.t.records {
			if record.Offset >= r.next {
				records = append(records, record)
			}
		}
		next, more := r.t.end(), r.t.more
		r.t.mu.Unlock()
		if err != nil {
			return nil, 0, err
		}
		if len(records) > 0 {
			r.next = next
			return records, next, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

func (r *topicReader) Close() {}

// index is what the store would be told.
type index struct {
	mu        sync.Mutex
	zones     map[zones.Name]int32
	replacing func() // called while a partition's zones are replaced
}

func (x *index) PutElsewhere(apex zones.Name, partition int32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.zones[apex] = partition
}

func (x *index) RemoveElsewhere(apex zones.Name) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.zones, apex)
}

func (x *index) ReplaceElsewhere(partition int32, said iter.Seq2[zones.Name, bool]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for apex, hosted := range said {
		if hosted {
			x.zones[apex] = partition
		} else {
			delete(x.zones, apex)
		}
	}
	if x.replacing != nil {
		x.replacing()
	}
}

func (x *index) has(apex string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.zones[zones.MustParseName(apex)]
	return ok
}

func (x *index) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.zones)
}

// partitionOf is 0 for names of an even number of labels, and 1 for others.
func partitionOf(apex zones.Name) int32 { return int32(apex.Labels() % 2) }

// running is a catalog that runs.
type running struct {
	*Catalog
	index *index
	stop  func() // ends Run, and closes the files
}

func optionsFor(dir string, t *topic) Options {
	return Options{
		Dir: filepath.Join(dir, "catalog"), LogID: [16]byte{7}, Source: t, Publisher: t, PartitionOf: partitionOf,
		Index: &index{zones: make(map[zones.Name]int32)}, Logger: zerolog.Nop(),
	}
}

func start(tb testing.TB, opts Options) *running {
	tb.Helper()
	c, err := Open(opts)
	if err != nil {
		tb.Fatal(err)
	}
	r := &running{Catalog: c}
	r.index, _ = opts.Index.(*index)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(r.stop)
	return r
}

// await waits until something is true of what was read.
func (r *running) await(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for {
		changed := r.Changed()
		if is() {
			return
		}
		select {
		case <-changed:
		case <-tb.Context().Done():
			tb.Fatalf("waiting until %s", what)
		}
	}
}

// awaitEnd waits until all that the topic has was read.
func (r *running) awaitEnd(tb testing.TB, t *topic) {
	tb.Helper()
	_, end, _ := t.Bounds(context.Background())
	topic := t.TopicID()
	r.await(tb, "the topic is read", func() bool {
		p := r.progress()
		return p.topic == topic && p.next >= end && r.Whole()
	})
}

func (r *running) check(tb testing.TB, apex string, want Entry) {
	tb.Helper()
	got, ok, err := r.Get(zones.MustParseName(apex))
	if err != nil || !ok && want != (Entry{}) || got != want {
		tb.Errorf("%s: %+v, %v, %v; want %+v", apex, got, ok, err, want)
	}
	if r.index.has(apex) != want.Hosted {
		tb.Errorf("%s: in the index %v, want %v", apex, !want.Hosted, want.Hosted)
	}
}

func entry(apex string, hosted bool, offset int64) Record {
	name := zones.MustParseName(apex)
	return appendRecord(name, partitionOf(name), Entry{hosted, offset})
}

// content is a partition's, as of an offset.
func content(applied int64, apexes ...string) Partition {
	return func(context.Context) (int64, iter.Seq2[zones.Name, error], error) {
		return applied, func(yield func(zones.Name, error) bool) {
			for _, apex := range apexes {
				if !yield(zones.MustParseName(apex), nil) {
					return
				}
			}
		}, nil
	}
}

var errAway = errors.New("the log is away")
