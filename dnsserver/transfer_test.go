package dnsserver

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

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
