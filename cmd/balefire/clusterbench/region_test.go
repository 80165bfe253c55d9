//go:build clusterbench && kafka && s3

package clusterbench

import (
	"fmt"
	"testing"
	"time"

	"balefire/replication/gossip"
	"balefire/replication/kafkatest"
)

// TestGossip: a region of a hundred nodes, all started at once in this process.
func TestGossip(t *testing.T) {
	const nodes = 100
	heading(fmt.Sprintf("Gossip of %d nodes in one region", nodes),
		"partitions of each", "until all know all", "sent by a node for that", "octets/s of a node at rest", "while each partition goes on every second")
	for _, partitions := range []int{5, 256} {
		claims := func(i int, position int64) []gossip.Claim {
			all := make([]gossip.Claim, partitions)
			for k := range all {
				all[k] = gossip.Claim{
					Partition: int32((i*partitions + k) % 256), State: gossip.Ready, Assigned: true, Position: position, Checkpoint: -1,
				}
			}
			return all
		}
		begin := time.Now()
		var all []*gossip.Gossip
		for i := range nodes {
			o := gossip.Options{
				Member: gossip.Member{ID: fmt.Sprintf("node%d", i), Region: "near"}, Namespace: "bench", Listen: "127.0.0.1:0", Key: make([]byte, 32),
			}
			if i > 0 {
				o.Join = []string{all[0].Address()}
			}
			g, err := gossip.Start(o)
			if err != nil {
				t.Fatal(err)
			}
			g.Claim(claims(i, 1000))
			all = append(all, g)
		}
		for _, g := range all {
			for {
				changed := g.Changed()
				if knows(g.Map(), nodes, partitions) {
					break
				}
				<-changed
			}
		}
		took := time.Since(begin)
		sent := func() (octets float64) {
			for _, g := range all {
				octets += float64(g.Stats().SentOctets) / nodes
			}
			return octets
		}
		joined := sent()
		const rest = 20
		<-time.After(5 * time.Second) // the rumours of joining die out
		before := sent()
		<-time.After(rest * time.Second)
		atRest := (sent() - before) / rest
		before = sent()
		for k := range rest / 2 {
			for i, g := range all {
				g.Claim(claims(i, 1001+int64(k)))
			}
			<-time.After(time.Second)
		}
		busy := (sent() - before) / (rest / 2)
		row(fmt.Sprint(partitions), short(took), fmt.Sprintf("%.0f kB", joined/1e3), fmt.Sprintf("%.0f", atRest), fmt.Sprintf("%.0f", busy))
		for _, g := range all {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func knows(m *gossip.Map, nodes, partitions int) bool {
	known := 0
	for _, p := range m.Peers() {
		if p.Alive && len(p.Claims) == partitions {
			known++
		}
	}
	return known == nodes
}

// TestProxied: a query that another node of the region has to be asked, beside one that this node can answer.
func TestProxied(t *testing.T) {
	broker := kafkatest.Start(t)
	c := newCluster(t, 4)
	one, two := c.add("near", "a", broker.Address()), c.add("near", "a", broker.Address())
	c.start(one, two)
	var local, proxied string
	wait := func() bool {
		local, proxied = "", ""
		for _, n := range one.view().Nodes {
			for _, p := range n.Partitions {
				switch {
				case p.State != "ready" || !p.Assigned:
				case n.ID == one.id:
					local = c.zoneIn(p.Partition, 0)
				case n.ID == two.id:
					proxied = c.zoneIn(p.Partition, 0)
				}
			}
		}
		return local != "" && proxied != "" && len(one.positions()) == 2
	}
	if err := one.Await(time.Minute, "holding half", wait); err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{local, proxied} {
		one.load(zone, 1000, "?wait=region")
	}
	heading("A query passed on to another node of the region, beside a local one", "query", "p50", "p90", "p99", "queries", "answers/s, 64 clients")
	var times [2]durations
	var rates [2][]float64
	for range 3 {
		for i, zone := range []string{local, proxied} {
			few, err := oneByOne(one.DNS, "h1."+zone, 3000)
			if err != nil {
				t.Fatal(err)
			}
			times[i] = append(times[i], few...)
			rate, err := throughput(one.DNS, "h1."+zone, 64, 3*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	for i, what := range []string{"local", "passed on"} {
		row(append(append([]string{what}, times[i].spread()...), fmt.Sprintf("%.0f", (rates[i][0]+rates[i][1]+rates[i][2])/3))...)
	}
}
