package gossip

import (
	"testing"
	"time"
)

// await returns the first map that satisfies a condition.
func await(t *testing.T, g *Gossip, what string, ok func(*Map) bool) *Map {
	t.Helper()
	end := time.After(time.Minute)
	for {
		changed := g.Changed()
		if m := g.Map(); ok(m) {
			return m
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("%s: never saw %s; it knows %v, with troubles %v", g.options.ID, what, describe(g.Map()), g.Troubles())
		}
	}
}

func describe(m *Map) []Peer {
	var all []Peer
	for _, p := range m.Peers() {
		all = append(all, *p)
	}
	return all
}

// TestLoopback is the only one over real sockets; the others run on a network in memory.
func TestLoopback(t *testing.T) {
	start := func(id string, join ...string) *Gossip {
		g, err := Start(Options{
			Member: Member{ID: id, Region: "r", Group: "g", Relay: "127.0.0.1:1", Fingerprint: [32]byte{1}}, Namespace: "n",
			Listen: "127.0.0.1:0", Join: join, Key: make([]byte, 32), Timings: Fast(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
		return g
	}
	a := start("a")
	b := start("b", a.Address())
	b.Claim([]Claim{{Partition: 7, State: Ready, Assigned: true, Position: 42, Checkpoint: 40, Digest: [16]byte{9}}})
	m := await(t, a, "b's claim", func(m *Map) bool { return len(m.Holders(7)) == 1 && m.Holders(7)[0].Claim.Position == 42 })
	if p := m.Holders(7)[0].Peer; p.ID != "b" || p.Group != "g" || p.Relay != "127.0.0.1:1" || p.Fingerprint != [32]byte{1} || !p.Alive {
		t.Errorf("a knows b as %+v", p)
	}
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b's goodbye", func(m *Map) bool { p := m.Peer("b"); return p != nil && p.Left && !p.Alive && len(m.Holders(7)) == 0 })
}
