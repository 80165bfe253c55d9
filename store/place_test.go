package store

import (
	"sync/atomic"
	"testing"
)

// While the version is the same, and even, the entry is the same: whoever has seen the new entry does not find the old version after
// that, and whoever has an even version and an entry, one that belong together.
func TestPlaceVersion(t *testing.T) {
	var entry atomic.Pointer[hotEntry]
	var version atomic.Uint64
	at := place{&entry, &version}
	var done atomic.Bool
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		for i := int64(1); i <= 1_000_000; i++ {
			at.replace(&hotEntry{changed: i})
		}
		done.Store(true)
	}()
	// changed is half of the version, when all is well.
	looks := 0
	for !done.Load() {
		before := version.Load()
		e := entry.Load()
		after := version.Load()
		if e == nil || before&1 != 0 {
			continue
		}
		looks++
		if before == after && e.changed != int64(before/2) {
			t.Fatalf("entry %d under version %d", e.changed, before)
		}
		if e.changed > int64(after/2) && after&1 == 0 {
			t.Fatalf("entry %d was there, and then still version %d", e.changed, after)
		}
	}
	<-writer
	if looks == 0 {
		t.Error("never looked")
	}
}
