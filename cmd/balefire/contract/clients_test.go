package contract

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// at is where dig and kdig should ask.
func at(addr string) []string {
	host, port, _ := net.SplitHostPort(addr)
	return []string{"@" + host, "-p", port}
}

// TestRealClients: the programs that people use understand the answers, in every way that they ask.
func TestRealClients(t *testing.T) {
	t.Parallel()
	n := startWith(t, balefiretest.How{Args: []string{"--sample", sampleZones, "--node-id", "node-of-test"}})
	awaitSamples(n)
	n.importRoot()
	where := at(n.DNS)
	nsid := "6e 6f 64 65 2d 6f 66 2d 74 65 73 74"
	for _, c := range []struct {
		argv string // WHERE is the server
		want []string
	}{
		{"dig WHERE mail.example.com A", []string{"status: NOERROR", "flags: qr aa rd;", "192.0.2.25", "(UDP)"}},
		{"dig WHERE +tcp mail.example.com A", []string{"192.0.2.25", "(TCP)"}},
		{"dig WHERE +noedns mail.example.com A", []string{"192.0.2.25", "ADDITIONAL: 0"}},
		{"dig WHERE +nsid mail.example.com A", []string{"192.0.2.25", "NSID: " + nsid}},
		{"dig WHERE +cookie mail.example.com A", []string{"192.0.2.25", "(good)"}},
		{"dig WHERE +tcp +cookie +nsid mail.example.com A", []string{"192.0.2.25", "(good)", nsid}},
		{"dig WHERE +dnssec se. DS", []string{"flags: do", "IN\tDS\t59747", "RRSIG\tDS"}},
		{"dig WHERE +dnssec nothing.invalid. A", []string{"status: NXDOMAIN", "NSEC", "RRSIG\tSOA"}},
		{"dig WHERE +tcp +dnssec . DNSKEY", []string{"DNSKEY\t257", "RRSIG\tDNSKEY"}},
		{"dig WHERE +bufsize=512 +ignore +dnssec . NS", []string{"flags: qr aa tc rd"}},
		{"dig WHERE +bufsize=512 +dnssec . NS", []string{"Truncated, retrying in TCP mode", "m.root-servers.net."}},
		{"dig WHERE +edns=1 +noednsneg mail.example.com A", []string{"status: BADVERS"}},
		{"dig WHERE +short host.old.example.org A", []string{"192.0.2.34"}},
		{"dig WHERE +short any.dev.example.com A", []string{"192.0.2.99"}},
		{"dig WHERE ch version.server TXT", []string{"Balefire"}},
		{"dig WHERE ch id.server TXT", []string{"node-of-test"}},
		{"dig WHERE MaIl.eXaMpLe.CoM A", []string{"MaIl.eXaMpLe.CoM.", "192.0.2.25"}},
		{"kdig WHERE mail.example.com A", []string{"192.0.2.25", "(UDP)"}},
		{"kdig WHERE +tcp +dnssec +nsid mail.example.com A", []string{"192.0.2.25", `"node-of-test"`, "(TCP)"}},
		{"kdig WHERE +cookie=0102030405060708 mail.example.com A", []string{"COOKIE: 0102030405060708"}},
		{"kdig WHERE +dnssec se. DS", []string{"DS", "RRSIG"}},
		{"kdig WHERE +tcp +keepopen mail.example.com A example.com MX", []string{"192.0.2.25", "10 mail.example.com."}},
		{"drill DRILL mail.example.com A", []string{"192.0.2.25", "rcode: NOERROR"}},
		{"drill -t DRILL mail.example.com A", []string{"192.0.2.25"}},
		{"drill -D DRILL se. DS", []string{"RRSIG", "flags: do"}},
		{"drill DRILL nothing.example.com A", []string{"rcode: NXDOMAIN"}},
		{"delv -i WHERE mail.example.com A", []string{"192.0.2.25"}},
		{"delv -i +tcp WHERE . DNSKEY", []string{"DNSKEY"}},
	} {
		var argv []string
		for _, arg := range strings.Fields(c.argv) {
			switch arg {
			case "WHERE":
				argv = append(argv, where...)
			case "DRILL":
				argv = append(argv, where[1:]...)
			default:
				argv = append(argv, arg)
			}
		}
		if argv[0] == "drill" { // its server comes after its options
			argv = append(argv, where[0])
		}
		out, err := tryTool(t, argv[0], argv[1:]...)
		if err != nil {
			t.Errorf("%s: %v\n%s", c.argv, err, out)
			continue
		}
		contains(t, c.argv, out, c.want...)
		if strings.Contains(strings.ToLower(out), "warning") && !strings.Contains(out, "recursion requested but not available") {
			t.Errorf("%s: the client complains:\n%s", c.argv, out)
		}
	}

	if out, err := tryTool(t, "dig", append(where, "example.com", "AXFR")...); err == nil && !strings.Contains(out, "Transfer failed") {
		t.Errorf("a transfer, which nobody is allowed:\n%s", out)
	}
}

// TestCookies: one that the server made is good for the next question, and after kill -9, as its secret is the
// namespace's; one that it did not make is not.
func TestCookies(t *testing.T) {
	t.Parallel()
	n := start(t, "--dns-require-cookies")
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	made := regexp.MustCompile(`COOKIE: ([0-9a-f]{48}) \(good\)`).FindStringSubmatch(n.dig("+cookie", "example.com", "SOA"))
	if made == nil {
		t.Fatalf("no cookie of 24 octets:\n%s", n.dig("+cookie", "example.com", "SOA"))
	}
	ask := func(cookie string) string { return n.dig("+nobadcookie", "+cookie="+cookie, "example.com", "SOA") }
	contains(t, "the second question", ask(made[1]), "status: NOERROR", "ANSWER: 1")
	forged := made[1][:47] + string("0123456789abcdef1"[strings.IndexByte("0123456789abcdef", made[1][47])+1])
	contains(t, "a forged cookie", ask(forged), "status: BADCOOKIE", "ANSWER: 0")
	n = n.again()
	contains(t, "after kill -9", ask(made[1]), "status: NOERROR", "ANSWER: 1")
}

// TestAddresses: answers come from the very address that was asked, IPv4 and IPv6.
func TestAddresses(t *testing.T) {
	t.Parallel()
	_, any4, _ := net.SplitHostPort(porttest.Free(t, "0.0.0.0"))
	n := startWith(t, balefiretest.How{
		DNS:  []string{"0.0.0.0:" + any4, porttest.Free(t, "::1"), porttest.Free(t, "127.0.0.3")},
		Args: []string{"--sample", sampleZones},
	})
	awaitSamples(n)
	for _, addr := range []string{"127.0.0.1:" + any4, "127.0.0.2:" + any4, "127.200.0.9:" + any4, n.How.DNS[1], n.How.DNS[2]} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			args := append(at(addr), transport, "+time=3", "mail.example.com", "A")
			out := tool(t, "dig", args...)
			contains(t, "dig "+strings.Join(args, " "), out, "192.0.2.25")
			// dig says so when an answer comes from elsewhere, and waits for another.
			if strings.Contains(out, "unexpected source") {
				t.Errorf("asked at %s:\n%s", addr, out)
			}
		}
	}
	contains(t, "what serve says", n.Said(), n.How.DNS[1], n.How.DNS[2])
}
