//go:build peers

package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/replication/porttest"

	"github.com/miekg/dns"
)

// primary is a server of another kind that a zone comes from, and which says by NOTIFY that the zone has changed.
type primary struct {
	*peer
	zone string
	// overTLS is where it speaks TLS; "" for nowhere.
	overTLS string
	// change brings the zone to a serial, and adds the name "serial-N" to it.
	change func(t *testing.T, serial int)
	form   string // as which such a change comes
}

// zoneText is what a primary has in its file: what servers could write differently, and some messages full of hosts.
func zoneText(zone string, serial int) string {
	var b strings.Builder
	b.WriteString("$ORIGIN " + zone + "\n" + strings.Replace(variedZone, "hostmaster 1 ", fmt.Sprintf("hostmaster %d ", serial), 1))
	for i := range 2000 {
		fmt.Fprintf(&b, "n%04d A 192.0.2.1\nn%04d A 192.0.2.%d\n", i, i, 2+i%200)
	}
	for i := 2; i <= serial; i++ {
		fmt.Fprintf(&b, "serial-%d TXT \"%d\"\n", i, i)
	}
	return b.String()
}

func (p *primary) write(t *testing.T, serial int) { write(t, p.dir, "zone", zoneText(p.zone, serial)) }

// updates changes the zone by RFC 2136.
func (p *primary) updates(t *testing.T, serial int) {
	t.Helper()
	rr, err := dns.NewRR(fmt.Sprintf("serial-%d.%s 3600 TXT \"%d\"", serial, p.zone, serial))
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg).SetUpdate(p.zone)
	m.Insert([]dns.RR{rr})
	m.SetTsig(p.key.Name, p.key.Algorithm+".", 300, time.Now().Unix())
	client := &dns.Client{Net: "tcp", Timeout: time.Minute, TsigSecret: map[string]string{p.key.Name: p.key.Secret}}
	if reply, _, err := client.Exchange(m, p.addr); err != nil || reply.Rcode != dns.RcodeSuccess {
		t.Fatalf("update of %s: %v %v", p.name, err, reply)
	}
}

func (p *primary) startNSD(t *testing.T, to string) {
	conf := write(t, p.dir, "nsd.conf", fmt.Sprintf(`
server:
  ip-address: %[1]s
  username: ""
  server-count: 1
  database: ""
  zonesdir: "%[2]s"
  pidfile: "%[2]s/nsd.pid"
  xfrdfile: "%[2]s/xfrd.state"
  xfrdir: "%[2]s"
  zonelistfile: "%[2]s/zone.list"
  xfrd-reload-timeout: 0
remote-control:
  control-enable: yes
  control-interface: "%[2]s/control"
key:
  name: "%[3]s"
  algorithm: %[4]s
  secret: "%[5]s"
zone:
  name: "%[6]s"
  zonefile: "zone"
  provide-xfr: 127.0.0.1 %[3]s
  notify: %[7]s %[3]s
`, between(p.addr, "@"), p.dir, p.key.Name, p.key.Algorithm, p.key.Secret, p.zone, between(to, "@")))
	p.run(t, "nsd", "-d", "-c", conf)
	p.form = "AXFR" // it has no differences to give
	p.change = func(t *testing.T, serial int) {
		p.write(t, serial)
		tool(t, "nsd-control", "-c", conf, "reload", p.zone)
	}
}

func (p *primary) startKnot(t *testing.T, to string) {
	program, over := "knotd", ""
	if p.tls {
		program = knotTLS(t)
		p.overTLS = porttest.Free(t, "127.0.0.1")
		over = fmt.Sprintf("\n    listen-tls: %s\n    cert-file: \"%s/own.crt\"\n    key-file: \"%s/own.key\"", between(p.overTLS, "@"), p.dir, p.dir)
	}
	conf := write(t, p.dir, "knot.conf", knotHead(p.peer, over)+fmt.Sprintf(`
remote:
  - id: downstream
    address: %[3]s
    key: "%[2]s"
acl:
  - id: downstream
    address: 127.0.0.1
    key: "%[2]s"
    action: [transfer, update]
zone:
  - domain: "%[4]s"
    storage: "%[1]s"
    file: zone
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    notify: downstream
    acl: downstream
`, p.dir, p.key.Name, between(to, "@"), p.zone))
	p.run(t, program, "-c", conf)
	p.form, p.change = "IXFR", p.updates
}

func (p *primary) startBIND(t *testing.T, to string) {
	_, own := p.hostPort()
	over := ""
	if p.tls {
		p.overTLS = porttest.Free(t, "127.0.0.1")
		over = fmt.Sprintf("listen-on %s tls own { 127.0.0.1; };", strings.Replace(p.overTLS, "127.0.0.1:", "port ", 1))
	}
	conf := write(t, p.dir, "named.conf", fmt.Sprintf(`
tls own { cert-file "%[1]s/own.crt"; key-file "%[1]s/own.key"; };
options {
	directory "%[1]s";
	pid-file none;
	session-keyfile "%[1]s/session.key";
	managed-keys-directory "%[1]s";
	listen-on port %[2]s { 127.0.0.1; };
	%[8]s
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify-delay 0;
	serial-query-rate 100;
	notify-rate 100;
	startup-notify-rate 100;
};
controls { };
key "%[3]s" { algorithm %[4]s; secret "%[5]s"; };
zone "%[6]s" {
	type primary;
	file "zone";
	notify explicit;
	also-notify { %[7]s key "%[3]s"; };
	allow-transfer { key "%[3]s"; };
	allow-update { key "%[3]s"; };
};
`, p.dir, own, p.key.Name, p.key.Algorithm, p.key.Secret, p.zone, between(to, " port "), over))
	p.run(t, "named", "-g", "-n", "1", "-c", conf)
	p.form, p.change = "IXFR", p.updates
}

func (p *primary) startPowerDNS(t *testing.T, to string) {
	host, port := p.hostPort()
	database := filepath.Join(p.dir, "zones.db")
	write(t, p.dir, "pdns.conf", fmt.Sprintf(`
launch=gsqlite3
gsqlite3-database=%s
local-address=%s
local-port=%s
socket-dir=%s
primary=yes
only-notify=
also-notify=%s
disable-axfr=no
allow-axfr-ips=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
zone-metadata-cache-ttl=0
domain-metadata-cache-ttl=0
security-poll-suffix=
guardian=no
daemon=no
disable-syslog=yes
loglevel=5
`, database, host, port, p.dir, to))
	tool(t, "sqlite3", database, ".read "+powerDNSSchema)
	util := func(args ...string) { tool(t, "pdnsutil", append([]string{"--config-dir=" + p.dir}, args...)...) }
	util("load-zone", p.zone, filepath.Join(p.dir, "zone"))
	util("set-kind", p.zone, "primary")
	util("import-tsig-key", p.key.Name, p.key.Algorithm, p.key.Secret)
	util("activate-tsig-key", p.zone, p.key.Name, "primary")
	p.run(t, "pdns_server", "--config-dir="+p.dir)
	p.form = "AXFR" // it has no differences to give
	p.change = func(t *testing.T, serial int) {
		p.write(t, serial)
		util("load-zone", p.zone, filepath.Join(p.dir, "zone"))
		tool(t, "pdns_control", "--config-dir="+p.dir, "--socket-dir="+p.dir, "notify", p.zone)
	}
}

// transfers is what `zone status -o json` says.
type transfers struct {
	Serial    uint32 `json:"serial"`
	Secondary *struct {
		Standing string `json:"standing"`
		OnDuty   bool   `json:"on_duty"`
		Failures int    `json:"failures"`
		Error    string `json:"error"`
		Last     *struct {
			Form   string `json:"form"`
			Serial uint32 `json:"serial"`
		} `json:"last_transfer"`
	} `json:"secondary"`
}

// comes waits until the zone of a primary is here with its serial.
func (p *primary) comes(t *testing.T, n node, serial uint32) {
	t.Helper()
	if err := n.Await(2*time.Minute, p.name, func() bool {
		got, ok := p.served(n)
		return ok && got == serial
	}); err != nil {
		t.Fatalf("%v: %s\n%s", err, n.cli("zone", "status", p.zone), n.Log())
	}
}

// served is the serial of the zone here.
func (p *primary) served(n node) (uint32, bool) { return serialAt(n.DNS, p.zone) }

// TestOtherServersAsPrimaries: NSD, Knot, BIND, Knot and BIND over TLS, and PowerDNS, side by side, are primaries, each with a key of its own. Their zones come, whatever
// they are changed to follows within moments of their NOTIFYs, as differences from those that have them, and is then here record for record. What
// is refused changes nothing, and says why.
func TestOtherServersAsPrimaries(t *testing.T) {
	const changes = 5
	certs := t.TempDir()
	cert, key := issue(t, certs, "primary.test")
	n := start(t, "--dns-allow-peers", "127.0.0.0/8", "--secondary-tls-ca", cert)
	begin := func(start func(p *primary, t *testing.T, to string), name, algorithm string, tls bool) *primary {
		label := strings.ToLower(strings.ReplaceAll(name, " ", "-")) + ".example."
		p := &primary{peer: newPeer(t, name, jsonOf[tsigKey](n, "tsig", "create", label, "--algorithm", algorithm), tls), zone: label}
		p.write(t, 1)
		copyFile(t, cert, filepath.Join(p.dir, "own.crt"))
		copyFile(t, key, filepath.Join(p.dir, "own.key"))
		start(p, t, n.DNS)
		return p
	}
	all := []*primary{
		begin((*primary).startNSD, "NSD", "hmac-sha256", false),
		begin((*primary).startKnot, "Knot", "hmac-sha384", false),
		begin((*primary).startKnot, "Knot over TLS", "hmac-sha512", true),
		begin((*primary).startBIND, "BIND", "hmac-sha224", false),
		begin((*primary).startBIND, "BIND over TLS", "hmac-sha256", true),
		begin((*primary).startPowerDNS, "PowerDNS", "hmac-sha512", false),
	}
	for _, p := range all {
		if err := n.Await(time.Minute, p.name, func() bool { _, ok := p.serial(p.zone); return ok }); err != nil {
			t.Fatal(err)
		}
		// Once with a key that the primary does not know: nothing comes, and it says so.
		other := all[0].key.Name
		if p == all[0] {
			other = all[1].key.Name
		}
		args := []string{"--secondary-of", p.addr}
		if p.tls {
			args = []string{"--secondary-of", p.overTLS, "--tls=primary.test"}
		}
		n.cli(append([]string{"zone", "create", p.zone, "--tsig", other}, args...)...)
		n.fails(1, "", "zone", "refresh", p.zone)
		st := jsonOf[transfers](n, "zone", "status", p.zone)
		if st.Serial != 0 || st.Secondary == nil || st.Secondary.Standing != "awaiting" || st.Secondary.Error == "" || st.Secondary.Last != nil {
			t.Errorf("%s with another key: %+v", p.name, st)
		}
		n.cli(append([]string{"zone", "set", p.zone, "--allow-transfer", "127.0.0.1", "--tsig", p.key.Name}, args...)...)
		n.cli("zone", "refresh", p.zone)
		p.comes(t, n, 1)
	}
	for serial := 2; serial <= 1+changes; serial++ {
		for _, p := range all {
			p.change(t, serial)
		}
		for _, p := range all {
			p.comes(t, n, uint32(serial))
		}
	}
	for _, p := range all {
		alike(t, p.name, transferred(t, p.name, n.DNS, p.zone, nil), transferred(t, p.name, p.addr, p.zone, &p.key))
		var st transfers
		until(t, p.name+": it is noted how the last change came", func() bool {
			st = jsonOf[transfers](n, "zone", "status", p.zone)
			return st.Secondary == nil || st.Secondary.Last != nil && st.Secondary.Last.Serial == 1+changes
		})
		if s := st.Secondary; s == nil || !s.OnDuty || s.Standing != "served" || s.Last == nil || s.Last.Form != p.form || s.Last.Serial != 1+changes {
			t.Errorf("%s: %s", p.name, n.cli("zone", "status", p.zone))
		}
		n.cli("zone", "retransfer", p.zone)
		if st := jsonOf[transfers](n, "zone", "status", p.zone); st.Secondary == nil || st.Secondary.Last == nil || st.Secondary.Last.Form != "AXFR" {
			t.Errorf("%s, fetched whole: %+v", p.name, st)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
