package apexes

import (
	"syscall"
	"testing"
	"time"
)

// cpu reports the processor time of each operation: on a machine shared with others the clock says little.
func cpu(b *testing.B) func() {
	begin := used(b)
	return func() { b.ReportMetric(float64(used(b)-begin)/float64(b.N), "cpu-ns/op") }
}

func used(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
