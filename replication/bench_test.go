package replication

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// BenchmarkChange is the time from Publish to the change being answered from, alone and with 64 writers at once, with
// the embedded log.
func BenchmarkChange(b *testing.B) {
	dir := b.TempDir()
	n, err := Start(Options{
		Dir: dir, Store: store.Options{Ballast: -1, Reserve: 1 << 20, Logger: zerolog.Nop()}, Logger: zerolog.Nop(),
		Log: mutationlog.Options{Namespace: "bench"},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	<-n.Log().Established()
	put := func(b *testing.B, apex string, i int) {
		cs := storetest.Put(apex, storetest.Set(fmt.Sprintf("n%d.%s", i%1000, apex), 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", i%256)))
		pos, err := n.Publish(context.Background(), newID(cs))
		if err == nil {
			_, err = n.Wait(context.Background(), pos, ThisNode)
		}
		if err != nil {
			b.Error(err)
		}
	}
	for i := range 64 {
		pos, err := n.Publish(context.Background(), newID(storetest.Create(fmt.Sprintf("z%d.example.", i))))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := n.Wait(context.Background(), pos, ThisNode); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("one writer", func(b *testing.B) {
		for i := range b.N {
			put(b, "z0.example.", i)
		}
	})
	together := func(zone func(writer int) string) func(b *testing.B) {
		return func(b *testing.B) {
			work := make(chan int)
			var writers sync.WaitGroup
			for w := range 64 {
				writers.Go(func() {
					for i := range work {
						put(b, zone(w), i)
					}
				})
			}
			for i := range b.N {
				work <- i
			}
			close(work)
			writers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		}
	}
	b.Run("64 writers, one zone", together(func(int) string { return "z0.example." }))
	b.Run("64 writers, 64 zones", together(func(w int) string { return fmt.Sprintf("z%d.example.", w) }))
}

// BenchmarkStart is the time from Start to being ready, on a copy of what a killed node has left.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	opts := func(dir string) Options {
		return Options{
			Dir: dir, Store: store.Options{Ballast: -1, Reserve: 1 << 20, Logger: zerolog.Nop()}, Logger: zerolog.Nop(),
			Log: mutationlog.Options{Namespace: "bench"},
		}
	}
	n, err := Start(opts(dir))
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	<-n.Log().Established()
	for i := range 500 {
		pos, err := n.Publish(context.Background(), newID(storetest.Create(fmt.Sprintf("z%d.example.", i))))
		if err == nil {
			_, err = n.Wait(context.Background(), pos, ThisNode)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for range b.N {
		b.StopTimer()
		left := b.TempDir()
		if err := os.CopyFS(left, os.DirFS(dir)); err != nil { // the node runs: what is copied is what a kill leaves
			b.Fatal(err)
		}
		b.StartTimer()
		again, err := Start(opts(left))
		if err != nil {
			b.Fatal(err)
		}
		for ok := false; !ok; ok, _ = again.Ready() {
			again.sleep(context.Background(), time.Millisecond)
		}
		b.StopTimer()
		if err := again.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
