package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/replication/relay"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// transferRegion is two nodes: one that has all zones, and one that has none, and knows where to ask.
type transferRegion struct {
	st     *store.Store
	peers  atomic.Pointer[[]*httptest.Server] // of the one that has them, in the order in which they are asked
	holds  atomic.Bool
	least  atomic.Int64
	saw    atomic.Int64
	server *dnsserver.Server
	front  *dnsserver.Server
}

func (r *transferRegion) Store() *store.Store { return r.st }
func (r *transferRegion) Holds(int32) bool    { return r.holds.Load() }
func (r *transferRegion) Seen(int32) int64    { return r.least.Load() }
func (r *transferRegion) Saw(at store.Position) {
	r.saw.Store(at.Offset)
}

func (r *transferRegion) Holders(int32) []relay.Peer {
	var all []relay.Peer
	for i := range *r.peers.Load() {
		all = append(all, relay.Peer{ID: fmt.Sprint(i)})
	}
	return all
}

func (r *transferRegion) Transport(p relay.Peer) http.RoundTripper {
	var i int
	_, _ = fmt.Sscan(p.ID, &i) // as Holders has written it
	return toServer{(*r.peers.Load())[i]}
}

// toServer carries calls to a server, whatever host they name.
type toServer struct{ to *httptest.Server }

func (t toServer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Host = strings.TrimPrefix(t.to.URL, "https://")
	return t.to.Client().Transport.RoundTrip(req)
}

// allElsewhere says of every zone that it is in partition 0, on another node.
type allElsewhere struct{ *store.Store }

func (allElsewhere) Find(q zones.Name, _ zones.Type) store.Holding {
	return store.Holding{Status: store.Elsewhere, Apex: q}
}

func (allElsewhere) FindHot(zones.Name, zones.Type) (store.Holding, bool) {
	return store.Holding{}, false
}

// toAddr lets somebody transfer who has no key, at an address.
type toAddr struct{ addr netip.Addr }

func (a toAddr) Allows(d zones.Deed, apex zones.Name, _ zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	return d == zones.DeedTransfer && key == "" && from == a.addr && apex != zones.MustParseName("secret.org.")
}

func (toAddr) Grants(_ zones.Name, settings zones.ZoneSettings) []zones.Grant { return settings.Grants }

func startDNS(t *testing.T, opts dnsserver.Options) *dnsserver.Server {
	t.Helper()
	opts.Listen, opts.Logger, opts.Workers = []string{"127.0.0.1:0"}, zerolog.Nop(), 1
	s, err := dnsserver.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func startRegion(t *testing.T) *transferRegion {
	t.Helper()
	r := new(transferRegion)
	r.holds.Store(true)
	r.least.Store(-1)
	st, part := storetest.Open(t, storetest.Options(t, t.TempDir()))
	r.st = st
	var l storetest.Log
	l.Add(t, storetest.Create("example.org.", storetest.Set("www.example.org.", 60, zones.TypeA, "192.0.2.1")))
	l.Add(t, storetest.Create("secret.org."))
	l.Add(t, storetest.Put("example.org.", storetest.Set("www.example.org.", 60, zones.TypeA, "192.0.2.2")))
	if _, err := part.Apply(l.Records); err != nil {
		t.Fatal(err)
	}
	access := toAddr{netip.MustParseAddr("127.0.0.1")}
	r.server = startDNS(t, dnsserver.Options{Zones: st, Contents: st, Access: access})
	r.front = startDNS(t, dnsserver.Options{Zones: allElsewhere{st}, Contents: st, Access: toAddr{}, DistantTransfers: distantTransfers{r}})
	rest := http.NotFoundHandler()
	peer := httptest.NewTLSServer(peerCalls(rest, r, r.server, nil, hostedZones{}))
	t.Cleanup(peer.Close)
	empty := httptest.NewTLSServer(rest) // a node that is asked first, and knows nothing of transfers
	t.Cleanup(empty.Close)
	r.peers.Store(&[]*httptest.Server{empty, peer})
	return r
}

// ask asks over TCP or UDP.
func (r *transferRegion) ask(t *testing.T, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	m.SetEdns0(1232, false)
	client := &dns.Client{Net: network, Timeout: 20 * time.Second}
	reply, _, err := client.Exchange(m, r.front.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// TestTransfersBetweenNodes: a zone that another node has is transferred as that node says.
func TestTransfersBetweenNodes(t *testing.T) {
	r := startRegion(t)
	axfr := func(apex string) *dns.Msg { return new(dns.Msg).SetAxfr(apex) }
	ixfr := func(serial uint32) *dns.Msg { return new(dns.Msg).SetIxfr("example.org.", serial, ".", ".") }
	for _, tt := range []struct {
		network string
		query   *dns.Msg
		records int
	}{{"tcp", axfr("example.org."), 5}, {"tcp", ixfr(1), 6}, {"tcp", ixfr(2), 1}, {"udp", ixfr(1), 6}} {
		m := r.ask(t, tt.network, tt.query)
		if m.Rcode != 0 || len(m.Answer) != tt.records || m.IsEdns0() == nil || m.Id != tt.query.Id {
			t.Errorf("%s: %v", tt.network, m)
		}
	}
	if r.saw.Load() != 2 {
		t.Errorf("it has seen offset %d", r.saw.Load())
	}
	m := r.ask(t, "tcp", axfr("secret.org."))
	if m.Rcode != dns.RcodeRefused || !slices.ContainsFunc(m.IsEdns0().Option, func(o dns.EDNS0) bool {
		e, ok := o.(*dns.EDNS0_EDE)
		return ok && e.InfoCode == dns.ExtendedErrorCodeProhibited
	}) {
		t.Errorf("%v", m)
	}
	if m := r.ask(t, "tcp", axfr("unknown.org.")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	r.least.Store(3) // this node has answered from there, and the other is not as far
	if m := r.ask(t, "tcp", axfr("example.org.")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	r.least.Store(2)
	r.holds.Store(false)
	if m := r.ask(t, "tcp", axfr("example.org.")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	r.holds.Store(true)
	r.peers.Store(&[]*httptest.Server{})
	if m := r.ask(t, "tcp", axfr("example.org.")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
}

// TestPassedTransfersAreRead: what is no request of a node is not answered.
func TestPassedTransfersAreRead(t *testing.T) {
	r := startRegion(t)
	query, err := new(dns.Msg).SetAxfr("example.org.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string]string{
		partitionHeader: "0", leastHeader: "-1", clientHeader: "127.0.0.1", keyHeader: "", roomHeader: "0", onlyHeader: "0",
	}
	for name, value := range map[string]string{
		"": "", partitionHeader: "x", leastHeader: "", clientHeader: "nowhere", keyHeader: "%zz", roomHeader: "2000", onlyHeader: "-1", "query": "nothing",
	} {
		body := string(query)
		if name == "query" {
			body = value
		}
		req := httptest.NewRequest(http.MethodPost, transferPath, strings.NewReader(body))
		for h, v := range whole {
			if h == name {
				v = value
			}
			req.Header.Set(h, v)
		}
		w := httptest.NewRecorder()
		passedTransfers{r, r.server}.ServeHTTP(w, req)
		if right := name == ""; right != (w.Code == http.StatusOK) {
			t.Errorf("%s %q: status %d %s", name, value, w.Code, w.Body)
		}
	}
}
