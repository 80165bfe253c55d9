package gossip

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkConvergence starts a hundred nodes at once, over the sockets of this machine and by the timings of a LAN, and waits until all
// know all states.
func BenchmarkConvergence(b *testing.B) {
	const nodes = 100
	for _, claims := range []int{5, 256} {
		b.Run(fmt.Sprintf("%d partitions each", claims), func(b *testing.B) {
			for b.Loop() {
				begin := time.Now()
				all := make([]*Gossip, 0, nodes)
				for i := range nodes {
					o := Options{Member: Member{ID: fmt.Sprintf("node%d", i), Region: "eu"}, Namespace: "prod", Listen: "127.0.0.1:0", Key: make([]byte, 32)}
					if i > 0 {
						o.Join = []string{all[0].Address()}
					}
					g, err := Start(o)
					if err != nil {
						b.Fatal(err)
					}
					g.Claim(someClaims(i*claims, claims, 1000))
					all = append(all, g)
				}
				knows := knowsAll(nodes, claims, -1)
				for _, g := range all {
					for {
						changed := g.Changed()
						if knows(g.Map()) {
							break
						}
						<-changed
					}
				}
				took := time.Since(begin).Seconds()
				b.ReportMetric(float64(sentBy(all))/took/nodes, "octets/s/node")
				for _, g := range all {
					if err := g.Close(); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
}

// BenchmarkMap makes a map of a hundred nodes with 256 partitions each.
func BenchmarkMap(b *testing.B) {
	peers := make([]*Peer, 100)
	for i := range peers {
		peers[i] = &Peer{Member: Member{ID: fmt.Sprintf("node%d", i)}, Alive: true, Claims: someClaims(0, 256, 1000)}
	}
	b.ReportAllocs()
	for b.Loop() {
		newMap(peers[0], append([]*Peer(nil), peers...))
	}
}
