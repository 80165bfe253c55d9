//go:build chaos && kafka && s3

package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

var (
	faultTime = flag.Duration("chaos-time", 0, "how long each kind of fault goes on; 0: some are done, chosen by the seed, once each")
	seed      = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of what is random; printed at the start")
	only      = flag.String("faults", ".", "a regular expression: the kinds of fault that are done")
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

// someFaults are done in everyday testing.
const someFaults = 10

// The node that has a small disk of its own.
const (
	smallSize    = 400 << 20
	smallReserve = 64 << 20
)

// shrink gives a node, which is stopped, a small disk.
func (c *cluster) shrink(n *node) {
	c.t.Helper()
	n.stop()
	c.must(os.RemoveAll(n.dir))
	mount := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", smallSize), "balefire-chaos", n.root)
	if out, err := mount.CombinedOutput(); err != nil {
		c.t.Fatalf("mount: %v: %s (this test needs root)", err, out)
	}
	c.t.Cleanup(func() {
		n.server.Kill()
		if out, err := exec.Command("umount", n.root).CombinedOutput(); err != nil {
			c.t.Errorf("umount: %v: %s", err, out)
		}
	})
	n.forget()
	n.more = append(n.more, "--store-disk-reserve", fmt.Sprint(smallReserve))
	n.launch()
	n.awaitReady()
	c.small = n
}

// suffer does one kind of fault after another, with clients at work all the time, and then holds the laws to all.
func (c *cluster) suffer(faults []fault) {
	c.t.Helper()
	c.t.Logf("seed %d, %s for each fault", *seed, *faultTime)
	rng := rand.New(rand.NewPCG(*seed, 1))
	chosen := regexp.MustCompile(*only)
	faults = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !chosen.MatchString(f.name) })
	if *faultTime == 0 {
		rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		faults = faults[:min(len(faults), someFaults)]
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := c.h.run(ctx, *seed)
	defer func() { cancel(); done.Wait() }()
	for _, f := range faults {
		began, rounds := time.Now(), 0
		for rounds == 0 || time.Since(began) < *faultTime*time.Duration(max(f.times, 1)) && !c.t.Failed() {
			f.do(ctx, c, rng)
			rounds++
		}
		c.h.expectAnswered()
		if c.t.Failed() {
			c.t.Fatalf("failed during %q, round %d\n%s", f.name, rounds, c.said())
		}
		c.t.Logf("%s: %d rounds in %s", f.name, rounds, time.Since(began).Round(time.Millisecond))
		c.t.Log(c.h.report())
	}
	if c.shape.nodes > 1 {
		c.t.Logf("partitions were let go to another node %d times", c.moved+moves(c.nodes...))
	}
	cancel()
	done.Wait()
	c.h.settle(time.Minute)
	c.t.Log(c.h.report())
	if c.h.acked.Load() == 0 || c.h.answered.Load() == 0 {
		c.t.Error("nothing was written or answered")
	}
	if c.t.Failed() {
		c.t.Fatal(c.said())
	}
	c.compareDigests()
}

// Two regions, two groups in each, of one node that has everything. For the long form: its name keeps it out of everyday
// testing, where nodes that share partitions suffer the same.
func TestWholeCopiesFaults(t *testing.T) {
	c := startCluster(t, shape{regions: 2, groups: 2, nodes: 1, partitions: 8})
	c.shrink(c.nodes[1])
	c.suffer(faults)
}

// Three brokers: the leader of a partition is killed during writes, again and again. For the long form.
func TestLeaderKilled(t *testing.T) {
	c := startCluster(t, shape{regions: 1, groups: 2, nodes: 1, partitions: 4, three: true})
	c.suffer([]fault{{name: "leader killed", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		_, admin := c.kafka()
		defer admin.Close()
		topics, err := admin.ListTopics(ctx, "chaos.mutations")
		c.must(err)
		leader := c.brokers[topics["chaos.mutations"].Partitions[int32(rng.IntN(c.partitions))].Leader-1]
		leader.Kill()
		c.awaitWrites() // the others go on
		leader.Restart()
		await(c.t, time.Minute, "all brokers have everything again", func() bool {
			topics, err := admin.ListTopics(ctx, "chaos.mutations")
			if err != nil {
				return false
			}
			for _, p := range topics["chaos.mutations"].Partitions {
				if len(p.ISR) < 3 {
					return false
				}
			}
			return true
		})
	}}})
}

// A topic that is deleted and made again is another history: nothing of it is applied, and answers go on.
func TestKafkaTopicRecreated(t *testing.T) {
	c := startCluster(t, shape{regions: 1, groups: 2, nodes: 1, partitions: 4})
	_, admin := c.kafka()
	if _, err := admin.DeleteTopics(t.Context(), "chaos.mutations"); err != nil {
		t.Fatal(err)
	}
	await(t, time.Minute, "the topic can be made again", func() bool {
		got, err := admin.CreateTopic(t.Context(), int32(c.partitions), 1, nil, "chaos.mutations")
		return err == nil && got.Err == nil
	})
	unchanged := func(n *node, when string) {
		t.Helper()
		for _, k := range c.h.keys {
			if number, unknown, err := askNumber(n.dns, k.name); unknown != nil || err != nil || number != 0 {
				t.Errorf("%s, %s: %d %v %v", n.id, when, number, unknown, err)
			}
		}
	}
	for _, n := range c.nodes {
		// The first write that finds the new topic is refused; until then, none is acknowledged.
		if err := n.server.Await(time.Minute, "aware of another topic", func() bool {
			a, err := c.h.send(n.place, "PUT", "/v1/zones/z0.chaos.test./rrsets/n0/TXT", "application/json", `{"ttl":60,"records":["\"1\""]}`)
			if err == nil && a.status == 200 {
				t.Errorf("%s acknowledged a change in another topic", n.id)
			}
			return err == nil && a.status >= 500 && strings.Contains(string(a.body), "topic")
		}); err != nil {
			t.Fatalf("%v\n%s", err, n.server.Log())
		}
		unchanged(n, "with another topic")
		n.kill()
	}
	for _, n := range c.nodes {
		n.launch()
		n.awaitReady()
		unchanged(n, "started with another topic")
	}
}
