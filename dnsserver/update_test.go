package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/change"
)

// oneLog is the log of one partition, and how zones are changed by it. What is in pending is in the log, and not applied here yet.
type oneLog struct {
	t         *testing.T
	store     *store.Store
	partition *store.Partition

	mu      sync.Mutex
	log     storetest.Log
	applied int
	// meanwhile is called before a change set is published, with how many were before it.
	meanwhile func(n int, cs *zones.ChangeSet)
	changes   int
	fail      error // of Change
	down      error // of CatchUp
}

func (l *oneLog) Read(apex zones.Name) (*store.Reading, error) { return l.store.Read(apex) }

func (l *oneLog) Change(_ context.Context, cs *zones.ChangeSet) (store.Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return store.Outcome{}, l.fail
	}
	if _, err := change.Encode(cs); err != nil {
		return store.Outcome{}, fmt.Errorf("publish: %w", err)
	}
	if l.meanwhile != nil {
		l.meanwhile(l.changes, cs)
	}
	l.changes++
	l.log.Add(l.t, cs)
	return l.apply()
}

func (l *oneLog) CatchUp(context.Context, int32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return l.down
	}
	_, err := l.apply()
	return err
}

// apply applies what is in the log, and returns the last outcome. l.mu is held.
func (l *oneLog) apply() (last store.Outcome, err error) {
	if l.applied == len(l.log.Records) {
		return last, nil
	}
	outcomes, err := l.partition.Apply(l.log.From(int64(l.applied)))
	if err != nil {
		return last, err
	}
	l.applied = len(l.log.Records)
	return outcomes[len(outcomes)-1], nil
}

// add puts a change set into the log that nobody here has applied yet. l.mu is held, or nothing else runs.
func (l *oneLog) add(cs *zones.ChangeSet) { l.log.Add(l.t, cs) }

// set changes what the log does.
func (l *oneLog) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// made returns how many change sets were published.
func (l *oneLog) made() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// do applies a change set.
func (l *oneLog) do(cs *zones.ChangeSet) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(cs)
	if o, err := l.apply(); err != nil || o.Rejection != nil {
		l.t.Fatal(o.Rejection, err)
	}
}

// from allows all from one network to update, and who is elsewhere nothing.
type fromNetwork struct{ network netip.Prefix }

func (f fromNetwork) grant() zones.Grant {
	return zones.Grant{Deeds: zones.DeedUpdate, Networks: []netip.Prefix{f.network}}
}

func (f fromNetwork) Allows(d zones.Deed, _ zones.Name, _ zones.ZoneSettings, key zones.Name, addr netip.Addr) bool {
	return f.grant().AllowsFrom(d, key, addr)
}

func (f fromNetwork) Grants(zones.Name, zones.ZoneSettings) []zones.Grant {
	return []zones.Grant{f.grant()}
}

var loopback = fromNetwork{netip.MustParsePrefix("127.0.0.0/8")}

// updatable starts a server of the zone example., which loopback may update.
func updatable(t *testing.T, set func(o *Options)) (*Server, *oneLog) {
	t.Helper()
	l := &oneLog{t: t}
	l.store, l.partition = storetest.Open(t, storetest.Options(t, t.TempDir()))
	l.do(storetest.Create("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.1")))
	o := Options{Listen: []string{"127.0.0.1:0"}, Zones: l.store, Access: loopback, Updates: l, Logger: zerolog.Nop(), Workers: 2}
	if set != nil {
		set(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s, l
}

// updateMessage makes a message for example. of records in presentation form: after "pre " prerequisites, after "upd " updates. Those without RDATA have
// none.
func updateMessage(t testing.TB, lines ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate("example.")
	for _, line := range lines {
		section, text, _ := strings.Cut(line, " ")
		var rr dns.RR
		var err error
		if f := strings.Fields(text); len(f) == 4 {
			rr = &dns.ANY{Hdr: dns.RR_Header{Name: dns.Fqdn(f[0]), Class: dns.StringToClass[f[2]], Rrtype: dns.StringToType[f[3]]}}
		} else if rr, err = dns.NewRR(text); err != nil {
			t.Fatal(err)
		}
		if section == "pre" {
			m.Answer = append(m.Answer, rr)
		} else {
			m.Ns = append(m.Ns, rr)
		}
	}
	return m
}

// send sends a message and returns the answer.
func send(t testing.TB, s *Server, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: network, Timeout: waitLimit}
	reply, _, err := client.Exchange(m, s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// addresses asks for the addresses of a name.
func addresses(t testing.TB, s *Server, name string) (got []string) {
	t.Helper()
	for _, rr := range send(t, s, "udp", new(dns.Msg).SetQuestion(name, dns.TypeA)).Answer {
		if a, ok := rr.(*dns.A); ok {
			got = append(got, a.A.String())
		}
	}
	slices.Sort(got)
	return got
}

// TestUpdate: over UDP and TCP; what was answered with NOERROR is what the next query sees.
func TestUpdate(t *testing.T) {
	s, l := updatable(t, nil)
	for i, network := range []string{"udp", "tcp"} {
		address := fmt.Sprintf("192.0.2.%d", 10+i)
		m := updateMessage(t, "pre www.example. 0 ANY A", "upd www.example. 0 ANY A", "upd www.example. 60 IN A "+address)
		reply := send(t, s, network, m)
		if reply.Rcode != dns.RcodeSuccess || reply.Opcode != dns.OpcodeUpdate || !reply.Response || reply.Authoritative || len(reply.Ns) != 0 {
			t.Fatalf("%s: %s", network, reply)
		}
		if got := addresses(t, s, "www.example."); !slices.Equal(got, []string{address}) {
			t.Errorf("%s: %v", network, got)
		}
		reply = send(t, s, network, updateMessage(t, "pre www.example. 0 NONE A", "upd www.example. 0 ANY A"))
		if reply.Rcode != dns.RcodeYXRrset {
			t.Errorf("%s: %s", network, reply)
		}
	}
	history, err := l.store.History(zones.MustParseName("example."), -1, 10)
	if err != nil || len(history) == 0 || history[0].Author != "127.0.0.1" {
		t.Errorf("history: %+v %v", history, err)
	}
}

// TestUpdateRCodes: what is about the zone, and not in package update.
func TestUpdateRCodes(t *testing.T) {
	s, l := updatable(t, nil)
	l.do(storetest.Create("other."))
	tests := []struct {
		name string
		m    func(m *dns.Msg)
		want int
	}{
		{"a zone of its own", func(m *dns.Msg) { m.SetUpdate("other.") }, dns.RcodeSuccess},
		{"not hosted", func(m *dns.Msg) { m.SetUpdate("nowhere.") }, dns.RcodeNotAuth},
		{"hosted, but not as an apex", func(m *dns.Msg) { m.SetUpdate("www.example.") }, dns.RcodeNotAuth},
		{"in another class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeNotAuth},
		{"ZTYPE", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }, dns.RcodeFormatError},
		{"out of zone", func(m *dns.Msg) { m.Insert([]dns.RR{testRR(t, "www.other. 1 IN A 192.0.2.1")}) }, dns.RcodeNotZone},
		{"no such name", func(m *dns.Msg) { m.NameUsed([]dns.RR{testRR(t, "no.example. 0 IN A 192.0.2.1")}) }, dns.RcodeNameError},
		{"what no zone can hold", func(m *dns.Msg) { m.Insert([]dns.RR{testRR(t, "x.example. 1 IN KEY 256 3 8 AAAA")}) }, dns.RcodeRefused},
		{"what breaks the zone", func(m *dns.Msg) { m.Insert([]dns.RR{testRR(t, "*.example. 1 IN NS ns.example.")}) }, dns.RcodeRefused},
		{"malformed values", func(m *dns.Msg) {
			m.Insert([]dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: "x.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Rdata: "05aa"}})
		}, dns.RcodeFormatError},
		{"nothing", func(*dns.Msg) {}, dns.RcodeSuccess},
	}
	for _, test := range tests {
		for _, network := range []string{"udp", "tcp"} {
			m := updateMessage(t)
			test.m(m)
			if reply := send(t, s, network, m); reply.Rcode != test.want {
				t.Errorf("%s over %s: %s", test.name, network, reply)
			}
		}
	}
}

func testRR(t testing.TB, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// TestUpdateDenied: nobody may anything who is not allowed to, and learns nothing.
func TestUpdateDenied(t *testing.T) {
	elsewhere := fromNetwork{netip.MustParsePrefix("198.51.100.0/24")}
	for name, access := range map[string]Access{"no access": nil, "by zones' grants alone": Grants{}, "from elsewhere": elsewhere} {
		s, l := updatable(t, func(o *Options) { o.Access = access })
		for _, lines := range [][]string{{"upd www.example. 0 ANY A"}, {"pre www.example. 0 ANY A"}, {"pre no.example. 0 ANY A"}, {}} {
			m := updateMessage(t, lines...)
			m.SetEdns0(1232, false)
			reply := send(t, s, "udp", m)
			if reply.Rcode != dns.RcodeRefused || !strings.Contains(reply.String(), "EDE: 18") {
				t.Errorf("%s: %v: %s", name, lines, reply)
			}
		}
		if l.made() != 0 || len(addresses(t, s, "www.example.")) != 1 {
			t.Errorf("%s: the zone has changed", name)
		}
	}
}

// narrow allows a name and a type.
type narrow struct{ fromNetwork }

func (n narrow) Grants(zones.Name, zones.ZoneSettings) []zones.Grant {
	g := n.grant()
	g.Names = []zones.NamePattern{{Name: zones.MustParseName("host.example."), Self: true, Below: true}}
	g.Types = []zones.Type{zones.TypeA}
	other := zones.Grant{Deeds: zones.DeedUpdate, Key: "somebody", Networks: g.Networks}
	return []zones.Grant{other, g}
}

// TestUpdatePolicy: each record must be allowed by a grant that is for who sends it.
func TestUpdatePolicy(t *testing.T) {
	s, _ := updatable(t, func(o *Options) { o.Access = narrow{loopback} })
	for line, want := range map[string]int{
		"upd host.example. 60 IN A 192.0.2.3":    dns.RcodeSuccess,
		"upd x.host.example. 60 IN A 192.0.2.3":  dns.RcodeSuccess,
		"upd host.example. 60 IN AAAA 2001::1":   dns.RcodeRefused,
		"upd www.example. 60 IN A 192.0.2.3":     dns.RcodeRefused,
		"upd www.example. 0 ANY ANY":             dns.RcodeRefused,
		"upd nothost.example. 60 IN A 192.0.2.3": dns.RcodeRefused,
	} {
		if reply := send(t, s, "udp", updateMessage(t, line)); reply.Rcode != want {
			t.Errorf("%s: %s", line, reply)
		}
	}
}

// TestUpdateIsEvaluatedAgain: when something else was faster, what it changed counts.
func TestUpdateIsEvaluatedAgain(t *testing.T) {
	other := func(address string) *zones.ChangeSet {
		return storetest.Put("example.", storetest.Set("new.example.", 60, zones.TypeA, address))
	}
	t.Run("the prerequisite holds no longer", func(t *testing.T) {
		s, l := updatable(t, nil)
		l.set(func() {
			l.meanwhile = func(n int, _ *zones.ChangeSet) {
				if n == 0 {
					l.add(other("192.0.2.9"))
				}
			}
		})
		reply := send(t, s, "tcp", updateMessage(t, "pre new.example. 0 NONE ANY", "upd new.example. 60 IN A 192.0.2.3"))
		if reply.Rcode != dns.RcodeYXDomain {
			t.Error(reply)
		}
		if got := addresses(t, s, "new.example."); !slices.Equal(got, []string{"192.0.2.9"}) {
			t.Error(got)
		}
	})
	t.Run("the CNAME is there", func(t *testing.T) {
		s, l := updatable(t, nil)
		l.set(func() {
			l.meanwhile = func(n int, _ *zones.ChangeSet) {
				if n == 0 {
					l.add(storetest.Put("example.", storetest.Set("new.example.", 60, zones.TypeCNAME, "www.example.")))
				}
			}
		})
		reply := send(t, s, "tcp", updateMessage(t, "upd new.example. 60 IN A 192.0.2.3", "upd too.example. 60 IN A 192.0.2.4"))
		if reply.Rcode != dns.RcodeSuccess || l.made() != 2 {
			t.Error(l.made(), reply)
		}
		if got := addresses(t, s, "too.example."); !slices.Equal(got, []string{"192.0.2.4"}) {
			t.Error(got)
		}
	})
	t.Run("what the zone can't be is not tried for ever", func(t *testing.T) {
		s, l := updatable(t, nil)
		reply := send(t, s, "tcp", updateMessage(t, "upd x.example. 60 IN DNAME www.example.", "upd y.x.example. 60 IN A 192.0.2.4"))
		if reply.Rcode != dns.RcodeRefused || l.made() != 2 {
			t.Error(l.made(), reply)
		}
	})
	t.Run("somebody is always faster", func(t *testing.T) {
		s, l := updatable(t, nil)
		l.set(func() { l.meanwhile = func(n int, _ *zones.ChangeSet) { l.add(other(fmt.Sprintf("192.0.2.%d", n+1))) } })
		l.do(other("192.0.2.99"))
		var reply *dns.Msg
		for i := range 2 { // with a prerequisite that holds each time, by a precondition that does not
			reply = send(t, s, "tcp", updateMessage(t, "upd x.example. 60 IN A 192.0.2.4", "upd example. 60 IN SOA ns1.test. hostmaster.test. 4000 1 2 3 4"))
			if reply.Rcode != dns.RcodeServerFailure || l.made() != (i+1)*updateAttempts {
				t.Fatal(l.made(), reply)
			}
		}
	})
	t.Run("the zone is gone", func(t *testing.T) {
		s, l := updatable(t, nil)
		l.set(func() {
			l.meanwhile = func(int, *zones.ChangeSet) { l.add(storetest.Change("example.", zones.OpDeleteZone{})) }
		})
		if reply := send(t, s, "tcp", updateMessage(t, "upd x.example. 60 IN A 192.0.2.4")); reply.Rcode != dns.RcodeNotAuth {
			t.Error(reply)
		}
	})
}

// TestUpdateOfAStaleCopy: the copy does not have yet what somebody was told. No answer may come of that.
func TestUpdateOfAStaleCopy(t *testing.T) {
	unseen := storetest.Put("example.", storetest.Set("new.example.", 60, zones.TypeA, "192.0.2.3"))
	tests := []struct {
		name  string
		lines []string
		want  int
		left  []string
	}{
		{"exists", []string{"pre new.example. 0 ANY A", "upd new.example. 60 IN A 192.0.2.4"}, dns.RcodeSuccess, []string{"192.0.2.3", "192.0.2.4"}},
		{"in use", []string{"pre new.example. 0 ANY ANY"}, dns.RcodeSuccess, []string{"192.0.2.3"}},
		{"not in use", []string{"pre new.example. 0 NONE ANY"}, dns.RcodeYXDomain, []string{"192.0.2.3"}},
		{"removed, though it seems not to be there", []string{"upd new.example. 0 ANY ANY"}, dns.RcodeSuccess, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, l := updatable(t, nil)
			l.set(func() { l.add(unseen) })
			if reply := send(t, s, "udp", updateMessage(t, test.lines...)); reply.Rcode != test.want {
				t.Error(reply)
			}
			if got := addresses(t, s, "new.example."); !slices.Equal(got, test.left) {
				t.Errorf("left: %v", got)
			}
		})
	}
	t.Run("the log is away", func(t *testing.T) {
		s, l := updatable(t, nil)
		l.set(func() { l.down = errors.New("no log") })
		for _, lines := range [][]string{{"pre new.example. 0 ANY A"}, {"upd new.example. 0 ANY ANY"}} {
			if reply := send(t, s, "udp", updateMessage(t, lines...)); reply.Rcode != dns.RcodeServerFailure {
				t.Error(reply)
			}
		}
		// What the zone is does not matter to these.
		if reply := send(t, s, "udp", updateMessage(t, "upd new.other. 0 ANY ANY")); reply.Rcode != dns.RcodeNotZone {
			t.Error(reply)
		}
		l.set(func() { l.fail = errors.New("no log") })
		if reply := send(t, s, "udp", updateMessage(t, "upd new.example. 60 IN A 192.0.2.3")); reply.Rcode != dns.RcodeServerFailure {
			t.Error(reply)
		}
	})
}

// TestUpdateRepeated: over UDP, the same octets of the same client are one update.
func TestUpdateRepeated(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var clock sync.Mutex
	s, l := updatable(t, func(o *Options) {
		o.Now = func() time.Time {
			clock.Lock()
			defer clock.Unlock()
			return now
		}
	})
	m := updateMessage(t, "pre new.example. 0 NONE ANY", "upd new.example. 60 IN A 192.0.2.3")
	conn, err := dns.Dial("udp", s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	again := func(conn *dns.Conn) int {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(waitLimit))
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		reply, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		return reply.Rcode
	}
	for range 3 {
		if got := again(conn); got != dns.RcodeSuccess {
			t.Error(dns.RcodeToString[got])
		}
	}
	if l.made() != 1 {
		t.Errorf("%d changes", l.made())
	}
	other, err := dns.Dial("udp", s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := again(other); got != dns.RcodeYXDomain {
		t.Errorf("from another port: %s", dns.RcodeToString[got])
	}
	if reply := send(t, s, "tcp", m); reply.Rcode != dns.RcodeYXDomain {
		t.Errorf("over TCP: %s", reply)
	}
	m.Id++
	if got := again(conn); got != dns.RcodeYXDomain {
		t.Errorf("with another ID: %s", dns.RcodeToString[got])
	}
	m.Id--
	clock.Lock()
	now = now.Add(repeatMemory - time.Second)
	clock.Unlock()
	if got := again(conn); got != dns.RcodeSuccess {
		t.Errorf("a little before it is forgotten: %s", dns.RcodeToString[got])
	}
	clock.Lock()
	now = now.Add(time.Second)
	clock.Unlock()
	if got := again(conn); got != dns.RcodeYXDomain {
		t.Errorf("after it is forgotten: %s", dns.RcodeToString[got])
	}
	if got := gather(t, s)["balefire_dns_updates_repeated_total"]; got != 3 {
		t.Errorf("%v repeats", got)
	}
}

// TestUpdateRepeatedUnderWay: what comes again while it is being made gets no answer of its own.
func TestUpdateRepeatedUnderWay(t *testing.T) {
	s, l := updatable(t, nil)
	begun, goOn := make(chan bool), make(chan bool)
	l.set(func() {
		l.meanwhile = func(int, *zones.ChangeSet) {
			begun <- true
			<-goOn
		}
	})
	conn, err := dns.Dial("udp", s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(waitLimit))
	m := updateMessage(t, "upd new.example. 60 IN A 192.0.2.3")
	for range 3 {
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	await(t, "both are known to be repeats", func() bool { return gather(t, s)["balefire_dns_updates_repeated_total"] == 2 })
	close(goOn)
	if reply, err := conn.ReadMsg(); err != nil || reply.Rcode != dns.RcodeSuccess {
		t.Fatal(reply, err)
	}
	// The next answer is to the next question.
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion("new.example.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.ReadMsg(); err != nil || reply.Opcode != dns.OpcodeQuery || len(reply.Answer) != 1 {
		t.Fatal(reply, err)
	}
	if l.made() != 1 {
		t.Errorf("%d changes", l.made())
	}
}

// TestRepeatsAreBounded: the memory for repeats does not grow, and the oldest are forgotten first.
func TestRepeatsAreBounded(t *testing.T) {
	var r repeats
	client := netip.MustParseAddrPort("192.0.2.1:53")
	packet := func(i int) []byte { return []byte(fmt.Sprint(i)) }
	for i := range 3 * maxRepeats {
		this, state := r.begin(client, packet(i), 1)
		if state != repeatNew {
			t.Fatalf("%d: state %d", i, state)
		}
		r.end(this, Result{RCode: 3})
	}
	if len(r.known) != maxRepeats {
		t.Errorf("%d are known", len(r.known))
	}
	if _, state := r.begin(client, packet(3*maxRepeats-1), 1); state != repeatAnswered {
		t.Error("the last one is forgotten")
	}
	if known, state := r.begin(client, packet(2*maxRepeats), 1); state != repeatAnswered || known.result.RCode != 3 {
		t.Error("one of the latest is forgotten")
	}
	if _, state := r.begin(client, packet(0), 1); state != repeatNew {
		t.Error("the first one is known")
	}
	// A flood of what is refused puts nothing out of mind, and is not kept.
	known := len(r.known)
	for i := range 3 * maxRepeats {
		this, state := r.begin(client, packet(-1-i), 1)
		if state != repeatNew {
			t.Fatalf("refused %d: state %d", i, state)
		}
		r.end(this, Result{RCode: wire.Refused})
	}
	if _, state := r.begin(client, packet(3*maxRepeats-1), 1); state != repeatAnswered || len(r.known) != known {
		t.Errorf("after a flood of what is refused, the last one is in state %d, and %d are known", state, len(r.known))
	}
}

// TestUpdatesAtOnce: of many that want the same, one gets it; and of many that count, none is lost.
func TestUpdatesAtOnce(t *testing.T) {
	s, l := updatable(t, nil)
	const clients = 24
	var all sync.WaitGroup
	results := make(chan int, clients)
	for i := range clients {
		all.Go(func() {
			network := []string{"udp", "tcp"}[i%2]
			m := updateMessage(t, "pre one.example. 0 NONE ANY", fmt.Sprintf("upd one.example. 60 IN A 192.0.2.%d", i))
			results <- send(t, s, network, m).Rcode
		})
	}
	all.Wait()
	close(results)
	won := 0
	for rcode := range results {
		switch rcode {
		case dns.RcodeSuccess:
			won++
		case dns.RcodeYXDomain:
		default:
			t.Error(dns.RcodeToString[rcode])
		}
	}
	if won != 1 || len(addresses(t, s, "one.example.")) != 1 {
		t.Errorf("%d have won", won)
	}

	l.do(storetest.Put("example.", storetest.Set("count.example.", 60, zones.TypeTXT, "0")))
	const each = 10
	for range 4 {
		all.Go(func() {
			for done := 0; done < each; {
				reply := send(t, s, "udp", new(dns.Msg).SetQuestion("count.example.", dns.TypeTXT))
				var n int
				if _, err := fmt.Sscan(reply.Answer[0].(*dns.TXT).Txt[0], &n); err != nil {
					t.Error(err)
					return
				}
				m := updateMessage(t, fmt.Sprintf("pre count.example. 0 IN TXT %d", n), "upd count.example. 0 ANY TXT", fmt.Sprintf("upd count.example. 60 IN TXT %d", n+1))
				switch rcode := send(t, s, "udp", m).Rcode; rcode {
				case dns.RcodeSuccess:
					done++
				case dns.RcodeNXRrset:
				default:
					t.Error(dns.RcodeToString[rcode])
					return
				}
			}
		})
	}
	all.Wait()
	reply := send(t, s, "udp", new(dns.Msg).SetQuestion("count.example.", dns.TypeTXT))
	if got := reply.Answer[0].(*dns.TXT).Txt[0]; got != fmt.Sprint(4*each) {
		t.Errorf("%d were counted, and the zone says %s", 4*each, got)
	}
}

// TestUpdatesAreBounded: those that would wait beyond the bounds are told so, or not answered over UDP; and questions are answered meanwhile.
func TestUpdatesAreBounded(t *testing.T) {
	s, l := updatable(t, nil)
	goOn := make(chan bool)
	l.set(func() { l.meanwhile = func(int, *zones.ChangeSet) { <-goOn } })
	defer close(goOn)
	conn, err := dns.Dial("udp", s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := 0.0
	await(t, "the lane is full", func() bool {
		got := gather(t, s)
		for ; sent-got[`balefire_dns_queries_total{transport="udp"}`] < jobsPerWorker*8; sent++ { // no more than a socket has room for
			m := updateMessage(t, "upd new.example. 60 IN A 192.0.2.3")
			if err := conn.WriteMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		return got[`balefire_dns_dropped_total{reason="slow-lane-full"}`] > 0
	})
	if got := addresses(t, s, "www.example."); len(got) != 1 {
		t.Error(got)
	}
	for range updatingTCP {
		s.updating <- struct{}{}
	}
	defer func() {
		for range updatingTCP {
			<-s.updating
		}
	}()
	if reply := send(t, s, "tcp", updateMessage(t, "upd new.example. 60 IN A 192.0.2.3")); reply.Rcode != dns.RcodeServerFailure {
		t.Error(reply)
	}
	if got := gather(t, s)["balefire_dns_updates_crowded_total"]; got != 1 {
		t.Errorf("%v crowded", got)
	}
}

// TestLargeUpdate: one that is larger than a change set may be is refused, one that is not is made.
func TestLargeUpdate(t *testing.T) {
	s, _ := updatable(t, nil)
	message := func(n int, values bool) *dns.Msg {
		m := updateMessage(t)
		m.Compress = true
		for i := range n {
			owner := "many.example."
			if !values {
				owner = fmt.Sprintf("n%d.example.", i)
			}
			m.Insert([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: []byte{10, 0, byte(i >> 8), byte(i)}}})
		}
		return m
	}
	if reply := send(t, s, "tcp", message(3000, true)); reply.Rcode != dns.RcodeSuccess {
		t.Error(reply)
	}
	if reply := send(t, s, "tcp", new(dns.Msg).SetQuestion("many.example.", dns.TypeA)); len(reply.Answer) != 3000 {
		t.Errorf("%d records", len(reply.Answer))
	}
	if reply := send(t, s, "tcp", message(change.MaxOps, false)); reply.Rcode != dns.RcodeSuccess {
		t.Error(reply)
	}
	if reply := send(t, s, "tcp", message(change.MaxOps+1, false)); reply.Rcode != dns.RcodeRefused {
		t.Error(reply)
	}
}

// passed is another node, or none.
type passed struct {
	to  *Server
	err error
}

func (p passed) Forward(ctx context.Context, _ int32, m Message) (Result, error) {
	if p.err != nil {
		return Result{}, p.err
	}
	return p.to.ServeForwarded(ctx, m)
}

// farZones says of all zones that they are elsewhere.
type farZones struct{ Zones }

func (f farZones) Find(qname zones.Name, qtype zones.Type) store.Holding {
	h := f.Zones.Find(qname, qtype)
	if h.Status == store.Here {
		far := store.Holding{Status: store.Elsewhere, Apex: h.Apex, Partition: h.Partition}
		h.Release()
		return far
	}
	return h
}

// TestUpdateElsewhere: a node that has the zone decides, by who the client is.
func TestUpdateElsewhere(t *testing.T) {
	holder, l := updatable(t, func(o *Options) { o.Access = loopback })
	through := func(f Forward) *Server {
		s, _ := updatable(t, func(o *Options) {
			o.Zones, o.Access, o.Forward = farZones{l.store}, nil, f
		})
		return s
	}
	s := through(passed{to: holder})
	for _, network := range []string{"udp", "tcp"} {
		reply := send(t, s, network, updateMessage(t, "upd "+network+".example. 60 IN A 192.0.2.3"))
		if reply.Rcode != dns.RcodeSuccess || len(addresses(t, holder, network+".example.")) != 1 {
			t.Errorf("%s: %s", network, reply)
		}
		if reply := send(t, s, network, updateMessage(t, "pre no.example. 0 ANY ANY")); reply.Rcode != dns.RcodeNameError {
			t.Errorf("%s: %s", network, reply)
		}
	}
	if reply := send(t, through(nil), "udp", updateMessage(t)); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("without others: %s", reply)
	}
	if reply := send(t, through(passed{err: errors.New("away")}), "udp", updateMessage(t)); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("without answer: %s", reply)
	}
	packet, err := updateMessage(t, "upd x.example. 60 IN A 192.0.2.3").Pack()
	if err != nil {
		t.Fatal(err)
	}
	// Who asks is who the other node says, and it is never passed on again.
	r, err := holder.ServeForwarded(t.Context(), Message{Packet: packet, From: netip.MustParseAddr("198.51.100.1")})
	if err != nil || r.RCode != dns.RcodeRefused {
		t.Errorf("from elsewhere: %+v %v", r, err)
	}
	if _, err := s.ServeForwarded(t.Context(), Message{Packet: packet, From: netip.MustParseAddr("127.0.0.1")}); !errors.Is(err, ErrNotHeld) {
		t.Errorf("passed on twice: %v", err)
	}
	r, err = holder.ServeForwarded(t.Context(), Message{Packet: packet, From: netip.MustParseAddr("127.0.0.1")})
	if err != nil || !r.Seen || r.At.Offset != int64(len(l.log.Records)-1) {
		t.Errorf("%+v %v", r, err)
	}
	for _, packet := range [][]byte{nil, packet[:20]} {
		if r, err := holder.ServeForwarded(t.Context(), Message{Packet: packet}); err != nil || r.RCode != dns.RcodeFormatError {
			t.Errorf("%x: %+v %v", packet, r, err)
		}
	}
}
