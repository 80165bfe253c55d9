package replication

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// What was deleted behind the node's back is found by it, without being asked, and is an alarm.
func TestNodeScrubs(t *testing.T) {
	o := options(t, t.TempDir())
	o.ScrubInterval = -1
	n := ready(t, start(t, o))
	do(t, n, storetest.Create("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.1")))
	partition, ok := n.PartitionOf(zones.MustParseName("example."))
	if !ok {
		t.Fatal("no partition")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	dropRRset(t, filepath.Join(o.Dir, "partitions", fmt.Sprintf("%03d", partition), "badger"))

	o.ScrubInterval = 30 * time.Millisecond
	n = start(t, o)
	eventually(t, n, "the alarm of a scrub", func() bool {
		for _, a := range n.Alarms() {
			if a.Partition == partition && errors.Is(a.Err, store.ErrCorrupt) {
				return true
			}
		}
		return false
	})
}

// dropRRset deletes the last RRset in a closed database.
func dropRRset(t *testing.T, dir string) {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithLogger(nil).WithDetectConflicts(false).WithMemTableSize(16 << 20).WithNumVersionsToKeep(math.MaxInt32))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	txn := db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{'d'}})
	var key []byte
	var version uint64
	for it.Rewind(); it.Valid(); it.Next() {
		key, version = it.Item().KeyCopy(nil), it.Item().Version()
	}
	it.Close()
	if key == nil {
		t.Fatal("there is no RRset")
	}
	if err := txn.Delete(key); err != nil {
		t.Fatal(err)
	}
	if err := txn.CommitAt(version, nil); err != nil {
		t.Fatal(err)
	}
}
