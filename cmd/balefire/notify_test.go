package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
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

// noticeLimit ends a test that waits for what never comes.
const noticeLimit = 60 * time.Second

// listeningSecondary answers NOTIFYs, and tells of them as "zone serial".
type listeningSecondary struct {
	addr string
	got  chan string
	last string // may come again: the answer was slow
}

func listenAsSecondary(t *testing.T) *listeningSecondary {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listeningSecondary{addr: pc.LocalAddr().String(), got: make(chan string, 100)}
	up := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		what := q.Question[0].Name
		if len(q.Answer) == 1 {
			what += fmt.Sprintf(" %d", q.Answer[0].(*dns.SOA).Serial)
		}
		l.got <- what
		_ = w.WriteMsg(new(dns.Msg).SetReply(q))
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _ = s.Shutdown(); <-done })
	return l
}

func (l *listeningSecondary) await(t *testing.T, want string) {
	t.Helper()
	limit := time.After(noticeLimit)
	for {
		select {
		case got := <-l.got:
			if got == want {
				l.last = got
				return
			}
			if got != l.last {
				t.Fatalf("%s was notified of %q, want %q", l.addr, got, want)
			}
		case <-limit:
			t.Fatalf("%s was not notified of %q", l.addr, want)
		}
	}
}

func (l *listeningSecondary) none(t *testing.T) {
	t.Helper()
	for len(l.got) > 0 {
		if got := <-l.got; got != l.last {
			t.Errorf("%s was notified of %q", l.addr, got)
		}
	}
}

// A node tells the servers that a zone's settings name of each change, also after a restart, and no others.
func TestNodeNotifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, dir, "--dns-allow-peers", "127.0.0.0/8")
	one, two := listenAsSecondary(t), listenAsSecondary(t)
	n.cli(t, dir, "zone", "create", "example.com.", "--ns", "ns1.example.net.")
	n.cli(t, dir, "zone", "create", "other.com.", "--ns", "ns1.example.net.")
	n.cli(t, dir, "zone", "set", "example.com.", "--notify", one.addr)
	serial := soaSerial(t, n, "example.com")
	one.await(t, fmt.Sprintf("example.com. %d", serial))
	n.cli(t, dir, "record", "set", "other.com.", "www", "A", "300", "192.0.2.7")
	n.cli(t, dir, "record", "set", "example.com.", "www", "A", "300", "192.0.2.7")
	one.await(t, fmt.Sprintf("example.com. %d", serial+1))
	n.cli(t, dir, "zone", "set", "example.com.", "--notify", one.addr, "--notify", two.addr)
	two.await(t, fmt.Sprintf("example.com. %d", serial+1)) // is new, and the other knows
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n = startNode(t, dir, "--dns-allow-peers", "127.0.0.0/8")
	for _, l := range []*listeningSecondary{one, two} {
		l.await(t, fmt.Sprintf("example.com. %d", serial+1)) // the node does not know what they were told
	}
	n.cli(t, dir, "zone", "set", "example.com.", "--notify", two.addr)
	n.cli(t, dir, "record", "set", "example.com.", "www", "A", "300", "192.0.2.8")
	two.await(t, fmt.Sprintf("example.com. %d", serial+2))
	n.cli(t, dir, "zone", "delete", "example.com.")
	one.none(t)
	two.none(t)
}

// Addresses that are no server's are refused when they are set, where that is not allowed.
func TestAddressesOfNoServerAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, dir)
	n.cli(t, dir, "zone", "create", "example.com.", "--ns", "ns1.example.net.")
	for _, address := range []string{"127.0.0.1", "169.254.169.254", "[::1]:53", "0.0.0.0", "224.0.0.1"} {
		code, out, errOut := runCLI(t, "zone", "set", "example.com.", "--notify", address, "--server", "http://"+n.admin, "--data-dir", dir)
		if code == exitOK || !strings.Contains(out+errOut, "address") {
			t.Errorf("%s: exit %d\n%s%s", address, code, out, errOut)
		}
	}
}

// twoNodes are two nodes of one group, which share the partitions.
func twoNodes(t *testing.T) [2]*replication.Node {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var nodes [2]*replication.Node
	gossip := porttest.Free(t, "127.0.0.1")
	for i, id := range []string{"a", "b"} {
		dir := t.TempDir()
		o := replication.Options{
			Dir: dir, Store: storetest.Options(t, dir), Logger: zerolog.Nop(), NodeID: id, Region: "near", Group: "main",
			Log: mutationlog.Options{Namespace: "test", Brokers: cluster.ListenAddrs(), Partitions: 8},
			Peers: replication.PeerOptions{
				GossipListen: "127.0.0.1:0", RelayListen: "127.0.0.1:0", Version: "test",
			},
		}
		o.Store.Logger = zerolog.Nop()
		if i == 0 {
			o.Peers.GossipListen = gossip
		} else {
			o.Peers.Join = []string{gossip}
		}
		if nodes[i], err = replication.Start(o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nodes[i].Close() })
		nodes[i].SetReadiness(true, false)
	}
	awaitThat(t, "both have half of the partitions, and know of each other", func() bool {
		held := 0
		for p := range int32(8) {
			a, b := nodes[0].Holds(p), nodes[1].Holds(p)
			if a == b || a && (!nodes[0].OnDuty(p) || len(nodes[1].Holders(p)) != 1) || b && (!nodes[1].OnDuty(p) || len(nodes[0].Holders(p)) != 1) {
				return false
			}
			if a {
				held++
			}
		}
		return held == 4 // with less, some are still on their way
	})
	return nodes
}

func awaitThat(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.Now().Add(noticeLimit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-tick.C
	}
}

// heeded is which NOTIFYs a node was to heed.
type heeded struct {
	mu  sync.Mutex
	all []dnsserver.Notification
}

func (h *heeded) note(n dnsserver.Notification) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, n)
}

func (h *heeded) apexes() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.all {
		all = append(all, n.Apex.String())
	}
	slices.Sort(all)
	return all
}

// Whichever node gets a NOTIFY, the one that has the zone decides, and the one on duty heeds it.
func TestNotifyFindsTheNodeOnDuty(t *testing.T) {
	nodes := twoNodes(t)
	var heard [2]heeded
	var taker [2]*notices
	var servers [2]*dnsserver.Server
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer func() { cancel(); work.Wait() }()
	for i, node := range nodes {
		taker[i] = newNotices(node, heard[i].note, zerolog.Nop())
		work.Go(func() { taker[i].run(ctx) })
		s, err := dnsserver.New(dnsserver.Options{Listen: []string{"127.0.0.1:0"}, Zones: node, Notifies: taker[i], Access: dnsserver.Grants{}, Workers: 1, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = withPatience(s.Shutdown) }()
		servers[i] = s
		mux := http.NewServeMux()
		mux.Handle(noticePath, passedNotices{taker[i], s})
		node.ServeCalls(mux)
	}
	settings := zones.ZoneSettings{Primaries: []zones.Remote{{Addr: netip.MustParseAddrPort("127.0.0.1:53")}}}
	theirs := zones.ZoneSettings{Primaries: []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}}
	var want [2][]string
	for i := range 8 {
		apex := zones.MustParseName(fmt.Sprintf("z%d.test.", i))
		for apex, settings := range map[zones.Name]zones.ZoneSettings{apex: settings, zones.MustParseName(fmt.Sprintf("t%d.test.", i)): theirs} {
			cs := &zones.ChangeSet{Zone: apex, Ops: []zones.Op{zones.OpCreateZone{Settings: settings}}}
			copy(cs.ID[:], apex)
			pos, err := nodes[0].Publish(t.Context(), cs)
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range nodes {
				if node.Holds(pos.Partition) {
					if o, err := node.Wait(t.Context(), pos, replication.ThisNode); err != nil || o.Status != store.StatusApplied {
						t.Fatalf("%+v, %v", o, err)
					}
				}
			}
		}
		p, _ := nodes[0].PartitionOf(apex)
		for j, node := range nodes {
			if node.OnDuty(p) {
				want[j] = append(want[j], apex.String(), apex.String())
			}
			awaitThat(t, "the zone is known everywhere", func() bool {
				h := node.Find(apex, zones.TypeSOA)
				defer h.Release()
				return h.Status != store.NotHosted
			})
		}
	}
	for _, s := range servers {
		for i := range 8 {
			for zone, rcode := range map[string]int{"z%d.test.": dns.RcodeSuccess, "t%d.test.": dns.RcodeRefused, "n%d.test.": dns.RcodeNotAuth} {
				zone = fmt.Sprintf(zone, i)
				awaitThat(t, zone+" is answered "+dns.RcodeToString[rcode], func() bool {
					m, err := dns.Exchange(new(dns.Msg).SetNotify(zone), s.Addrs()[0].String())
					return err == nil && m.Rcode == rcode
				})
			}
		}
	}
	for i := range nodes {
		awaitThat(t, "the node on duty heeds", func() bool { return slices.Equal(slices.Compact(heard[i].apexes()), slices.Compact(want[i])) })
	}
}
