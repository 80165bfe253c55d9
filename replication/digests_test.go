package replication

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"balefire/replication/gossip"
	"balefire/store"
	"balefire/store/storetest"
)

// A digest that differs is an alarm, and this node's copy is read whole: when it agrees with itself people are told that, too.
func TestDigestOfAnotherDiffers(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	apex := zoneIn(t, n, 1)
	o := do(t, n, storetest.Create(apex))
	idle := map[int32]int64{1: o.Offset} // it has been there for a while
	claim := n.replica(1).claim(idle)
	if claim.Checkpoint != o.Offset || claim.Digest == ([16]byte{}) {
		t.Fatalf("claimed %+v", claim)
	}
	if !n.compareDigest("other", claim) {
		t.Error("a digest that is known was not compared")
	}
	if alarms := n.Alarms(); len(alarms) > 0 {
		t.Fatalf("equal digests alarm: %v", alarms)
	}
	later := claim
	later.Checkpoint++
	if n.compareDigest("other", later) {
		t.Error("a digest of an offset to come was compared")
	}
	wrong := claim
	wrong.Digest[3]++
	if !n.compareDigest("other", wrong) {
		t.Error("a digest that differs was not compared")
	}
	eventually(t, n, "two alarms", func() bool { return len(n.Alarms()) == 2 })
	for _, a := range n.Alarms() {
		if !errors.Is(a.Err, ErrDigestDiffers) || a.Partition != 1 || !strings.Contains(a.Err.Error(), "other") {
			t.Errorf("alarm %+v", a)
		}
	}
}

// A copy that contradicts its own digest, which another's has given away, is built anew.
func TestDigestFindsDamage(t *testing.T) {
	o := options(t, t.TempDir())
	n := ready(t, start(t, o))
	apex := zoneIn(t, n, 1)
	outcome := do(t, n, storetest.Create(apex))
	n.Close()
	loseRRset(t, filepath.Join(o.Dir, "partitions", "001", "badger"))
	n = ready(t, start(t, o))
	p := n.Store().Partition(1)
	eventually(t, n, "in step with the log", func() bool { return n.Log().Status().Reachable })
	if !n.compareDigest("other", gossip.Claim{Partition: 1, Checkpoint: outcome.Offset, Digest: [16]byte{1}}) {
		t.Fatal("a digest that differs was not compared")
	}
	eventually(t, n, "another copy", func() bool { q := n.Store().Partition(1); return q != nil && q != p && n.Holds(1) })
	if err := n.Store().Partition(1).Scrub(t.Context()); err != nil {
		t.Errorf("the new copy: %v", err)
	}
	if !slices.ContainsFunc(n.Alarms(), func(a Alarm) bool { return errors.Is(a.Err, store.ErrCorrupt) }) {
		t.Errorf("no alarm says that the copy contradicted itself: %v", n.Alarms())
	}
}

// loseRRset takes an RRset out of a closed partition's database, behind the store's back.
func loseRRset(t *testing.T, dir string) {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).
		WithLogger(nil).WithDetectConflicts(false).WithNumVersionsToKeep(math.MaxInt32).WithMemTableSize(16 << 20))
	if err != nil {
		t.Fatal(err)
	}
	txn := db.NewTransactionAt(math.MaxUint64, true)
	it := txn.NewIterator(badger.IteratorOptions{})
	var lost []byte
	var ts uint64
	for it.Rewind(); it.Valid(); it.Next() {
		if it.Item().Key()[0] == 'd' {
			lost = it.Item().KeyCopy(nil)
		}
		ts = max(ts, it.Item().Version())
	}
	it.Close()
	if err := errors.Join(txn.Delete(lost), txn.CommitAt(ts, nil), db.Close()); err != nil {
		t.Fatal(err)
	}
}
