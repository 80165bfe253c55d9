package store_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// busy is a store with partitions that each have changes to apply.
func busy(t *testing.T, partitions int, records int, crashPoint func(string)) ([]*store.Partition, []store.Record) {
	t.Helper()
	before := runtime.GOMAXPROCS(2) // for which there is one turn
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	opts := storetest.Options(t, t.TempDir())
	opts.CrashPoint = crashPoint
	s := storetest.New(t, opts)
	all := make([]*store.Partition, partitions)
	for i := range all {
		var err error
		if all[i], err = s.Open(int32(i), storetest.TopicID); err != nil {
			t.Fatal(err)
		}
	}
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	for len(l.Records) < records {
		l.Add(t, storetest.Put("example.", storetest.Set("www.example.", uint32(len(l.Records)), zones.TypeA, "192.0.2.1")))
	}
	return all, l.Records
}

// TestTurns: however many partitions have something to apply, only as many as there are turns go through records at once.
func TestTurns(t *testing.T) {
	var inside, most atomic.Int32
	partitions, records := busy(t, 4, 100, func(point string) {
		if point != store.CrashApplyRecord {
			return
		}
		n := inside.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		for range 20 {
			runtime.Gosched() // the others would come in
		}
		inside.Add(-1)
	})
	var all sync.WaitGroup
	for _, p := range partitions {
		all.Go(func() {
			if _, err := p.Apply(records); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := most.Load(); n != 1 {
		t.Errorf("%d partitions went through records at once, want 1", n)
	}
	for _, p := range partitions {
		if got := p.Applied().Offset; got != int64(len(records)-1) {
			t.Errorf("partition %d is at offset %d", p.Number(), got)
		}
		check(t, p)
	}
}

// TestTurnPasses: a partition with one record does not wait for the thousands of another.
func TestTurnPasses(t *testing.T) {
	const many = 2000
	var partitions []*store.Partition
	var records []store.Record
	var seen atomic.Int32
	var one sync.WaitGroup
	waiting, done := make(chan struct{}), make(chan struct{})
	partitions, records = busy(t, 2, many, func(point string) {
		if point != store.CrashApplyRecord {
			return
		}
		switch seen.Add(1) {
		case 1:
			one.Go(func() {
				close(waiting)
				if _, err := partitions[1].Apply(records[:1]); err != nil {
					t.Error(err)
				}
				close(done)
			})
			<-waiting
		case many: // of the first partition, one of the second being among them
			select {
			case <-done:
			default:
				t.Error("one record of a partition waits for another's thousands")
			}
		default:
			select {
			case <-done:
			default:
				time.Sleep(5 * time.Millisecond) // so that the other comes to ask for its turn
			}
		}
	})
	if _, err := partitions[0].Apply(records); err != nil {
		t.Fatal(err)
	}
	one.Wait()
}
