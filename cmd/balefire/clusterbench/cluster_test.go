//go:build clusterbench && kafka && s3

package clusterbench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/mutationlog"
	"balefire/replication/porttest"
)

// cluster is a namespace's nodes.
type cluster struct {
	t          *testing.T
	partitions int
	backups    string // URL; "" means none
	nodes      []*node
	http       *http.Client
	seeds      map[string]string // by region, a gossip address
}

// node is one node, over all its processes.
type node struct {
	*balefiretest.Server
	c                 *cluster
	id, region, group string
	how               balefiretest.How
}

func newCluster(t *testing.T, partitions int) *cluster {
	c := &cluster{
		t: t, partitions: partitions, seeds: make(map[string]string),
		http: &http.Client{Timeout: 10 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 128}},
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// add makes a node of a cluster with brokers, with gossip and relay; start starts it.
func (c *cluster) add(region, group, brokers string, args ...string) *node {
	c.t.Helper()
	host := fmt.Sprintf("127.0.%d.1", len(c.nodes)+1)
	gossip := porttest.Free(c.t, host)
	args = append(args, "--brokers", brokers, "--gossip-listen", gossip, "--relay-listen", porttest.Free(c.t, host))
	if seed, ok := c.seeds[region]; ok {
		args = append(args, "--gossip-join", seed)
	} else {
		c.seeds[region] = gossip
	}
	if c.backups != "" {
		args = append(args, "--backup-url", c.backups)
	}
	return c.alone(host, region, group, args...)
}

// alone makes a node, with the embedded log if no brokers are given.
func (c *cluster) alone(host, region, group string, args ...string) *node {
	c.t.Helper()
	id := fmt.Sprintf("n%d", len(c.nodes)+1)
	n := &node{c: c, id: id, region: region, group: group, how: balefiretest.How{
		Binary: program, Dir: filepath.Join(c.t.TempDir(), id), DNS: []string{porttest.Free(c.t, host)}, Admin: porttest.Free(c.t, host),
		Args: append([]string{
			"--namespace", "bench", "--region", region, "--replica-group", group, "--node-id", id, "--partitions", strconv.Itoa(c.partitions),
			"--store-disk-reserve", "64MiB",
		}, args...),
	}}
	c.nodes = append(c.nodes, n)
	return n
}

// start starts nodes, a few at a time, and waits until they are ready.
func (c *cluster) start(nodes ...*node) {
	c.t.Helper()
	for few := range slices.Chunk(nodes, 8) {
		for _, n := range few {
			n.Server = balefiretest.Launch(c.t, n.how)
		}
		for _, n := range few {
			n.awaitReady()
		}
	}
}

// awaitReady waits until a node is ready.
func (n *node) awaitReady() {
	n.c.t.Helper()
	if err := n.AwaitReady(3 * time.Minute); err != nil {
		n.c.t.Fatalf("%s: %v\n%s", n.id, err, n.Log())
	}
}

// call does one request, and decodes the answer into result unless that is nil.
func (n *node) call(ctx context.Context, method, path, contentType string, body []byte, result any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.Admin+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := n.c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s: %s %s: %s: %s", n.id, method, path, res.Status, text)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}

// put sets the address of a host. Query is "" or begins with "?".
func (n *node) put(ctx context.Context, zone, host string, value [4]byte, query string) error {
	body := fmt.Appendf(nil, `{"ttl":300,"records":["%d.%d.%d.%d"]}`, value[0], value[1], value[2], value[3])
	return n.call(ctx, "PUT", "/v1/zones/"+zone+"/rrsets/"+host+"/A"+query, "application/json", body, nil)
}

// load makes a zone of so many hosts, here and at all the others.
func (n *node) load(zone string, hosts int, wait string) {
	n.c.t.Helper()
	if err := n.call(n.c.t.Context(), "PUT", "/v1/zones/"+zone+"/file"+wait, "text/dns", zoneFile(zone, hosts), nil); err != nil {
		n.c.t.Fatal(err)
	}
}

// zoneFile is a zone of hosts whose addresses are random, as far as compression goes.
func zoneFile(zone string, hosts int) []byte {
	var b bytes.Buffer
	random := rand.New(rand.NewPCG(1, uint64(len(zone)+hosts)+uint64(crc32.ChecksumIEEE([]byte(zone)))<<8))
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 7200 900 1209600 300\n@ IN NS ns1\nns1 IN A 192.0.2.1\n", zone)
	for i := range hosts {
		a := random.Uint32()
		fmt.Fprintf(&b, "%s IN A %d.%d.%d.%d\n", host(i), 1+a>>24&127, a>>16&255, a>>8&255, a&255)
	}
	return b.Bytes()
}

func host(i int) string { return fmt.Sprintf("h%d", i) }

// zoneIn returns the apex of a zone that belongs to a partition: the k-th that is found.
func (c *cluster) zoneIn(partition, k int) string {
	for i := 0; ; i++ {
		apex := fmt.Sprintf("z%d.bench.test.", i)
		if int(mutationlog.PartitionOf([]byte(apex), int32(c.partitions))) == partition {
			if k == 0 {
				return apex
			}
			k--
		}
	}
}

// writing changes records of zones through nodes, so many a second, until stop, which returns how many there were a second.
func writing(t *testing.T, nodes []*node, zones []string, rate int) (stop func() float64) {
	ctx, cancel := context.WithCancel(t.Context())
	var done atomic.Int64
	var failure atomic.Pointer[error]
	begin := time.Now()
	due := make(chan int)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for k := range due {
				value := [4]byte{203, byte(k >> 16), byte(k >> 8), byte(k)}
				err := nodes[k%len(nodes)].put(ctx, zones[k%len(zones)], "busy"+strconv.Itoa(k%1000), value, "?wait=0s")
				switch {
				case err == nil:
					done.Add(1)
				case ctx.Err() == nil:
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Go(func() {
		defer close(due)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for k := 0; ; k++ {
			select {
			case <-tick.C:
				select {
				case due <- k:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() float64 {
		took := time.Since(begin)
		cancel()
		all.Wait()
		if err := failure.Load(); err != nil {
			t.Error(*err)
		}
		return float64(done.Load()) / took.Seconds()
	}
}

// used is what a process has used.
type used struct {
	cpu      time.Duration // user and system
	resident int64         // octets now
}

func usage(t *testing.T, pid int) used {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// After the command in parentheses: state ppid … utime(12) stime(13) … rss(22), proc(5).
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	number := func(i int) int64 {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	return used{time.Duration(number(11)+number(12)) * tick, number(21) * int64(os.Getpagesize())}
}

// clusterView is GET /v1/cluster, as far as it is looked at.
type clusterView struct {
	Nodes []struct {
		ID         string
		Partitions []struct {
			Partition int
			State     string
			Position  int64
			Assigned  bool
		}
	}
}

func (n *node) view() clusterView {
	n.c.t.Helper()
	var v clusterView
	if err := n.call(n.c.t.Context(), "GET", "/v1/cluster", "", nil, &v); err != nil {
		n.c.t.Fatal(err)
	}
	return v
}

// positions are a node's, by partition, as it says itself.
func (n *node) positions() map[int]int64 {
	all := make(map[int]int64)
	for _, of := range n.view().Nodes {
		if of.ID == n.id {
			for _, p := range of.Partitions {
				all[p.Partition] = p.Position
			}
		}
	}
	return all
}
