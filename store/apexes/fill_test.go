package apexes

import (
	"flag"
	"fmt"
	"runtime"
	"testing"

	"balefire/zones"
)

var filled = flag.Int("apexes", 1_000_000, "how many apexes BenchmarkFill puts into the index")

// BenchmarkFill fills an index with names of some 20 octets, and reports what it holds of memory when it is full, as the index and as
// the garbage collector reckon, and what the process took for it. With -apexes 10000000 it holds
// 508 MB, 51 octets each, of which 22 are the name; the process took 835 MB.
func BenchmarkFill(b *testing.B) {
	tlds := []string{"com", "net", "org", "co.uk", "de"}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		x, octets := New(), 0
		for i := range *filled {
			apex := zones.MustParseName(fmt.Sprintf("customer-%d.%s.", i, tlds[i%len(tlds)]))
			octets += len(apex)
			x.Put(apex, Value{Partition: int32(i % 64), Slot: 1<<32 - 1})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := func(n uint64) float64 { return float64(n) / float64(*filled) }
		b.ReportMetric(each(uint64(octets)), "name-octets/zone")
		b.ReportMetric(each(uint64(x.Bytes())), "octets/zone")
		b.ReportMetric(each(after.HeapAlloc-before.HeapAlloc), "heap-octets/zone")
		b.ReportMetric(each(after.HeapSys-before.HeapSys), "sys-octets/zone")
		runtime.KeepAlive(x)
	}
}
