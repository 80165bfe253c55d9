package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"balefire/admin"
)

// Ports of a development cluster, each plus --port-shift.
const (
	devDNSPort    = 5300
	devAdminPort  = 8053
	devGossipPort = 7946
	devRelayPort  = 7947
	devLogPort    = 9092
)

// maxDevNodes bounds a development cluster: each node is a process with a database for each partition.
const maxDevNodes = 64

// devShape is what a development cluster is made of. It is kept in its directory, so that the same directory is the same
// cluster.
type devShape struct {
	Version    int      `json:"v"`
	Regions    int      `json:"regions"`
	Groups     int      `json:"groups"` // of each region
	Nodes      int      `json:"nodes"`  // of each group
	Partitions int      `json:"partitions"`
	PortShift  int      `json:"port_shift"`
	Brokers    []string `json:"brokers,omitempty"` // empty: a log of its own
}

// devNode is one node of a development cluster.
type devNode struct {
	id, region, group         string
	dns, admin, gossip, relay string   // HOST:PORT
	seeds                     []string // gossip addresses of its region
	dir                       string
	backs                     bool // backs up for all regions
}

func newDevCommand() *cobra.Command {
	return group("dev", "Try Balefire out on one machine", newDevClusterCommand())
}

func newDevClusterCommand() *cobra.Command {
	given := devShape{}
	var dir, sample string
	var respawn bool
	cmd := &cobra.Command{
		Use:   "cluster [-- OPTIONS OF serve]",
		Short: "Run a whole cluster of several regions as processes on loopback, until Ctrl-C",
		Long: `Run a whole cluster as processes on loopback: one log, one object store (a directory), and for each region so many
replica groups of so many nodes. Node N of region R is 127.0.R.N, and all have the same ports: 5300 for DNS, 8053 for HTTP, 7946
for gossip, 7947 for the relay; the log is 127.0.0.1:9092. --port-shift moves them all.

What the cluster is lives in --dir: the same directory is the same cluster again, with its shape unless it is given anew (more
nodes or regions may be given; the number of partitions is fixed). Each node's log is in DIR/NODE/log. One token is for all: --data-dir
DIR lets the other commands find it. All nodes end with this command, however it ends. A node that ends by itself, or that is killed, is
started again unless --respawn=false.

With --brokers the log is an existing Kafka or Redpanda; the variables BALEFIRE_KAFKA_… say how it is spoken to. Options after -- are
given to each node.`,
		Example: `  balefire dev cluster --regions 3 --groups 2 --nodes 2
  balefire dev cluster --regions 1 --groups 1 --nodes 3 --sample testdata/zones/sample -- --log-level debug
  balefire cluster status --server http://127.0.1.1:8053 --data-dir balefire-cluster`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at > 0 || at < 0 && len(args) > 0 {
				return usagef("%q: options of nodes come after --", args[0])
			}
			absolute, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			shape, err := given.over(absolute, func(flag string) bool { return cmd.Flags().Changed(flag) })
			if err != nil {
				return err
			}
			c := &devCluster{
				shape: shape, dir: absolute, shown: dir, sample: sample, respawn: respawn, args: args,
				out: &lineWriter{w: cmd.OutOrStdout()}, logger: newLogger(cmd.ErrOrStderr(), LogConfig{Level: "error", Format: "auto"}),
			}
			return c.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&given.Regions, "regions", 3, "regions")
	flags.IntVar(&given.Groups, "groups", 2, "replica groups of each region, each a full copy")
	flags.IntVar(&given.Nodes, "nodes", 2, "nodes of each group")
	flags.IntVar(&given.Partitions, "partitions", 8, "partitions of the namespace, fixed when it is made")
	flags.IntVar(&given.PortShift, "port-shift", 0, "added to every port")
	flags.StringSliceVar(&given.Brokers, "brokers", nil, "HOST:PORT of an existing Kafka or Redpanda to use as the log")
	flags.StringVar(&dir, "dir", "balefire-cluster", "directory of the cluster")
	flags.StringVar(&sample, "sample", "", "a zone file, or a directory of them, to import when all nodes are ready; zones that exist are left alone")
	flags.BoolVar(&respawn, "respawn", true, "start a node again that ended")
	return cmd
}

// shapeFile is where a cluster's directory says what the cluster is.
const shapeFile = "cluster.json"

// over returns what was given, and where nothing was, what the directory says.
func (s devShape) over(dir string, given func(flag string) bool) (devShape, error) {
	s.Version = 1
	content, err := os.ReadFile(filepath.Join(dir, shapeFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return s, err
	default:
		var kept devShape
		if err := json.Unmarshal(content, &kept); err != nil {
			return s, fmt.Errorf("%s: %w", filepath.Join(dir, shapeFile), err)
		}
		if kept.Version != 1 {
			return s, fmt.Errorf("%s: version %d is not known", filepath.Join(dir, shapeFile), kept.Version)
		}
		if given("partitions") && s.Partitions != kept.Partitions {
			return s, fmt.Errorf("--partitions %d: this cluster was made with %d, and that is fixed; another --dir is another cluster", s.Partitions, kept.Partitions)
		}
		if given("brokers") && !slices.Equal(s.Brokers, kept.Brokers) && (len(s.Brokers) == 0) != (len(kept.Brokers) == 0) {
			return s, fmt.Errorf("--brokers: this cluster has another log; another --dir is another cluster")
		}
		s.Partitions = kept.Partitions
		for _, f := range []struct {
			flag      string
			into, was *int
		}{{"regions", &s.Regions, &kept.Regions}, {"groups", &s.Groups, &kept.Groups}, {"nodes", &s.Nodes, &kept.Nodes}, {"port-shift", &s.PortShift, &kept.PortShift}} {
			if !given(f.flag) {
				*f.into = *f.was
			}
		}
		if !given("brokers") {
			s.Brokers = kept.Brokers
		}
	}
	return s, s.check()
}

func (s devShape) check() error {
	for _, f := range []struct {
		flag             string
		value, low, high int
	}{
		{"regions", s.Regions, 1, maxDevNodes},
		{"groups", s.Groups, 1, maxDevNodes},
		{"nodes", s.Nodes, 1, maxDevNodes},
		{"partitions", s.Partitions, 1, 4096},
		{"port-shift", s.PortShift, 1024 - devDNSPort, 65535 - devLogPort},
	} {
		if f.value < f.low || f.value > f.high {
			return usagef("--%s %d: want %d to %d", f.flag, f.value, f.low, f.high)
		}
	}
	if n := s.Regions * s.Groups * s.Nodes; n > maxDevNodes {
		return usagef("%d regions of %d groups of %d nodes are %d processes: want at most %d", s.Regions, s.Groups, s.Nodes, n, maxDevNodes)
	}
	for _, b := range s.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return usagef("--brokers %q: want HOST:PORT", b)
		}
	}
	return nil
}

// port returns one of the ports above as this cluster has it.
func (s devShape) port(port int) string { return strconv.Itoa(port + s.PortShift) }

// seedsOfRegion bounds how many nodes each other is told of: more are found by gossip.
const seedsOfRegion = 4

// nodes lays the cluster out below a directory.
func (s devShape) nodes(dir string) []devNode {
	var all []devNode
	for r := 1; r <= s.Regions; r++ {
		var region []devNode
		for g := 1; g <= s.Groups; g++ {
			for n := 1; n <= s.Nodes; n++ {
				host := fmt.Sprintf("127.0.%d.%d", r, (g-1)*s.Nodes+n)
				at := func(port int) string { return net.JoinHostPort(host, s.port(port)) }
				id := fmt.Sprintf("r%d-g%d-n%d", r, g, n)
				region = append(region, devNode{
					id: id, region: fmt.Sprintf("r%d", r), group: fmt.Sprintf("g%d", g), dir: filepath.Join(dir, id),
					dns: at(devDNSPort), admin: at(devAdminPort), gossip: at(devGossipPort), relay: at(devRelayPort),
					// One group backs up for all regions.
					backs: r == 1 && g == 1,
				})
			}
		}
		var seeds []string
		for _, n := range region[:min(len(region), seedsOfRegion)] {
			seeds = append(seeds, n.gossip)
		}
		for i := range region {
			region[i].seeds = seeds
		}
		all = append(all, region...)
	}
	return all
}

// serveArgs is the command line of a node.
func (n devNode) serveArgs(s devShape, log *devLog, objects string) []string {
	args := []string{
		"serve", "--data-dir", filepath.Join(n.dir, "data"), "--node-id", n.id, "--region", n.region, "--replica-group", n.group,
		"--partitions", strconv.Itoa(s.Partitions), "--brokers", strings.Join(log.brokers, ","),
		"--dns-listen", n.dns, "--admin-listen", n.admin, "--gossip-listen", n.gossip, "--relay-listen", n.relay,
		"--gossip-join", strings.Join(n.seeds, ","),
		"--backup-url", "file://" + objects, "--backup-create=" + strconv.FormatBool(n.backs), "--backup-interval", "5m",
		"--store-hot-zones", "32MiB", "--store-disk-reserve", "256MiB", "--log-format", "text",
	}
	return append(args, log.options...)
}

// devCluster runs a development cluster.
type devCluster struct {
	shape      devShape
	dir, shown string // absolute, and as the person wrote it
	sample     string
	respawn    bool
	args       []string // further arguments of serve
	out        *lineWriter
	logger     zerolog.Logger
}

// run runs the cluster until ctx ends. The log begins before the nodes, and ends after them.
func (c *devCluster) run(ctx context.Context) (err error) {
	nodes := c.shape.nodes(c.dir)
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDataDir(ctx, c.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, n := range nodes {
		if err := n.free(); err != nil {
			return err
		}
	}
	secret, _, err := admin.LoadOrCreateToken(c.dir, "")
	if err != nil {
		return err
	}
	objects := filepath.Join(c.dir, "objects")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return err
	}
	log := &devLog{brokers: c.shape.Brokers}
	if len(log.brokers) == 0 {
		if log, err = startDevLog(filepath.Join(c.dir, "log"), net.JoinHostPort("127.0.0.1", c.shape.port(devLogPort)), c.logger); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, log.close()) }()
	}
	if err := c.keepShape(); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	c.introduce(nodes, log)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var env []string
	for _, v := range os.Environ() {
		// A node's options are this command's; how brokers are spoken to is theirs who give brokers.
		if !strings.HasPrefix(v, "BALEFIRE_") || len(c.shape.Brokers) > 0 && strings.HasPrefix(v, "BALEFIRE_KAFKA_") {
			env = append(env, v)
		}
	}
	env = append(env, "BALEFIRE_TOKEN="+secret)
	runners := make([]*devRunner, 0, len(nodes))
	for _, n := range nodes {
		runners = append(runners, &devRunner{
			devNode: n, respawn: c.respawn, env: env, out: c.out,
			line: slices.Concat([]string{program}, n.serveArgs(c.shape, log, objects), c.args),
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runAll(ctx, runners)
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx, runners, secret)
	}()
	select {
	case <-ctx.Done():
		c.out.say("stopping %d nodes", len(nodes))
	case failed := <-log.failed:
		err = fmt.Errorf("the log could not keep its files: %w", failed)
	case <-ended:
		if ctx.Err() == nil {
			err = errors.New("all nodes have ended: see their logs")
		}
	}
	stop()
	<-ended
	<-watched
	return err
}

func (c *devCluster) keepShape() error {
	content, err := json.MarshalIndent(c.shape, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, shapeFile), append(content, '\n'), 0o600)
}

// introduce says how each node is reached.
func (c *devCluster) introduce(nodes []devNode, log *devLog) {
	c.out.write(func(w io.Writer) {
		s := c.shape
		fmt.Fprintf(w, "%d regions × %d groups × %d nodes, %d partitions; log %s, objects %s\n\n",
			s.Regions, s.Groups, s.Nodes, s.Partitions, strings.Join(log.brokers, ","), filepath.Join(c.shown, "objects"))
		t := newTable(w, "NODE", "REGION", "GROUP", "DNS", "ADMIN")
		for _, n := range nodes {
			host, port, _ := net.SplitHostPort(n.dns) // the cluster made it
			t.row(n.id, n.region, n.group, fmt.Sprintf("dig @%s -p %s example.com", host, port), "http://"+n.admin)
		}
		if err := t.flush(); err != nil {
			return // nobody reads
		}
		fmt.Fprintf(w, "\nThe token of all is in %s. Each node's log is in %s.\n\n", filepath.Join(c.shown, admin.TokenFile), filepath.Join(c.shown, "NODE", "log"))
	})
}

// readyPollDev is how often nodes are asked whether they are ready.
const readyPollDev = 200 * time.Millisecond

// watch says which nodes are ready, and what to type when all are, until ctx ends.
func (c *devCluster) watch(ctx context.Context, runners []*devRunner, secret string) {
	tick := time.NewTicker(readyPollDev)
	defer tick.Stop()
	sampled, advised := c.sample == "", false
	for {
		count := 0
		for _, r := range runners {
			if r.look(ctx) {
				count++
			}
		}
		if count == len(runners) && !sampled {
			importSample(ctx, c.sample, "http://"+runners[0].admin, secret, c.out, c.logger)
			sampled = true
		}
		if count == len(runners) && !advised {
			c.advise(runners)
			advised = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// advise says what can be tried.
func (c *devCluster) advise(runners []*devRunner) {
	first, last := runners[0], runners[len(runners)-1]
	host, port, _ := net.SplitHostPort(last.dns) // the cluster made it
	program := os.Args[0]
	c.out.write(func(w io.Writer) {
		fmt.Fprintf(w, "\nAll %d nodes are ready. To try, in another terminal:\n", len(runners))
		fmt.Fprintf(w, "  export BALEFIRE_SERVER=http://%s BALEFIRE_TOKEN_FILE=%s\n", first.admin, filepath.Join(c.shown, admin.TokenFile))
		fmt.Fprintf(w, "  %s cluster status\n", program)
		if c.sample == "" {
			fmt.Fprintf(w, "  %s zone create example.com. --ns ns1.example.net.\n", program)
		}
		fmt.Fprintf(w, "  %s record set example.com. www A 300 192.0.2.7 --wait everywhere\n", program)
		fmt.Fprintf(w, "  dig @%s -p %s www.example.com\n", host, port)
		fmt.Fprintf(w, "  curl -H \"Authorization: Bearer $(cat %s)\" http://%s/v1/cluster\n", filepath.Join(c.shown, admin.TokenFile), last.admin)
		fmt.Fprintf(w, "  kill -9 $(cat %s)\n\n", filepath.Join(c.shown, first.id, "pid"))
	})
}
