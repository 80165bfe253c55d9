package replication

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/change"
)

// TestTransactionsStopNothing: somebody writes to the topic in transactions, which leave records of the broker's own in the
// log, whose offsets nobody is given. They are no gap, and a log that ends in one has an end that can be reached.
func TestTransactionsStopNothing(t *testing.T) {
	network := new(kfake.VirtualNetwork)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(network.Listen))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	o := options(t, t.TempDir())
	o.Log.Brokers = []string{"127.0.0.1:9092"}
	o.Log.Client = []kgo.Opt{kgo.Dialer(network.DialContext)}
	n := ready(t, start(t, o))
	eventually(t, n, "established", func() bool { return n.Log().Status().Established })
	apex := zoneIn(t, n, 0)
	client, err := kgo.NewClient(
		kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(network.DialContext), kgo.TransactionalID("stranger"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	publish := func(cs *zones.ChangeSet) int64 {
		t.Helper()
		value, err := change.Encode(newID(cs))
		if err != nil {
			t.Fatal(err)
		}
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Topic: "test.mutations", Partition: 0, Key: []byte(cs.Zone.String()), Value: value}
		if err := client.ProduceSync(deadline(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(deadline(t), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		return r.Offset
	}
	publish(storetest.Create(apex))
	for i, text := range []string{"a.", "b.", "c."} {
		offset := publish(storetest.Put(apex, storetest.Set(text+apex, 60, zones.TypeA, "192.0.2.1")))
		if want := int64(2 * (i + 1)); offset != want { // a commit between any two
			t.Fatalf("offset %d, want %d: there are no control records", offset, want)
		}
		if out, err := n.Wait(deadline(t), store.Position{Partition: 0, Offset: offset}, ThisNode); err != nil || out.Status != store.StatusApplied {
			t.Fatalf("%+v %v", out, err)
		}
	}
	if o := do(t, n, storetest.Put(apex, storetest.Set("d."+apex, 60, zones.TypeA, "192.0.2.1"))); o.Status != store.StatusApplied {
		t.Fatalf("%+v", o)
	}
	before := digestsOf(n)
	publish(storetest.Put(apex, storetest.Set("e."+apex, 60, zones.TypeA, "192.0.2.1")))
	n.Close()

	// A new copy reads it all, and reaches the end, which is a control record's.
	fresh := o
	fresh.Dir = t.TempDir()
	n = ready(t, start(t, fresh))
	if !serves(t, n, "e."+apex) || digestsOf(n) == before {
		t.Fatal("not all was applied")
	}
}
