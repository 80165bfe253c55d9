package notify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/replication/porttest"
	"balefire/zones"
	"balefire/zones/catalog"
)

// The tests in this file have NSD, Knot and BIND be notified: secondaries that look by themselves once an hour.

// peerPatience ends a test that waits for a server.
const peerPatience = 2 * time.Minute

// secondaryConf makes a server's configuration. key is who must sign NOTIFYs; "" for nobody.
type secondaryConf func(dir, addr, primary, zone, key string) string

const testSecret = "c2VjcmV0IG9mIGEgdGVzdCBrZXk="

func nsdConf(dir, addr, primary, zone, key string) string {
	me, err := user.Current()
	if err != nil {
		panic(err)
	}
	host, port, _ := net.SplitHostPort(addr)
	by := "NOKEY"
	if key != "" {
		by = key
	}
	return fmt.Sprintf(`
server:
  ip-address: %[2]s@%[3]s
  username: "%[4]s"
  server-count: 1
  database: ""
  zonesdir: "%[1]s"
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: "%[1]s/xfrd.state"
  xfrdir: "%[1]s"
  zonelistfile: "%[1]s/zone.list"
  logfile: "%[1]s/log"
  verbosity: 2
remote-control:
  control-enable: no
key:
  name: "test.key"
  algorithm: hmac-sha256
  secret: "%[7]s"
zone:
  name: "%[5]s"
  zonefile: "%[1]s/zone"
  request-xfr: AXFR %[8]s NOKEY
  allow-notify: 127.0.0.1 %[6]s
`, dir, host, port, me.Username, zone, by, testSecret, strings.Replace(primary, ":", "@", 1))
}

func knotConf(dir, addr, primary, zone, key string) string {
	by := ""
	if key != "" {
		by = "    key: " + key + "\n"
	}
	return fmt.Sprintf(`
server:
    rundir: "%[1]s"
    listen: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "%[1]s"
log:
  - target: "%[1]s/log"
    any: info
key:
  - id: test.key
    algorithm: hmac-sha256
    secret: %[5]s
remote:
  - id: primary
    address: %[3]s
acl:
  - id: notify
    address: 127.0.0.1
    action: notify
%[6]s
template:
  - id: default
    storage: "%[1]s"
  - id: member
    storage: "%[1]s"
    master: primary
zone:
  - domain: "%[4]s"
    master: primary
    acl: notify
%[7]s`, dir, strings.Replace(addr, ":", "@", 1), strings.Replace(primary, ":", "@", 1), zone, testSecret, by, knotCatalog(zone))
}

func knotCatalog(zone string) string {
	if zone != catalogZone {
		return ""
	}
	return "    catalog-role: interpret\n    catalog-template: member\n"
}

func bindConf(dir, addr, primary, zone, key string) string {
	host, port, _ := net.SplitHostPort(addr)
	primaryHost, primaryPort, _ := net.SplitHostPort(primary)
	allow, catalogs := "", ""
	if key != "" {
		allow = fmt.Sprintf("allow-notify { !{ !%s; any; }; key %s; };", host, key)
	}
	if zone == catalogZone {
		catalogs = fmt.Sprintf("catalog-zones { zone \"%s\" default-primaries { %s port %s; } in-memory no zone-directory \"%s\" min-update-interval 1; };", zone, primaryHost, primaryPort, dir)
	}
	return fmt.Sprintf(`
key "test.key" { algorithm hmac-sha256; secret "%[6]s"; };
options {
  directory "%[1]s";
  pid-file "%[1]s/named.pid";
  session-keyfile "%[1]s/session.key";
  listen-on port %[3]s { %[2]s; };
  listen-on-v6 { none; };
  recursion no;
  dnssec-validation no;
  notify no;
  %[9]s
};
controls { };
logging { channel c { file "%[1]s/log"; severity debug 1; }; category default { c; }; category notify { c; }; category general { c; }; };
zone "%[4]s" {
  type secondary;
  file "%[1]s/zone";
  primaries { %[7]s port %[8]s; };
  %[5]s
};
`, dir, host, port, strings.TrimSuffix(zone, "."), allow, testSecret, primaryHost, primaryPort, catalogs)
}

var secondaries = []struct {
	name    string
	program string
	args    []string
	conf    secondaryConf
}{
	{"NSD", "nsd", []string{"-d", "-c"}, nsdConf},
	{"Knot", "knotd", []string{"-c"}, knotConf},
	{"BIND", "named", []string{"-g", "-c"}, bindConf},
}

// startServer runs a server until the test ends.
func startServer(t *testing.T, dir, conf, program string, args ...string) {
	path, err := exec.LookPath(program)
	if err != nil {
		path = "/usr/sbin/" + program
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("install nsd, knot and bind9: %v", err)
		}
	}
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, file)...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("stop %s: %v", program, err)
		}
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the exit code after an interrupt says nothing
		late.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s said: %s\n%s", program, output.String(), log)
		}
	})
}

// primary is a server that has zones to be transferred.
type primary struct {
	addr string
	mu   sync.Mutex
	has  map[string][]dns.RR // by apex; the SOA first
}

func startPrimary(t *testing.T) *primary {
	p := &primary{addr: porttest.Free(t, "127.0.0.1"), has: map[string][]dns.RR{}}
	for _, network := range []string{"udp", "tcp"} {
		up := make(chan struct{})
		s := &dns.Server{Addr: p.addr, Net: network, Handler: p, NotifyStartedFunc: func() { close(up) }}
		failed := make(chan error, 1)
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-up:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return p
}

// ServeDNS answers with the SOA, or with the whole zone.
func (p *primary) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	p.mu.Lock()
	has := p.has[strings.ToLower(q.Question[0].Name)]
	p.mu.Unlock()
	switch {
	case len(has) == 0:
		m.Rcode = dns.RcodeRefused
	case q.Question[0].Qtype == dns.TypeSOA:
		m.Answer = has[:1]
	default:
		m.Answer = append(slices.Clone(has), has[0])
	}
	_ = w.WriteMsg(m)
}

func (p *primary) put(t *testing.T, apex string, sets []zones.RRset) {
	var all []dns.RR
	for _, s := range sets {
		for rdata := range s.RDatas() {
			packed := append([]byte(s.Owner), 0, 0, 0, 1)
			binary.BigEndian.PutUint16(packed[len(s.Owner):], uint16(s.Type))
			packed = binary.BigEndian.AppendUint32(packed, s.TTL)
			packed = append(binary.BigEndian.AppendUint16(packed, uint16(len(rdata))), rdata...)
			rr, _, err := dns.UnpackRR(packed, 0)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rr)
		}
	}
	slices.SortStableFunc(all, func(a, b dns.RR) int { return notSOA(a) - notSOA(b) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.has[apex] = all
}

func notSOA(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeSOA {
		return 0
	}
	return 1
}

func records(t *testing.T, texts ...string) (sets []zones.RRset) {
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		packed := make([]byte, 1000)
		n, err := dns.PackRR(rr, packed, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		owner, at, err := zones.NameFromWire(packed)
		if err != nil {
			t.Fatal(err)
		}
		s, err := zones.NewRRset(owner, zones.Type(rr.Header().Rrtype), rr.Header().Ttl, packed[at+10:n])
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, s)
	}
	return sets
}

// zone is a zone that is refreshed once an hour.
func hourly(t *testing.T, apex string, serial int) []zones.RRset {
	return records(t, fmt.Sprintf("%s 60 SOA ns.%s h.%s %d 3600 3600 1209600 60", apex, apex, apex, serial), apex+" 60 NS ns."+apex, "ns."+apex+" 60 A 192.0.2.1")
}

// awaitSerial asks a server for a SOA until it has a serial.
func awaitSerial(t *testing.T, addr, apex string, serial uint32) {
	t.Helper()
	deadline := time.Now().Add(peerPatience)
	client := &dns.Client{Net: "tcp", Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(apex, dns.TypeSOA), addr)
		if err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1 && reply.Answer[0].(*dns.SOA).Serial == serial {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not serial %d of %s: %v %v", addr, serial, apex, err, reply)
		}
		<-tick.C
	}
}

// one is a Source of whatever is in it, all in one partition.
type one struct{}

func (one) Partitions() int32 { return 1 }
func (one) OnDuty(int32) bool { return true }

func (one) EachNotified(_ context.Context, _ int32, _ func(Zone)) error { return nil }

// miekgSession signs with the library.
type miekgSession struct{ mac string }

func (s *miekgSession) SignRequest(msg []byte, now time.Time) []byte {
	var m dns.Msg
	if err := m.Unpack(msg); err != nil {
		panic(err)
	}
	m.SetTsig("test.key.", dns.HmacSHA256, 300, now.Unix())
	packed, mac, err := dns.TsigGenerate(&m, testSecret, "", false)
	if err != nil {
		panic(err)
	}
	s.mac = mac
	return packed
}

func (s *miekgSession) VerifyAnswer(msg []byte, _ time.Time) ([]byte, error) {
	if err := dns.TsigVerify(msg, testSecret, s.mac, false); err != nil {
		return nil, err
	}
	var m dns.Msg
	if err := m.Unpack(msg); err != nil {
		return nil, err
	}
	m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeTSIG })
	return m.Pack()
}

// startNotifier starts a notifier that may reach loopback, and waits until it is on duty.
func startNotifier(t *testing.T) *Notifier {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	n := New(Options{
		Source: one{}, Allowed: []netip.Prefix{loopback}, Local: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		Session: func(zones.Name) (Session, error) { return &miekgSession{}, nil },
		Logger:  zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	awaitThat(t, "on duty", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.parts) == 1 })
	return n
}

func awaitThat(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(peerPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-tick.C
	}
}

// Each server fetches a zone at once when it is notified, with and without a signature, and says so in its answer.
func TestServersHeedOurNotify(t *testing.T) {
	const apex = "example.test."
	for _, s := range secondaries {
		for _, key := range []string{"", "test.key"} {
			t.Run(s.name+"/"+key, func(t *testing.T) {
				from, addr, dir := startPrimary(t), porttest.Free(t, "127.0.0.1"), t.TempDir()
				from.put(t, apex, hourly(t, apex, 1))
				startServer(t, dir, s.conf(dir, addr, from.addr, apex, key), s.program, s.args...)
				awaitSerial(t, addr, apex, 1)
				n := startNotifier(t)
				to := zones.Remote{Addr: netip.MustParseAddrPort(addr)}
				if key != "" {
					to.Key = zones.MustParseName(key)
				}
				for serial := zones.Serial(2); serial < 5; serial++ {
					from.put(t, apex, hourly(t, apex, int(serial)))
					n.Changed(0, Zone{Apex: zones.MustParseName(apex), Serial: serial, At: int64(serial), Remote: []zones.Remote{to}}, false)
					awaitSerial(t, addr, apex, uint32(serial))
					awaitThat(t, "the answer", func() bool {
						all, err := n.Notified(zones.MustParseName(apex))
						return err == nil && !all[0].Pending && all[0].Serial == serial && all[0].Fault == ""
					})
				}
				// Of a zone that it does not have, and not signed when it should be; but BIND takes those from primaries all the same.
				n.Changed(0, Zone{Apex: zones.MustParseName("other.test."), Serial: 1, At: 1, Remote: []zones.Remote{to}}, false)
				refused := []string{"other.test."}
				if key != "" && s.name != "BIND" {
					to.Key = ""
					n.Changed(0, Zone{Apex: zones.MustParseName(apex), Serial: 9, At: 9, Remote: []zones.Remote{to}}, false)
					refused = append(refused, apex)
				}
				for _, apex := range refused {
					// Knot does not sign that, and BIND's signature the library has no word for: then it is tried again.
					awaitThat(t, "the refusal", func() bool {
						all, err := n.Notified(zones.MustParseName(apex))
						return err == nil && strings.HasPrefix(all[0].Fault, "answered ") && (!all[0].Pending || key != "")
					})
					all, _ := n.Notified(zones.MustParseName(apex))
					t.Logf("%s: %s", apex, all[0].Fault)
				}
			})
		}
	}
}

const catalogZone = "catalog.test."

// Knot and BIND serve what our catalogs list, and no longer what they don't, as soon as they are notified.
func TestServersHeedOurCatalogs(t *testing.T) {
	apex := zones.MustParseName(catalogZone)
	for _, s := range secondaries[1:] {
		t.Run(s.name, func(t *testing.T) {
			from, addr, dir := startPrimary(t), porttest.Free(t, "127.0.0.1"), t.TempDir()
			publish := func(serial zones.Serial, members ...catalog.Member) {
				c, err := catalog.New(apex, members)
				if err != nil {
					t.Fatal(err)
				}
				sets, err := c.RRsets(serial, catalog.DefaultTiming)
				if err != nil {
					t.Fatal(err)
				}
				from.put(t, catalogZone, sets)
			}
			member := func(zone, born string, groups ...string) catalog.Member {
				name := zones.MustParseName(zone)
				return catalog.Member{Zone: name, Label: catalog.MemberLabel(name, born), Groups: groups}
			}
			for _, zone := range []string{"one.test.", "two.test.", "three.test."} {
				from.put(t, zone, hourly(t, zone, 7))
			}
			groups := []string{"a group", "b"}
			if s.name == "Knot" {
				groups = groups[:1] // its version 3.2 takes a catalog for broken that has several for a member
			}
			publish(1, member("one.test.", "0@1"), member("two.test.", "0@2", groups...))
			startServer(t, dir, s.conf(dir, addr, from.addr, catalogZone, ""), s.program, s.args...)
			awaitSerial(t, addr, "one.test.", 7)
			awaitSerial(t, addr, "two.test.", 7)
			n := startNotifier(t)
			to := []zones.Remote{{Addr: netip.MustParseAddrPort(addr)}}
			publish(2, member("one.test.", "0@1"), member("three.test.", "0@3"))
			n.Changed(0, Zone{Apex: apex, Serial: 2, At: 2, Remote: to}, false)
			awaitSerial(t, addr, "three.test.", 7)
			awaitSerial(t, addr, "one.test.", 7)
			awaitThat(t, "two.test is gone", func() bool {
				reply, err := dns.Exchange(new(dns.Msg).SetQuestion("two.test.", dns.TypeSOA), addr)
				return err == nil && reply.Rcode == dns.RcodeRefused
			})
			// Another label: the zone begins anew, and has what the primary has now, although its serial is lower.
			from.put(t, "one.test.", hourly(t, "one.test.", 3))
			publish(3, member("one.test.", "0@9"), member("three.test.", "0@3"))
			n.Changed(0, Zone{Apex: apex, Serial: 3, At: 3, Remote: to}, false)
			awaitSerial(t, addr, "one.test.", 3)
		})
	}
}

// What Knot generates as a catalog is read by us.
func TestKnotsCatalogIsRead(t *testing.T) {
	addr, dir := porttest.Free(t, "127.0.0.1"), t.TempDir()
	for _, zone := range []string{"one.test.", "two.test."} {
		text := fmt.Sprintf("%[1]s 60 SOA ns.%[1]s h.%[1]s 1 2 3 4 5\n%[1]s 60 NS ns.%[1]s\nns.%[1]s 60 A 192.0.2.1\n", zone)
		if err := os.WriteFile(filepath.Join(dir, zone+"zone"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startServer(t, dir, fmt.Sprintf(`
server:
    rundir: "%[1]s"
    listen: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "%[1]s"
log:
  - target: "%[1]s/log"
    any: info
acl:
  - id: all
    address: 127.0.0.1
    action: transfer
template:
  - id: default
    storage: "%[1]s"
    file: "%%s.zone"
    acl: all
  - id: member
    storage: "%[1]s"
    file: "%%s.zone"
    catalog-role: member
    catalog-zone: %[3]s
zone:
  - domain: %[3]s
    catalog-role: generate
  - domain: one.test.
    template: member
    catalog-group: some-group
  - domain: two.test.
    template: member
`, dir, strings.Replace(addr, ":", "@", 1), catalogZone), "knotd", "-c")
	var c *catalog.Catalog
	awaitThat(t, "a catalog of two", func() bool {
		tr := new(dns.Transfer)
		envelopes, err := tr.In(new(dns.Msg).SetAxfr(catalogZone), addr)
		if err != nil {
			return false
		}
		var sets []zones.RRset
		for e := range envelopes {
			if e.Error != nil {
				return false
			}
			for _, rr := range e.RR {
				sets = append(sets, records(t, rr.String())...)
			}
		}
		c, err = catalog.Parse(zones.MustParseName(catalogZone), slices.Values(sets))
		if err != nil {
			t.Fatal(err)
		}
		return c.Len() == 2
	})
	if m, ok := c.Member(zones.MustParseName("one.test.")); !ok || !slices.Equal(m.Groups, []string{"some-group"}) {
		t.Errorf("%+v", m)
	}
}
