//go:build chaos && kafka && s3

package chaos

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/s3test"
)

// Retention passes a node that is away: it restores from the snapshots, and has what the others have; from damaged
// ones it takes nothing.
func TestKafkaRetentionPasses(t *testing.T) {
	c := startCluster(t, shape{regions: 1, groups: 2, nodes: 1, partitions: 4, peers: true})
	fresh := c.retentionPasses()
	rng := rand.New(rand.NewPCG(*seed, 1))
	t.Logf("seed %d", *seed)
	// The newest backup of each partition is damaged, each in another way. What was before it and the rest of the log are taken.
	for _, dir := range c.shelves() {
		c.damageNewest(dir, rng)
	}
	fresh.wipe()
	fresh.awaitReady()
	c.h.settle(time.Minute)
	// There is none that can be used: the partitions are unavailable, and it says so, and answers through the others.
	back := c.takeObjects()
	fresh.wipe()
	c.expectUnavailable(fresh)
	for _, k := range c.h.keys {
		if unknown := c.h.judge(fresh.place, k); unknown != nil {
			t.Errorf("%s does not answer for what others have: %v", fresh.id, unknown)
			break
		}
	}
	// When there are backups again, they are taken.
	back()
	fresh.awaitReady()
	c.h.settle(time.Minute)
	c.compareDigests()
}

// expectUnavailable waits until a node says that a partition is, in its log and to who asks whether it is ready.
func (c *cluster) expectUnavailable(fresh *node) {
	c.t.Helper()
	if err := fresh.server.Await(time.Minute, "unavailable", func() bool {
		status, body := get(c, fresh, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "unavailable")
	}); err != nil {
		c.t.Fatalf("%v\n%s", err, fresh.server.Log())
	}
	if err := fresh.server.Await(time.Minute, "loud", func() bool { return strings.Contains(fresh.server.Log(), "unavailable") }); err != nil {
		c.t.Errorf("%v\n%s", err, fresh.server.Log())
	}
	if err := fresh.server.Await(time.Minute, "listening", func() bool { return strings.Contains(fresh.server.Log(), "answering DNS") }); err != nil {
		c.t.Errorf("%v\n%s", err, fresh.server.Log())
	}
}

// The same, from S3 that is far away and narrow, and then gone: without others to ask, nothing is answered.
func TestKafkaRetentionPassesS3(t *testing.T) {
	server := s3test.Start(t)
	network := balefiretest.NewNetwork(t)
	proxy := balefiretest.NewProxy(t, network.Host(), server.Address())
	c := startCluster(t, shape{
		regions: 1, groups: 2, nodes: 1, partitions: 4, network: network,
		objects: server.Path("bucket"), url: server.URL(proxy.Address()),
	})
	fresh := c.retentionPasses()
	proxy.Delay(20 * time.Millisecond)
	proxy.Throttle(256 << 10)
	fresh.wipe()
	fresh.awaitReady()
	c.h.settle(time.Minute)
	proxy.Break()
	fresh.wipe()
	c.expectUnavailable(fresh)
	for _, k := range c.h.keys {
		if number, unknown, err := askNumber(fresh.dns, k.name); unknown == nil {
			t.Errorf("%s answers for what it does not have: %d %v", fresh.id, number, err)
			break
		}
		if unknown := c.h.judge(c.nodes[0].place, k); unknown != nil {
			t.Errorf("%s does not answer: %v", c.nodes[0].id, unknown)
		}
	}
	proxy.Heal()
	proxy.Delay(0)
	proxy.Throttle(0)
	fresh.awaitReady()
	c.h.settle(time.Minute)
	c.compareDigests()
}

func get(c *cluster, n *node, path string) (status int, body string) {
	a, err := c.h.send(n.place, "GET", path, "", "")
	if err != nil {
		return 0, err.Error()
	}
	return a.status, string(a.body)
}

// retentionPasses has a node be away until the log has lost what it lacks, and returns another that never was there.
func (c *cluster) retentionPasses() (fresh *node) {
	c.t.Helper()
	away := c.nodes[1]
	c.places.remove(away.place)
	away.kill()
	write := func() {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer cancel()
		c.h.run(ctx, *seed).Wait()
	}
	write()
	// What is in the log now is cut off when there are backups of it.
	written := time.Now()
	if err := c.nodes[0].server.Await(time.Minute, "backed up", func() bool { return c.backedUpSince(written) }); err != nil {
		c.t.Fatalf("%v\n%s", err, c.nodes[0].server.Log())
	}
	_, admin := c.kafka()
	ends, err := admin.ListEndOffsets(c.t.Context(), "chaos.mutations")
	c.must(err)
	write()
	written = time.Now()
	if err := c.nodes[0].server.Await(time.Minute, "backed up again", func() bool { return c.backedUpSince(written) }); err != nil {
		c.t.Fatalf("%v\n%s", err, c.nodes[0].server.Log())
	}
	if _, err := admin.DeleteRecords(c.t.Context(), ends.Offsets()); err != nil {
		c.t.Fatal(err)
	}
	away.launch()
	away.awaitReady()
	c.places.add(away.place)
	fresh = c.join("r1", "g3", "r1g3n1")
	c.h.settle(time.Minute)
	return fresh
}

// shelves are the object store's directories of partitions.
func (c *cluster) shelves() []string {
	var all []string
	for _, file := range c.objectFiles(".manifest") {
		all = append(all, filepath.Dir(file))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// damageNewest does something bad to the newest backup of a partition.
func (c *cluster) damageNewest(dir string, rng *rand.Rand) {
	c.t.Helper()
	manifests, err := filepath.Glob(filepath.Join(dir, "*.manifest"))
	c.must(err)
	slices.Sort(manifests)
	if len(manifests) < 2 {
		c.t.Fatalf("%d backups in %s", len(manifests), dir)
	}
	newest := manifests[len(manifests)-1]
	content, err := os.ReadFile(newest)
	c.must(err)
	_, name, _ := strings.Cut(string(content), `"object":"`)
	name, _, _ = strings.Cut(name, `"`)
	snapshot := filepath.Join(dir, name)
	octets, err := os.ReadFile(snapshot)
	c.must(err)
	what := rng.IntN(5)
	switch what {
	case 0:
		c.must(os.WriteFile(snapshot, octets[:rng.IntN(len(octets))], 0o600))
	case 1:
		octets[rng.IntN(len(octets))] ^= 1
		c.must(os.WriteFile(snapshot, octets, 0o600))
	case 2:
		c.must(os.Remove(snapshot))
	case 3:
		c.must(os.WriteFile(newest, content[:len(content)/2], 0o600))
	case 4:
		c.must(os.WriteFile(snapshot, make([]byte, len(octets)), 0o600))
	}
	c.t.Logf("%s: damage %d", snapshot, what)
}
