package replication

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"balefire/replication/objectstore"
	"balefire/store/storetest"
	"balefire/zones"
)

// away is an object store that can be out of reach.
type away struct {
	objectstore.Store
	down atomic.Bool
}

func (a *away) List(ctx context.Context, prefix string) iter.Seq2[objectstore.Info, error] {
	if a.down.Load() {
		return func(yield func(objectstore.Info, error) bool) {
			yield(objectstore.Info{}, fmt.Errorf("list %s: out of reach", prefix))
		}
	}
	return a.Store.List(ctx, prefix)
}

// backedUp is a node with one partition and zones in it, backed up, its log cut off below the backup, and then more changes.
type backedUp struct {
	options Options
	objects *away
	apex    string
	digests string
}

func newBackedUp(t *testing.T, cut bool) backedUp {
	t.Helper()
	b := backedUp{objects: &away{Store: objectstore.NewMemory()}, options: options(t, t.TempDir()), apex: "example.test."}
	b.options.Log.Partitions, b.options.TrimInterval, b.options.NodeID = 1, time.Hour, "n1"
	b.options.Backup = BackupOptions{Objects: b.objects, Restore: true, Interval: time.Hour}
	n := ready(t, start(t, b.options))
	do(t, n, storetest.Create(b.apex))
	change := func(label string) {
		do(t, n, storetest.Put(b.apex, storetest.Set(label+"."+b.apex, 60, zones.TypeA, "192.0.2.1")))
	}
	for i := range 20 {
		change(fmt.Sprintf("a%d", i))
	}
	b.backUp(t, n)
	change("between")
	b.backUp(t, n)
	if cut {
		// The record at the backup's own offset is gone, too.
		if err := n.log.Trim(deadline(t), 0, n.replicaAt(0).applied().Offset+1); err != nil {
			t.Fatal(err)
		}
	}
	change("after")
	b.digests = digestsOf(n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (n *Node) replicaAt(i int) *replica { return n.replica(int32(i)) }

func (b backedUp) backUp(t *testing.T, n *Node) {
	t.Helper()
	made, err := n.BackUp(deadline(t), nil)
	if err != nil || len(made) != 1 || made[0].Err != nil || made[0].Made.IsZero() {
		t.Fatalf("%+v, %v", made, err)
	}
}

// wipe removes the node's copies, as if its disk had been replaced, but for the log.
func (b backedUp) wipe(t *testing.T) {
	t.Helper()
	for _, name := range []string{"partitions", "caught-up.json", "scratch"} {
		if err := os.RemoveAll(filepath.Join(b.options.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func (b backedUp) whole(t *testing.T, n *Node) {
	t.Helper()
	ready(t, n)
	eventually(t, n, "as it was", func() bool { return digestsOf(n) == b.digests })
	for _, label := range []string{"a0", "between", "after"} {
		if !serves(t, n, label+"."+b.apex) {
			t.Errorf("%s is not served", label)
		}
	}
	left, err := os.ReadDir(filepath.Join(b.options.Dir, "scratch"))
	if err == nil && len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// damage changes an object of a kind, of the newest backup or of all.
func (b backedUp) damage(t *testing.T, prefix string, all bool, change func([]byte) []byte) {
	t.Helper()
	var keys []string
	for info, err := range b.objects.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info.Key, prefix) {
			keys = append(keys, info.Key)
		}
	}
	if len(keys) != 2 {
		t.Fatalf("%d objects of kind %q", len(keys), prefix)
	}
	if !all {
		keys = keys[1:]
	}
	for _, key := range keys {
		r, _, err := b.objects.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content = change(bytes.Clone(content))
		if content == nil {
			err = b.objects.Delete(t.Context(), key)
		} else {
			_, err = b.objects.Put(t.Context(), key, bytes.NewReader(content), int64(len(content)), objectstore.Condition{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A node with an empty disk, and a log that does not reach back, begins from the backup and reads on.
func TestEmptyDiskBeginsFromBackup(t *testing.T) {
	b := newBackedUp(t, true)
	b.wipe(t)
	b.whole(t, start(t, b.options))
}

// A copy that the log has left behind is replaced by the backup.
func TestLogLeavesCopyBehind(t *testing.T) {
	o := options(t, t.TempDir())
	o.Log.Partitions, o.TrimInterval, o.NodeID = 1, time.Hour, "n1"
	o.Backup = BackupOptions{Objects: objectstore.NewMemory(), Restore: true, Interval: time.Hour}
	b := backedUp{options: o, apex: "example.test."}
	put := func(n *Node, label string) {
		do(t, n, storetest.Put(b.apex, storetest.Set(label+"."+b.apex, 60, zones.TypeA, "192.0.2.1")))
	}
	n := ready(t, start(t, o))
	do(t, n, storetest.Create(b.apex))
	put(n, "a0")
	n.Close()
	behind := t.TempDir()
	copyTree(t, filepath.Join(o.Dir, "partitions"), behind)
	n = ready(t, start(t, o))
	put(n, "gap")
	put(n, "between")
	b.backUp(t, n)
	if err := n.log.Trim(deadline(t), 0, n.replicaAt(0).applied().Offset); err != nil {
		t.Fatal(err)
	}
	put(n, "after")
	b.digests = digestsOf(n)
	n.Close()
	b.wipe(t)
	copyTree(t, behind, filepath.Join(o.Dir, "partitions"))
	n = start(t, o)
	b.whole(t, n)
	if len(n.Alarms()) == 0 {
		t.Error("nobody was told that the copy was replaced")
	}
}

// While no backup can be had, a partition that the log has not whole is unavailable: not ready, and nothing is answered
// as if it were absent. When one can be had, it is taken.
func TestUnavailableUntilBackupIsThere(t *testing.T) {
	b := newBackedUp(t, true)
	b.wipe(t)
	b.objects.down.Store(true)
	n := start(t, b.options)
	eventually(t, n, "unavailable", func() bool {
		ok, reasons := n.Ready()
		return !ok && len(reasons) == 1 && strings.Contains(reasons[0], "unavailable")
	})
	if n.HoldsAll() {
		t.Error("it says that it holds the partition")
	}
	b.objects.down.Store(false)
	b.whole(t, n)
}

// Without the object store, what the log has whole is read from there.
func TestObjectStoreAwayLogWhole(t *testing.T) {
	b := newBackedUp(t, false)
	b.wipe(t)
	b.objects.down.Store(true)
	b.whole(t, start(t, b.options))
}

// What is wrong with the newest backup is found before it is used, and the one before is taken: here with a log that
// still reaches back to it.
func TestDamagedBackupFallsBack(t *testing.T) {
	for name, c := range map[string]struct {
		kind   string
		change func([]byte) []byte
	}{
		"flipped":           {"snapshot-", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		"truncated":         {"snapshot-", func(b []byte) []byte { return b[:len(b)-40] }},
		"longer":            {"snapshot-", func(b []byte) []byte { return append(b, 0) }},
		"gone":              {"snapshot-", func([]byte) []byte { return nil }},
		"manifest flipped":  {".manifest", func(b []byte) []byte { b[20] ^= 1; return b }},
		"manifest is empty": {".manifest", func([]byte) []byte { return []byte{} }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackedUp(t, false)
			b.damage(t, c.kind, false, c.change)
			b.wipe(t)
			n := start(t, b.options)
			b.whole(t, n)
			if len(n.Alarms()) == 0 {
				t.Error("no alarm")
			}
		})
	}
}

// The backups of one topic are none of another's.
func TestBackupsOfAnotherTopic(t *testing.T) {
	b := newBackedUp(t, false)
	other := options(t, t.TempDir())
	other.Log.Partitions, other.NodeID, other.Backup = 1, "n2", b.options.Backup
	n := ready(t, start(t, other))
	if at := n.replicaAt(0).applied().Offset; at != -1 || serves(t, n, "a0."+b.apex) {
		t.Errorf("a new namespace begins at offset %d", at)
	}
}

// Backups are made by themselves.
func TestBackupsAreMade(t *testing.T) {
	o := options(t, t.TempDir())
	objects := objectstore.NewMemory()
	o.NodeID, o.Backup = "n1", BackupOptions{Objects: objects, Create: true, Interval: 150 * time.Millisecond, Keep: 2}
	n := ready(t, start(t, o))
	apex := zoneIn(t, n, 1)
	do(t, n, storetest.Create(apex))
	count := func() (manifests, snapshots int, newest string) {
		for info, err := range objects.List(t.Context(), "test/") {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(info.Key, ".manifest") {
				manifests, newest = manifests+1, info.Key
			} else {
				snapshots++
			}
		}
		return manifests, snapshots, newest
	}
	eventually(t, n, "backed up", func() bool { m, _, _ := count(); return m == 1 })
	_, _, first := count()
	for i := range 6 {
		_, _, before := count()
		do(t, n, storetest.Put(apex, storetest.Set(fmt.Sprintf("a%d.%s", i, apex), 60, zones.TypeA, "192.0.2.1")))
		eventually(t, n, "backed up again", func() bool { _, _, newest := count(); return newest != before })
	}
	// Of the other partitions, which nothing was written to, there is none; and nothing is there that no manifest names.
	eventually(t, n, "backups of one partition", func() bool {
		m, s, newest := count()
		return m > 1 && s == m && newest != first && filepath.Dir(newest) == filepath.Dir(first)
	})
}
