//go:build chaos && kafka && s3

package chaos

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/kafkatest"
)

// shape is what a cluster is made of.
type shape struct {
	regions, groups, nodes, partitions int
	// peers: nodes gossip and pass queries on, as they also do when a group has several nodes.
	peers bool
	// objects is a directory, and url how the nodes name it. Empty: one of the test's own.
	objects, url string
	// network of the nodes. Nil: one of the test's own.
	network *balefiretest.Network
	// three brokers, without proxies.
	three bool
}

// cluster is one namespace: a broker, a directory for snapshots, and nodes, each in a network namespace of its own.
// The nodes of a region reach the broker through that region's proxy. Its methods are for the test's goroutine.
type cluster struct {
	shape
	t       *testing.T
	broker  *kafkatest.Broker
	brokers [3]*kafkatest.Broker // instead of the one
	proxies map[string]*balefiretest.Proxy
	nodes   []*node
	small   *node          // the one with a small disk, if any
	joined  int            // nodes that came later
	moved   int            // partitions that nodes let go before they left
	hits    map[string]hit // by region
	last    string         // the region that was hit last
	places  places         // those that clients know
	h       *history
}

// node is one node over the life of all its processes.
type node struct {
	*place
	c      *cluster
	ns     *balefiretest.Namespace
	root   string // what a file system may be mounted on
	dir    string // the data directory, in it
	more   []string
	server *balefiretest.Server
}

const (
	dnsPort    = "5300"
	adminPort  = "8053"
	gossipPort = "7946"
	relayPort  = "8054"
)

// startCluster starts a broker and all nodes, waits until they are ready, and has the history's zones made.
func startCluster(t *testing.T, s shape) *cluster {
	t.Helper()
	if s.objects == "" {
		s.objects = t.TempDir()
		s.url = "file://" + s.objects
	}
	s.peers = s.peers || s.nodes > 1
	if s.network == nil {
		s.network = balefiretest.NewNetwork(t)
	}
	c := &cluster{shape: s, t: t, proxies: make(map[string]*balefiretest.Proxy), hits: make(map[string]hit)}
	if s.three {
		c.brokers = kafkatest.StartThreeOn(t, c.network.Host())
	} else {
		var vias []kafkatest.Via
		for r := range s.regions {
			p := balefiretest.NewProxy(t, c.network.Host(), "")
			c.proxies[fmt.Sprintf("r%d", r+1)] = p
			vias = append(vias, p)
		}
		c.broker = kafkatest.StartBehind(t, vias...)
	}
	for r := range s.regions {
		for g := range s.groups {
			for n := range s.nodes {
				c.add(fmt.Sprintf("r%d", r+1), fmt.Sprintf("g%d", g+1), fmt.Sprintf("r%dg%dn%d", r+1, g+1, n+1))
			}
		}
	}
	for _, n := range c.nodes {
		n.launch()
	}
	for _, n := range c.nodes {
		n.awaitReady()
		c.places.add(n.place)
	}
	c.h = newHistory(t, &c.places, func(broken law, text string) { t.Errorf("%s: %s", broken, text) })
	c.h.prepare(t, c.nodes[0].place)
	return c
}

// add adds a node, which is not started.
func (c *cluster) add(region, group, id string) *node {
	c.t.Helper()
	ns := c.network.Namespace()
	// Who asks a node whose process is gone is told so each time, and not once a second: a checker that waits sees less.
	ns.Run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit")
	root := c.t.TempDir()
	n := &node{
		place: newPlace(id, region, group, net.JoinHostPort(ns.Address, dnsPort)),
		c:     c, ns: ns, root: root, dir: filepath.Join(root, "data"),
	}
	n.setAdmin(net.JoinHostPort(ns.Address, adminPort))
	n.setDown(true)
	c.nodes = append(c.nodes, n)
	return n
}

// join adds a node, starts it, and tells clients of it when it is ready.
func (c *cluster) join(region, group, id string) *node {
	c.t.Helper()
	n := c.add(region, group, id)
	n.launch()
	n.awaitReady()
	c.places.add(n.place)
	return n
}

// leave ends a node for good: drained, so that its partitions go before it does, or stopped at once.
func (c *cluster) leave(n *node, drained bool) {
	c.t.Helper()
	if drained {
		a, err := c.h.send(n.place, "POST", "/v1/node/drain?leave=true", "", "")
		if err != nil || a.status != 200 {
			c.t.Fatalf("drain %s: %d %s %v", n.id, a.status, a.body, err)
		}
		if err := n.server.Await(2*time.Minute, "without partitions", func() bool {
			a, err := c.h.send(n.place, "GET", "/metrics", "", "")
			return err == nil && a.status == 200 && !bytes.Contains(a.body, []byte("balefire_partition_applied_offset{"))
		}); err != nil {
			c.t.Fatalf("%s: %v\n%s", n.id, err, n.server.Log())
		}
	}
	c.places.remove(n.place)
	n.stop()
	c.moved += moves(n)
	c.nodes = without(c.nodes, n)
}

// moves counts how often nodes let a partition go to another one.
func moves(nodes ...*node) (count int) {
	for _, n := range nodes {
		count += strings.Count(n.server.Log(), `"message":"partition let go"`)
	}
	return count
}

// seeds are the brokers' addresses as the nodes of a region know them.
func (c *cluster) seeds(region string) string {
	if !c.three {
		return c.proxies[region].Address()
	}
	var all []string
	for _, b := range c.brokers {
		all = append(all, b.Address())
	}
	return strings.Join(all, ",")
}

// kafka is a client of the test's own.
func (c *cluster) kafka(opts ...kgo.Opt) (*kgo.Client, *kadm.Client) {
	c.t.Helper()
	seeds := []string{}
	if c.three {
		seeds = strings.Split(c.seeds(""), ",")
	} else {
		seeds = append(seeds, c.broker.Address())
	}
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seeds...))...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client, kadm.NewClient(client)
}

// launch starts the node's process, without waiting.
func (n *node) launch() {
	n.c.t.Helper()
	args := []string{
		"--brokers", n.c.seeds(n.region), "--namespace", "chaos", "--region", n.region, "--replica-group", n.group, "--node-id", n.id,
		"--partitions", fmt.Sprint(n.c.partitions),
		"--backup-url", n.c.url, "--backup-interval", "2s",
		"--store-disk-reserve", "64MiB",
	}
	var env []string
	if n.c.peers {
		var peers []string
		peers, env = n.peerFlags()
		args = append(args, peers...)
	}
	n.server = balefiretest.Launch(n.c.t, balefiretest.How{
		Binary: binary, Dir: n.dir, DNS: []string{n.dns}, Admin: n.adminAddress(), Wrap: n.ns.Wrap(), Args: append(args, n.more...), Env: env,
	})
}

func (n *node) awaitReady() {
	n.c.t.Helper()
	if err := n.server.AwaitReady(2 * time.Minute); err != nil {
		n.c.t.Fatalf("%s: %v\n%s", n.id, err, n.server.Log())
	}
	n.setDown(false)
}

// kill is kill -9.
func (n *node) kill() {
	n.setDown(true)
	n.server.Kill()
}

// restart is kill -9, then another start on the same disk.
func (n *node) restart() {
	n.c.t.Helper()
	n.kill()
	n.launch()
}

// stop is SIGTERM.
func (n *node) stop() {
	n.c.t.Helper()
	n.setDown(true)
	if err := n.server.Stop(30 * time.Second); err != nil {
		n.c.t.Errorf("%s did not stop well: %v\n%s", n.id, err, n.server.Log())
	}
}

// wipe is kill -9 and another start with an empty disk.
func (n *node) wipe() {
	n.c.t.Helper()
	n.kill()
	if err := os.RemoveAll(n.dir); err != nil {
		n.c.t.Fatal(err)
	}
	n.forget()
	n.launch()
}

// hang stops the process for a while, as a machine without air would.
func (n *node) hang(d time.Duration) {
	n.setDown(true)
	_ = n.server.Signal(syscall.SIGSTOP)
	pause(n.c.t.Context(), d)
	_ = n.server.Signal(syscall.SIGCONT)
	n.setDown(false)
}

// inRegion are the nodes of a region.
func (c *cluster) inRegion(region string) []*node {
	var all []*node
	for _, n := range c.nodes {
		if n.region == region {
			all = append(all, n)
		}
	}
	return all
}

// awaitWrites waits until every node acknowledges a change again.
func (c *cluster) awaitWrites() {
	c.t.Helper()
	for _, n := range c.nodes {
		if err := n.server.Await(time.Minute, "writing again", func() bool {
			a, err := c.h.send(n.place, "PUT", "/v1/zones/z0.chaos.test./rrsets/ns1/A", "application/json", `{"ttl":60,"records":["192.0.2.1"]}`)
			return err == nil && a.status == 200
		}); err != nil {
			c.t.Errorf("%s: %v\n%s", n.id, err, n.server.Log())
		}
	}
}

// said is the end of what each node has logged, without what gossip has to say.
func (c *cluster) said() string {
	var all strings.Builder
	for _, n := range c.nodes {
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(n.server.Log()), "\n"), func(line string) bool {
			return strings.Contains(line, `"part":"gossip"`)
		})
		fmt.Fprintf(&all, "-- %s\n%s\n", n.id, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
	return all.String()
}

// compareDigests ends all nodes, and compares what they have.
func (c *cluster) compareDigests() {
	c.t.Helper()
	_, admin := c.kafka()
	topics, err := admin.ListTopics(c.t.Context(), "chaos.mutations")
	if err != nil {
		c.t.Fatal(err)
	}
	var disks []disk
	for _, n := range c.nodes {
		n.stop()
		disks = append(disks, disk{n.id, n.dir})
	}
	compared, err := compareDisks(c.t.Context(), disks, c.partitions, topics["chaos.mutations"].ID, func(broken law, text string) { c.h.fail(broken, "%s", text) })
	if err != nil {
		c.t.Fatal(err)
	}
	if compared < c.partitions {
		c.t.Errorf("only %d copies could be compared with another at the same position", compared)
	}
	c.t.Logf("%d copies compared with others at the same position", compared)
}

// backedUpSince reports whether every partition has a backup that was made after a time.
func (c *cluster) backedUpSince(since time.Time) bool {
	newest := make(map[string]bool)
	err := filepath.WalkDir(c.objects, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(file, ".manifest") {
			return err
		}
		about, err := e.Info()
		if err == nil && about.ModTime().After(since) {
			newest[filepath.Dir(file)] = true
		}
		return err
	})
	return err == nil && len(newest) == c.partitions
}
