//go:build peers

package contract

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// startCatalogBIND starts BIND as a consumer of a catalog.
func startCatalogBIND(t *testing.T, p *peer, from upstream, catalog string) {
	_, own := p.hostPort()
	primary := between(from.addr, " port ")
	conf := write(t, p.dir, "named.conf", fmt.Sprintf(`
options {
	directory "%[1]s";
	pid-file none;
	session-keyfile "%[1]s/session.key";
	managed-keys-directory "%[1]s";
	listen-on port %[2]s { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify no;
	allow-transfer { 127.0.0.1; };
	catalog-zones { zone "%[6]s" default-primaries { %[7]s key "%[3]s"; } in-memory yes min-update-interval 1; };
};
controls { };
key "%[3]s" { algorithm %[4]s; secret "%[5]s"; };
zone "%[6]s" { type secondary; primaries { %[7]s key "%[3]s"; }; allow-notify { key "%[3]s"; }; file "catalog"; };
`, p.dir, own, p.key.Name, p.key.Algorithm, p.key.Secret, strings.TrimSuffix(catalog, "."), primary))
	p.run(t, "named", "-g", "-n", "1", "-c", conf)
}

// startCatalogKnot starts Knot as a consumer of a catalog. Zones of the group "grouped" are not served: Knot's template for them has them come from nowhere.
func startCatalogKnot(t *testing.T, p *peer, from upstream, catalog string) {
	conf := write(t, p.dir, "knot.conf", knotHead(p, "")+fmt.Sprintf(`
remote:
  - id: upstream
    address: %[1]s
    key: "%[2]s"
acl:
  - id: notices
    address: 127.0.0.1
    key: "%[2]s"
    action: notify
  - id: local
    address: 127.0.0.1
    action: transfer
template:
  - id: member
    storage: "%[3]s"
    zonefile-load: none
    zonefile-sync: -1
    journal-content: all
    master: upstream
    acl: [notices, local]
  - id: grouped
    storage: "%[3]s/nowhere"
zone:
  - domain: "%[4]s"
    storage: "%[3]s"
    zonefile-load: none
    zonefile-sync: -1
    journal-content: all
    master: upstream
    acl: [notices, local]
    catalog-role: interpret
    catalog-template: [member, grouped]
`, between(from.addr, "@"), p.key.Name, p.dir, catalog))
	p.run(t, "knotd", "-c", conf)
}

// gone reports whether a server does not know of a zone.
func gone(addr, zone string) func() bool {
	return func() bool {
		client := &dns.Client{Timeout: 2 * time.Second}
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), addr)
		return err == nil && reply.Rcode == dns.RcodeRefused
	}
}

// atSerial reports whether a server answers for a zone with a serial.
func atSerial(addr, zone string, serial uint32) func() bool {
	return func() bool {
		got, ok := serialAt(addr, zone)
		return ok && got == serial
	}
}

// TestOtherServersConsumeCatalogs: BIND and Knot host what a catalog of this server lists, and no longer what it lists no longer; a zone that was made anew
// with a lower serial is its new self there.
func TestOtherServersConsumeCatalogs(t *testing.T) {
	const catalog = "catalog.test."
	n := start(t, "--dns-allow-peers", "127.0.0.0/8")
	from := upstream{addr: n.DNS}
	key := jsonOf[tsigKey](n, "tsig", "create", "catalogs.example.")
	n.cli("acl", "set", "consumers", "--allow", "transfer", "--key", key.Name)
	have := func(zone string, serial int) {
		text := fmt.Sprintf("@ 60 SOA ns1 host %d 3600 600 86400 60\n@ 60 NS ns1\nns1 60 A 192.0.2.1\n", serial)
		n.cli("zone", "import", "--origin", zone, write(t, t.TempDir(), "zone", text))
	}
	have("a.test.", 7)
	have("b.test.", 9)
	bind, knot := newPeer(t, "BIND", key, false), newPeer(t, "Knot", key, false)
	n.cli("catalog", "create", catalog, "--notify", bind.notice()+","+knot.notice())
	startCatalogBIND(t, bind, from, catalog)
	startCatalogKnot(t, knot, from, catalog)
	each := func(what string, holds func(addr string) func() bool) {
		t.Helper()
		for _, p := range []*peer{bind, knot} {
			until(t, p.name+" "+what, holds(p.addr))
		}
	}
	serves := func(zone string, serial uint32) {
		t.Helper()
		each("serves "+zone, func(addr string) func() bool { return atSerial(addr, zone, serial) })
	}
	serves("a.test.", 7)
	serves("b.test.", 9)

	have("c.test.", 1)
	n.cli("zone", "delete", "a.test.")
	n.cli("zone", "delete", "b.test.")
	have("b.test.", 3)
	serves("c.test.", 1)
	serves("b.test.", 3) // made anew
	each("no longer has a.test.", func(addr string) func() bool { return gone(addr, "a.test.") })
	for _, p := range []*peer{bind, knot} {
		alike(t, p.name, transferred(t, p.name, p.addr, "c.test.", nil), transferred(t, "Balefire", n.DNS, "c.test.", &key))
		alike(t, p.name, transferred(t, p.name, p.addr, catalog, nil), transferred(t, "Balefire", n.DNS, catalog, &key))
	}
	// Knot goes by groups.
	n.cli("zone", "create", "d.test.", "--ns", "ns1", "--group", "grouped")
	until(t, "BIND serves d.test.", atSerial(bind.addr, "d.test.", 1))
	until(t, "Knot has it by another template", func() bool {
		client := &dns.Client{Timeout: 2 * time.Second}
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("d.test.", dns.TypeSOA), knot.addr)
		return err == nil && reply.Rcode == dns.RcodeServerFailure
	})
	serves("b.test.", 3)
}

// TestOtherServersProduceCatalogs: what Knot's generated catalog lists, and one for BIND that was written by hand, is hosted here, and no longer when it is
// not listed any more; a catalog that is broken changes nothing.
func TestOtherServersProduceCatalogs(t *testing.T) {
	n := startWith(t, balefiretest.How{
		Args: []string{"--dns-allow-peers", "127.0.0.0/8", "--secondary-min-refresh", "1s", "--secondary-min-retry", "1s"},
		DNS:  []string{porttest.Free(t, "127.0.0.1")},
	})
	key := jsonOf[tsigKey](n, "tsig", "create", "catalogs.example.")
	zoneText := "@ 60 SOA ns1 host %d 3600 600 86400 60\n@ 60 NS ns1\nns1 60 A 192.0.2.1\n"

	// Knot: members are in its configuration.
	knot := newPeer(t, "Knot", key, false)
	configure := func(members ...string) {
		var b strings.Builder
		fmt.Fprintf(&b, `%s
remote:
  - id: consumer
    address: %s
    key: "%s"
acl:
  - id: consumer
    key: "%[3]s"
    action: transfer
zone:
  - domain: knot.catalog.
    storage: "%[4]s"
    catalog-role: generate
    notify: consumer
    acl: consumer
`, knotHead(knot, ""), between(n.DNS, "@"), key.Name, knot.dir)
		for i, m := range members {
			fmt.Fprintf(&b, `  - domain: %s
    storage: "%s"
    file: %[1]szone
    zonefile-sync: -1
    notify: consumer
    acl: consumer
    catalog-role: member
    catalog-zone: knot.catalog.
    catalog-group: group-%[3]d
`, m, knot.dir, i)
			write(t, knot.dir, m+"zone", fmt.Sprintf(zoneText, 40+i))
		}
		write(t, knot.dir, "knot.conf", b.String())
	}
	configure("a.knot.", "b.knot.")
	knotProcess := knot.start(t, "knotd", "-c", knot.dir+"/knot.conf")

	// BIND: the catalog is a zone like any other, which is changed by updates.
	bind := newPeer(t, "BIND", key, false)
	write(t, bind.dir, "catalog", `$TTL 0
@ SOA invalid. invalid. 1 60 60 86400 0
@ NS invalid.
version TXT "2"
one.zones PTR a.bind.
group.one.zones TXT "signed"
two.zones PTR b.bind.
`)
	write(t, bind.dir, "a", "$TTL 60\n"+fmt.Sprintf(zoneText, 5))
	write(t, bind.dir, "b", "$TTL 60\n"+fmt.Sprintf(zoneText, 6))
	_, own := bind.hostPort()
	conf := write(t, bind.dir, "named.conf", fmt.Sprintf(`
options {
	directory "%[1]s";
	pid-file none;
	session-keyfile "%[1]s/session.key";
	managed-keys-directory "%[1]s";
	listen-on port %[2]s { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify explicit;
	notify-delay 0;
	also-notify { %[6]s; };
	allow-transfer { key "%[3]s"; };
};
controls { };
key "%[3]s" { algorithm %[4]s; secret "%[5]s"; };
zone "bind.catalog" { type primary; file "catalog"; allow-update { 127.0.0.1; }; };
zone "a.bind" { type primary; file "a"; };
zone "b.bind" { type primary; file "b"; };
`, bind.dir, own, key.Name, key.Algorithm, key.Secret, between(n.DNS, " port ")))
	bind.run(t, "named", "-g", "-n", "1", "-c", conf)
	update := func(change func(m *dns.Msg)) {
		t.Helper()
		m := new(dns.Msg).SetUpdate("bind.catalog.")
		change(m)
		client := &dns.Client{Net: "tcp", Timeout: time.Minute}
		if reply, _, err := client.Exchange(m, bind.addr); err != nil || reply.Rcode != dns.RcodeSuccess {
			t.Fatalf("update of BIND's catalog: %v %v", err, reply)
		}
	}
	rr := func(text string) []dns.RR {
		r, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return []dns.RR{r}
	}

	n.cli("catalog", "subscribe", "knot.catalog.", "--from", knot.addr, "--tsig", key.Name)
	n.cli("catalog", "subscribe", "bind.catalog.", "--from", bind.addr, "--tsig", key.Name)
	until(t, "what both list is hosted", hosts(n, "a.bind.", "b.bind.", "bind.catalog.", "knot.catalog.", "a.knot.", "b.knot."))
	for zone, serial := range map[string]uint32{"a.bind.": 5, "b.bind.": 6, "a.knot.": 40, "b.knot.": 41} {
		until(t, zone+" is served", atSerial(n.DNS, zone, serial))
	}
	contains(t, "groups", n.cli("catalog", "show", "knot.catalog."), "group-0", "group-1")
	contains(t, "groups", n.cli("zone", "show", "a.bind."), "signed")

	configure("a.knot.", "c.knot.")
	if err := knotProcess.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	update(func(m *dns.Msg) {
		m.RemoveRRset(rr("one.zones.bind.catalog. 0 PTR a.bind."))
	})
	until(t, "what they list then is hosted", hosts(n, "b.bind.", "bind.catalog.", "knot.catalog.", "a.knot.", "c.knot."))
	until(t, "the new zone is served", atSerial(n.DNS, "c.knot.", 41))
	if got := gone(n.DNS, "a.bind."); !got() {
		t.Error("a.bind. is answered for")
	}

	// Broken, and whole again.
	update(func(m *dns.Msg) {
		m.RemoveRRset(rr(`version.bind.catalog. 0 TXT "2"`))
		m.RemoveRRset(rr("two.zones.bind.catalog. 0 PTR b.bind."))
		m.Insert(rr("three.zones.bind.catalog. 0 PTR a.bind."))
	})
	until(t, "the broken catalog is shown to be", func() bool {
		return strings.Contains(api[catalogSaid](n, 200, "GET", "/v1/catalogs/bind.catalog.", "").Problem, "version")
	})
	update(func(m *dns.Msg) { m.Insert(rr("unrelated.bind.catalog. 0 TXT x")) })
	until(t, "more of it has come", func() bool {
		theirs, _ := serialAt(bind.addr, "bind.catalog.")
		return theirs > 0 && serves(n, "bind.catalog.", theirs)()
	})
	if !hosts(n, "b.bind.", "bind.catalog.", "knot.catalog.", "a.knot.", "c.knot.")() {
		t.Error("a broken catalog has changed what is hosted")
	}
	update(func(m *dns.Msg) { m.Insert(rr(`version.bind.catalog. 0 TXT "2"`)) })
	until(t, "and so is what it lists when it is whole again", hosts(n, "a.bind.", "bind.catalog.", "knot.catalog.", "a.knot.", "c.knot."))
	until(t, "and served", atSerial(n.DNS, "a.bind.", 5))
}
