package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/dnsserver/tsig"
	"balefire/replication/keyring"
	"balefire/replication/relay"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// docs/access.md says who may do what, in tables. Here each of their cells is asked of a server, once where the zone itself grants it, and
// once where an ACL of the namespace does; so a table that says something else is wrong, or the server is.

const accessPage = "../../docs/access.md"

// The addresses that messages come from.
const (
	fromNetwork   = "127.0.1.1"
	fromElsewhere = "127.0.2.1"
	fromPrimary   = "127.0.3.1"
)

var grantedNetwork = netip.MustParsePrefix("127.0.1.0/24")

func testKey(name, secret string) zones.TSIGKey {
	return zones.TSIGKey{Name: zones.MustParseName(name), Algorithm: zones.HMACSHA256, Secret: []byte(secret)}
}

var (
	grantedKey = testKey("granted.key.", "the secret that is granted something")
	otherKey   = testKey("other.key.", "the secret that is granted nothing")
	unknownKey = testKey("unknown.key.", "the secret that nobody knows")
	falseKey   = testKey("granted.key.", "not the secret that is granted something")
)

// granted are the tables' second column: what the zone, or an ACL, allows.
var granted = map[string]*zones.Grant{
	"nothing":                    nil,
	"to the network":             {Networks: []netip.Prefix{grantedNetwork}},
	"to the key":                 {Key: grantedKey.Name},
	"to the key, in the network": {Key: grantedKey.Name, Networks: []netip.Prefix{grantedNetwork}},
}

// askers are the tables' first column.
var askers = map[string]asker{
	"not signed, from elsewhere":                   {from: fromElsewhere},
	"not signed, from the network":                 {from: fromNetwork},
	"not signed, from a primary of the zone":       {from: fromPrimary},
	"signed with the key, from elsewhere":          {from: fromElsewhere, key: &grantedKey},
	"signed with the key, from the network":        {from: fromNetwork, key: &grantedKey},
	"signed with another key, from the network":    {from: fromNetwork, key: &otherKey},
	"signed with an unknown key, from the network": {from: fromNetwork, key: &unknownKey, fault: tsig.BadKey},
	"signed wrongly, from the network":             {from: fromNetwork, key: &falseKey, fault: tsig.BadSig},
	"signed an hour ago, from the network":         {from: fromNetwork, key: &grantedKey, age: time.Hour, fault: tsig.BadTime},
}

type asker struct {
	from  string
	key   *zones.TSIGKey
	age   time.Duration
	fault tsig.Error
}

// zonesAsked are the other columns, and how such a zone comes to be. Those that other nodes have are of the same store, and the server that
// is asked says that they are not its own.
var zonesAsked = map[string]func(apex string, s zones.ZoneSettings) []*zones.ChangeSet{
	"hosted":    primaryZone,
	"secondary": secondaryZone,
	"awaiting":  func(apex string, s zones.ZoneSettings) []*zones.ChangeSet { return secondaryZone(apex, s)[:1] },
	"expired": func(apex string, s zones.ZoneSettings) []*zones.ChangeSet {
		return append(secondaryZone(apex, s), storetest.From(zones.SourcePrimary, storetest.Change(apex, zones.OpSetStanding{Expired: true})))
	},
	"signed": func(apex string, s zones.ZoneSettings) []*zones.ChangeSet {
		key := storetest.Set(apex, 3600, zones.TypeDNSKEY, "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==")
		return []*zones.ChangeSet{storetest.Change(apex, zones.OpCreateZone{Settings: s, RRsets: append(storetest.Apex(apex, 1), key)})}
	},
	"frozen": func(apex string, s zones.ZoneSettings) []*zones.ChangeSet {
		s.Frozen = true
		return primaryZone(apex, s)
	},
	"elsewhere":           primaryZone,
	"secondary elsewhere": secondaryZone,
	"not hosted":          func(string, zones.ZoneSettings) []*zones.ChangeSet { return nil },
}

func primaryZone(apex string, s zones.ZoneSettings) []*zones.ChangeSet {
	www := storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")
	return []*zones.ChangeSet{storetest.Change(apex, zones.OpCreateZone{Settings: s, RRsets: append(storetest.Apex(apex, 1), www)})}
}

func secondaryZone(apex string, s zones.ZoneSettings) []*zones.ChangeSet {
	s.Primaries = []zones.Remote{{Addr: netip.AddrPortFrom(netip.MustParseAddr(fromPrimary), 53)}}
	return []*zones.ChangeSet{
		storetest.Change(apex, zones.OpCreateZone{Settings: s}),
		storetest.From(zones.SourcePrimary, storetest.Change(apex, zones.OpReplaceZone{RRsets: storetest.Apex(apex, 1)})),
	}
}

// accessRig is a server that has some zones, and the one that it passes messages of others on to.
type accessRig struct {
	t      *testing.T
	st     *store.Store
	part   *store.Partition
	ring   *keyring.Ring
	front  *dnsserver.Server
	holder *dnsserver.Server
	peer   *httptest.Server

	mu  sync.Mutex
	log storetest.Log
}

func newAccessRig(t *testing.T) *accessRig {
	r := &accessRig{t: t}
	r.st, r.part = storetest.Open(t, storetest.Options(t, t.TempDir()))
	topic := &memoryTopic{records: map[string][]byte{}}
	var err error
	r.ring, err = keyring.New(keyring.Options{Control: topic, Put: topic.put, Secrets: [][]byte{make([]byte, keyring.SecretLen)}, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []zones.TSIGKey{grantedKey, otherKey} {
		if err := r.ring.PutKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	r.holder = startDNS(t, dnsserver.Options{
		Zones: r.st, Contents: r.st, Access: r.ring, Keys: r.ring, Updates: r, Notifies: accessNotices{r, false},
	})
	r.front = startDNS(t, dnsserver.Options{
		Zones: accessZones{r.st}, Contents: r.st, Access: r.ring, Keys: r.ring, Updates: r, Notifies: accessNotices{r, true},
		DistantTransfers: distantTransfers{r}, Forward: r,
	})
	r.peer = httptest.NewTLSServer(peerCalls(http.NotFoundHandler(), r, r.holder, nil, hostedZones{}))
	t.Cleanup(r.peer.Close)
	return r
}

// do applies change sets.
func (r *accessRig) do(all ...*zones.ChangeSet) (last store.Outcome) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cs := range all {
		outcomes, err := r.part.Apply(r.log.From(r.log.Add(r.t, cs)))
		if err != nil || outcomes[0].Rejection != nil {
			r.t.Fatal(cs.Zone, outcomes, err)
		}
		last = outcomes[0]
	}
	return last
}

// What the servers need of a node.

func (r *accessRig) Store() *store.Store                  { return r.st }
func (r *accessRig) Holds(int32) bool                     { return true }
func (r *accessRig) Seen(int32) int64                     { return -1 }
func (r *accessRig) Saw(store.Position)                   {}
func (r *accessRig) Holders(int32) []relay.Peer           { return []relay.Peer{{ID: "holder"}} }
func (r *accessRig) CatchUp(context.Context, int32) error { return nil }

func (r *accessRig) Transport(relay.Peer) http.RoundTripper       { return toServer{r.peer} }
func (r *accessRig) Read(apex zones.Name) (*store.Reading, error) { return r.st.Read(apex) }

func (r *accessRig) Change(_ context.Context, cs *zones.ChangeSet) (store.Outcome, error) {
	return r.do(cs), nil
}

func (r *accessRig) Forward(ctx context.Context, _ int32, m dnsserver.Message) (dnsserver.Result, error) {
	return r.holder.ServeForwarded(ctx, m)
}

// isElsewhere reports whether the server that is asked does not have a zone.
func isElsewhere(apex zones.Name) bool { return strings.HasSuffix(apex.String(), "elsewhere.") }

type accessZones struct{ *store.Store }

func (z accessZones) Find(q zones.Name, t zones.Type) store.Holding {
	if isElsewhere(q) {
		return store.Holding{Status: store.Elsewhere, Apex: q}
	}
	return z.Store.Find(q, t)
}

type accessNotices struct {
	r     *accessRig
	front bool
}

func (n accessNotices) Zone(apex zones.Name) (store.ZoneInfo, error) {
	if n.front && isElsewhere(apex) {
		return store.ZoneInfo{}, store.ErrNotOpen
	}
	return n.r.st.Zone(apex)
}

func (n accessNotices) Notified(dnsserver.Notification) {}

func (n accessNotices) Pass(what dnsserver.Notification) (dnsserver.Verdict, error) {
	return n.r.holder.AnswerNotify(what), nil
}

// memoryTopic is a control topic.
type memoryTopic struct {
	mu      sync.Mutex
	records map[string][]byte
}

func (m *memoryTopic) List(prefix string) map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := map[string][]byte{}
	for key, value := range m.records {
		if strings.HasPrefix(key, prefix) {
			list[key] = value
		}
	}
	return list
}

func (m *memoryTopic) Changed() <-chan struct{} { return nil }

func (m *memoryTopic) put(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[key] = value
	return nil
}

// ask sends a message, and returns the answer as the tables write it: its RCODE, and the error of its TSIG or the extended error, if any.
func (r *accessRig) ask(who asker, network string, m *dns.Msg) (string, error) {
	m.SetEdns0(1232, false)
	packet, err := m.Pack()
	if err != nil {
		return "", err
	}
	var session *tsig.Session
	if who.key != nil {
		session = tsig.NewClient(*who.key)
		packet = session.SignRequest(packet, time.Now().Add(-who.age))
	}
	reply, err := exchangeFrom(who.from, network, r.front.Addrs()[0].String(), packet)
	if err != nil {
		return "", err
	}
	var got dns.Msg
	if err := got.Unpack(reply); err != nil {
		return "", err
	}
	text := dns.RcodeToString[got.Rcode]
	if opt := got.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				text += fmt.Sprint(" ", e.InfoCode)
			}
		}
	}
	switch record := got.IsTsig(); {
	case session == nil && record != nil:
		return "", errors.New("the answer to a message that was not signed is")
	case session != nil:
		_, err := session.VerifyAnswer(reply, time.Now())
		var refused *tsig.RefusedError
		switch errors.As(err, &refused); {
		case who.fault == tsig.BadTime && errors.Is(err, tsig.ErrTime):
			text += " BADTIME" // the answer's time is the request's, so that a client with such a clock takes it
		case refused != nil && refused.Signed == (refused.Reason == tsig.BadTime):
			text += " " + refused.Reason.String()
		case err != nil:
			return "", err
		}
	}
	return text, nil
}

// exchangeFrom sends a packet from an address, and returns the first message that answers it.
func exchangeFrom(from, network, to string, packet []byte) ([]byte, error) {
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	if network == "tcp" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		packet = append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	}
	conn, err := d.Dial(network, to)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	buf := make([]byte, 2+1<<16)
	if network == "udp" {
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return nil, err
	}
	reply := buf[2 : 2+int(binary.BigEndian.Uint16(buf))]
	_, err = io.ReadFull(conn, reply)
	return reply, err
}

// deedsAsked are the tables by their headings: what is granted, and the messages that try it.
var deedsAsked = map[string]struct {
	deed zones.Deed
	try  []accessTry
}{
	"Transfers": {zones.DeedTransfer, []accessTry{
		{"tcp", func(apex string) *dns.Msg { return new(dns.Msg).SetAxfr(apex) }},
		{"tcp", func(apex string) *dns.Msg { return new(dns.Msg).SetIxfr(apex, 0, ".", ".") }},
		{"udp", func(apex string) *dns.Msg { return new(dns.Msg).SetIxfr(apex, 0, ".", ".") }},
	}},
	"NOTIFY": {zones.DeedNotify, []accessTry{{"udp", func(apex string) *dns.Msg { return new(dns.Msg).SetNotify(apex) }}}},
	"UPDATE": {zones.DeedUpdate, []accessTry{{"udp", addTXT}, {"tcp", addTXT}}},
}

type accessTry struct {
	network string
	make    func(apex string) *dns.Msg
}

func addTXT(apex string) *dns.Msg {
	m := new(dns.Msg).SetUpdate(apex)
	m.Insert([]dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "added." + apex, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{"x"}}})
	return m
}

// bestowals are the ways in which something is granted.
var bestowals = []string{"grant", "acl"}

// apexOf is the zone of a kind to which something is granted in a way. Kinds are the rightmost label: what is elsewhere is known by that.
func apexOf(bestowal, what, kind string) string {
	return strings.ReplaceAll(strings.ReplaceAll(what, ",", ""), " ", "-") + "." + bestowal + "." + strings.ReplaceAll(kind, " ", "-") + "."
}

// TestAccess holds the tables of docs/access.md about who may do what.
func TestAccess(t *testing.T) {
	r := newAccessRig(t)
	for _, bestowal := range bestowals {
		for what, grant := range granted {
			var acl keyring.ACL
			for kind, begin := range zonesAsked {
				apex := apexOf(bestowal, what, kind)
				var s zones.ZoneSettings
				if grant != nil {
					g := *grant
					g.Deeds = zones.DeedTransfer | zones.DeedUpdate | zones.DeedNotify
					acl.Grant = g
					acl.Zones = append(acl.Zones, zones.NamePattern{Name: zones.MustParseName(apex), Self: true})
					if bestowal == "grant" {
						s.Grants = []zones.Grant{g}
					}
				}
				r.do(begin(apex, s)...)
			}
			if bestowal == "acl" && grant != nil {
				acl.Name = strings.ReplaceAll(strings.ReplaceAll(what, ",", ""), " ", "-")
				if err := r.ring.PutACL(t.Context(), acl); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for heading, deed := range deedsAsked {
		t.Run(heading, func(t *testing.T) {
			table := readAccessTable(t, heading)
			if !slices.Equal(table.columns[:2], []string{"who asks", "what is granted"}) || len(table.columns) != 2+len(zonesAsked) || len(table.rows) < len(askers) {
				t.Fatalf("%d columns, %q…, and %d rows: want all kinds of zones, and of who asks", len(table.columns), table.columns[:2], len(table.rows))
			}
			seen := map[string]bool{}
			for _, row := range table.rows {
				who, ok := askers[row[0]]
				if _, known := granted[row[1]]; !ok || !known {
					t.Fatalf("row %q, %q is not known here", row[0], row[1])
				}
				seen[row[0]], seen[row[1]] = true, true
				for i, want := range row[2:] {
					kind := table.columns[2+i]
					if zonesAsked[kind] == nil {
						t.Fatalf("column %q is not known here", kind)
					}
					for _, bestowal := range bestowals {
						for _, try := range deed.try {
							got, err := r.ask(who, try.network, try.make(apexOf(bestowal, row[1], kind)))
							if err != nil || got != want {
								t.Errorf("%s, where it is granted %s (by %s), zone %s, over %s: the page says %q, the server %q, %v", row[0], row[1], bestowal, kind, try.network, want, got, err)
							}
						}
					}
				}
			}
			for who := range askers {
				if !seen[who] {
					t.Errorf("there is no row for who is %s", who)
				}
			}
			for what := range granted {
				if !seen[what] {
					t.Errorf("there is no row for what is granted %s", what)
				}
			}
		})
	}
	for who, a := range askers {
		want := "NOTIMP"
		if a.fault != 0 {
			want = "NOTAUTH " + a.fault.String()
		}
		if got, err := r.ask(a, "udp", new(dns.Msg).SetAxfr(apexOf("acl", "to the network", "hosted"))); err != nil || got != want {
			t.Errorf("AXFR over UDP, %s: %q, %v", who, got, err)
		}
	}
}

// accessTable is a table of the page.
type accessTable struct {
	columns []string
	rows    [][]string
}

// readAccessTable reads the table under a heading, without the marks of code.
func readAccessTable(t *testing.T, heading string) (table accessTable) {
	t.Helper()
	page, err := os.ReadFile(accessPage)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", accessPage, heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	for line := range strings.Lines(section) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
		if !ok {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.TrimSuffix(line, "|"), "|") {
			cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "`", ""))
		}
		switch {
		case table.columns == nil:
			table.columns = cells
		case strings.HasPrefix(cells[0], "---"):
		case len(cells) != len(table.columns):
			t.Fatalf("under %q, row %q has %d cells", heading, cells[0], len(cells))
		default:
			table.rows = append(table.rows, cells)
		}
	}
	if len(table.rows) == 0 {
		t.Fatalf("%s has no table under %q", accessPage, heading)
	}
	return table
}

// namesGranted are the columns of the table about names and types.
var namesGranted = map[string]zones.Grant{
	"all":                        {},
	"www, and below":             {Names: []zones.NamePattern{{Name: "www", Self: true, Below: true}}},
	"below dyn":                  {Names: []zones.NamePattern{{Name: "dyn", Below: true}}},
	"TXT":                        {Types: []zones.Type{zones.TypeTXT}},
	"TXT at _acme-challenge.www": {Names: []zones.NamePattern{{Name: "_acme-challenge.www", Self: true}}, Types: []zones.Type{zones.TypeTXT}},
}

// updatesAsked are its rows.
var updatesAsked = map[string]func(m *dns.Msg, apex string){
	"A at www":                   func(m *dns.Msg, apex string) { m.Insert(rrsOf("www." + apex + " 60 A 192.0.2.2")) },
	"TXT at www":                 func(m *dns.Msg, apex string) { m.Insert(rrsOf("www." + apex + " 60 TXT x")) },
	"A at host.www":              func(m *dns.Msg, apex string) { m.Insert(rrsOf("host.www." + apex + " 60 A 192.0.2.2")) },
	"A at dyn":                   func(m *dns.Msg, apex string) { m.Insert(rrsOf("dyn." + apex + " 60 A 192.0.2.2")) },
	"A at host.dyn":              func(m *dns.Msg, apex string) { m.Insert(rrsOf("host.dyn." + apex + " 60 A 192.0.2.2")) },
	"TXT at _acme-challenge.www": func(m *dns.Msg, apex string) { m.Insert(rrsOf("_acme-challenge.www." + apex + " 60 TXT x")) },
	"A at www, and at dyn": func(m *dns.Msg, apex string) {
		m.Insert(rrsOf("www."+apex+" 60 A 192.0.2.3", "dyn."+apex+" 60 A 192.0.2.3"))
	},
	"removal of an A of www":              func(m *dns.Msg, apex string) { m.Remove(rrsOf("www." + apex + " 60 A 192.0.2.2")) },
	"removal of all A of www":             func(m *dns.Msg, apex string) { m.RemoveRRset(rrsOf("www." + apex + " 60 A 192.0.2.2")) },
	"removal of all TXT of www":           func(m *dns.Msg, apex string) { m.RemoveRRset(rrsOf("www." + apex + " 60 TXT x")) },
	"removal of www, which has A and TXT": func(m *dns.Msg, apex string) { m.RemoveName(rrsOf("www." + apex + " 60 A 192.0.2.2")) },
	"removal of _acme-challenge.www, which has TXT": func(m *dns.Msg, apex string) {
		m.RemoveName(rrsOf("_acme-challenge.www." + apex + " 60 TXT x"))
	},
	"SOA":                         func(m *dns.Msg, apex string) { m.Insert(rrsOf(apex + " 60 SOA ns1.test. h.test. 4000000000 1 1 1 1")) },
	"nothing, but a prerequisite": func(m *dns.Msg, apex string) { m.NameUsed(rrsOf(apex + " 60 A 192.0.2.2")) },
}

func rrsOf(lines ...string) (all []dns.RR) {
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return all
}

// TestAccessToNames holds the table about which records may be updated.
func TestAccessToNames(t *testing.T) {
	r := newAccessRig(t)
	table := readAccessTable(t, "Names and types")
	if len(table.columns) != 1+len(namesGranted) || len(table.rows) != len(updatesAsked) {
		t.Fatalf("%d columns and %d rows; want %d and %d", len(table.columns), len(table.rows), 1+len(namesGranted), len(updatesAsked))
	}
	number := 0
	for _, row := range table.rows {
		for i, want := range row[1:] {
			column, ok := namesGranted[table.columns[1+i]]
			update := updatesAsked[row[0]]
			if !ok || update == nil {
				t.Fatalf("%q in column %q is not known here", row[0], table.columns[1+i])
			}
			for _, bestowal := range bestowals {
				number++
				apex := fmt.Sprintf("zone%d.hosted.", number) // of its own, so that the rows are in any order
				g := zones.Grant{Deeds: zones.DeedUpdate, Key: grantedKey.Name, Types: column.Types}
				for _, p := range column.Names {
					p.Name = zones.MustParseName(string(p.Name) + "." + apex)
					g.Names = append(g.Names, p)
				}
				var s zones.ZoneSettings
				if bestowal == "grant" {
					s.Grants = []zones.Grant{g}
				} else if err := r.ring.PutACL(t.Context(), keyring.ACL{Name: fmt.Sprint("acl", number), Zones: []zones.NamePattern{{Name: zones.MustParseName(apex), Self: true}}, Grant: g}); err != nil {
					t.Fatal(err)
				}
				r.do(primaryZone(apex, s)...)
				r.do(storetest.Put(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1", "192.0.2.2"), storetest.Set("www."+apex, 60, zones.TypeTXT, "old"),
					storetest.Set("_acme-challenge.www."+apex, 60, zones.TypeTXT, "old")))
				m := new(dns.Msg).SetUpdate(apex)
				update(m, apex)
				got, err := r.ask(asker{from: fromElsewhere, key: &grantedKey}, "udp", m)
				if err != nil || got != want {
					t.Errorf("%s, where %s may be updated (by %s): the page says %q, the server %q, %v", row[0], table.columns[1+i], bestowal, want, got, err)
				}
			}
		}
	}
}
