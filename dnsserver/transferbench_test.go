package dnsserver

import (
	"context"
	"fmt"
	"testing"

	"balefire/store/storetest"
	"balefire/zones"
)

// discard takes what comes.
type discard struct{}

func (discard) wait(context.Context) error { return nil }
func (discard) write([]byte) error         { return nil }

// BenchmarkTransfer is AXFR of a zone of 100,000 names with 1.5 records each, without the network.
func BenchmarkTransfer(b *testing.B) {
	const apex, names = "example.org.", 100_000
	p := startPrimary(b, Options{})
	sets := storetest.Apex(apex, 1)
	for i := range names {
		owner := fmt.Sprintf("h%07d.%s", i, apex)
		sets = append(sets, storetest.Set(owner, 60, zones.TypeA, "192.0.2.1"))
		if i%2 == 0 {
			sets = append(sets, storetest.Set(owner, 60, zones.TypeAAAA, "2001:db8::1"))
		}
	}
	p.apply(storetest.Stage(apex, p.log.NextID(), sets, 1900)...)
	if err := p.part.Close(); err != nil { // so that all is in tables
		b.Fatal(err)
	}
	var err error
	if p.part, err = p.store.Open(0, storetest.TopicID); err != nil {
		b.Fatal(err)
	}
	t := transferQuery{question: []byte(zones.MustParseName(apex) + "\x00\xfc\x00\x01"), apex: zones.MustParseName(apex), kind: zones.TypeAXFR}
	b.ReportAllocs()
	for b.Loop() {
		(&transferJob{server: p.Server, query: t, via: overTCP}).run(discard{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(sets)), "ns/record")
	if n := p.out.counters.failed.Load(); n > 0 {
		b.Errorf("%d failed", n)
	}
}
