package catalog

import (
	"flag"
	"fmt"
	"hash/fnv"
	"syscall"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

var benchZones = flag.Int("zones", 1_000_000, "how many zones the catalog of BenchmarkLoad has")

// BenchmarkLoad reads a catalog of a million zones from disk into the store's index, as a node does that starts; before that, it
// reads it from the topic. Processor time counts, as the machine is shared: 1.4 s for loading, 8.4 s for reading; of ten million
// (-zones 10000000) 12 s, and 168 s, which happens once.
func BenchmarkLoad(b *testing.B) {
	partition := func(apex zones.Name) int32 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(apex))
		return int32(h.Sum32() % 64)
	}
	topic := newTopic()
	tlds := []string{"com", "net", "org", "co.uk", "de"}
	topic.records = make([]Record, *benchZones)
	for i := range topic.records {
		apex := zones.MustParseName(fmt.Sprintf("customer-%d.%s.", i, tlds[i%len(tlds)]))
		topic.records[i] = appendRecord(apex, partition(apex), Entry{true, int64(i)})
		topic.records[i].Offset = int64(i)
	}
	opts := optionsFor(b.TempDir(), topic)
	opts.PartitionOf = partition
	begin := used(b)
	c := start(b, opts)
	c.awaitEnd(b, topic)
	read := used(b) - begin
	c.stop()
	begin = used(b)
	for b.Loop() {
		s := storetest.New(b, storetest.Options(b, b.TempDir()))
		opts.Index = s
		c := start(b, opts)
		c.await(b, "it is loaded", c.Whole)
		if h := s.Find(zones.MustParseName("www.customer-8.org."), zones.TypeA); h.Status != store.NotHosted {
			b.Fatalf("customer-8.org. is %s", h.Status)
		}
		if h := s.Find(zones.MustParseName("www.customer-6.net."), zones.TypeA); h.Status != store.Elsewhere {
			b.Fatalf("customer-6.net. is %s", h.Status)
		}
		b.ReportMetric(float64(s.Stats().IndexBytes)/float64(*benchZones), "octets/zone")
		c.stop()
	}
	b.ReportMetric(read.Seconds(), "cpu-s/read")
	b.ReportMetric((used(b)-begin).Seconds()/float64(b.N), "cpu-s/load")
}

// used returns the processor time of this process.
func used(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
