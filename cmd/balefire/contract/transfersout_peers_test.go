//go:build peers

package contract

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"balefire/replication/porttest"
)

// variedZone is what most kinds of records are in, and names that are not what they seem.
const variedZone = `$TTL 3600
@ SOA ns1 hostmaster 1 7200 900 1209600 300
@ NS ns1
@ NS ns.example.net.
@ MX 10 mail
@ CAA 0 issue "ca.example.net"
@ TXT "v=spf1 -all"
ns1 A 192.0.2.53
ns1 AAAA 2001:db8::53
mail A 192.0.2.25
*.wild A 192.0.2.99
*.wild MX 10 mail
alias CNAME www.example.net.
tree DNAME other.example.net.
child NS ns.child
child NS ns2.example.net.
child DS 12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.child A 192.0.2.10
deep.er.and.deeper TXT "below empty non-terminals"
_sip._tcp SRV 10 60 5060 mail
_443._tcp.mail TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
naptr NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.org!" .
sshfp SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
odd TXT "with \"quotes\"" "and \\ a backslash; and" " three strings"
unknown TYPE65280 \# 4 01020304
`

// variedChange is a change set's operations, as JSON, of which one surely changes something: the n-th.
func variedChange(rng *rand.Rand, n int) string {
	var ops []any
	rrset := func(op, name, rtype string, ttl int, records ...string) {
		ops = append(ops, map[string]any{"op": op, "owner": name, "type": rtype, "ttl": ttl, "records": records})
	}
	for range 1 + rng.IntN(4) {
		owner := fmt.Sprintf("h%d", rng.IntN(60))
		switch rng.IntN(9) {
		case 0:
			ops = append(ops, map[string]any{"op": "delete_name", "owner": owner})
		case 1:
			ops = append(ops, map[string]any{"op": "delete_rrset", "owner": owner, "type": "TXT"})
		case 2:
			rrset("add_records", "mx."+owner, "MX", 300, fmt.Sprintf("%d mail.example.org.", rng.IntN(50)))
		case 3:
			rrset("put_rrset", owner, "A", 60+rng.IntN(3), "192.0.2.1", fmt.Sprintf("192.0.2.%d", 2+rng.IntN(200)))
		case 4:
			rrset("put_rrset", owner, "TXT", 60, `"`+strings.Repeat("t", rng.IntN(250))+`"`)
		case 5:
			rrset("put_rrset", "_s._udp."+owner, "SRV", 60, fmt.Sprintf("1 2 53 %s.example.org.", owner))
		case 6:
			rrset("put_rrset", "d."+owner, "NS", 60, fmt.Sprintf("ns%d.example.net.", rng.IntN(3)), "ns.d."+owner+".example.org.")
			rrset("put_rrset", "ns.d."+owner, "A", 60, "192.0.2.7")
		case 7:
			ops = append(ops, map[string]any{"op": "delete_name", "owner": "d." + owner}, map[string]any{"op": "delete_name", "owner": "ns.d." + owner})
		case 8:
			rrset("put_rrset", "@", "MX", 3600, "10 mail.example.org.", fmt.Sprintf("%d mail.example.net.", 20+rng.IntN(5)))
		}
	}
	rrset("put_rrset", "last", "TXT", 60, fmt.Sprintf(`"%d"`, n))
	body, err := json.Marshal(map[string]any{"operations": ops})
	if err != nil {
		panic(err) // of strings and numbers
	}
	return string(body)
}

// sent is how many transfers of a form the node has made to their end.
func (n node) sent(form string) int {
	n.t.Helper()
	return int(n.metric(`balefire_dns_transfers_total{sent="` + form + `"}`))
}

// TestOtherServersAsSecondaries: BIND, NSD, Knot and PowerDNS, and BIND, NSD and Knot over TLS, side by side, fetch a zone of this server, each with a key of its own, follow a hundred changes that
// NOTIFY tells them of, by differences, and have the zone then as it is here.
func TestOtherServersAsSecondaries(t *testing.T) {
	const zone, changes, step = "example.org.", 100, 10
	dir, over := t.TempDir(), porttest.Free(t, "127.0.0.1")
	cert, key := issue(t, dir, "primary.test")
	n := start(t, "--dns-tls-listen", over, "--dns-tls-cert", cert, "--dns-tls-key", key, "--dns-allow-peers", "127.0.0.0/8")
	hosts := variedZone
	for i := range 2000 { // some messages
		hosts += fmt.Sprintf("n%04d A 192.0.2.1\nn%04d A 192.0.2.%d\n", i, i, 2+i%200)
	}
	n.cli("zone", "import", "--origin", zone, write(t, dir, "zone", hosts))
	from := upstream{addr: n.DNS, tls: over, name: "primary.test", ca: cert}
	var allow []string
	begin := func(start func(*testing.T, *peer, upstream, string) *peer, name, algorithm string, tls bool) *peer {
		key := jsonOf[tsigKey](n, "tsig", "create", strings.ToLower(strings.ReplaceAll(name, " ", "-"))+".example.", "--algorithm", algorithm)
		allow = append(allow, "key:"+key.Name+"@127.0.0.0/8")
		n.cli("zone", "set", zone, "--allow-transfer", strings.Join(allow, ","))
		return start(t, newPeer(t, name, key, tls), from, zone)
	}
	all := []*peer{
		begin(startNSD, "NSD", "hmac-sha256", false),
		begin(startNSD, "NSD over TLS", "hmac-sha512", true),
		begin(startKnot, "Knot", "hmac-sha384", false),
		begin(startKnot, "Knot over TLS", "hmac-sha256", true),
		begin(startBIND, "BIND", "hmac-sha224", false),
		begin(startBIND, "BIND over TLS", "hmac-sha256", true),
		begin(startPowerDNS, "PowerDNS", "hmac-sha512", false),
	}
	var notices []string
	for _, p := range all {
		notices = append(notices, p.notice())
	}
	n.cli("zone", "set", zone, "--notify", strings.Join(notices, ","))
	follow(t, all, zone, n.serial(zone))
	counted := func() bool { // a client has all of a transfer before it is counted
		return n.metric(`balefire_dns_transfers{state="running"}`) == 0 && n.metric(`balefire_dns_transfers{state="waiting"}`) == 0
	}
	until(t, "the first transfers are counted", func() bool { return n.sent("zone") >= len(all) && counted() })
	whole := n.sent("zone")
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range changes {
		api[changed](n, 200, "POST", "/v1/zones/"+zone+"/changes", variedChange(rng, i))
		if i%step == step-1 {
			follow(t, all, zone, n.serial(zone))
		}
	}
	until(t, "the transfers of the changes are counted", func() bool { return n.sent("difference") >= len(all)*changes/step && counted() })
	if got := n.sent("zone"); whole < len(all) || got != whole {
		t.Errorf("%d whole zones for %d secondaries, and %d for the changes", whole, len(all), got-whole)
	}
	own := transferred(t, "Balefire", n.DNS, zone, &all[0].key)
	for _, p := range all {
		alike(t, p.name, transferred(t, p.name, p.addr, zone, nil), own)
	}
}
