package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"balefire/dnsserver/transfer"
	"balefire/dnsserver/tsig"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// everybody may do everything.
type everybody struct{}

func (everybody) Allows(zones.Deed, zones.Name, zones.ZoneSettings, zones.Name, netip.Addr) bool {
	return true
}

func (everybody) Grants(_ zones.Name, settings zones.ZoneSettings) []zones.Grant {
	return settings.Grants
}

// primary is a server of what a log makes.
type primary struct {
	*Server
	t     testing.TB
	store *store.Store
	part  *store.Partition
	log   storetest.Log
}

func startPrimary(t testing.TB, opts Options) *primary {
	t.Helper()
	p := &primary{t: t}
	stored := storetest.Options(t, t.TempDir())
	stored.HotBytes = 1 << 20 // large zones stay on the disk
	p.store, p.part = storetest.Open(t, stored)
	opts.Zones, opts.Contents = p.store, p.store
	if opts.Access == nil {
		opts.Access = everybody{}
	}
	p.Server = startTLS(t, opts)
	return p
}

// apply applies change sets, none of which is to be rejected.
func (p *primary) apply(all ...*zones.ChangeSet) {
	p.t.Helper()
	from := int64(len(p.log.Records))
	for _, cs := range all {
		p.log.Add(p.t, cs)
	}
	outcomes, err := p.part.Apply(p.log.From(from))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Rejection != nil {
			p.t.Fatalf("%s: %v", o.Zone, o.Rejection)
		}
	}
}

// www changes the address of www in a zone.
func (p *primary) www(apex string, n int) {
	p.t.Helper()
	p.apply(storetest.Put(apex, storetest.Set("www."+apex, 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", n))))
}

func (p *primary) serial(apex string) uint32 {
	p.t.Helper()
	z, err := p.store.Zone(zones.MustParseName(apex))
	if err != nil {
		p.t.Fatal(err)
	}
	return uint32(z.Serial)
}

// heavy makes a zone of so many RRsets of 8 KiB. Reading them as text would take most of a test's time.
func (p *primary) heavy(apex string, n int) {
	p.t.Helper()
	sets := storetest.Apex(apex, 1)
	text := storetest.Set("h."+apex, 60, zones.TypeTXT, strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 32)))
	for i := range n {
		s, err := zones.NewRRset(zones.MustParseName(fmt.Sprintf("h%05d.%s", i, apex)), zones.TypeTXT, 60, text.First())
		if err != nil {
			p.t.Fatal(err)
		}
		sets = append(sets, s)
	}
	p.apply(storetest.Stage(apex, p.log.NextID(), sets, 20)...)
}

func axfr(apex string) *dns.Msg { return question(apex, dns.TypeAXFR) }

func ixfr(apex string, serial uint32) *dns.Msg {
	return new(dns.Msg).SetIxfr(apex, serial, "ns1.test.", "hostmaster.test.")
}

// receiveTransfer reads the messages of a transfer to their end, and returns the records.
func (c *wireConn) receiveTransfer() []dns.RR {
	c.t.Helper()
	all, err := c.tryReceiveTransfer(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

// tryReceiveTransfer gives others what belongs to another query.
func (c *wireConn) tryReceiveTransfer(others func(*dns.Msg)) (all []dns.RR, err error) {
	var id uint16
	for first := true; ; {
		b, err := c.tryReceive()
		if err != nil {
			return all, err
		}
		m := unpack(c.t, b)
		if first {
			id, first = m.Id, false
		}
		if m.Id != id {
			others(m)
			continue
		}
		if m.Rcode != dns.RcodeSuccess {
			return all, fmt.Errorf("%s after %d records", dns.RcodeToString[m.Rcode], len(all))
		}
		all = append(all, m.Answer...)
		if transferEnded(all) {
			return all, nil
		}
	}
}

// transferEnded reports whether the records are all of a transfer.
func transferEnded(all []dns.RR) bool {
	soas := 0
	for _, rr := range all {
		if rr.Header().Rrtype == dns.TypeSOA && rr.(*dns.SOA).Serial == all[0].(*dns.SOA).Serial {
			soas++
		}
	}
	if len(all) == 1 {
		return true // the SOA alone, which no test's whole zone begins with in a message of its own
	}
	if all[1].Header().Rrtype == dns.TypeSOA {
		return soas == 3
	}
	return soas == 2
}

// content is what a transfer of the zone has to bring, by text.
func (p *primary) content(apex string) []string {
	p.t.Helper()
	r, err := p.store.Read(zones.MustParseName(apex))
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	var all []string
	for s, err := range r.All(p.t.Context()) {
		if err != nil {
			p.t.Fatal(err)
		}
		for rdata := range s.RDatas() {
			b := append([]byte(s.Owner), 0, byte(s.Type), 0, 1)
			b[len(s.Owner)] = byte(s.Type >> 8)
			b = binary.BigEndian.AppendUint32(b, s.TTL)
			b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
			rr, _, err := dns.UnpackRR(append(b, rdata...), 0)
			if err != nil {
				p.t.Fatal(err)
			}
			all = append(all, rr.String())
		}
	}
	slices.Sort(all)
	return all
}

// wantZone compares a whole zone with what is stored.
func (p *primary) wantZone(apex string, got []dns.RR) {
	p.t.Helper()
	if len(got) < 3 || got[0].Header().Rrtype != dns.TypeSOA || got[0].String() != got[len(got)-1].String() {
		p.t.Fatalf("not a zone: %d records", len(got))
	}
	var all []string
	for _, rr := range got[1:] {
		all = append(all, rr.String())
	}
	slices.Sort(all)
	if want := p.content(apex); !slices.Equal(all, want) {
		p.t.Fatalf("%d records %.500q\nwant %d %.500q", len(all), all, len(want), want)
	}
}

// moved returns the value of a counter or gauge.
func metricOf(t testing.TB, s *Server, name string, labels ...string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "balefire_dns_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s%v", name, labels)
	return 0
}

// await waits until a condition holds that nothing tells of.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(waitLimit)
	defer late.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// within has something done that might never end.
func within(t testing.TB, what string, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(waitLimit):
		stacks := make([]byte, 1<<20)
		t.Fatalf("not in time: %s\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

func (p *primary) dial(network string) *wireConn {
	p.t.Helper()
	if network == "tls" {
		c := dialTLS(p.t, p.Server, nil)
		return c
	}
	return dial(p.t, network, p.testAddr())
}

// TestTransferForms: who asks gets the whole zone, what has changed, or the SOA alone.
func TestTransferForms(t *testing.T) {
	p := startPrimary(t, Options{})
	var more []zones.RRset
	for i := range 40 {
		more = append(more, storetest.Set(fmt.Sprintf("h%d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	p.apply(storetest.Create("example.org.", more...))
	first := p.serial("example.org.")
	for i := range 9 {
		p.www("example.org.", i+1)
	}
	p.apply(storetest.Change("example.org.", zones.OpDeleteRRset{Owner: zones.MustParseName("h7.example.org."), Type: zones.TypeA}))
	now := p.serial("example.org.")
	for _, network := range []string{"tcp", "tls"} {
		c := p.dial(network)
		c.send(pack(t, axfr("example.org.")))
		p.wantZone("example.org.", c.receiveTransfer())

		for _, have := range []uint32{now, now + 1} { // RFC 1995 §2
			c.send(pack(t, ixfr("example.org.", have)))
			if got := c.receiveTransfer(); len(got) != 1 || got[0].(*dns.SOA).Serial != now {
				t.Errorf("%s: who has serial %d gets %v", network, have, got)
			}
		}
		c.send(pack(t, ixfr("example.org.", now-2)))
		got := c.receiveTransfer()
		want := []string{"SOA 11", "SOA 9", "h7", "www 192.0.2.8", "SOA 11", "www 192.0.2.9", "SOA 11"}
		if text := shorts(got); !slices.Equal(text, want) {
			t.Errorf("%s: two steps are %v, want %v", network, text, want)
		}
		c.send(pack(t, ixfr("example.org.", first)))
		want = []string{"SOA 11", "SOA 1", "h7", "SOA 11", "www 192.0.2.9", "SOA 11"}
		if text := shorts(c.receiveTransfer()); !slices.Equal(text, want) {
			t.Errorf("%s: all steps are %v, want %v", network, text, want)
		}
		c.send(pack(t, ixfr("example.org.", first-1))) // of which nothing is known
		p.wantZone("example.org.", c.receiveTransfer())
	}
	p.apply(storetest.Change("example.org.", zones.OpReplaceZone{RRsets: storetest.Apex("example.org.", 50)}))
	c := p.dial("tcp")
	c.send(pack(t, ixfr("example.org.", now))) // it was made anew
	p.wantZone("example.org.", c.receiveTransfer())
	now = p.serial("example.org.")
	p.www("example.org.", 1)
	c.send(pack(t, ixfr("example.org.", now))) // a zone of three records: one more is no more than it
	before, after := fmt.Sprintf("SOA %d", now), fmt.Sprintf("SOA %d", now+1)
	if text, want := shorts(c.receiveTransfer()), []string{after, before, after, "www 192.0.2.1", after}; !slices.Equal(text, want) {
		t.Errorf("a step of a small zone is %v, want %v", text, want)
	}
	var fill []zones.RRset
	for i := range 20 {
		fill = append(fill, storetest.Set(fmt.Sprintf("f%d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	now = p.serial("example.org.")
	p.apply(storetest.Put("example.org.", fill...))
	drop := storetest.Change("example.org.")
	for _, s := range fill[1:] {
		drop.Ops = append(drop.Ops, zones.OpDeleteRRset{Owner: s.Owner, Type: zones.TypeA})
	}
	last := p.serial("example.org.")
	p.apply(drop)
	c.send(pack(t, ixfr("example.org.", last))) // more was removed than is left
	p.wantZone("example.org.", c.receiveTransfer())
	c.send(pack(t, ixfr("example.org.", now))) // but not since then
	if text := shorts(c.receiveTransfer()); len(text) != 5 {
		t.Errorf("condensed to %v", text)
	}
}

// shorts are records in few words.
func shorts(all []dns.RR) (texts []string) {
	for _, rr := range all {
		switch rr := rr.(type) {
		case *dns.SOA:
			texts = append(texts, fmt.Sprintf("SOA %d", rr.Serial))
		case *dns.A:
			name, _, _ := strings.Cut(rr.Hdr.Name, ".")
			if name == "www" {
				name += " " + rr.A.String()
			}
			texts = append(texts, name)
		default:
			texts = append(texts, rr.String())
		}
	}
	return texts
}

// TestTransferUDP: over UDP there is what has changed, if it fits, or the SOA alone, and never a zone.
func TestTransferUDP(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{NSID: "node"}})
	more := []zones.RRset{storetest.Set("www.example.org.", 60, zones.TypeA, "192.0.2.99"), storetest.Set("fat.example.org.", 60, zones.TypeTXT, strings.Repeat(`"`+strings.Repeat("y", 250)+`" `, 4))}
	for i := range 100 {
		more = append(more, storetest.Set(fmt.Sprintf("h%d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	p.apply(storetest.Create("example.org.", more...))
	p.www("example.org.", 1)
	p.apply(storetest.Put("example.org.", storetest.Set("fat.example.org.", 60, zones.TypeTXT, strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 4))))
	p.www("example.org.", 2)
	c := p.dial("udp")
	ask := func(serial uint32, size uint16) *dns.Msg {
		t.Helper()
		m := c.ask(withEDNS(ixfr("example.org.", serial), size, false, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}))
		if opt := m.IsEdns0(); m.Rcode != 0 || !m.Authoritative || m.Truncated || opt == nil || len(opt.Option) != 1 {
			t.Fatalf("%v", m)
		}
		return m
	}
	if text, want := shorts(ask(3, 512).Answer), []string{"SOA 4", "SOA 3", "www 192.0.2.1", "SOA 4", "www 192.0.2.2", "SOA 4"}; !slices.Equal(text, want) {
		t.Errorf("%v, want %v", text, want)
	}
	for _, serial := range []uint32{0, 2, 4, 5, 77} { // too much, nothing, the future, the unknown
		if text := shorts(ask(serial, 1232).Answer); !slices.Equal(text, []string{"SOA 4"}) {
			t.Errorf("from %d: %v", serial, text)
		}
	}
	if m := c.ask(axfr("example.org.")); m.Rcode != dns.RcodeNotImplemented {
		t.Errorf("AXFR over UDP: %v", m)
	}
	// Who asks over UDP may be somebody else: for that, no long history is read, however little it comes to.
	for i := range 2 * maxChangesUDP {
		p.www("example.org.", 3+i%2)
	}
	now := p.serial("example.org.")
	if text := shorts(ask(now-maxChangesUDP+1, 1232).Answer); len(text) != 6 {
		t.Errorf("from some changes before: %v", text)
	}
	if text := shorts(ask(now-maxChangesUDP-1, 1232).Answer); len(text) != 1 {
		t.Errorf("from long before: %v", text)
	}
	if all := p.dial("tcp").ask(ixfr("example.org.", now-maxChangesUDP-1)).Answer; len(all) != 6 {
		t.Errorf("over TCP: %v", all)
	}
}

// TestWhoMayTransfer: by the grants of the zone, and what becomes of the others.
func TestWhoMayTransfer(t *testing.T) {
	access := &grantsTo{may: true}
	p := startPrimary(t, Options{Access: access})
	p.apply(storetest.Create("example.org."), storetest.Create("secret.org."))
	access.not = zones.MustParseName("secret.org.")
	tests := []struct {
		what    string
		query   *dns.Msg
		network string
		rcode   int
		ede     int
	}{
		{"not granted", axfr("secret.org."), "tcp", dns.RcodeRefused, 18},
		{"not granted", axfr("secret.org."), "tls", dns.RcodeRefused, 18},
		{"not granted", ixfr("secret.org.", 1), "tcp", dns.RcodeRefused, 18},
		{"not granted", ixfr("secret.org.", 1), "udp", dns.RcodeRefused, 18},
		{"not hosted", axfr("example.net."), "tcp", dns.RcodeNotAuth, 20},
		{"no apex", axfr("www.example.org."), "tcp", dns.RcodeNotAuth, 20},
		{"over UDP", axfr("example.org."), "udp", dns.RcodeNotImplemented, -1},
		{"no serial", question("example.org.", dns.TypeIXFR), "tcp", dns.RcodeFormatError, -1},
		{"no serial", question("example.org.", dns.TypeIXFR), "udp", dns.RcodeFormatError, -1},
	}
	for _, tt := range tests {
		c := p.dial(tt.network)
		m := c.ask(withEDNS(tt.query, 1232, false))
		if m.Rcode != tt.rcode || ede(m) != tt.ede || len(m.Answer) != 0 {
			t.Errorf("%s over %s: %v", tt.what, tt.network, m)
		}
	}
	if n := metricOf(t, p.Server, "transfers_refused_total"); n != 4 {
		t.Errorf("%v were refused, they say", n)
	}
	if got := access.asked(); got != "127.0.0.1" {
		t.Errorf("asked for %s", got)
	}
	within(t, "the partition is closed", p.part.Close)
	if m := p.dial("tcp").ask(axfr("example.org.")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a zone that can't be read: %v", m)
	}
}

type grantsTo struct {
	may bool
	not zones.Name

	mu   sync.Mutex
	from netip.Addr
}

func (g *grantsTo) Allows(d zones.Deed, apex zones.Name, _ zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.from = from
	return g.may && d == zones.DeedTransfer && apex != g.not && key == ""
}

func (*grantsTo) Grants(_ zones.Name, settings zones.ZoneSettings) []zones.Grant {
	return settings.Grants
}

func (g *grantsTo) asked() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.from.String()
}

// TestNobodyTransfersUnlessAllowed: neither without an Access, nor without grants.
func TestNobodyTransfersUnlessAllowed(t *testing.T) {
	st, part := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example.org."))
	if _, err := part.Apply(l.Records); err != nil {
		t.Fatal(err)
	}
	for _, access := range []Access{nil, Grants{}} {
		s := start(t, Options{Zones: st, Contents: st, Access: access})
		if m := dial(t, "tcp", s.testAddr()).ask(axfr("example.org.")); m.Rcode != dns.RcodeRefused {
			t.Errorf("%v: %v", access, m)
		}
	}
	settings := zones.ZoneSettings{Grants: []zones.Grant{
		{Deeds: zones.DeedUpdate, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		{Deeds: zones.DeedTransfer, Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
	}}
	for from, want := range map[string]bool{"192.0.2.1": false, "198.51.100.1": true} {
		if got := (Grants{}).Allows(zones.DeedTransfer, zones.MustParseName("example.org."), settings, "", netip.MustParseAddr(from)); got != want {
			t.Errorf("%s may transfer: %v", from, got)
		}
	}
}

// TestTransferBesideQueries: a client that takes a large zone slowly, over a connection, gets answers to other queries meanwhile.
func TestTransferBesideQueries(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Idle: waitLimit, Write: waitLimit}}})
			p.heavy("example.org.", 1000) // more than the kernel takes
			p.www("example.org.", 1)
			c := p.dial(network)
			c.send(pack(t, axfr("example.org.")))
			await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() > maxPendingConn })
			q := question("www.example.org.", dns.TypeA)
			c.send(pack(t, q))
			await(t, "the query is answered, though the client takes nothing", func() bool {
				return metricOf(t, p.Server, "queries_total", network) == 2
			})
			second := axfr("example.org.")
			c.send(pack(t, second))
			var order []string
			var other []dns.RR
			got, err := c.tryReceiveTransfer(func(m *dns.Msg) {
				if m.Id == q.Id {
					order = append(order, "answer")
					if len(m.Answer) != 1 {
						t.Errorf("%v", m)
					}
					return
				}
				other = append(other, m.Answer...)
			})
			if err != nil {
				t.Fatal(err)
			}
			if order = append(order, "zone"); order[0] != "answer" {
				t.Error("the answer came after the zone")
			}
			p.wantZone("example.org.", got)
			for len(other) == 0 || !transferEnded(other) {
				m := c.receiveMsg()
				if m.Id != second.Id {
					t.Fatalf("%v", m.MsgHdr)
				}
				other = append(other, m.Answer...)
			}
			p.wantZone("example.org.", other)
			c.send(pack(t, q)) // and the connection is as it was
			if m := c.receiveMsg(); len(m.Answer) != 1 {
				t.Errorf("%v", m)
			}
			if n := metricOf(t, p.Server, "transfers_total", "zone"); n != 2 {
				t.Errorf("%v transfers", n)
			}
		})
	}
}

// TestTransferToWhoDoesNotRead: it is cut, its place is free again, and little was kept for it meanwhile.
func TestTransferToWhoDoesNotRead(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			p := startPrimary(t, Options{Transfers: 1, Settings: Settings{TCP: TCPSettings{Write: 20 * time.Millisecond}}})
			p.heavy("example.org.", 1000)
			c := p.dial(network)
			c.send(pack(t, axfr("example.org.")))
			var most int64
			await(t, "the client is cut", func() bool {
				most = max(most, p.tcp.pending.Load())
				return p.tcp.cut.Load() == 1
			})
			if most > 2*maxPendingConn {
				t.Errorf("%d octets were kept for the client", most)
			}
			await(t, "the transfer is over", func() bool { return metricOf(t, p.Server, "transfers_failed_total", "no") == 1 })
			await(t, "nothing is kept", func() bool { return p.tcp.pending.Load() == 0 && p.tcp.open() == 0 })
			if n := metricOf(t, p.Server, "transfers", "running"); n != 0 {
				t.Errorf("%v run", n)
			}
			p.mustSet(t, Settings{})
			c = p.dial(network) // and others are served
			c.send(pack(t, axfr("example.org.")))
			p.wantZone("example.org.", c.receiveTransfer())
		})
	}
}

// TestManyTransfers: of a thousand clients at once each gets the zone whole, though few of them at the same time, or, when its turn does not come soon, is told so; and
// queries are answered meanwhile.
func TestManyTransfers(t *testing.T) {
	const clients, records = 1000, 500
	p := startPrimary(t, Options{Transfers: 3, Settings: Settings{TCP: TCPSettings{PerNetwork: 2 * clients, Idle: waitLimit, Write: waitLimit}}})
	var more []zones.RRset
	for i := range records {
		more = append(more, storetest.Set(fmt.Sprintf("h%d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	p.apply(storetest.Create("example.org.", more...))
	conns := make([]*wireConn, clients)
	for i := range conns {
		conns[i] = p.dial("tcp")
	}
	query := pack(t, axfr("example.org."))
	for _, c := range conns {
		c.send(query)
	}
	var most float64
	whole, refused := 0.0, 0.0
	asks := p.dial("udp")
	for i, c := range conns {
		if i%100 == 0 {
			most = max(most, metricOf(t, p.Server, "transfers", "running"))
			if m := asks.ask(question("h7.example.org.", dns.TypeA)); len(m.Answer) != 1 {
				t.Fatalf("%v", m)
			}
		}
		got, err := c.tryReceiveTransfer(nil)
		switch {
		case err == nil && len(got) == records+4:
			whole++
		case err != nil && err.Error() == "SERVFAIL after 0 records":
			refused++
		default:
			t.Fatalf("client %d gets %d records: %v", i, len(got), err)
		}
	}
	if most > 3 {
		t.Errorf("%v at once", most)
	}
	if n := metricOf(t, p.Server, "transfers_total", "zone"); n != whole || whole < 3 {
		t.Errorf("%v have it whole, and %v transfers", whole, n)
	}
	if n := metricOf(t, p.Server, "transfers_failed_total", "yes"); n != refused {
		t.Errorf("%v were refused, and %v transfers too many", refused, n)
	}
	if m := metricOf(t, p.Server, "transfers", "waiting"); m != 0 {
		t.Errorf("%v wait", m)
	}
}

// TestTransferLane: who waits for too long, or among too many, is told; and waiting ends with the server.
func TestTransferLane(t *testing.T) {
	var l transferLane
	l.init(1)
	if err := l.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := l.enter(ctx); !errors.Is(err, gone) {
		t.Errorf("whose context ended: %v", err)
	}
	results := make(chan error, transfersWaiting)
	for range transfersWaiting {
		go func() { results <- l.enter(t.Context()) }()
	}
	await(t, "they wait", func() bool { return l.waiting.Load() == transfersWaiting })
	if err := l.enter(t.Context()); !errors.Is(err, errTooManyTransfers) {
		t.Errorf("one too many: %v", err)
	}
	l.leave()
	if err := <-results; err != nil {
		t.Errorf("the next: %v", err)
	}
	ended := l.end()
	for range transfersWaiting - 1 {
		if err := <-results; !errors.Is(err, errServerEnds) {
			t.Fatalf("when the server ends: %v", err)
		}
	}
	ended()
	if l.ctx.Err() == nil || l.waiting.Load() != 0 {
		t.Error("it has not ended")
	}
}

// TestTransferEndsWithPartition: a partition that is to be closed does not wait for a client.
func TestTransferEndsWithPartition(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Write: waitLimit}}})
	p.heavy("example.org.", 1000)
	c := p.dial("tcp")
	c.send(pack(t, axfr("example.org.")))
	await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() >= maxPendingConn })
	within(t, "the partition is closed, though the client takes nothing", p.part.Close)
	got, err := c.tryReceiveTransfer(nil)
	if err == nil || !strings.HasPrefix(err.Error(), "SERVFAIL after") || len(got) == 0 {
		t.Errorf("after %d records: %v", len(got), err)
	}
}

// TestTransferEndsWithServer: nor does a server.
func TestTransferEndsWithServer(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Write: waitLimit}}})
	p.heavy("example.org.", 1000)
	c := p.dial("tcp")
	c.send(pack(t, axfr("example.org.")))
	await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() >= maxPendingConn })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		done <- p.Shutdown(ctx)
	}()
	await(t, "the transfer is ended", func() bool { return p.out.counters.failed.Load() == 1 })
	if got, err := c.tryReceiveTransfer(nil); err == nil || !strings.HasPrefix(err.Error(), "SERVFAIL after") {
		t.Errorf("after %d records: %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTransferMemory: a zone is not gathered, however large.
func TestTransferMemory(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Write: waitLimit}}})
	p.heavy("example.org.", 4000) // 32 MB
	c := p.dial("tcp")
	c.send(pack(t, axfr("example.org.")))
	await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() >= maxPendingConn })
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	octets := 0
	buf := make([]byte, 1<<16)
	for octets < 4000*8000 {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		octets += n
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d octets more are in use", grown)
	}
}

// TestTransferPadding: over TLS, the messages for a client that pads are whole blocks long, signed or not, whether the zone is here or elsewhere; and say
// what they would say otherwise.
func TestTransferPadding(t *testing.T) {
	key := tsig.Key{Name: zones.MustParseName("padded."), Algorithm: zones.HMACSHA256, Secret: []byte("a secret of thirty-two octets ...")}
	keys := testKeys{key.Name: key}
	p := startPrimary(t, Options{Keys: keys})
	sets := storetest.Apex("example.org.", 1)
	for i := range 3000 {
		sets = append(sets, storetest.Set(fmt.Sprintf("h%04d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	sets = append(sets, storetest.Set("long.example.org.", 60, zones.TypeTXT, strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 250))))
	p.apply(storetest.Stage("example.org.", p.log.NextID(), sets, 1000)...)
	p.www("example.org.", 1)
	front := startTLS(t, Options{Zones: elsewhereZones{newHosted(t)}, Contents: p.store, Access: everybody{}, DistantTransfers: &distant{to: p}, Keys: keys})
	padding := &dns.EDNS0_PADDING{Padding: make([]byte, 10)}
	for what, s := range map[string]*Server{"here": p.Server, "elsewhere": front} {
		for _, signed := range []bool{false, true} {
			for _, query := range []*dns.Msg{axfr("example.org."), ixfr("example.org.", 1), ixfr("example.org.", 2)} {
				for network, c := range map[string]*wireConn{"tls": dialTLS(t, s, nil), "tcp": dial(t, "tcp", s.testAddr())} {
					packet := pack(t, withEDNS(query.Copy(), 1232, false, padding))
					session := tsig.NewClient(key)
					if signed {
						packet = session.SignRequest(packet, p.opts.Now())
					}
					c.send(packet)
					var all []dns.RR
					for n := 0; !(len(all) > 0 && transferEnded(all)); n++ {
						message := c.receive()
						blocks := len(message)%wire.PaddingBlock == 0
						if !blocks && network == "tls" || len(message) > transfer.MessageSize && len(all) < 3000 {
							t.Fatalf("%s over %s, signed: %v: message %d has %d octets", what, network, signed, n, len(message))
						}
						if signed {
							var err error
							if message, err = session.VerifyAnswer(message, p.opts.Now()); err != nil {
								t.Fatal(err)
							}
						}
						m := unpack(t, message)
						all = append(all, m.Answer...)
						if opt := m.IsEdns0(); opt == nil || (len(opt.Option) > 0) != (network == "tls") {
							t.Errorf("%s over %s: %v", what, network, opt)
						}
						if n == 0 && query.Question[0].Qtype == dns.TypeIXFR && len(all) == 1 {
							break
						}
					}
					switch {
					case query.Question[0].Qtype == dns.TypeAXFR:
						p.wantZone("example.org.", all)
					case query.Ns[0].(*dns.SOA).Serial == 1 && len(all) != 5, query.Ns[0].(*dns.SOA).Serial == 2 && len(all) != 1:
						t.Errorf("%s over %s: %v", what, network, all)
					}
				}
			}
		}
	}
}

// countingSigner signs with the number of the message.
type countingSigner struct{ n int }

func (s *countingSigner) Len() int { return 20 }
func (s *countingSigner) SignAt(m []byte, base int, _ time.Time) []byte {
	s.n++
	m[base+11]++
	return append(m, fmt.Sprintf("%020d", s.n)...)
}

type sink struct {
	framed [][]byte
	waited int
}

func (k *sink) wait(ctx context.Context) error {
	k.waited++
	return ctx.Err()
}

func (k *sink) write(b []byte) error {
	k.framed = append(k.framed, bytes.Clone(b))
	return nil
}

// TestTransferOut: messages get what belongs to them, are signed in their order, and say how long they are. One that is not sent is not signed.
func TestTransferOut(t *testing.T) {
	var k sink
	signer := &countingSigner{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &transferOut{to: &k, ctx: ctx, opt: []byte("an OPT record"), sign: signer, now: time.Now}
	if room := out.room(); room != 33 {
		t.Errorf("room for %d", room)
	}
	for i := range 3 {
		buf := make([]byte, 14, 100)
		if i == 2 {
			cancel()
			if err := out.send(buf); err == nil {
				t.Error("sent though its time is over")
			}
			out.last = true
		}
		if err := out.send(buf); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range k.framed {
		if want := fmt.Sprintf("an OPT record%020d", i+1); string(b[14:]) != want || int(binary.BigEndian.Uint16(b)) != len(b)-2 || b[13] != 2 {
			t.Errorf("message %d is %q", i, b)
		}
	}
	// A full message stays one record of TLS when it is padded.
	full := &transferOut{to: &k, ctx: t.Context(), opt: wire.AppendOPT(nil, &wire.Query{EDNS: true, Echo: wire.EchoAll}, &wire.Reply{ExtendedError: wire.NoExtendedError}), padded: true, sign: signer, now: time.Now}
	if err := full.send(make([]byte, 2+transfer.MessageSize-full.room(), 1<<16)); err != nil {
		t.Fatal(err)
	}
	if n := len(k.framed[3]) - 2; n > transfer.MessageSize || n%wire.PaddingBlock != 0 {
		t.Errorf("a full message has %d octets", n)
	}
	if k.waited != 4 || out.messages != 3 || len(k.framed) != 4 {
		t.Errorf("it has waited %d times, and sent %d messages", k.waited, out.messages)
	}
}

// distant passes transfers to another server of this process.
type distant struct {
	to   *primary
	cut  atomic.Int64 // octets after which the other node is lost; 0: never
	gone atomic.Bool  // the zone is not hosted any more
}

func (d *distant) Transfer(ctx context.Context, _ store.Holding, q TransferQuery) (*DistantTransfer, error) {
	if d.gone.Load() {
		return nil, store.ErrNoZone
	}
	in, out := io.Pipe()
	verdict := make(chan TransferVerdict, 1)
	failed := make(chan error, 1)
	go func() {
		sent, cut := 0, int(d.cut.Load())
		err := d.to.AnswerTransfer(ctx, q, func(v TransferVerdict) error { verdict <- v; return nil }, func(framed []byte) error {
			if sent += len(framed); cut > 0 && sent > cut {
				framed = framed[:len(framed)/2]
			}
			_, err := out.Write(framed)
			if cut > 0 && sent > cut {
				return io.ErrUnexpectedEOF
			}
			return err
		})
		failed <- err // there is room for it
		if err == nil {
			err = io.EOF
		}
		_ = out.CloseWithError(err)
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case v := <-verdict:
		return &DistantTransfer{TransferVerdict: v, Messages: in}, nil
	case err := <-failed:
		if err != nil {
			return nil, err
		}
		return &DistantTransfer{TransferVerdict: <-verdict, Messages: in}, nil
	}
}

// elsewhereZones says of every zone that another node has it.
type elsewhereZones struct{ *hosted }

func (elsewhereZones) Find(q zones.Name, _ zones.Type) store.Holding {
	return store.Holding{Status: store.Elsewhere, Apex: q}
}

// TestTransferElsewhere: a zone that another node has is transferred as one that is here.
func TestTransferElsewhere(t *testing.T) {
	access := &grantsTo{may: true, not: zones.MustParseName("secret.org.")}
	p := startPrimary(t, Options{Access: access})
	p.apply(storetest.Create("example.org."), storetest.Create("secret.org."))
	p.www("example.org.", 1)
	p.www("example.org.", 2)
	p.heavy("heavy.org.", 300)
	d := &distant{to: p}
	front := startTLS(t, Options{
		Zones: elsewhereZones{newHosted(t)}, Contents: p.store, Access: everybody{}, DistantTransfers: d, Settings: Settings{NSID: "front"},
	})
	nsid := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	for _, c := range []*wireConn{dial(t, "tcp", front.testAddr()), dialTLS(t, front, nil)} {
		c.send(pack(t, withEDNS(axfr("heavy.org."), 1232, false, nsid)))
		p.wantZone("heavy.org.", c.receiveTransfer())
		c.send(pack(t, withEDNS(ixfr("example.org.", 2), 1232, false, nsid)))
		m := c.receiveMsg()
		if text, want := shorts(m.Answer), []string{"SOA 3", "SOA 2", "www 192.0.2.1", "SOA 3", "www 192.0.2.2", "SOA 3"}; !slices.Equal(text, want) {
			t.Errorf("%v, want %v", text, want)
		}
		if opt := m.IsEdns0(); opt == nil || len(opt.Option) != 1 || !strings.Contains(opt.Option[0].String(), fmt.Sprintf("%x", "front")) {
			t.Errorf("%v", m)
		}
		if m := c.ask(withEDNS(axfr("secret.org."), 1232, false)); m.Rcode != dns.RcodeRefused || ede(m) != 18 {
			t.Errorf("%v", m)
		}
		if m := c.ask(axfr("unknown.org.")); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%v", m)
		}
	}
	c := dial(t, "udp", front.testAddr())
	if text := shorts(c.ask(withEDNS(ixfr("example.org.", 2), 1232, false, nsid)).Answer); len(text) != 6 {
		t.Errorf("over UDP: %v", text)
	}
	if text := shorts(c.ask(ixfr("example.org.", 77)).Answer); !slices.Equal(text, []string{"SOA 3"}) {
		t.Errorf("over UDP: %v", text)
	}
	if m := c.ask(withEDNS(ixfr("secret.org.", 1), 1232, false)); m.Rcode != dns.RcodeRefused || ede(m) != 18 {
		t.Errorf("over UDP: %v", m)
	}
	if got := access.asked(); got != "127.0.0.1" {
		t.Errorf("asked for %s", got)
	}
	// The other node is lost in the middle: the client learns that this is not all.
	d.cut.Store(1 << 20)
	c = dial(t, "tcp", front.testAddr())
	c.send(pack(t, axfr("heavy.org.")))
	if got, err := c.tryReceiveTransfer(nil); err == nil || !strings.HasPrefix(err.Error(), "SERVFAIL after") || len(got) == 0 {
		t.Errorf("after %d records: %v", len(got), err)
	}
	d.gone.Store(true)
	if m := c.ask(axfr("example.org.")); m.Rcode != dns.RcodeNotAuth {
		t.Errorf("%v", m)
	}
	await(t, "no place is taken", func() bool { return len(front.out.relays) == 0 && len(p.out.places) == 0 })
}

// TestTransferClients: what dig and kdig make of it.
func TestTransferClients(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{CookieSecrets: []CookieSecret{{1}}, NSID: "node"}})
	p.apply(storetest.Create("example.org.", storetest.Set("www.example.org.", 60, zones.TypeA, "192.0.2.99"), storetest.Set("big.example.org.", 60, zones.TypeTXT, strings.Repeat(`"`+strings.Repeat("y", 250)+`" `, 200))))
	p.www("example.org.", 1)
	_, port, err := net.SplitHostPort(p.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	_, tlsPort, err := net.SplitHostPort(p.testTLSAddr())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		command string
		want    []string
	}{
		{"dig @127.0.0.1 -p PORT example.org AXFR", []string{"XFR size: 6 records (messages 3", "192.0.2.1"}},
		{"dig @127.0.0.1 -p PORT +nsid +noall +answer +stats EXAMPLE.org AXFR", []string{"XFR size: 6 records", "www.example.org."}},
		{"dig @127.0.0.1 -p PORT example.org IXFR=1", []string{"192.0.2.99", "192.0.2.1", "XFR size: 6 records (messages 1"}},
		{"dig @127.0.0.1 -p PORT +notcp example.org IXFR=1", []string{"192.0.2.99", "192.0.2.1"}},
		{"dig @127.0.0.1 -p PORT example.org IXFR=2", []string{"XFR size: 1 records"}},
		{"dig @127.0.0.1 -p TLS +tls example.org AXFR", []string{"XFR size: 6 records"}}, // fails without ALPN
		{"dig @127.0.0.1 -p TLS +tls +padding=64 example.org AXFR", []string{"XFR size: 6 records (messages 3, bytes 51480)"}},
		{"dig @127.0.0.1 -p TLS +tls +padding=64 example.org IXFR=1", []string{"XFR size: 6 records (messages 1, bytes 468)"}},
		{"kdig @127.0.0.1 -p PORT example.org AXFR", []string{"3 messages, 6 records", "192.0.2.1"}},
		{"kdig @127.0.0.1 -p PORT example.org IXFR=1", []string{"6 records", "192.0.2.99"}},
		{"kdig @127.0.0.1 -p TLS +tls example.org AXFR", []string{"6 records", "192.0.2.1"}},
		{"kdig @127.0.0.1 -p TLS +tls +padding example.org IXFR=1", []string{"6 records", "192.0.2.99", "468 B"}},
	}
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			args := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(tt.command, "PORT", port), "TLS +", tlsPort+" +"))
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%.3000s", want, out)
				}
			}
			for _, not := range []string{"WARNING", "malformed", "failed", "expected opt"} {
				if strings.Contains(string(out), not) {
					t.Errorf("%q in\n%.3000s", not, out)
				}
			}
		})
	}
}
