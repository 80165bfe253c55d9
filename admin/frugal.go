package admin

import (
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"sync"
)

// Large imports make garbage faster than the collector, left to itself, would take it away: it lets the heap double
// first. While an import runs that outgrows its memory, the process therefore has a soft memory limit (runtime/debug.SetMemoryLimit) a little
// above what it had before, which costs some CPU time, and keeps a zone of a million names within 256 MiB of resident memory.
// A lower limit that somebody else has set stays.

// frugalMargin is how much more the Go runtime may use. Databases' mapped files come on top.
const frugalMargin = 128 << 20

// frugality is the process's, as the limit is.
var frugality struct {
	mu     sync.Mutex
	users  int
	before int64
}

// beFrugal begins to save memory, until done is called.
func beFrugal() (done func()) {
	f := &frugality
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users++; f.users == 1 {
		f.before = debug.SetMemoryLimit(-1)
		debug.SetMemoryLimit(min(f.before, inUse()+frugalMargin))
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.users--; f.users == 0 {
			debug.SetMemoryLimit(f.before)
		}
	}
}

// inUse is what the limit counts: all that the runtime has mapped and not given back.
func inUse() int64 {
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(samples)
	if samples[0].Value.Kind() != runtimemetrics.KindUint64 || samples[1].Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
