//go:build clusterbench && kafka && s3

package clusterbench

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/kafkatest"
)

var (
	rounds   = flag.Int("rounds", 300, "changes for each row about the time until a change is visible")
	farDelay = flag.Duration("far", 150*time.Millisecond, "delay, one way, between the log and the far region")
	busy     = flag.Int("busy", 100, "changes a second when the log is busy")
)

// visible changes a record through writer again and again, and returns how long after the API's answer reader gave the new value.
func visible(t *testing.T, writer, reader *node, zone, query string, rounds int, pause func() time.Duration) durations {
	t.Helper()
	a, err := newAsker(reader.DNS)
	if err != nil {
		t.Fatal(err)
	}
	defer a.conn.Close()
	q := question("www." + zone)
	var all durations
	for range rounds {
		<-time.After(pause())
		want := [4]byte{203, byte(rand.IntN(256)), byte(rand.IntN(256)), byte(rand.IntN(256))}
		if err := writer.put(t.Context(), zone, "www", want, query); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for {
			answer, err := a.ask(q)
			if err != nil {
				t.Fatal(err)
			}
			// An error is the name that isn't there yet.
			if got, err := address(q, answer); err == nil && got == want {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("a change that the API acknowledged is not in DNS after 10 s")
			}
			<-time.After(200 * time.Microsecond)
		}
		all = append(all, time.Since(begin))
	}
	return all
}

func between(low, high time.Duration) func() time.Duration {
	return func() time.Duration { return low + rand.N(high-low) }
}

const (
	whenApplied = ""         // the API answers when the change is applied on the node that is asked
	whenLogged  = "?wait=0s" // it answers when the change is in the log
)

// TestVisible: from the acknowledgement to the new answer.
func TestVisible(t *testing.T) {
	columns := []string{"log", "acknowledged", "asked", "p50", "p90", "p99", "changes"}
	heading("From the API's acknowledgement to the new answer in DNS, in the log's region", columns...)
	pause := between(5*time.Millisecond, 30*time.Millisecond)
	t.Run("embedded", func(t *testing.T) {
		c := newCluster(t, 8)
		n := c.alone("127.0.0.1", "near", "a")
		c.start(n)
		zone := c.zoneIn(0, 0)
		n.load(zone, 1000, "")
		for _, query := range []string{whenApplied, whenLogged} {
			row(append([]string{"embedded", acknowledged(query), "the same node"}, visible(t, n, n, zone, query, *rounds, pause).spread()...)...)
		}
	})
	t.Run("kafka", func(t *testing.T) {
		broker := kafkatest.Start(t)
		c := newCluster(t, 8)
		one, two := c.add("near", "a", broker.Address()), c.add("near", "b", broker.Address())
		c.start(one, two)
		zone := c.zoneIn(0, 0)
		one.load(zone, 1000, "?wait=region")
		for _, query := range []string{whenApplied, whenLogged} {
			for _, asked := range []*node{one, two} {
				which := "the same node"
				if asked == two {
					which = "a node of another group"
				}
				row(append([]string{"Kafka", acknowledged(query), which}, visible(t, one, asked, zone, query, *rounds, pause).spread()...)...)
			}
		}
		others := []string{c.zoneIn(0, 1), c.zoneIn(1, 0), c.zoneIn(2, 0), c.zoneIn(3, 0)}
		for _, z := range others {
			one.load(z, 10, "?wait=region")
		}
		stop := writing(t, []*node{one, two}, others, *busy)
		times := visible(t, one, two, zone, whenLogged, *rounds, pause)
		row(append([]string{fmt.Sprintf("Kafka, %.0f other changes/s", stop()), acknowledged(whenLogged), "a node of another group"}, times.spread()...)...)
	})
}

func acknowledged(query string) string {
	if query == whenLogged {
		return "when it is in the log"
	}
	return "when it is applied"
}

// TestFar: the same, for a region that the log is far away from. The node that is written through is near.
func TestFar(t *testing.T) {
	heading(fmt.Sprintf("The same, asked in a region with %s between node and log, one way", *farDelay),
		"log", "acknowledged", "p50", "p90", "p99", "changes")
	proxy := balefiretest.NewProxy(t, "127.0.0.1", "")
	broker := kafkatest.StartBehind(t, proxy)
	proxy.Delay(*farDelay)
	c := newCluster(t, 8)
	near, far := c.add("near", "a", broker.Address()), c.add("far", "a", proxy.Address())
	c.start(near, far)
	zone := c.zoneIn(0, 0)
	near.load(zone, 1000, "?wait=everywhere")
	few := max(1, *rounds/3)
	// After a change, a node asks the log again one way later.
	idle := between(4**farDelay, 10**farDelay)
	for _, query := range []string{whenApplied, whenLogged} {
		row(append([]string{"idle", acknowledged(query)}, visible(t, near, far, zone, query, few, idle).spread()...)...)
	}
	others := []string{c.zoneIn(0, 1), c.zoneIn(1, 0), c.zoneIn(2, 0), c.zoneIn(3, 0)}
	for _, z := range others {
		near.load(z, 10, "?wait=everywhere")
	}
	stop := writing(t, []*node{near}, others, *busy)
	times := visible(t, near, far, zone, whenLogged, few, between(5*time.Millisecond, 300*time.Millisecond))
	row(append([]string{fmt.Sprintf("%.0f other changes/s", stop()), acknowledged(whenLogged)}, times.spread()...)...)
}
