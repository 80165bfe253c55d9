//go:build kafka

package replication

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"balefire/replication/kafkatest"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

func TestKafkaNode(t *testing.T) {
	broker := kafkatest.Start(t)
	dir := t.TempDir()
	o := options(t, dir)
	o.Log.Brokers = []string{broker.Address()}
	n := start(t, o)
	select { // a Java program starts
	case <-n.Log().Established():
	case <-time.After(3 * time.Minute):
		t.Fatalf("%+v", n.Log().Status())
	}
	ready(t, n)
	apex := zoneIn(t, n, 1)
	do(t, n, storetest.Create(apex))
	for i := range 50 {
		if o := do(t, n, storetest.Put(apex, storetest.Set(fmt.Sprintf("n%d.%s", i, apex), 60, zones.TypeA, "192.0.2.1"))); o.Status != store.StatusApplied {
			t.Fatalf("%+v", o)
		}
	}
	before := digestsOf(n)

	// Without the broker: answers, and a restart that is ready.
	broker.Kill()
	eventually(t, n, "the loss is noticed", func() bool { return !n.Log().Status().Reachable })
	n.Close()
	n = ready(t, start(t, o))
	if !serves(t, n, "n7."+apex) || digestsOf(n) != before {
		t.Fatal("not what it held before")
	}

	// The broker is back, and the node goes on by itself.
	broker.Restart()
	select {
	case <-n.Log().Established():
	case <-time.After(3 * time.Minute):
		t.Fatalf("%+v", n.Log().Status())
	}
	if o := do(t, n, storetest.Put(apex, storetest.Set("after."+apex, 60, zones.TypeA, "192.0.2.1"))); o.Status != store.StatusApplied {
		t.Fatalf("%+v", o)
	}
	before = digestsOf(n)
	n.Close()

	// Another node, and one that has lost its copies, come to the same from the log alone.
	if err := os.RemoveAll(filepath.Join(dir, "partitions")); err != nil {
		t.Fatal(err)
	}
	n = ready(t, start(t, o))
	other := options(t, t.TempDir())
	other.Log.Brokers = o.Log.Brokers
	second := ready(t, start(t, other))
	if a, b := digestsOf(n), digestsOf(second); a != before || b != before {
		t.Fatalf("digests %s and %s, were %s", a, b, before)
	}
}
