package change

import (
	"fmt"
	"testing"
	"time"

	"balefire/zones"
)

// BenchmarkChunk is one chunk of a large import, from its octets to its result.
func BenchmarkChunk(b *testing.B) {
	sets := rrsets(b, "example. 3600 NS ns.example.", "example. 3600 SOA ns.example. host.example. 10 7200 900 86400 300")
	for i := range MaxRRsetsTouched - 2 {
		sets = append(sets, rrset(b, fmt.Sprintf("n%06d.example. 300 A 10.0.%d.%d", i, i/256, i%256)))
	}
	cs := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: name("example."), Ops: []zones.Op{zones.OpStageChunk{RRsets: sets}}}
	value, err := Encode(cs)
	if err != nil {
		b.Fatal(err)
	}
	m := newModel(name("example."))
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		cs, rej := Decode(value, 1)
		if rej != nil {
			b.Fatal(rej)
		}
		if _, rej, err := Apply(m, cs, time.Unix(0, 0)); rej != nil || err != nil {
			b.Fatal(rej, err)
		}
	}
	b.ReportMetric(float64(b.N*len(sets))/b.Elapsed().Seconds(), "RRsets/s")
}

// BenchmarkPut is one record set through the API's change set.
func BenchmarkPut(b *testing.B) {
	m := hostedModel(b)
	cs := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: m.apex, Ops: []zones.Op{
		zones.OpPutRRset{RRset: rrset(b, "www.example. 300 A 192.0.2.7", "www.example. 300 A 192.0.2.8")},
	}}
	value, err := Encode(cs)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		cs, rej := Decode(value, 1)
		if rej != nil {
			b.Fatal(rej)
		}
		if _, rej, err := Apply(m, cs, time.Unix(0, 0)); rej != nil || err != nil {
			b.Fatal(rej, err)
		}
	}
}
