package contract

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// asker asks for names at a node all the time, and counts what is not answered as it should be.
type asker struct {
	names         []string
	want          string
	asked, failed atomic.Int64
	mu            sync.Mutex
	last          string // what was wrong the last time
}

// run asks until it is told to stop. A question that nobody answers is asked once more, as a resolver does.
func (a *asker) run(address string, stop <-chan struct{}) {
	client := &dns.Client{Timeout: 10 * time.Second}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		m := new(dns.Msg)
		m.SetQuestion(a.names[i%len(a.names)], dns.TypeA)
		var wrong string
		for range 2 {
			if wrong = a.wrong(client.Exchange(m, address)); wrong == "" {
				break
			}
		}
		a.asked.Add(1)
		if wrong != "" {
			a.failed.Add(1)
			a.mu.Lock()
			a.last = fmt.Sprintf("%s at %s: %s", m.Question[0].Name, address, wrong)
			a.mu.Unlock()
		}
	}
}

func (a *asker) wrong(r *dns.Msg, _ time.Duration, err error) string {
	if err != nil {
		return err.Error()
	}
	if r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != a.want {
		return r.String()
	}
	return ""
}

// partitions returns how many partitions a node has in a state, as another says that knows it by gossip.
func (n node) partitions(of, state string) (count int) {
	n.t.Helper()
	for _, other := range jsonOf[clusterStatus](n, "cluster", "status").Nodes {
		for _, p := range other.Partitions {
			if other.ID == of && (state == "" || p.State == state) {
				count++
			}
		}
	}
	return count
}

// TestLeave: a node that shares a group's partitions leaves for good. It answers for everything until it is stopped, by which time the
// other one has everything.
func TestLeave(t *testing.T) {
	t.Parallel()
	b, s := devBroker(t)
	const partitions = 6
	join := porttest.Free(t, "127.0.0.1")
	launch := func(id, gossip string) node {
		return startWith(t, balefiretest.How{Args: slices.Concat([]string{
			"--brokers", b.Address(), "--kafka-tls", "--kafka-tls-ca", s.CA, "--kafka-tls-cert", s.Cert, "--kafka-tls-key", s.Key,
			"--partitions", fmt.Sprint(partitions), "--node-id", id, "--gossip-listen", gossip, "--gossip-join", join,
		}, relayAt(t))})
	}
	first := launch("n1", join)
	second := launch("n2", porttest.Free(t, "127.0.0.1"))
	eventually := func(what string, holds func() bool) {
		t.Helper()
		if err := first.Await(time.Minute, what, holds); err != nil {
			t.Fatalf("%v\n%s\n%s\n%s", err, second.cli("cluster", "status", "--partitions"), first.Log(), second.Log())
		}
	}
	for _, n := range []node{first, second} {
		eventually("sharing", func() bool {
			for _, id := range []string{"n1", "n2"} {
				if n.partitions(id, "ready") != partitions/2 || n.partitions(id, "") != partitions/2 {
					return false
				}
			}
			return true
		})
	}
	a := &asker{want: "192.0.2.1"}
	for i := range 3 * partitions {
		zone := fmt.Sprintf("z%d.test.", i)
		first.cli("zone", "create", zone, "--ns", "ns1.example.net.", "--wait", "everywhere")
		first.cli("record", "set", zone, "www", "A", "60", a.want, "--wait", "everywhere")
		a.names = append(a.names, "www."+zone)
	}
	stopFirst, stopSecond := make(chan struct{}), make(chan struct{})
	var askingFirst, askingSecond sync.WaitGroup
	askingFirst.Go(func() { a.run(first.DNS, stopFirst) })
	askingSecond.Go(func() { a.run(second.DNS, stopSecond) })

	contains(t, "node drain --leave", first.cli("node", "drain", "--leave"), "n1 is drained")
	if res := first.call("GET", "/readyz", ""); res.status != 503 {
		t.Errorf("/readyz: %d %s", res.status, res.body)
	}
	eventually("without partitions", func() bool { return second.partitions("n2", "ready") == partitions && second.partitions("n1", "") == 0 })
	before := a.asked.Load()
	eventually("asked for everything since", func() bool { return a.asked.Load() > before+int64(3*len(a.names)) })
	close(stopFirst)
	askingFirst.Wait() // a question under way has its answer before the node is stopped
	if err := first.Stop(time.Minute); err != nil {
		t.Errorf("%v\n%s", err, first.Log())
	}
	second.cli("record", "set", "z0.test.", "late", "A", "60", "192.0.2.2", "--wait", "everywhere")
	close(stopSecond)
	askingSecond.Wait()
	if a.failed.Load() > 0 {
		t.Errorf("%d of %d questions had no answer, or a wrong one, even at the second attempt; the last:\n%s", a.failed.Load(), a.asked.Load(), a.last)
	}
	t.Logf("%d questions", a.asked.Load())
	if h, _ := second.health(); len(h.Troubles) > 0 {
		t.Errorf("who stays has troubles: %q", h.Troubles)
	}
}

// TestLeaveAlone: with the log embedded there is nobody who could take anything over.
func TestLeaveAlone(t *testing.T) {
	t.Parallel()
	n := start(t, "--partitions", "1")
	n.fails(1, "no replica group", "node", "drain", "--leave")
	if res := n.call("GET", "/readyz", ""); res.status != 200 {
		t.Errorf("it is drained: %d %s", res.status, res.body)
	}
}
