//go:build clusterbench && kafka && s3

package clusterbench

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"balefire/replication/kafkatest"
)

var (
	fleetNodes  = flag.Int("fleet", 50, "nodes of the fleet")
	fleetRate   = flag.Float64("fleet-rate", 225, "queries a second at each of its nodes")
	fleetLookup = flag.Float64("fleet-lookups", 25, "look-ups a second at each")
	fleetWrites = flag.Int("fleet-writes", 20, "changes a second in all")
	fleetTime   = flag.Duration("fleet-time", 20*time.Second, "how long it is measured")
)

const (
	fleetRegions    = 32
	fleetPartitions = 3
)

// TestFleet: many regions, each node a copy of everything, with changes, gossip, relays and backups going on.
func TestFleet(t *testing.T) {
	broker := kafkatest.Start(t)
	c := newCluster(t, fleetPartitions)
	c.backups = "file://" + t.TempDir()
	for i := range *fleetNodes {
		// One group backs up for all regions.
		c.add(fmt.Sprintf("r%d", i%fleetRegions), fmt.Sprintf("g%d", i/fleetRegions), broker.Address(),
			"--store-hot-zones", "16MiB", "--backup-interval", "5s", fmt.Sprintf("--backup-create=%t", i == 0))
	}
	begin := time.Now()
	c.start(c.nodes...)
	started := time.Since(begin)
	var apexes []string
	for p := range fleetPartitions {
		apexes = append(apexes, c.zoneIn(p, 0))
		c.nodes[0].load(apexes[p], 1000, "?wait=everywhere&timeout=60s")
	}
	heading(fmt.Sprintf("%d nodes in %d regions, a group each, %d partitions", *fleetNodes, min(fleetRegions, *fleetNodes), fleetPartitions), "what", "figure")
	row("all nodes started and ready", short(started))

	quiet := c.measure(broker, func() { <-time.After(5 * time.Second) })
	row("CPU of the log and of a node, resident memory of a node: nothing asked or changed", quiet)

	stop := writing(t, c.nodes, apexes, *fleetWrites)
	var queries []tally
	under := c.measure(broker, func() { queries = c.ask(apexes) })
	printQueries("DNS, one record", queries, apexes)
	row("CPU and memory meanwhile, as above", under)

	var lookups []tally
	under = c.measure(broker, func() { lookups = c.lookUp(apexes) })
	printQueries("`POST /v1/lookup`, three records of three partitions", lookups, nil)
	row("CPU and memory meanwhile, as above", under)

	seen := visible(t, c.nodes[0], c.nodes[len(c.nodes)-1], apexes[0], whenLogged, min(*rounds, 100), between(5*time.Millisecond, 30*time.Millisecond))
	row("from a change being in the log to the new answer at another node, p50 / p99", short(seen.at(0.5))+" / "+short(seen.at(0.99)))
	row("changes/s meanwhile", fmt.Sprintf("%.1f", stop()))
}

// measure says what the log and the nodes use while something goes on.
func (c *cluster) measure(broker *kafkatest.Broker, do func()) string {
	total := func() (cpu time.Duration, resident int64) {
		for _, n := range c.nodes {
			u := usage(c.t, n.PID())
			cpu, resident = cpu+u.cpu, resident+u.resident
		}
		return cpu, resident
	}
	begin, log := time.Now(), usage(c.t, broker.PID())
	before, _ := total()
	do()
	took := time.Since(begin).Seconds()
	after, resident := total()
	ofCore := func(cpu time.Duration) float64 { return cpu.Seconds() / took * 100 }
	nodes := float64(len(c.nodes))
	return fmt.Sprintf("%.0f%% of a processor, %.2f%%, %.0f MB", ofCore(usage(c.t, broker.PID()).cpu-log.cpu), ofCore(after-before)/nodes, float64(resident)/nodes/1e6)
}

// ask asks every node for records of each zone in turn.
func (c *cluster) ask(apexes []string) []tally {
	ctx, cancel := context.WithTimeout(c.t.Context(), *fleetTime)
	defer cancel()
	var questions [][]byte
	for i := range 30 {
		questions = append(questions, question(host(i*31)+"."+apexes[i%len(apexes)]))
	}
	tallies := make([]tally, len(c.nodes))
	c.each(func(i int, n *node) (err error) {
		tallies[i], err = steadily(ctx, n.DNS, questions, *fleetRate)
		return err
	})
	return tallies
}

// lookUp does the look-ups, at each node one after another, at the pace.
func (c *cluster) lookUp(apexes []string) []tally {
	ctx, cancel := context.WithTimeout(c.t.Context(), *fleetTime)
	defer cancel()
	tallies := make([]tally, len(c.nodes))
	c.each(func(i int, n *node) error {
		t := tally{times: make([]durations, 1)}
		begin := time.Now()
		tick := time.NewTicker(time.Duration(float64(time.Second) / *fleetLookup))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.took = time.Since(begin)
				tallies[i] = t
				return nil
			}
			var questions []map[string]string
			for k, apex := range apexes {
				questions = append(questions, map[string]string{"zone": apex, "name": host((t.sent + k) % 1000), "type": "A"})
			}
			body, err := json.Marshal(map[string]any{"queries": questions})
			if err != nil {
				return err
			}
			var answers struct{ Results []struct{ Status string } }
			sent := time.Now()
			if err := n.call(c.t.Context(), "POST", "/v1/lookup", "application/json", body, &answers); err != nil {
				return err
			}
			t.sent++
			t.times[0] = append(t.times[0], time.Since(sent))
			for _, a := range answers.Results {
				if a.Status != "found" {
					t.failed++
				}
			}
		}
	})
	return tallies
}

// each does something for all nodes at once.
func (c *cluster) each(do func(i int, n *node) error) {
	c.t.Helper()
	var all sync.WaitGroup
	for i, n := range c.nodes {
		all.Go(func() {
			if err := do(i, n); err != nil {
				c.t.Errorf("%s: %v", n.id, err)
			}
		})
	}
	all.Wait()
}

// printQueries prints the times of all nodes together, of the slowest node, and of each zone if they are given.
func printQueries(what string, of []tally, apexes []string) {
	var all, slowest durations
	sent, lost, failed, took := 0, 0, 0, time.Duration(0)
	byZone := make([]durations, len(apexes))
	for _, t := range of {
		times := t.all()
		all = append(all, times...)
		if times.at(0.99) > slowest.at(0.99) {
			slowest = times
		}
		sent, lost, failed, took = sent+t.sent, lost+t.lost, failed+t.failed, max(took, t.took)
		for q, d := range t.times {
			if len(apexes) > 0 {
				byZone[q%len(apexes)] = append(byZone[q%len(apexes)], d...)
			}
		}
	}
	both := func(d durations) string { return short(d.at(0.5)) + " / " + short(d.at(0.99)) }
	row(what+": asked a second at each node / in all / lost / wrong", fmt.Sprintf("%.0f / %.0f / %d / %d",
		float64(sent)/took.Seconds()/float64(len(of)), float64(sent)/took.Seconds(), lost, failed))
	row(what+": p50 / p99 of all nodes", both(all))
	row(what+": p50 / p99 of the node with the largest p99", both(slowest))
	for i, d := range byZone {
		row(fmt.Sprintf("%s: p50 / p99 of partition %d", what, i), both(d))
	}
}
