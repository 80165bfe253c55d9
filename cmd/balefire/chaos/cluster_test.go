//go:build chaos && kafka && s3

package chaos

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/kafkatest"
)

// cluster is one namespace: a broker, a directory for snapshots, and nodes.
type cluster struct {
	t          *testing.T
	broker     *kafkatest.Broker
	objects    string // the directory in which the objects lie
	objectsURL string
	partitions int
	nodes      []*node
	http       *http.Client
}

// node is one node over the life of all its processes.
type node struct {
	c                 *cluster
	id, region, group string
	dir               string
	dns               string

	mu     sync.Mutex
	server *balefiretest.Server
	down   bool           // killed, stopped or paused: nobody should count on it
	life   int            // counts up when what it knew is gone
	floors map[*key]int64 // by key, the highest number that it has answered or acknowledged
}

type shape struct{ regions, groups, nodes, partitions int }

// startCluster starts a broker and all nodes, with a directory for snapshots, and waits until they are ready.
func startCluster(t *testing.T, s shape) *cluster {
	t.Helper()
	objects := t.TempDir()
	return startClusterOn(t, s, objects, "file://"+objects)
}

// startClusterOn is startCluster with an object store.
func startClusterOn(t *testing.T, s shape, objects, objectsURL string) *cluster {
	t.Helper()
	c := &cluster{
		t: t, broker: kafkatest.Start(t), objects: objects, partitions: s.partitions,
		objectsURL: objectsURL,
		http:       &http.Client{Timeout: 8 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
	t.Cleanup(c.http.CloseIdleConnections)
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
	}
	return c
}

func (c *cluster) add(region, group, id string) *node {
	host := fmt.Sprintf("127.0.%d.%d", 10+len(region)+int(region[len(region)-1]-'0'), len(c.nodes)+1)
	n := &node{
		c: c, id: id, region: region, group: group, dir: filepath.Join(c.t.TempDir(), id), floors: make(map[*key]int64),
		dns: balefiretest.FreeAddr(c.t, host),
	}
	c.nodes = append(c.nodes, n)
	return n
}

// launch starts the node's process, without waiting.
func (n *node) launch() {
	n.c.t.Helper()
	args := []string{
		"--brokers", n.c.broker.Address(), "--namespace", "chaos", "--region", n.region, "--replica-group", n.group, "--node-id", n.id,
		"--partitions", fmt.Sprint(n.c.partitions),
		"--backup-url", n.c.objectsURL, "--backup-interval", "2s",
		"--store-disk-reserve", "64MiB",
	}
	server := balefiretest.Launch(n.c.t, balefiretest.How{
		Binary: binary, Dir: n.dir, DNS: []string{n.dns}, Args: args,
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server, n.down = server, true
}

func (n *node) awaitReady() {
	n.c.t.Helper()
	if err := n.server.AwaitReady(2 * time.Minute); err != nil {
		n.c.t.Fatalf("%s: %v\n%s", n.id, err, n.server.Log())
	}
	n.setDown(false)
}

func (n *node) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

func (n *node) gone() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

func (n *node) address() string { return n.dns }

func (n *node) admin() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server.Admin
}

func (n *node) began() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// floor is what the node must not answer less than.
func (n *node) floor(k *key) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.floors[k]
}

func (n *node) saw(k *key, began int, number int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life == began {
		n.floors[k] = max(n.floors[k], number)
	}
}

// kill is kill -9, then another start on the same disk.
func (n *node) kill() {
	n.setDown(true)
	n.server.Kill()
	n.launch()
}

// wipe is kill -9 and another start with an empty disk. What it has answered before is another node's past.
func (n *node) wipe() {
	n.c.t.Helper()
	n.setDown(true)
	n.server.Kill()
	if err := os.RemoveAll(n.dir); err != nil {
		n.c.t.Fatal(err)
	}
	n.mu.Lock()
	n.life++
	n.floors = make(map[*key]int64)
	n.mu.Unlock()
	n.launch()
}

// pause stops the process for a while, as a hung machine would.
func (n *node) pause(d time.Duration) {
	n.setDown(true)
	_ = n.server.Signal(syscall.SIGSTOP)
	<-time.After(d)
	_ = n.server.Signal(syscall.SIGCONT)
	n.setDown(false)
}

// pick chooses a node that is up, of a region if one is given, and not of a group.
func (c *cluster) pick(rng *rand.Rand, region string, notGroup ...string) *node {
	up := make([]*node, 0, len(c.nodes))
	for _, n := range c.nodes {
		if !n.gone() && (region == "" || n.region == region) && !slices.Contains(notGroup, n.group) {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[rng.IntN(len(up))]
}

// awaitWrites waits until every node acknowledges a change again.
func (c *cluster) awaitWrites() {
	c.t.Helper()
	for _, n := range c.nodes {
		if err := n.server.Await(time.Minute, "writing again", func() bool {
			body := strings.NewReader(`{"ttl":60,"records":["192.0.2.1"]}`)
			req, err := http.NewRequestWithContext(c.t.Context(), "PUT", "http://"+n.admin()+"/v1/zones/z0.chaos.test./rrsets/ns1/A", body)
			if err != nil {
				return false
			}
			req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
			req.Header.Set("Content-Type", "application/json")
			res, err := c.http.Do(req)
			if err != nil {
				return false
			}
			res.Body.Close()
			return res.StatusCode == http.StatusOK
		}); err != nil {
			c.t.Errorf("%s: %v\n%s", n.id, err, n.server.Log())
		}
	}
}

// said is the end of what each node has logged.
func (c *cluster) said() string {
	var all strings.Builder
	for _, n := range c.nodes {
		lines := strings.Split(strings.TrimSpace(n.server.Log()), "\n")
		fmt.Fprintf(&all, "-- %s\n%s\n", n.id, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
	return all.String()
}

// topicID is the id of the mutations topic, as the broker says.
func (c *cluster) topicID() [16]byte {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.Address()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(c.t.Context(), "chaos.mutations")
	if err != nil {
		c.t.Fatal(err)
	}
	return topics["chaos.mutations"].ID
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
