package store_test

import (
	"fmt"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// BenchmarkApply applies changes of single RRsets to 1,000 zones, in batches of the given number of records; each
// batch is one synced transaction.
func BenchmarkApply(b *testing.B) {
	for _, batch := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			_, p := storetest.Open(b, storetest.Options(b, b.TempDir()))
			var l storetest.Log
			const zonesOf = 1000
			for i := range zonesOf {
				l.Add(b, storetest.Create(fmt.Sprintf("z%d.", i)))
			}
			if _, err := p.Apply(l.Records); err != nil {
				b.Fatal(err)
			}
			from := len(l.Records)
			a := storetest.Set("x.", 300, zones.TypeA, "192.0.2.1")
			for i := range b.N {
				apex := fmt.Sprintf("z%d.", i%zonesOf)
				l.Add(b, storetest.Put(apex, a.WithOwner(zones.MustParseName(fmt.Sprintf("n%d.%s", i/zonesOf, apex)))))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for at := from; at < len(l.Records); at += batch {
				if _, err := p.Apply(l.Records[at:min(at+batch, len(l.Records))]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func find(b *testing.B, hotBytes int64) {
	opts := storetest.Options(b, b.TempDir())
	opts.HotBytes = hotBytes
	s, p := storetest.Open(b, opts)
	findIn(b, s, p, hotBytes)
}

func findIn(b *testing.B, s *store.Store, p *store.Partition, hotBytes int64) {
	names := benchNames(b, s, p, hotBytes)
	b.ReportAllocs()
	b.ResetTimer()
	var at zones.Location
	for i := range b.N {
		n := names[i%len(names)]
		h := s.Find(n, zones.TypeA)
		if h.Status != store.Here {
			b.Fatal(h.Err)
		}
		if err := h.View.Find(n, &at); err != nil || !at.Exact {
			b.Fatal(err)
		}
		h.Release()
	}
}

// benchNames makes zones, brings them into memory if there is any, and returns a name of each.
func benchNames(b *testing.B, s *store.Store, p *store.Partition, hotBytes int64) []zones.Name {
	var l storetest.Log
	var names []zones.Name
	for i := range 1000 {
		apex := fmt.Sprintf("z%d.", i)
		l.Add(b, storetest.Create(apex, storetest.Set("www."+apex, 300, zones.TypeA, "192.0.2.1")))
		names = append(names, zones.MustParseName("www."+apex))
	}
	if _, err := p.Apply(l.Records); err != nil {
		b.Fatal(err)
	}
	for hot := 0; hotBytes > 1 && hot < len(names); {
		hot = 0
		for _, n := range names {
			h := s.Find(n, zones.TypeA)
			h.Release()
			if _, ok := s.FindHot(n, zones.TypeA); ok {
				hot++
			}
		}
	}
	return names
}

// BenchmarkFindHotTogether is BenchmarkFindHot on all processors at once, with answers' stamps looked at, as the receiving loops do: with
// -cpu 1,2 it shows what a second one adds to the first.
func BenchmarkFindHotTogether(b *testing.B) {
	s, p := storetest.Open(b, storetest.Options(b, b.TempDir()))
	names := benchNames(b, s, p, 64<<20)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var at zones.Location
		for i := 0; pb.Next(); i++ {
			n := names[i%len(names)]
			h, ok := s.FindHot(n, zones.TypeA)
			if !ok || !s.Current(h.Stamp) {
				b.Error("not in memory")
				return
			}
			if err := h.View.Find(n, &at); err != nil || !at.Exact {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkFindHot finds a zone and a name in memory, without an allocation.
func BenchmarkFindHot(b *testing.B) { find(b, 64<<20) }

// BenchmarkFindCold finds a zone and a name in Badger.
func BenchmarkFindCold(b *testing.B) { find(b, 1) }

// BenchmarkFindHotOfMillion is BenchmarkFindHot in a store that knows of a million zones elsewhere.
func BenchmarkFindHotOfMillion(b *testing.B) {
	s, p := storetest.Open(b, storetest.Options(b, b.TempDir()))
	elsewhere(s)
	findIn(b, s, p, 64<<20)
}

// BenchmarkOpenBesideMillion opens and closes an empty partition of a store that knows of a million zones elsewhere, and one that
// does not: neither goes through the index.
func BenchmarkOpenBesideMillion(b *testing.B) {
	for _, million := range []bool{false, true} {
		b.Run(fmt.Sprint(million), func(b *testing.B) {
			s := storetest.New(b, storetest.Options(b, b.TempDir()))
			if million {
				elsewhere(s)
			}
			for b.Loop() {
				p, err := s.Open(0, storetest.TopicID)
				if err != nil {
					b.Fatal(err)
				}
				p.CaughtUp()
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// elsewhere tells a store of a million zones.
func elsewhere(s *store.Store) {
	for i := range 1_000_000 {
		s.PutElsewhere(zones.MustParseName(fmt.Sprintf("customer-%d.com.", i)), int32(1+i%63))
	}
}
