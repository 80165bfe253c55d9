package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"balefire/dnsserver"
	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/replication/porttest"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// updatePatience ends what waits for what never comes.
const updatePatience = 60 * time.Second

// fromLoopback lets loopback update everything.
type fromLoopback struct{}

var _ dnsserver.Access = fromLoopback{}

func (fromLoopback) grant() zones.Grant {
	return zones.Grant{Deeds: zones.DeedUpdate, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

func (a fromLoopback) Allows(d zones.Deed, _ zones.Name, _ zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	return a.grant().AllowsFrom(d, key, from)
}

func (a fromLoopback) Grants(zones.Name, zones.ZoneSettings) []zones.Grant {
	return []zones.Grant{a.grant()}
}

// updatedNode is a node in this process, and the server before it.
type updatedNode struct {
	*replication.Node
	server *dnsserver.Server
	addr   string
}

// startUpdated starts a node and waits until it is ready.
func startUpdated(t *testing.T, opts replication.Options) *updatedNode {
	t.Helper()
	opts.Dir = t.TempDir()
	opts.Store = storetest.Options(t, opts.Dir)
	opts.Store.Logger, opts.Logger = zerolog.Nop(), zerolog.Nop()
	opts.Log.Namespace = "test"
	if opts.Log.Partitions == 0 {
		opts.Log.Partitions = 3
	}
	node, err := replication.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	server, err := dnsserver.New(dnsserver.Options{
		Listen: []string{"127.0.0.1:0"}, Zones: node, Elsewhere: node, Access: fromLoopback{}, Updates: updates{node}, Forward: forwarding{node}, Logger: zerolog.Nop(), Workers: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := withPatience(server.Shutdown); err != nil {
			t.Error(err)
		}
	})
	node.ServeCalls(peerCalls(http.NotFoundHandler(), node, server, nil, hostedZones{}))
	n := &updatedNode{node, server, server.Addrs()[0].String()}
	until(t, "the node is ready", func() bool { ok, _ := node.Ready(); return ok })
	return n
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(updatePatience); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// do applies a change set at a node that has its partition.
func (n *updatedNode) do(t *testing.T, cs *zones.ChangeSet) {
	t.Helper()
	_, _ = rand.Read(cs.ID[:])
	ctx, cancel := context.WithTimeout(t.Context(), updatePatience)
	defer cancel()
	o, err := updates{n.Node}.Change(ctx, cs)
	if err != nil || o.Rejection != nil {
		t.Fatalf("%v %v", o.Rejection, err)
	}
}

// exchange sends a message to a server.
func exchange(t *testing.T, network, addr string, m *dns.Msg) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: network, Timeout: 20 * time.Second}
	reply, _, err := client.Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s over %s: %v\n%s", addr, network, err, m)
	}
	return reply
}

// update sends an update, and sends it again while the answer is SERVFAIL after the time that an update may take: on a busy machine that is not
// enough. Again is whether it did, so that one before may have been done.
func update(network, addr string, m *dns.Msg) (reply *dns.Msg, again bool, err error) {
	client := dns.Client{Net: network, Timeout: 20 * time.Second}
	for range 10 {
		var took time.Duration
		reply, took, err = client.Exchange(m, addr)
		if err != nil || reply.Rcode != dns.RcodeServerFailure || took < 4*time.Second {
			break
		}
		again = true
		m.Id = dns.Id()
	}
	return reply, again, err
}

// insert makes an update that adds a record; without may, if the name is not in use.
func insert(t *testing.T, apex, text string, may bool) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate(apex)
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	if !may {
		m.NameNotUsed([]dns.RR{rr})
	}
	m.Insert([]dns.RR{rr})
	return m
}

func askFor(name string, t uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, t) }

// TestUpdateOverTheRelay: a zone that the node does not have is updated all the same, its answer is that of the node that has it, and the next
// question to the node that was asked sees it. Of two nodes that are asked for the same at once, one gives it.
func TestUpdateOverTheRelay(t *testing.T) {
	const partitions = 8
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	join := []string{}
	options := func(id string, gossip string) replication.Options {
		o := replication.Options{NodeID: id, Region: "near", Group: "a", KeepLeft: time.Hour}
		o.Log = mutationlog.Options{Brokers: cluster.ListenAddrs(), Partitions: partitions}
		o.Peers = replication.PeerOptions{GossipListen: gossip, RelayListen: "127.0.0.1:0", Join: join, Version: "test"}
		return o
	}
	gossip := porttest.Free(t, "127.0.0.1")
	one := startUpdated(t, options("one", gossip))
	join = append(join, gossip)
	two := startUpdated(t, options("two", "127.0.0.1:0"))
	nodes := []*updatedNode{one, two}
	until(t, "each has half of the partitions, and none has two holders", func() bool {
		held := 0
		for p := range int32(partitions) {
			if one.Holds(p) == two.Holds(p) {
				return false
			}
			if one.Holds(p) {
				held++
			}
		}
		return held == partitions/2 // with less, some are still on their way
	})

	for i := range 2 * partitions {
		apex := fmt.Sprintf("z%d.example.", i)
		p, ok := one.PartitionOf(zones.MustParseName(apex))
		if !ok {
			t.Fatal("the partitions are not known")
		}
		holder, other := one, two
		if two.Holds(p) {
			holder, other = two, one
		}
		holder.do(t, storetest.Create(apex))
		until(t, "both know the zone", func() bool {
			h := other.Find(zones.MustParseName(apex), zones.TypeSOA)
			defer h.Release()
			return h.Status == store.Elsewhere && len(other.Holders(p)) > 0
		})
		for j, network := range []string{"udp", "tcp", "udp", "tcp"} {
			name := fmt.Sprintf("n%d.%s", j, apex)
			text := fmt.Sprintf("%s 60 IN A 192.0.2.%d", name, j)
			reply, again, err := update(network, other.addr, insert(t, apex, text, false))
			if err != nil || reply.Rcode != dns.RcodeSuccess && !(again && reply.Rcode == dns.RcodeYXDomain) {
				t.Fatalf("%s: %v %s", apex, err, reply)
			}
			if reply := exchange(t, "udp", other.addr, askFor(name, dns.TypeA)); len(reply.Answer) != 1 {
				t.Fatalf("the change is answered with NOERROR, and not seen: %s", reply)
			}
			if reply, _, err := update(network, other.addr, insert(t, apex, text, false)); err != nil || reply.Rcode != dns.RcodeYXDomain {
				t.Errorf("%s: %v %s", apex, err, reply)
			}
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		won, unsure := 0, 0 // an update that was sent again may have won before
		for c := range 8 {
			all.Go(func() {
				m := insert(t, apex, fmt.Sprintf("one.%s 60 IN A 192.0.2.%d", apex, c), false)
				reply, again, err := update("tcp", nodes[c%2].addr, m)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case reply.Rcode == dns.RcodeSuccess:
					won++
				case reply.Rcode != dns.RcodeYXDomain:
					t.Error(reply)
				case again:
					unsure++
				}
			})
		}
		all.Wait()
		if won == 0 && unsure > 0 {
			won = 1
		}
		for _, n := range nodes {
			if reply := exchange(t, "udp", n.addr, askFor("one."+apex, dns.TypeA)); won != 1 || len(reply.Answer) != 1 {
				t.Errorf("%d have won: %s", won, reply)
			}
		}
	}
	// Not hosted is not hosted, everywhere.
	if reply := exchange(t, "udp", two.addr, insert(t, "nowhere.", "x.nowhere. 1 IN A 192.0.2.1", true)); reply.Rcode != dns.RcodeNotAuth {
		t.Error(reply)
	}
}

// TestNotServed: what is surely not done may be asked of another node, and nothing else.
func TestNotServed(t *testing.T) {
	dial := fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: errors.New("refused")})
	read := fmt.Errorf("read: %w", &net.OpError{Op: "read", Err: errors.New("reset")})
	for _, test := range []struct {
		err  error
		want bool
	}{{dial, true}, {fmt.Errorf("one: %w", errDeclined), true}, {read, false}, {context.DeadlineExceeded, false}} {
		if got := notServed(test.err); got != test.want {
			t.Errorf("%v: %t", test.err, got)
		}
	}
}

// zoneLines is what a node has of a zone, without the serial, in the form that transferred gives.
func zoneLines(t *testing.T, n *updatedNode, apex string) (lines []string) {
	t.Helper()
	r, err := n.Store().Read(zones.MustParseName(apex))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for set, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for rdata := range set.RDatas() {
			// The library reads what octets say, as it does with those of the other servers.
			head := append([]byte(set.Owner), byte(set.Type>>8), byte(set.Type), 0, 1, byte(set.TTL>>24), byte(set.TTL>>16), byte(set.TTL>>8), byte(set.TTL), byte(len(rdata)>>8), byte(len(rdata)))
			rr, _, err := dns.UnpackRR(append(head, rdata...), 0)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, zoneLine(rr))
		}
	}
	slices.Sort(lines)
	return lines
}

func zoneLine(rr dns.RR) string {
	if soa, ok := rr.(*dns.SOA); ok {
		soa.Serial = 0
	}
	return strings.ToLower(rr.String())
}

// transferred is what another server has of a zone, without the serial.
func transferred(t *testing.T, addr, apex string) (lines []string) {
	t.Helper()
	transfer := &dns.Transfer{DialTimeout: time.Minute, ReadTimeout: time.Minute}
	m := new(dns.Msg)
	m.SetAxfr(apex)
	envelopes, err := transfer.In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	soas := 0
	for e := range envelopes {
		if e.Error != nil {
			t.Fatalf("transfer of %s from %s: %v", apex, addr, e.Error)
		}
		for _, rr := range e.RR {
			if rr.Header().Rrtype == dns.TypeSOA {
				if soas++; soas == 2 {
					continue
				}
			}
			lines = append(lines, zoneLine(rr))
		}
	}
	slices.Sort(lines)
	return lines
}
