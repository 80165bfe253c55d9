package store_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// BenchmarkRestore restores a full snapshot of 300 zones with 300 names each: MB/s are of what is written.
func BenchmarkRestore(b *testing.B) {
	_, p := storetest.Open(b, storetest.Options(b, b.TempDir()))
	var l storetest.Log
	for z := range 300 {
		apex := fmt.Sprintf("z%d.", z)
		sets := storetest.Apex(apex, 1)
		for i := range 300 {
			sets = append(sets, storetest.Set(fmt.Sprintf("n%d.%s", i, apex), 60, zones.TypeA, "192.0.2.1"))
		}
		l.Add(b, storetest.Change(apex, zones.OpCreateZone{RRsets: sets}))
	}
	if _, err := p.Apply(l.Records); err != nil {
		b.Fatal(err)
	}
	var image bytes.Buffer
	info, err := p.WriteSnapshot(b.Context(), &image)
	if err != nil {
		b.Fatal(err)
	}
	if z := p.Zones(); z != 300 {
		b.Fatalf("%d zones", z)
	}
	dir := b.TempDir()
	b.SetBytes(int64(info.Raw))
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		if _, err := store.Restore(b.Context(), filepath.Join(dir, fmt.Sprint(n)), bytes.NewReader(image.Bytes()), store.RestoreOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(300*float64(b.N)/b.Elapsed().Seconds(), "zones/s")
	b.ReportMetric(float64(image.Len())/1e6, "MB-stream")
}
