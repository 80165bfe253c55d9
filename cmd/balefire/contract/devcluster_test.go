package contract

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// devCluster is a running `balefire dev cluster`.
type devCluster struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	out bytes.Buffer
}

func (c *devCluster) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *devCluster) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// startCluster starts a development cluster and waits until it has said what is wanted.
func startCluster(t *testing.T, dir, want string, args ...string) *devCluster {
	t.Helper()
	c := &devCluster{t: t, dir: dir, done: make(chan struct{})}
	c.cmd = exec.Command(binary, append([]string{"dev", "cluster", "--dir", dir}, args...)...)
	c.cmd.Env = balefiretest.Environ()
	c.cmd.Stdout, c.cmd.Stderr = c, c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // ProcessState says how
		close(c.done)
	}()
	t.Cleanup(func() { c.end(syscall.SIGKILL) })
	c.await(want, 1)
	return c
}

// await waits until the cluster has said something so many times.
func (c *devCluster) await(text string, times int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("say %q %d times", text, times), func() bool { return strings.Count(c.said(), text) >= times })
}

func (c *devCluster) eventually(what string, holds func() bool) {
	c.t.Helper()
	for limit := time.After(time.Minute); !holds(); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			c.t.Fatalf("the cluster did not %s:\n%s", what, c.said())
		}
	}
}

// end sends a signal and returns the exit code, -1 when it was killed.
func (c *devCluster) end(signal syscall.Signal) int {
	_ = c.cmd.Process.Signal(signal) // it may have ended
	<-c.done
	return c.cmd.ProcessState.ExitCode()
}

func (c *devCluster) pid(node string) int {
	c.t.Helper()
	content, err := os.ReadFile(filepath.Join(c.dir, node, "pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}

// node is one of the cluster's, for its clients.
func (c *devCluster) node(host string, shift int) node {
	return node{&balefiretest.Server{
		DNS: net.JoinHostPort(host, strconv.Itoa(5300+shift)), Admin: net.JoinHostPort(host, strconv.Itoa(8053+shift)),
	}, c.t}
}

// asked runs a command with the cluster's token, and returns what it printed.
func (c *devCluster) asked(n node, args ...string) string {
	c.t.Helper()
	r := run(c.t, []string{"BALEFIRE_SERVER=http://" + n.Admin}, "", append(args, "--data-dir", c.dir)...)
	if r.code != 0 {
		c.t.Fatal(r)
	}
	return r.out
}

// devShift is a --port-shift that moves the log of a cluster to a port that no other test takes. The nodes' ports are those of addresses of their own.
func devShift(t *testing.T) int {
	t.Helper()
	_, port, err := net.SplitHostPort(porttest.Free(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return number - 9092
}

// TestDevCluster: all of the cluster begins and ends together, and its directory is the cluster.
func TestDevCluster(t *testing.T) {
	t.Parallel()
	shift := devShift(t)
	dir := filepath.Join(t.TempDir(), "cluster")
	ports := []string{"--port-shift", strconv.Itoa(shift)}
	const ready = "All 2 nodes are ready"
	c := startCluster(t, dir, ready, append(ports, "--regions", "2", "--groups", "1", "--nodes", "1", "--partitions", "3")...)
	one, two := c.node("127.0.1.1", shift), c.node("127.0.2.1", shift)
	c.asked(one, "zone", "create", "example.com.", "--ns", "ns1.example.net.")
	answers := func(n node) func() bool {
		return func() bool { return n.short("example.com", "NS") == "ns1.example.net.\n" }
	}
	c.eventually("answer in region 2 what region 1 was told", answers(two))
	contains(t, "cluster status", c.asked(two, "cluster", "status"), "3 partitions", "r2-g1-n1")

	// What is in use is not used twice.
	if r := run(t, nil, "", "dev", "cluster", "--dir", dir); r.code != 1 || !strings.Contains(r.err, "is in use") {
		t.Errorf("the same directory: %v", r)
	}
	other := append([]string{"dev", "cluster", "--dir", t.TempDir()}, ports...)
	if r := run(t, nil, "", other...); r.code != 1 || !strings.Contains(r.err, "DNS of r1-g1-n1") || !strings.Contains(r.err, "--port-shift") {
		t.Errorf("the same ports: %v", r)
	}

	// A node that is killed is said, and comes back.
	first := c.pid("r2-g1-n1")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.await("r2-g1-n1 ended: signal: killed", 1)
	c.await("r2-g1-n1 is ready", 2)
	second := c.pid("r2-g1-n1")
	if second == first {
		t.Errorf("the node is process %d again", first)
	}
	c.eventually("answer after that", answers(two))

	// Nodes end with the cluster, however it ends.
	gone := func(pids ...int) func() bool {
		return func() bool {
			for _, pid := range pids {
				if syscall.Kill(pid, 0) == nil {
					return false
				}
			}
			return true
		}
	}
	pids := []int{c.pid("r1-g1-n1"), second}
	if code := c.end(syscall.SIGINT); code != 0 || !gone(pids...)() {
		t.Errorf("exit %d after SIGINT, nodes gone: %v\n%s", code, gone(pids...)(), c.said())
	}
	c = startCluster(t, dir, ready) // with nothing given
	if !strings.HasPrefix(c.said(), "2 regions × 1 groups × 1 nodes, 3 partitions") || !answers(one)() || !answers(two)() {
		t.Errorf("the same directory is another cluster: %q, %q\n%s", one.short("example.com", "NS"), two.short("example.com", "NS"), c.said())
	}
	pids = []int{c.pid("r1-g1-n1"), c.pid("r2-g1-n1")}
	c.end(syscall.SIGKILL)
	c.eventually("end with its parent", gone(pids...))

	c = startCluster(t, dir, ready, "--respawn=false")
	for _, node := range []string{"r1-g1-n1", "r2-g1-n1"} {
		if err := syscall.Kill(c.pid(node), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(c.said(), "all nodes have ended") {
		t.Errorf("exit %d without nodes: %s", code, c.said())
	}
}

// TestDevClusterOfTwoNodes: each node of a group answers for what the other one holds, over DNS and HTTP.
func TestDevClusterOfTwoNodes(t *testing.T) {
	t.Parallel()
	shift := devShift(t)
	c := startCluster(t, filepath.Join(t.TempDir(), "cluster"), "All 2 nodes are ready", "--port-shift", strconv.Itoa(shift),
		"--regions", "1", "--groups", "1", "--nodes", "2", "--partitions", "4", "--sample", sampleZones)
	for _, host := range []string{"127.0.1.1", "127.0.1.2"} {
		n := c.node(host, shift)
		contains(t, "zone list", c.asked(n, "zone", "list"), "example.com.", "example.org.", "2.0.192.in-addr.arpa.")
		c.eventually("both nodes back up what they hold", func() bool { // a node that is ready may yet be given its share
			made := c.asked(n, "backup", "now")
			return strings.Contains(made, "r1-g1-n1") && strings.Contains(made, "r1-g1-n2")
		})
		for _, zone := range []string{"example.com.", "example.org.", "2.0.192.in-addr.arpa."} {
			c.asked(n, "record", "set", zone, "x"+strings.ReplaceAll(host, ".", ""), "TXT", "60", host, "--wait", "everywhere")
			for _, other := range []string{"127.0.1.1", "127.0.1.2"} {
				at := c.node(other, shift)
				name := "x" + strings.ReplaceAll(host, ".", "") + "." + strings.TrimSuffix(zone, ".")
				c.eventually(other+" answers for "+name, func() bool { return at.short(name, "TXT") == strconv.Quote(host)+"\n" })
			}
		}
	}
}
