package mutationlog

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

// BenchmarkEmbedded is the embedded log alone: a synced record, the same with 64 writers, and large records written and
// read back, as an import does.
func BenchmarkEmbedded(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(Options{Namespace: "bench", Dir: filepath.Join(dir, "log"), CacheFile: filepath.Join(dir, "control"), Logger: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	<-l.Established()
	publish := func(b *testing.B, partition int32, value []byte) {
		if _, err := l.Publish(context.Background(), partition, []byte("key"), value); err != nil {
			b.Error(err)
		}
	}
	small, large := make([]byte, 200), make([]byte, 250<<10)
	for i := range large {
		large[i] = byte(i * i >> 7)
	}
	b.Run("one writer", func(b *testing.B) {
		for range b.N {
			publish(b, 0, small)
		}
	})
	b.Run("64 writers", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				publish(b, 1, small)
			}
		})
	})
	b.Run("large, and read", func(b *testing.B) {
		bounds, err := l.Bounds(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Consume(2, bounds[2].End, -1)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		b.SetBytes(int64(len(large)))
		go func() {
			for range b.N {
				publish(b, 2, large)
			}
		}()
		for got := 0; got < b.N; {
			batch, err := s.Next(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			got += len(batch.Records)
		}
	})
}
