//go:build chaos && kafka && s3

package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/s3test"
)

var (
	faultTime = flag.Duration("chaos-time", 8*time.Second, "how long each kind of fault goes on")
	seed      = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of what is random; printed at the start")
)

var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "balefire-chaos-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary, err = balefiretest.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// fault is one kind of misfortune: done again and again while clients write and ask.
type fault struct {
	name string
	do   func(ctx context.Context, c *cluster, rng *rand.Rand)
	// always says that with two groups in a region no question may stay unanswered after one retry.
	always bool
}

var faults = []fault{
	{"kill -9", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.nodes[rng.IntN(len(c.nodes))]
		n.kill()
		n.awaitReady()
		pause(ctx, time.Duration(rng.IntN(int(time.Second))))
	}, true},
	{"stop and start", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.nodes[rng.IntN(len(c.nodes))]
		n.setDown(true)
		if err := n.server.Stop(30 * time.Second); err != nil {
			c.t.Errorf("%s did not stop well: %v\n%s", n.id, err, n.server.Log())
		}
		n.launch()
		n.awaitReady()
	}, true},
	{"hang", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.nodes[rng.IntN(len(c.nodes))]
		n.pause(time.Second + time.Duration(rng.IntN(int(2*time.Second))))
		pause(ctx, time.Second)
	}, true},
	{"empty disk", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.nodes[rng.IntN(len(c.nodes))]
		n.wipe()
		n.awaitReady()
		pause(ctx, time.Second)
	}, true},
	{"broker killed", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.broker.Kill()
		pause(ctx, time.Second+time.Duration(rng.IntN(int(3*time.Second))))
		c.broker.Restart()
		c.awaitWrites()
	}, true},
	{"object store away", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		away := c.objects + ".away"
		if err := os.Rename(c.objects, away); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(c.objects, []byte("not a directory"), 0o600); err != nil {
			c.t.Fatal(err)
		}
		n := c.nodes[rng.IntN(len(c.nodes))]
		n.kill()
		n.awaitReady()
		if err := os.Remove(c.objects); err != nil {
			c.t.Fatal(err)
		}
		if err := os.Rename(away, c.objects); err != nil {
			c.t.Fatal(err)
		}
		pause(ctx, time.Second)
	}, true},
	{"hostile records", func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.produceRubbish(ctx, rng)
		pause(ctx, 200*time.Millisecond)
	}, true},
}

// produceRubbish writes to all topics what no node would write.
func (c *cluster) produceRubbish(ctx context.Context, rng *rand.Rand) {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.Address()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	for range 20 {
		value := make([]byte, rng.IntN(2000))
		for i := range value {
			value[i] = byte(rng.UintN(256))
		}
		r := &kgo.Record{Topic: "chaos.mutations", Partition: int32(rng.IntN(c.partitions)), Value: value}
		switch rng.IntN(4) {
		case 0:
			r.Key = []byte(fmt.Sprintf("z%d.chaos.test.", rng.IntN(zoneCount)))
		case 1:
			r.Key = value[:min(len(value), 40)]
		case 2:
			r.Value = nil
		case 3:
			r.Topic, r.Partition, r.Key = "chaos.control", 0, []byte("rubbish")
		}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil && ctx.Err() == nil {
			c.t.Errorf("produce rubbish to %s: %v", r.Topic, err)
		}
	}
}

// All of it, one kind after another, with clients at work all the time.
func TestKafkaFaults(t *testing.T) {
	t.Logf("seed %d, %s for each fault", *seed, *faultTime)
	rng := rand.New(rand.NewPCG(*seed, 1))
	c := startCluster(t, shape{regions: 2, groups: 2, nodes: 1, partitions: 8})
	h := newHistory(t, c)
	h.prepare()
	ctx, cancel := context.WithCancel(t.Context())
	done := h.run(ctx, *seed)
	defer func() { cancel(); done.Wait() }()
	for _, f := range faults {
		rounds := 0
		for end := time.Now().Add(*faultTime); time.Now().Before(end) && !t.Failed(); rounds++ {
			f.do(ctx, c, rng)
		}
		if t.Failed() {
			t.Fatalf("failed during %q\n%s", f.name, c.said())
		}
		t.Logf("%s: %d rounds", f.name, rounds)
		h.report()
	}
	cancel()
	done.Wait()
	h.settle(time.Minute)
	h.report()
	if h.acked.Load() == 0 || h.answered.Load() == 0 {
		t.Error("nothing was written or answered")
	}
	c.compareDigests(h)
}

// A topic that is deleted and made again is another history: nothing of it is applied, and answers go on.
func TestKafkaTopicRecreated(t *testing.T) {
	c := startCluster(t, shape{regions: 1, groups: 2, nodes: 1, partitions: 4})
	h := newHistory(t, c)
	h.prepare()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.Address()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.DeleteTopics(t.Context(), "chaos.mutations"); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[0].server.Await(time.Minute, "able to have its topic made again", func() bool {
		got, err := admin.CreateTopic(t.Context(), int32(c.partitions), 1, nil, "chaos.mutations")
		return err == nil && got.Err == nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		// The first write that finds the new topic is refused; until then, none is acknowledged.
		if err := n.server.Await(time.Minute, "aware of another topic", func() bool {
			status, body, err := h.send(n, "PUT", "/v1/zones/z0.chaos.test./rrsets/n0/TXT", "application/json", `{"ttl":60,"records":["\"1\""]}`)
			if err == nil && status == 200 {
				t.Errorf("%s acknowledged a change in another topic", n.id)
			}
			return err == nil && status >= 500 && strings.Contains(string(body), "topic")
		}); err != nil {
			t.Fatalf("%v\n%s", err, n.server.Log())
		}
		for _, k := range h.keys {
			if got, err := ask(n.address(), k.name); err != nil || got.state != counted || got.number != 0 {
				t.Errorf("%s, with another topic: %v %v", n.id, got, err)
			}
		}
		n.kill()
	}
	for _, n := range c.nodes {
		n.awaitReady()
		for _, k := range h.keys {
			if got, err := ask(n.address(), k.name); err != nil || got.state != counted || got.number != 0 {
				t.Errorf("%s, started with another topic: %v %v", n.id, got, err)
			}
		}
	}
}

// Retention passes a node that is away: it restores from the snapshots, and has what the others have.
func TestKafkaRetentionPasses(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		retentionPasses(t, startCluster(t, shape{regions: 1, groups: 2, nodes: 1, partitions: 4}))
	})
	t.Run("S3", func(t *testing.T) {
		server := s3test.Start(t)
		retentionPasses(t, startClusterOn(t, shape{regions: 1, groups: 2, nodes: 1, partitions: 4}, server.Path("bucket"), server.URL("")))
	})
}

func retentionPasses(t *testing.T, c *cluster) {
	h := newHistory(t, c)
	h.prepare()
	away := c.nodes[1]
	away.setDown(true)
	away.server.Kill()
	ctx, cancel := context.WithCancel(t.Context())
	done := h.run(ctx, *seed)
	<-time.After(2 * time.Second)
	cancel()
	done.Wait()
	// What is in the log now is cut off when there are backups of it.
	written := time.Now()
	if err := c.nodes[0].server.Await(time.Minute, "backed up", func() bool { return c.backedUpSince(written) }); err != nil {
		t.Fatalf("%v\n%s", err, c.nodes[0].server.Log())
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.Address()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(t.Context(), "chaos.mutations")
	if err != nil {
		t.Fatal(err)
	}
	before := ends.Offsets()
	if _, err := admin.DeleteRecords(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	away.launch()
	away.awaitReady()
	// And one that never was there.
	fresh := c.add("r1", "g3", "r1g3n1")
	fresh.launch()
	fresh.awaitReady()
	h.settle(time.Minute)
	c.compareDigests(h)
}
