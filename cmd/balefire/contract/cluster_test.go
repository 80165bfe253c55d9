package contract

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

// clusterStatus is `cluster status -o json`, as far as it is looked at.
type clusterStatus struct {
	Namespace  string
	Partitions int32
	Node       string
	Log        struct{ Embedded, Reachable bool }
	Groups     []struct {
		Region, Group string
		Partitions    []struct{ Applied, Lag int64 }
	}
	Nodes []struct {
		ID              string
		Ready, Draining bool
		Partitions      []struct {
			Partition int32
			State     string
			Position  int64
		}
	}
}

// TestClusterOfOne: what a node by itself says of its cluster, and where a change is.
func TestClusterOfOne(t *testing.T) {
	t.Parallel()
	n := start(t, "--node-id", "n1", "--region", "eu", "--replica-group", "a", "--partitions", "3")
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.", "--wait", "everywhere")
	set := jsonOf[changed](n, "record", "set", "example.com.", "www", "A", "60", "192.0.2.1", "--wait", "region")
	if set.Status != "applied" {
		t.Errorf("%+v", set)
	}
	n.fails(2, "everywhere", "record", "set", "example.com.", "www", "A", "60", "192.0.2.1", "--wait", "all")
	contains(t, "change show", n.cli("change", "show", set.ID), "eu/a: has it since ")

	got := jsonOf[clusterStatus](n, "cluster", "status")
	if got.Namespace != "balefire" || got.Partitions != 3 || got.Node != "n1" || !got.Log.Embedded || !got.Log.Reachable {
		t.Errorf("%+v", got)
	}
	if len(got.Groups) != 1 || len(got.Groups[0].Partitions) != 3 || len(got.Nodes) != 1 || !got.Nodes[0].Ready || len(got.Nodes[0].Partitions) != 3 {
		t.Fatalf("%+v", got)
	}
	records := int64(0)
	for i, p := range got.Groups[0].Partitions {
		if p.Lag != 0 || got.Nodes[0].Partitions[i].State != "ready" || got.Nodes[0].Partitions[i].Position != p.Applied {
			t.Errorf("partition %d: %+v, %+v", i, p, got.Nodes[0].Partitions[i])
		}
		records += p.Applied + 1
	}
	if records != 2 {
		t.Errorf("%d records in all, want 2", records)
	}
	rows(t, n.cli("cluster", "status", "--partitions"),
		row("eu", "a", "3 of 3", "0", "0s"), row("eu", "a", "n1", "ready", "3 ready", ".*"), row("2", "n1", "ready", "-?[0-9]+", ".*"))
	rows(t, n.cli("group", "list"), row("eu", "a", "1"))
	n.fails(1, "the only one", "group", "retire", "eu", "a")
	n.fails(1, "does not reach", "change", "show", "0@4711")
}

// TestDrain: a drained node is not ready, answers all the same, and is back after --undo or a restart.
func TestDrain(t *testing.T) {
	t.Parallel()
	n := start(t, "--node-id", "n1")
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	contains(t, "node status", n.cli("node", "status"), "n1 is ready")
	contains(t, "node drain", n.cli("node", "drain"), "n1 is drained", "send no more queries")
	if res := n.call("GET", "/readyz", ""); res.status != 503 {
		t.Errorf("/readyz: %d %s", res.status, res.body)
	}
	if got := n.short("example.com", "NS"); got != "ns1.example.net.\n" {
		t.Errorf("a drained node answered %q", got)
	}
	n.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
	contains(t, "cluster status", n.cli("cluster", "status"), "drained")
	contains(t, "node drain --undo", n.cli("node", "drain", "--undo"), "n1 is ready")
	n.cli("node", "drain")
	n = n.again()
	if res := n.call("GET", "/readyz", ""); res.status != 200 {
		t.Errorf("after a restart: %d %s", res.status, res.body)
	}
}

// TestUnit: what systemd says of the unit in deploy, with the program where the unit wants it: nothing; and that it exposes little.
func TestUnit(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../../deploy/balefire.service")
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, t.TempDir(), "balefire.service", strings.ReplaceAll(string(unit), "/usr/local/bin/balefire", binary))
	// A setting that it does not know is no failure to it, but a line of its errors.
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// In tenths, as systemd counts: 100 is a unit without any hardening.
	tool(t, "systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", file)
}

// TestSupervisor: systemd is told when the node answers, that it lives, and when it stops.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	n := launchWith(t, balefiretest.How{Env: []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=300000"}})
	hear := func() string {
		b := make([]byte, 1024)
		if err := heard.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		k, err := heard.Read(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, n.Log())
		}
		return string(b[:k])
	}
	if got := hear(); got != "READY=1" {
		t.Fatalf("first %q", got)
	}
	if res := n.call("GET", "/readyz", ""); res.status != 200 {
		t.Errorf("ready, and /readyz is %d: %s", res.status, res.body)
	}
	for range 2 {
		if got := hear(); got != "WATCHDOG=1" {
			t.Fatalf("then %q", got)
		}
	}
	if err := n.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got := hear()
	for strings.HasPrefix(got, "WATCHDOG") {
		got = hear()
	}
	if got != "STOPPING=1" {
		t.Errorf("at the end %q", got)
	}
}
