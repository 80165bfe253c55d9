package gossip

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// someClaims are those of a node with count partitions from first on, all at one position.
func someClaims(first, count int, position int64) []Claim {
	claims := make([]Claim, count)
	for i := range claims {
		claims[i] = Claim{
			Partition: int32((first + i) % 256), State: Ready, Assigned: true,
			Position: position, Checkpoint: position / 1000 * 1000, Digest: [16]byte{byte(i), 1},
		}
	}
	return claims
}

// knowsAll reports whether a map has every node with so many claims, at a position or beyond.
func knowsAll(nodes, claims int, position int64) func(*Map) bool {
	return func(m *Map) bool {
		if len(m.Peers()) != nodes {
			return false
		}
		for _, p := range m.Peers() {
			if !p.Alive || len(p.Claims) != claims {
				return false
			}
			for i := range p.Claims {
				if p.Claims[i].Position < position {
					return false
				}
			}
		}
		return true
	}
}

var scale = flag.Bool("scale", false, "measure a hundred nodes, with up to 256 partitions each: takes minutes")

// TestConvergence starts a region at once, and logs how long it takes until all know all, and how much was sent for it, by the clock of
// a network without delay.
func TestConvergence(t *testing.T) {
	nodes, counts := 30, []int{5}
	if *scale {
		nodes, counts = 100, []int{5, 256}
	}
	for _, claims := range counts {
		t.Run(fmt.Sprintf("%d partitions each", claims), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t)
				seeds := func(o *Options) { o.Join = []string{"10.0.0.1:7946", "10.0.0.2:7946", "10.0.0.3:7946"} }
				var all []*Gossip
				begin := time.Now()
				for i := range nodes {
					g := r.start(fmt.Sprintf("node%d", i+1), seeds)
					g.Claim(someClaims(i*claims, claims, 1000))
					all = append(all, g)
				}
				// step logs what it took until all have seen something.
				before := uint64(0)
				step := func(what string, ok func(*Map) bool) {
					t.Helper()
					for _, g := range all {
						await(t, g, what, ok)
					}
					took, sent := time.Since(begin), sentBy(all)
					t.Logf("%s: %s, %.0f octets a second and node", what, took.Round(time.Millisecond), float64(sent-before)/took.Seconds()/float64(nodes))
					begin, before = time.Now(), sent
				}
				step("all know all states", knowsAll(nodes, claims, -1))
				all[20].Claim(someClaims(20*claims, claims-1, 1000))
				step("all know a change of one", func(m *Map) bool { return len(m.Peer("node21").Claims) == claims-1 })
				if *scale {
					all[20].Claim(someClaims(20*claims, claims, 1000))
					step("all know all positions", knowsAll(nodes, claims, 1000))
					for i, g := range all {
						g.Claim(someClaims(i*claims, claims, 2000))
					}
					step("all know the next positions", knowsAll(nodes, claims, 2000))
					pass(10 * time.Minute)
					step("nothing new", func(*Map) bool { return true })
				}
				for _, g := range all {
					if list := g.Troubles(); len(list) > 0 {
						t.Errorf("%s has troubles %q", g.options.ID, list)
					}
				}
			})
		})
	}
}

func sentBy(all []*Gossip) (octets uint64) {
	for _, g := range all {
		octets += g.Stats().SentOctets
	}
	return octets
}
