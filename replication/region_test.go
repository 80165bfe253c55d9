package replication

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/answer"
)

// testRegion is some nodes of one region, and the log that they share.
type testRegion struct {
	t       *testing.T
	brokers []string
	gossip  []string
	nodes   map[string]*Node
	log     zerolog.Logger
}

const (
	regionPartitions = 8
	refused          = answer.RCode(5)
)

func newRegion(t *testing.T) *testRegion {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &testRegion{t: t, brokers: cluster.ListenAddrs(), nodes: make(map[string]*Node), log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
}

func (g *testRegion) options(id, group string) Options {
	o := options(g.t, g.t.TempDir())
	o.Logger = g.log.With().Str("node", id).Logger()
	o.Log.Brokers, o.Log.Partitions = g.brokers, regionPartitions
	o.NodeID, o.Region, o.Group = id, "near", group
	o.Peers = PeerOptions{GossipListen: "127.0.0.1:0", RelayListen: "127.0.0.1:0", Join: g.gossip, Version: "test"}
	o.KeepLeft = time.Hour
	return o
}

func (g *testRegion) start(o Options) *Node {
	g.t.Helper()
	n := start(g.t, o)
	g.gossip = append(g.gossip, n.region.gossip.Address())
	g.nodes[o.NodeID] = n
	return n
}

// resolve answers a question as the DNS server does.
func (g *testRegion) resolve(n *Node, qname string) (rcode answer.RCode, records int, err error) {
	name := zones.MustParseName(qname)
	q := answer.Question{Name: name, Type: zones.TypeA}
	h := n.Find(name, zones.TypeA)
	defer h.Release()
	var a answer.Answer
	switch h.Status {
	case store.Here:
		err = answer.Resolve(h.View, q, &a)
	case store.Elsewhere:
		_, err = n.Ask(h, q, netip.MustParseAddr("192.0.2.1"), nil, &a)
	case store.NotHosted:
		return refused, 0, nil
	default:
		err = h.Err
	}
	return a.RCode, len(a.Section(answer.SectionAnswer)), err
}

// insist is resolve, again while it takes too long: on a busy machine that is no fault.
func (g *testRegion) insist(n *Node, qname string) (rcode answer.RCode, records int, err error) {
	for late := time.Now().Add(patience); ; {
		if rcode, records, err = g.resolve(n, qname); !errors.Is(err, context.DeadlineExceeded) || time.Now().After(late) {
			return rcode, records, err
		}
	}
}

// everywhere waits until every node answers for a name, and reports how many do so from another node's copy.
func (g *testRegion) everywhere(qname string) (asked int) {
	g.t.Helper()
	for id, n := range g.nodes {
		eventually(g.t, n, fmt.Sprintf("%s answers for %s", id, qname), func() bool {
			rcode, records, err := g.resolve(n, qname)
			return err == nil && rcode == answer.NoError && records == 1
		})
		h := n.Find(zones.MustParseName(qname), zones.TypeA)
		if h.Status == store.Elsewhere {
			asked++
		}
		h.Release()
	}
	return asked
}

func (g *testRegion) holding(n *Node) (held []int32) {
	for p := range n.count() {
		if n.Holds(p) {
			held = append(held, p)
		}
	}
	return held
}

// write publishes a change set by any node, and waits for it by one that holds its partition.
func (g *testRegion) write(n *Node, cs *zones.ChangeSet) {
	g.t.Helper()
	pos, err := n.Publish(deadline(g.t), newID(cs))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, holder := range g.nodes {
		if !holder.Holds(pos.Partition) {
			continue
		}
		o, err := holder.Wait(deadline(g.t), pos, Everywhere)
		if err != nil || o.Status != store.StatusApplied {
			g.t.Fatalf("%+v, %v", o, err)
		}
		return
	}
	g.t.Fatalf("nobody holds partition %d", pos.Partition)
}

// Partitions are spread over the nodes of a group, and every node answers for all zones; nodes come and go.
func TestRegionSharesPartitions(t *testing.T) {
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "main")))
	if !a.HoldsAll() {
		t.Fatalf("alone, it holds %v", g.holding(a))
	}
	apexes := make([]string, 12)
	for i := range apexes {
		apexes[i] = fmt.Sprintf("z%d.test.", i)
		g.write(a, storetest.Create(apexes[i], storetest.Set("www."+apexes[i], 60, zones.TypeA, "192.0.2.1")))
	}
	bOptions := g.options("b", "main")
	b := g.start(bOptions)
	eventually(t, b, "b has some partitions", func() bool { return len(g.holding(b)) == regionPartitions/2 })
	eventually(t, a, "a has given them up", func() bool { return len(g.holding(a)) == regionPartitions/2 })
	ready(t, b)
	asked := 0
	for _, apex := range apexes {
		asked += g.everywhere("www." + apex)
	}
	if asked != len(apexes) {
		t.Errorf("%d answers were asked for elsewhere, want %d: each zone is in one place", asked, len(apexes))
	}
	// A zone that is made now is known to both.
	g.write(b, storetest.Create("late.test.", storetest.Set("www.late.test.", 60, zones.TypeA, "192.0.2.1")))
	g.everywhere("www.late.test.")
	for _, n := range g.nodes {
		if rcode, _, err := g.insist(n, "nowhere.example."); err != nil || rcode != refused {
			t.Errorf("a name in no zone: %v, %v", rcode, err)
		}
		if rcode, _, err := g.insist(n, "gone.late.test."); err != nil || rcode != answer.NXDomain {
			t.Errorf("a name that does not exist: %v, %v", rcode, err)
		}
	}
	// A zone that is not answered from is said to be so by all, and not taken for one that can't be read.
	withheld := func(want error) {
		t.Helper()
		for id, n := range g.nodes {
			eventually(t, n, fmt.Sprintf("%s says %v", id, want), func() bool {
				_, _, err := g.resolve(n, "www.second.test.")
				return errors.Is(err, want)
			})
		}
	}
	g.write(a, storetest.Change("second.test.", zones.OpCreateZone{Settings: storetest.Secondary()}))
	withheld(store.ErrAwaiting)
	sets := append(storetest.Apex("second.test.", 5), storetest.Set("www.second.test.", 60, zones.TypeA, "192.0.2.1"))
	g.write(b, storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpReplaceZone{RRsets: sets})))
	g.everywhere("www.second.test.")
	g.write(a, storetest.From(zones.SourcePrimary, storetest.Change("second.test.", zones.OpSetStanding{Expired: true})))
	withheld(store.ErrExpired)
	// A restart moves nothing.
	before := g.holding(b)
	b.Close()
	b = ready(t, g.start(bOptions))
	eventually(t, b, "b holds the same again", func() bool { return fmt.Sprint(g.holding(b)) == fmt.Sprint(before) })
	if len(g.holding(a)) != regionPartitions/2 {
		t.Errorf("a holds %v after b's restart", g.holding(a))
	}
	g.everywhere("www.z3.test.")
}

// With two groups every zone is answered for while a node is gone.
func TestRegionWithTwoGroups(t *testing.T) {
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "one")))
	ready(t, g.start(g.options("b", "one")))
	ready(t, g.start(g.options("c", "two")))
	ready(t, g.start(g.options("d", "two")))
	for _, n := range g.nodes {
		eventually(t, n, "each has half", func() bool { return len(g.holding(n)) == regionPartitions/2 })
	}
	for i := range 6 {
		apex := fmt.Sprintf("z%d.test.", i)
		g.write(a, storetest.Create(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
		g.everywhere("www." + apex)
	}
	// Whoever holds a zone that is not answered from knows that for itself, and asks nobody.
	g.write(a, storetest.Change("second.test.", zones.OpCreateZone{Settings: storetest.Secondary()}))
	partition, _ := a.PartitionOf(zones.MustParseName("second.test."))
	for id, n := range g.nodes {
		if !n.Holds(partition) {
			continue
		}
		eventually(t, n, id+" knows that nothing has come", func() bool {
			h := n.Find(zones.MustParseName("second.test."), zones.TypeA)
			defer h.Release()
			return len(n.holders(partition)) > 0 && h.Status == store.Unavailable && errors.Is(h.Err, store.ErrAwaiting)
		})
	}
	g.nodes["b"].Close()
	delete(g.nodes, "b")
	for i := range 6 {
		g.everywhere(fmt.Sprintf("www.z%d.test.", i))
	}
	eventually(t, a, "both groups are known to have reached the first record", func() bool {
		reached, err := a.Reached(deadline(t), store.Position{Partition: 0, Offset: 0})
		return err == nil && len(reached) == 2
	})
	status := a.ClusterStatus(deadline(t))
	if len(status.Nodes) != 4 || len(status.Groups) != 2 {
		t.Errorf("status %+v", status)
	}
}

// A node that gossip has lost is asked all the same: that may be all that does not reach it.
func TestRegionAsksTheLost(t *testing.T) {
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "one")))
	g.write(a, storetest.Create("lost.test.", storetest.Set("www.lost.test.", 60, zones.TypeA, "192.0.2.1")))
	b := ready(t, g.start(g.options("b", "one")))
	eventually(t, b, "each has some of the partitions", func() bool { return len(g.holding(a)) == 4 && len(g.holding(b)) == 4 })
	if g.everywhere("www.lost.test.") != 1 {
		t.Fatal("the zone is at one of two nodes")
	}
	asker, holder := a, b
	if h := a.Find(zones.MustParseName("www.lost.test."), zones.TypeA); h.Status == store.Here {
		h.Release()
		asker, holder = b, a
	}
	if err := holder.region.gossip.Close(); err != nil { // without a word to the others
		t.Fatal(err)
	}
	eventually(t, asker, "the holder is lost", func() bool { return !asker.region.gossip.Map().Peer(holder.opts.NodeID).Alive })
	for range 20 {
		rcode, records, err := g.insist(asker, "www.lost.test.")
		if err != nil || rcode != answer.NoError || records != 1 {
			t.Fatalf("%v with %d records, %v", rcode, records, err)
		}
	}
}

// While partitions go from node to node, nobody is left without an answer that another node of the region has not, either: a node
// joins, and leaves for good, and every zone is asked for at every node all the time.
func TestRegionHandsOver(t *testing.T) {
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "main")))
	b := ready(t, g.start(g.options("b", "main")))
	eventually(t, a, "half is a's", func() bool { return len(g.holding(a)) == regionPartitions/2 && len(g.holding(b)) == regionPartitions/2 })
	apexes := make([]string, 2*regionPartitions)
	for i := range apexes {
		apexes[i] = fmt.Sprintf("z%d.test.", i)
		g.write(a, storetest.Create(apexes[i], storetest.Set("www."+apexes[i], 60, zones.TypeA, "192.0.2.1")))
		g.everywhere("www." + apexes[i])
	}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var asked, again atomic.Int64
	for _, order := range [][]*Node{{a, b}, {b, a}} {
		asking.Go(func() {
			tick := time.NewTicker(time.Millisecond) // all the time, and room for the nodes
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				qname := "www." + apexes[i%len(apexes)]
				asked.Add(1)
				rcode, records, err := g.resolve(order[0], qname)
				if err != nil { // a resolver asks the next server
					again.Add(1)
					rcode, records, err = g.insist(order[1], qname)
				}
				if err != nil || rcode != answer.NoError || records != 1 {
					t.Errorf("%s: %v, %d records, %v", qname, rcode, records, err)
					return
				}
			}
		})
	}
	for range 2 {
		c := ready(t, g.start(g.options("c", "main")))
		eventually(t, c, "c has its share", func() bool { return len(g.holding(c)) >= regionPartitions/3 })
		eventually(t, c, "a and b have let that go", func() bool {
			return len(g.holding(a))+len(g.holding(b))+len(g.holding(c)) == regionPartitions
		})
		if err := c.LeaveGroup(deadline(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, c, "c has given everything away", func() bool { return len(g.holding(c)) == 0 })
		c.Close()
	}
	close(stop)
	asking.Wait()
	t.Logf("%d questions, %d of them asked twice", asked.Load(), again.Load())
}
