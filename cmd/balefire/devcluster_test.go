package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestDevClusterLayout(t *testing.T) {
	nodes := devShape{Regions: 2, Groups: 2, Nodes: 3, Partitions: 4, PortShift: 100}.nodes("/d")
	if len(nodes) != 12 {
		t.Fatalf("%d nodes", len(nodes))
	}
	n := nodes[10] // region 2, group 2, node 2
	if n.id != "r2-g2-n2" || n.region != "r2" || n.group != "g2" || n.dns != "127.0.2.5:5400" || n.admin != "127.0.2.5:8153" ||
		n.gossip != "127.0.2.5:8046" || n.relay != "127.0.2.5:8047" || n.dir != "/d/r2-g2-n2" {
		t.Errorf("%+v", n)
	}
	taken := map[string]string{}
	backing := 0
	for _, n := range nodes {
		for _, a := range []string{n.id, n.dns, n.admin, n.gossip, n.relay, n.dir} {
			if other, twice := taken[a]; twice {
				t.Errorf("%s has %s, and so has %s", n.id, a, other)
			}
			taken[a] = n.id
		}
		if n.backs {
			backing++
		}
		for _, s := range n.seeds {
			if taken[s] == "" && !slices.ContainsFunc(nodes, func(o devNode) bool { return o.gossip == s && o.region == n.region }) {
				t.Errorf("%s is to join %s, which is no node of its region", n.id, s)
			}
		}
	}
	if backing != 3 {
		t.Errorf("%d nodes back up, want one group", backing)
	}
	// What a node is told is what serve understands.
	var flags configFlags
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.register(set)
	if err := set.Parse(n.serveArgs(devShape{Partitions: 4}, &devLog{brokers: []string{"127.0.0.1:9092"}}, "/d/objects")[1:]); err != nil {
		t.Error(err)
	}
	if _, found := flags.load(nil); len(found) > 0 {
		t.Error(found)
	}
}

func TestDevClusterShapeIsKept(t *testing.T) {
	dir := t.TempDir()
	kept := `{"v":1,"regions":1,"groups":1,"nodes":2,"partitions":3,"port_shift":7,"brokers":["k:9092"]}`
	if err := os.WriteFile(filepath.Join(dir, shapeFile), []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	defaults := devShape{Regions: 3, Groups: 2, Nodes: 2, Partitions: 8}
	given := func(flags ...string) func(string) bool {
		return func(f string) bool { return slices.Contains(flags, f) }
	}
	s, err := defaults.over(dir, given())
	if err != nil || s.Regions != 1 || s.Groups != 1 || s.Nodes != 2 || s.Partitions != 3 || s.PortShift != 7 || !slices.Equal(s.Brokers, []string{"k:9092"}) {
		t.Errorf("nothing given: %+v, %v", s, err)
	}
	if s, err = defaults.over(dir, given("regions")); err != nil || s.Regions != 3 || s.Nodes != 2 {
		t.Errorf("regions given: %+v, %v", s, err)
	}
	if _, err = defaults.over(dir, given("partitions")); err == nil || !strings.Contains(err.Error(), "made with 3") {
		t.Errorf("other partitions: %v", err)
	}
	if _, err = defaults.over(dir, given("brokers")); err == nil || !strings.Contains(err.Error(), "another log") {
		t.Errorf("other brokers: %v", err)
	}
	if s, err = defaults.over(t.TempDir(), given()); err != nil || s.Regions != 3 || s.Partitions != 8 {
		t.Errorf("an empty directory: %+v, %v", s, err)
	}
}

func TestDevClusterUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--regions 0":                       "want 1 to",
		"--regions 9 --groups 9":            "processes: want at most",
		"--port-shift 60000":                "--port-shift 60000: want",
		"--brokers nowhere":                 "want HOST:PORT",
		"stray":                             "come after --",
		"--partitions 0":                    "want 1 to 4096",
		"stray -- --log-level debug":        "come after --",
		"--nodes 255 --groups 1 --sample x": "want 1 to",
	} {
		code, _, errOut := runCLI(t, append([]string{"dev", "cluster", "--dir", t.TempDir()}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%s: exit %d: %s", args, code, errOut)
		}
	}
}
