package dnsserver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"balefire/dnsserver/answercache"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"balefire/replication/porttest"
	"balefire/zones"
)

// gather returns the metrics as a scrape would see them, keyed by name{label="value"}.
func gather(t testing.TB, s *Server) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetName() + "=\"" + l.GetValue() + "\"}"
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// TestBatches sends more at once than fits a batch, to several workers: each query is answered, once.
func TestBatches(t *testing.T) {
	const n, window = 600, 100 // more than a window would overflow the client's own socket
	s := start(t, Options{Workers: 3})
	c := dial(t, "udp", s.testAddr())
	seen := make(map[uint16]bool)
	for i := range n {
		q := question("www.example.com.", dns.TypeA)
		q.Id = uint16(i)
		c.send(pack(t, q))
		if (i+1)%window != 0 {
			continue
		}
		for range window {
			m := c.receiveMsg()
			if seen[m.Id] || len(m.Answer) != 2 {
				t.Fatalf("unexpected %v", m)
			}
			seen[m.Id] = true
		}
	}
	// A batch is counted after it is sent: Shutdown waits for that.
	stop(t, s)
	got := gather(t, s)
	for name, want := range map[string]float64{
		`balefire_dns_queries_total{transport="udp"}`:  n,
		`balefire_dns_queries_by_type_total{type="A"}`: n,
		`balefire_dns_replies_total{rcode="NOERROR"}`:  n,
		`balefire_dns_queries_edns_total`:              0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if b := got["balefire_dns_batches_total"]; b == 0 || b > n {
		t.Errorf("%v batches", b)
	}
}

func stop(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestWildcardAddresses: on a socket bound to no address, the answer comes from the one that was asked;
// a connected UDP socket gets no other.
func TestWildcardAddresses(t *testing.T) {
	for _, tt := range []struct {
		listen string
		asked  []string
	}{
		{"0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}},
		{"[::]:0", []string{"::1"}},
		{":0", []string{"::1", "127.0.0.1", "127.0.0.7"}},
		{"127.0.0.9:0", []string{"127.0.0.9"}},
		{"[::1]:0", []string{"::1"}},
	} {
		h := newHosted(t)
		release := h.wait("a.slow.example.com.")
		release()
		s := start(t, Options{Listen: []string{tt.listen}, Zones: h})
		for _, asked := range tt.asked {
			address := netip.AddrPortFrom(netip.MustParseAddr(asked), s.Addrs()[0].Port()).String()
			for _, network := range []string{"udp", "tcp"} {
				c := dial(t, network, address)
				if m := c.ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
					t.Errorf("%s asked at %s: %v", tt.listen, asked, m)
				}
				if m := c.ask(question("a.slow.example.com.", dns.TypeA)); m.Rcode != dns.RcodeNameError {
					t.Errorf("%s asked at %s, slow lane: %v", tt.listen, asked, m)
				}
			}
		}
	}
}

// TestBothFamilies: one port, on all addresses of IPv4 and on all of IPv6, said apart.
func TestBothFamilies(t *testing.T) {
	h, free := newHosted(t), porttest.Free(t, "") // which begins with the colon
	start(t, Options{Zones: h, Listen: []string{"0.0.0.0" + free}})
	start(t, Options{Zones: h, Listen: []string{"[::]" + free}})
}

// TestSlowLane: what waits for a disk holds up nothing else, and what finds no room is dropped.
func TestSlowLane(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h, SlowWorkers: 1})
	c := dial(t, "udp", s.testAddr())
	slow := question("a.slow.example.com.", dns.TypeA)
	const sent = jobsPerWorker + 3
	for range sent {
		c.send(pack(t, slow))
	}
	<-h.waiting
	if m := c.ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("beside the slow ones: %v", m)
	}
	release()
	for range jobsPerWorker {
		if m := c.receiveMsg(); m.Id != slow.Id || m.Rcode != dns.RcodeNameError {
			t.Errorf("slow: %v", m)
		}
	}
	stop(t, s)
	got := gather(t, s)
	if got["balefire_dns_slow_lane_total"] != jobsPerWorker || got[`balefire_dns_dropped_total{reason="slow-lane-full"}`] != sent-jobsPerWorker {
		t.Errorf("put off %v, dropped %v", got["balefire_dns_slow_lane_total"], got[`balefire_dns_dropped_total{reason="slow-lane-full"}`])
	}
	if got[`balefire_dns_queries_total{transport="udp"}`] != sent+1 {
		t.Errorf("%v queries, want %d: none counted twice", got[`balefire_dns_queries_total{transport="udp"}`], sent+1)
	}
}

// TestShutdown answers what was read, over UDP and TCP, and leaves nothing open.
func TestShutdown(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h, Listen: []string{porttest.Free(t, "127.0.0.1")}, Workers: 2, Settings: Settings{TCP: TCPSettings{Idle: time.Hour}}})
	slow := pack(t, question("a.slow.example.com.", dns.TypeA))
	udp, tcp, idle := dial(t, "udp", s.testAddr()), dial(t, "tcp", s.testAddr()), dial(t, "tcp", s.testAddr())
	idle.ask(question("www.example.com.", dns.TypeA))
	udp.send(slow)
	tcp.send(slow)
	<-h.waiting
	<-h.waiting
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	if b, err := idle.tryReceive(); err == nil {
		t.Errorf("the idle connection should end: %x", b)
	}
	release()
	for _, c := range []*wireConn{udp, tcp} {
		if m := c.receiveMsg(); m.Rcode != dns.RcodeNameError {
			t.Errorf("after shutdown began: %v", m)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(context.Background()); err != ErrStopped {
		t.Errorf("a second shutdown: %v", err)
	}
	again := start(t, Options{Zones: h, Listen: []string{s.testAddr()}}) // the port is free
	if m := dial(t, "udp", again.testAddr()).ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("%v", m)
	}
}

// TestShutdownCut: a query that never ends is cut off when the context ends.
func TestShutdownCut(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h})
	c := dial(t, "tcp", s.testAddr())
	c.send(pack(t, question("a.slow.example.com.", dns.TypeA)))
	<-h.waiting
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != context.Canceled {
		t.Errorf("shutdown: %v", err)
	}
	if b, err := c.tryReceive(); err == nil {
		t.Errorf("got %x", b)
	}
	release()
}

func TestStartFails(t *testing.T) {
	h := newHosted(t)
	s := start(t, Options{Zones: h})
	for name, listen := range map[string][]string{
		"taken":         {"127.0.0.1:0", s.testAddr()},
		"no address":    {"localhost"},
		"unknown port":  {"127.0.0.1:ports"},
		"not ours":      {"192.0.2.1:0"},
		"taken for UDP": {udpOnly(t)},
	} {
		other, err := New(Options{Zones: h, Listen: listen, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err == nil {
			t.Errorf("%s: started", name)
		}
		if err := other.Shutdown(context.Background()); err != ErrStopped {
			t.Errorf("%s: shutdown: %v", name, err)
		}
	}
	if m := dial(t, "udp", s.testAddr()).ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("the first server: %v", m)
	}
}

// udpOnly returns an address whose UDP port is taken.
func udpOnly(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func TestSettingsAreChecked(t *testing.T) {
	good := Options{Zones: newHosted(t), Listen: []string{"127.0.0.1:0"}}
	s, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	before := s.settings.Load()
	for name, bad := range map[string]Settings{
		"UDP size small": {UDPSize: 511}, "UDP size large": {UDPSize: 4097}, "NSID": {NSID: strings.Repeat("x", 65)},
		"identity": {Identity: strings.Repeat("x", 256)}, "version": {Version: strings.Repeat("x", 256)},
		"secrets": {CookieSecrets: make([]CookieSecret, 5)}, "rate": {RateLimit: RateLimit{PerSecond: -1}},
		"burst": {RateLimit: RateLimit{PerSecond: 1, Burst: 2_000_000}}, "exempt": {RateLimit: RateLimit{Exempt: make([]netip.Prefix, 65)}},
		"TCP": {TCP: TCPSettings{Idle: -1}},
	} {
		if err := s.SetSettings(bad); err == nil || s.settings.Load() != before {
			t.Errorf("%s: accepted", name)
		}
		opts := good
		opts.Settings = bad
		if _, err := New(opts); err == nil {
			t.Errorf("%s: accepted at the start", name)
		}
	}
	if _, err := New(Options{Listen: good.Listen}); err == nil {
		t.Error("no zones: accepted")
	}
	if _, err := New(Options{Zones: good.Zones}); err == nil {
		t.Error("no address: accepted")
	}
}

// TestHidden: what is not set is not told.
func TestHidden(t *testing.T) {
	s := start(t, Options{})
	c := dial(t, "udp", s.testAddr())
	for _, name := range []string{"id.server.", "hostname.bind.", "version.server.", "version.bind."} {
		m := question(name, dns.TypeTXT)
		m.Question[0].Qclass = dns.ClassCHAOS
		if m = c.ask(m); m.Rcode != dns.RcodeRefused || len(m.Answer) != 0 {
			t.Errorf("row 44: %s: %v", name, m)
		}
	}
	if m := c.ask(withEDNS(question("www.example.com.", dns.TypeA), 1232, false, &dns.EDNS0_NSID{})); len(m.IsEdns0().Option) != 0 {
		t.Errorf("NSID: %v", m)
	}
}

// TestMetricsAreClosed: labels come from closed sets, whatever is asked.
func TestMetricsAreClosed(t *testing.T) {
	s := start(t, Options{})
	before := gather(t, s)
	c := dial(t, "udp", s.testAddr())
	for _, qtype := range []uint16{1, 28, 255, 257, 258, 65280, 65535} {
		c.ask(question("www.example.com.", qtype))
	}
	for _, odd := range oddPackets(t) {
		c.send(odd.packet)
	}
	c.ask(question("example.org.", dns.TypeA))
	if after := gather(t, s); len(after) != len(before) {
		t.Errorf("%d series became %d", len(before), len(after))
	}
}

// TestServeDoesNotAllocate: a common query from packet to packet, its zone in memory.
func TestServeDoesNotAllocate(t *testing.T) {
	x, queries := warm(t)
	from := netip.MustParseAddr("192.0.2.1")
	out := make([]byte, 0, 4096)
	for name, packet := range queries {
		if reply, later := x.serve(packet, from, out); later || len(reply) == 0 {
			t.Fatalf("%s: no reply", name)
		}
		if n := testing.AllocsPerRun(200, func() { x.serve(packet, from, out); x.flush() }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// warm returns an exchange with cookies and rate limiting on, and common queries.
func warm(t testing.TB) (*exchange, map[string][]byte) {
	t.Helper()
	s, err := New(Options{Zones: newHosted(t), Listen: []string{"127.0.0.1:0"}, Settings: Settings{
		CookieSecrets: []CookieSecret{{1}}, RateLimit: RateLimit{PerSecond: 1_000_000}, NSID: "node",
	}})
	if err != nil {
		t.Fatal(err)
	}
	x := s.newExchange()
	x.begin()
	return x, map[string][]byte{
		"positive":   pack(t, question("www.example.com.", dns.TypeA)),
		"edns":       pack(t, withEDNS(question("www.example.com.", dns.TypeA), 1232, true)),
		"cookie":     pack(t, withCookie(question("www.example.com.", dns.TypeA), clientCookie)),
		"nxdomain":   pack(t, question("nothing.example.com.", dns.TypeA)),
		"cname":      pack(t, question("alias.example.com.", dns.TypeA)),
		"wildcard":   pack(t, question("a.wild.example.com.", dns.TypeTXT)),
		"referral":   pack(t, question("www.child.example.com.", dns.TypeA)),
		"not hosted": pack(t, question("example.org.", dns.TypeA)),
	}
}

func BenchmarkServe(b *testing.B) {
	x, queries := warm(b)
	x.settings.rate = rate{} // the clock stands still, so a limit would be reached
	from := netip.MustParseAddr("192.0.2.1")
	out := make([]byte, 0, 4096)
	for name, packet := range queries {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.serve(packet, from, out)
			}
		})
	}
	// What a random name costs, that has its answer in common with others.
	x.cache = answercache.New(answercache.MinSize)
	for _, name := range []string{"wildcard", "referral", "nxdomain"} {
		b.Run("shared-"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.hash += 1 << 20 // as if never asked before
				x.serve(queries[name], from, out)
			}
		})
	}
}

var _ Zones = (*hosted)(nil)

// TestShutdownUnderLoad: a server that is asked without a pause stops all the same.
func TestShutdownUnderLoad(t *testing.T) {
	s := start(t, Options{Workers: 2})
	ctx, cancel := context.WithCancel(context.Background())
	var flood sync.WaitGroup
	for range 4 {
		c := dial(t, "udp", s.testAddr())
		q := pack(t, question("www.example.com.", dns.TypeA))
		flood.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.Write(q) // refused, once the server is gone
			}
		})
	}
	stop(t, s)
	cancel()
	flood.Wait()
}

// TestViewsAreReleased: what was found is given up with the answer.
func TestViewsAreReleased(t *testing.T) {
	x, queries := warm(t)
	x.serve(queries["positive"], netip.MustParseAddr("192.0.2.1"), nil)
	if x.held || x.holding.View != nil {
		t.Error("the view is still held")
	}
	if x.query.Name != zones.MustParseName("www.example.com.") {
		t.Errorf("name %v", x.query.Name)
	}
}
