package store_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// manyZones makes a partition of so many zones of six records, as an import leaves it, and closes it.
func manyZones(b *testing.B, s *store.Store, count int) {
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	l := storetest.Log{Step: time.Millisecond}
	for i := range count {
		apex := manyApex(i)
		address := fmt.Sprintf("192.0.%d.%d", i>>8&255, i&255)
		cs := storetest.Create(apex,
			storetest.Set(apex, 3600, zones.TypeA, address),
			storetest.Set(apex, 3600, zones.TypeMX, "10 mail.provider.example."),
			storetest.Set("www."+apex, 3600, zones.TypeA, address))
		binary.BigEndian.PutUint64(cs.ID[:], rng.Uint64())
		binary.BigEndian.PutUint64(cs.ID[8:], rng.Uint64())
		l.Add(b, cs)
		if len(l.Records)%10_000 == 0 || i == count-1 {
			if _, err := p.Apply(l.Records[p.Applied().Offset+1:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpenMany opens a partition of many zones, until its zones are found. A million in eight partitions are 125,000 in each.
func BenchmarkOpenMany(b *testing.B) {
	for _, count := range []int{1000, 25_000, 125_000} {
		b.Run(fmt.Sprintf("zones=%d", count), func(b *testing.B) {
			opts := storetest.Options(b, b.TempDir())
			manyZones(b, storetest.New(b, opts), count)
			var spent time.Duration // of processors, as others may use them, too
			b.ResetTimer()
			for b.Loop() {
				before := processorTime(b)
				s, err := store.New(opts)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Open(0, storetest.TopicID); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				spent += processorTime(b) - before
				if s.Hosted() != count {
					b.Fatalf("%d zones", s.Hosted())
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(tableOctets(b, opts.Dir))/float64(count), "octets/zone")
		})
	}
}

// processorTime is what this process has used of processors.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// tableOctets is how many octets of tables are in a directory.
func tableOctets(b *testing.B, dir string) (octets int64) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".sst" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			octets += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return octets
}

// BenchmarkFindColdOfMany finds zones on disk, at random, in a partition of many, and a name in each.
func BenchmarkFindColdOfMany(b *testing.B) {
	opts := storetest.Options(b, b.TempDir())
	opts.HotBytes = 1
	s := storetest.New(b, opts)
	const count = 125_000
	manyZones(b, s, count)
	if _, err := s.Open(0, storetest.TopicID); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	before := processorTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	var at zones.Location
	for b.Loop() {
		name := manyName(rng.IntN(count))
		h := s.Find(name, zones.TypeA)
		if h.Status != store.Here {
			b.Fatal(h.Status, h.Err)
		}
		if err := h.View.Find(name, &at); err != nil || !at.Exact {
			b.Fatal(err)
		}
		h.Release()
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// manyName is the www of a zone of manyZones.
func manyName(i int) zones.Name { return zones.MustParseName("www." + manyApex(i)) }

func manyApex(i int) string {
	return fmt.Sprintf("zone-%d.%s.", i, []string{"com", "net", "org", "co.uk", "de"}[i%5])
}
