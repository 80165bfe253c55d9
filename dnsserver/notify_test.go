package dnsserver

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/store"
	"balefire/zones"
)

// notifies has the zones that tests notify of, and what was told.
type notifies struct {
	mu    sync.Mutex
	known map[string]zones.ZoneSettings
	fails map[string]error
	told  []Notification
	other *Server
}

func (n *notifies) Zone(apex zones.Name) (store.ZoneInfo, error) {
	if err := n.fails[apex.String()]; err != nil {
		return store.ZoneInfo{}, err
	}
	settings, ok := n.known[apex.String()]
	if !ok {
		return store.ZoneInfo{}, store.ErrNoZone
	}
	return store.ZoneInfo{Apex: apex, Settings: settings}, nil
}

func (n *notifies) Notified(what Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, what)
}

// Pass has somebody else's server decide.
func (n *notifies) Pass(what Notification) (Verdict, error) {
	n.mu.Lock()
	other := n.other
	n.mu.Unlock()
	if other == nil {
		return Verdict{}, errors.New("nobody is there")
	}
	return other.AnswerNotify(what), nil
}

func (n *notifies) all() []Notification {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.told)
}

func from(addrs ...string) (s zones.ZoneSettings) {
	for _, a := range addrs {
		s.Primaries = append(s.Primaries, zones.Remote{Addr: netip.AddrPortFrom(netip.MustParseAddr(a), 53)})
	}
	return s
}

func notice(zone string, serial uint32) *dns.Msg {
	m := new(dns.Msg).SetNotify(zone)
	if serial != 0 {
		m.Answer = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns." + zone, Mbox: "h." + zone, Serial: serial}}
	}
	return m
}

func TestNotifyIsTakenFromWhomItMayCome(t *testing.T) {
	granted := from("192.0.2.1")
	granted.Grants = []zones.Grant{{Deeds: zones.DeedNotify, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	other := from("192.0.2.1")
	other.Grants = []zones.Grant{{Deeds: zones.DeedTransfer | zones.DeedUpdate, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	n := &notifies{
		known: map[string]zones.ZoneSettings{
			"primary.example.": {}, "ours.example.": from("192.0.2.1", "127.0.0.1"), "theirs.example.": from("192.0.2.1"), "granted.example.": granted,
			"mapped.example.": from("::ffff:127.0.0.1"), "other.example.": other,
		},
		fails: map[string]error{"unread.example.": errors.New("the disk is away"), "elsewhere.example.": store.ErrNotOpen},
	}
	s := start(t, Options{Notifies: n, Access: Grants{}})
	typed := notice("ours.example.", 0)
	typed.Question[0].Qtype = dns.TypeA
	classed := notice("ours.example.", 0)
	classed.Question[0].Qclass = dns.ClassCHAOS
	for _, c := range []struct {
		what  string
		query *dns.Msg
		rcode int
	}{
		{"from a primary", notice("ours.example.", 7), dns.RcodeSuccess},
		{"from a primary, its address in another form", notice("mapped.example.", 0), dns.RcodeSuccess},
		{"by grant", notice("granted.example.", 0), dns.RcodeSuccess},
		{"from another", notice("theirs.example.", 0), dns.RcodeRefused},
		{"a grant of something else", notice("other.example.", 0), dns.RcodeRefused},
		{"of a zone that is no secondary", notice("primary.example.", 0), dns.RcodeNotAuth},
		{"of no zone", notice("nowhere.example.", 0), dns.RcodeNotAuth},
		{"of a name in a zone", notice("www.ours.example.", 0), dns.RcodeNotAuth},
		{"of another type", typed, dns.RcodeFormatError},
		{"of another class", classed, dns.RcodeNotAuth},
		{"of what can't be read", notice("unread.example.", 0), dns.RcodeServerFailure},
	} {
		for _, network := range []string{"udp", "tcp"} {
			before := len(n.all())
			m := dial(t, network, s.testAddr()).ask(c.query)
			taken := len(n.all()) - before
			if m.Rcode != c.rcode || m.Opcode != dns.OpcodeNotify || m.Authoritative != (c.rcode == dns.RcodeSuccess) || len(m.Answer) != 0 || len(m.Question) != 1 {
				t.Errorf("%s over %s: %v", c.what, network, m)
			}
			if (taken == 1) != (c.rcode == dns.RcodeSuccess) {
				t.Errorf("%s over %s: told %d times", c.what, network, taken)
			}
		}
	}
	for i, told := range n.all()[:2] {
		want := Notification{Apex: zones.MustParseName("ours.example."), From: netip.MustParseAddr("127.0.0.1"), Serial: 7, HasSerial: true}
		if told != want {
			t.Errorf("%d: %+v, want %+v", i, told, want)
		}
	}
}

func TestNotifiedSerial(t *testing.T) {
	n := &notifies{known: map[string]zones.ZoneSettings{"ours.example.": from("127.0.0.1")}}
	var minutes atomic.Int64 // so that none is over the limit
	s := start(t, Options{Notifies: n, Now: func() time.Time { return time.Unix(minutes.Add(1)*60, 0) }})
	c := dial(t, "tcp", s.testAddr())
	for what, change := range map[string]func(m *dns.Msg){
		"none":               func(m *dns.Msg) { m.Answer = nil },
		"of another name":    func(m *dns.Msg) { m.Answer[0].Header().Name = "x.ours.example." },
		"of another class":   func(m *dns.Msg) { m.Answer[0].Header().Class = dns.ClassCHAOS },
		"in the wrong place": func(m *dns.Msg) { m.Ns, m.Answer = m.Answer, nil },
		"too short": func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: "ours.example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Rdata: "0000"}}
		},
		"a serial":                        nil,
		"a serial, and a compressed name": func(m *dns.Msg) { m.Compress = true },
		"a serial, and another case":      func(m *dns.Msg) { m.Answer[0].Header().Name = "OURS.example." },
	} {
		m := notice("ours.example.", 0x01020304)
		if change != nil {
			change(m)
		}
		if a := c.ask(m); a.Rcode != dns.RcodeSuccess {
			t.Fatalf("%s: %v", what, a)
		}
		all := n.all()
		got := all[len(all)-1]
		if want := what[0] == 'a'; got.HasSerial != want || want && got.Serial != 0x01020304 {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// A flood reaches nobody, and keeps nobody else out.
func TestFloodOfNotifies(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1_000_000_000, 0)
	n := &notifies{known: map[string]zones.ZoneSettings{"ours.example.": from("127.0.0.1"), "two.example.": from("127.0.0.1")}}
	s := start(t, Options{Notifies: n, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	c := dial(t, "tcp", s.testAddr())
	refused := 0
	for range 100 {
		if m := c.ask(notice("ours.example.", 1)); m.Rcode == dns.RcodeServerFailure {
			refused++
		}
	}
	if got := len(n.all()); got != 5 || refused != 95 {
		t.Errorf("told %d times, %d refused", got, refused)
	}
	if m := c.ask(notice("two.example.", 1)); m.Rcode != dns.RcodeSuccess {
		t.Errorf("another zone: %v", m)
	}
	// Over UDP nothing is answered, so that an honest sender tries again.
	u := dial(t, "udp", s.testAddr())
	u.send(pack(t, notice("ours.example.", 1)))
	if m := u.ask(question("www.example.com.", dns.TypeA)); m.Opcode != dns.OpcodeQuery {
		t.Errorf("over the limit: %v", m)
	}
	// The datagram may be served only now: one second's is for it.
	mu.Lock()
	now = now.Add(2 * time.Second)
	mu.Unlock()
	if m := c.ask(notice("ours.example.", 1)); m.Rcode != dns.RcodeSuccess {
		t.Errorf("later: %v", m)
	}
}

// A zone that another node has is decided about there.
func TestNotifyOfAZoneElsewhere(t *testing.T) {
	there := &notifies{
		known: map[string]zones.ZoneSettings{"ours.example.": from("127.0.0.1"), "theirs.example.": from("192.0.2.1")},
		fails: map[string]error{"nowhere.example.": store.ErrNotOpen},
	}
	here := &notifies{fails: map[string]error{}}
	for _, zone := range []string{"ours.example.", "theirs.example.", "gone.example.", "nowhere.example."} {
		here.fails[zone] = store.ErrNotOpen
	}
	here.other = start(t, Options{Notifies: there, Access: Grants{}})
	c := dial(t, "udp", start(t, Options{Notifies: here, Access: Grants{}}).testAddr())
	for zone, rcode := range map[string]int{
		"ours.example.": dns.RcodeSuccess, "theirs.example.": dns.RcodeRefused, "gone.example.": dns.RcodeNotAuth, "nowhere.example.": dns.RcodeServerFailure,
	} {
		if m := c.ask(notice(zone, 5)); m.Rcode != rcode || m.Authoritative != (rcode == dns.RcodeSuccess) {
			t.Errorf("%s: %v", zone, m)
		}
	}
	want := []Notification{{Apex: zones.MustParseName("ours.example."), From: netip.MustParseAddr("127.0.0.1"), Serial: 5, HasSerial: true}}
	if got := there.all(); !slices.Equal(got, want) || len(here.all()) != 0 {
		t.Errorf("there %+v, here %+v", got, here.all())
	}
	here.mu.Lock()
	here.other = nil
	here.mu.Unlock()
	if m := c.ask(notice("ours.example.", 5)); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("nobody is there: %v", m)
	}
}
