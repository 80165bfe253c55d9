package contract

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"testing"

	"balefire/replication/porttest"
)

// secretFile makes a secret that keys are sealed under, for nodes with brokers.
func secretFile(t *testing.T) string {
	t.Helper()
	file := write(t, t.TempDir(), "secret", base64.StdEncoding.EncodeToString([]byte("thirty-two octets for the nodes."))+"\n")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// member is a node of a region: those of one group share the four partitions.
type member struct{ id, group string }

// sharing starts two nodes of one region that share the partitions.
func sharing(t *testing.T, args ...string) []node {
	t.Helper()
	return startRegion(t, []member{{"n1", "a"}, {"n2", "a"}}, args...)
}

// knowKey waits until nodes know a key, which one of them was told of.
func knowKey(t *testing.T, nodes []node, name string) {
	t.Helper()
	for i, n := range nodes {
		until(t, fmt.Sprintf("node %d knows key %s", i+1, name), func() bool {
			return slices.ContainsFunc(jsonOf[[]tsigKey](n, "tsig", "list"), func(k tsigKey) bool { return k.Name == name })
		})
	}
}

// startRegion starts nodes of one region, with more arguments, and waits until each has its own partitions, and knows what the others have.
func startRegion(t *testing.T, members []member, args ...string) (nodes []node) {
	t.Helper()
	p := newPair(t)
	secret := secretFile(t)
	inGroup := map[string]int{}
	for i, m := range members {
		gossip := p.join
		if i > 0 {
			gossip = porttest.Free(t, "127.0.0.1")
		}
		nodes = append(nodes, p.launch(m.id, gossip, slices.Concat(relayAt(t), args, []string{"--secrets-key-file", secret, "--replica-group", m.group})...))
		inGroup[m.group]++
	}
	awaitReady := func() {
		for _, n := range nodes {
			if err := n.AwaitReady(patience); err != nil {
				t.Fatalf("%v\n%s", err, n.Log())
			}
		}
	}
	awaitReady()
	for _, n := range nodes {
		if err := n.Await(patience, "sharing", func() bool {
			for _, m := range members {
				if share := 4 / inGroup[m.group]; n.partitions(m.id, "ready") != share || n.partitions(m.id, "") != share {
					return false
				}
			}
			return true
		}); err != nil {
			t.Fatalf("%v\n%s\n%s", err, n.cli("cluster", "status", "--partitions"), n.Log())
		}
	}
	awaitReady() // those that share have to know each other's zones
	return nodes
}
