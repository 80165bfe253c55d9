package contract

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// hiddenPrimary is a server whose zones others fetch, with a key, and at an address that it keeps.
type hiddenPrimary struct {
	node
	key    tsigKey
	secret string // a file with the key's secret
}

func startHidden(t *testing.T) hiddenPrimary {
	t.Helper()
	n := startWith(t, balefiretest.How{Args: []string{"--dns-allow-peers", "127.0.0.0/8"}, DNS: []string{porttest.Free(t, "127.0.0.1")}})
	p := hiddenPrimary{node: n, key: jsonOf[tsigKey](n, "tsig", "create", "edge.example.")}
	p.secret = write(t, t.TempDir(), "secret", p.key.Secret+"\n")
	return p
}

// have makes a zone, which is fetched by who has the key, and of which the servers at some addresses are told.
func (p hiddenPrimary) have(zone string, serial int, tell ...string) {
	p.t.Helper()
	text := fmt.Sprintf("@ 60 SOA ns1 host %d 3600 600 86400 60\n@ 60 NS ns1\nns1 60 A 192.0.2.1\nwww 60 A 192.0.2.2\n", serial)
	p.cli("zone", "import", "--origin", zone, write(p.t, p.t.TempDir(), "zone", text))
	for i := range tell {
		tell[i] = "key:" + p.key.Name + "@" + tell[i]
	}
	p.cli("zone", "set", zone, "--allow-transfer", "key:"+p.key.Name, "--notify", strings.Join(tell, ","))
}

// again starts the server again, at the same address.
func (p hiddenPrimary) again() hiddenPrimary {
	p.Kill()
	p.node = startWith(p.t, p.How)
	return p
}

// serialAt asks a server for a zone's serial; ok is false when it does not answer for the zone.
func serialAt(addr, zone string) (serial uint32, ok bool) {
	client := &dns.Client{Timeout: 2 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), addr)
	if err != nil || reply.Rcode != dns.RcodeSuccess || !reply.Authoritative || len(reply.Answer) != 1 {
		return 0, false
	}
	soa, ok := reply.Answer[0].(*dns.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// serves reports whether a node answers for a zone with a serial.
func serves(n node, zone string, serial uint32) func() bool {
	return func() bool {
		got, ok := serialAt(n.DNS, zone)
		return ok && got == serial
	}
}

// set sets the TXT record of a name of a zone at its primary, and returns the serial.
func (p hiddenPrimary) set(zone, name, value string) uint32 {
	p.t.Helper()
	p.cli("record", "set", zone, name, "TXT", "60", `"`+value+`"`)
	return p.serial(zone)
}

// TestSecondaryLife goes through the life of a secondary zone: it awaits its primary, comes, follows, is frozen and thawed, outlives a kill -9, expires
// without its primary, and is back with it.
func TestSecondaryLife(t *testing.T) {
	t.Parallel()
	p := startHidden(t)
	n := start(t, "--dns-allow-peers", "127.0.0.0/8", "--secondary-min-refresh", "1s", "--secondary-min-retry", "1s")
	const zone = "edge.test."
	n.cli("tsig", "import", p.key.Name, "--algorithm", p.key.Algorithm, "--secret-file", p.secret)
	n.cli("zone", "create", zone, "--secondary-of", p.DNS, "--tsig", p.key.Name)
	n.fails(1, "REFUSED", "zone", "refresh", zone) // the primary does not have it yet
	contains(t, "zone status", n.cli("zone", "status", zone), "awaits its first transfer", "REFUSED")
	contains(t, "while it awaits", n.dig(zone, "SOA"), "status: SERVFAIL", "EDE: 14")

	p.have(zone, 7, n.DNS)
	n.cli("zone", "refresh", zone)
	until(t, "the zone comes", serves(n, zone, 7))
	serial := p.set(zone, "a", "1")
	until(t, "a change comes", serves(n, zone, serial))
	until(t, "it is noted how the change came", func() bool { return strings.Contains(n.cli("zone", "status", zone), "IXFR at ") })
	rows(t, n.cli("zone", "status", zone), row("serial", fmt.Sprint(serial)), row("secondary", "served"), row("last transfer", `IXFR at .* from key:edge\.example\.@127\.0\.0\.1:\d+`))
	until(t, "the primary has an answer to its NOTIFY", func() bool {
		return strings.Contains(p.cli("zone", "status", zone), fmt.Sprintf("key:%s@%s: serial %d at ", p.key.Name, n.DNS, serial))
	})

	n.cli("zone", "freeze", zone)
	next := p.set(zone, "a", "2")
	n.fails(1, "frozen", "zone", "refresh", zone)
	if !serves(n, zone, serial)() {
		t.Error("a frozen zone has changed")
	}
	n.cli("zone", "thaw", zone)
	until(t, "it follows when it is thawed", serves(n, zone, next))

	n = n.again()
	until(t, "it is served after kill -9", serves(n, zone, next))
	p.cli("zone", "set", zone, "--notify", "key:"+p.key.Name+"@"+n.DNS)
	serial = p.set(zone, "a", "3")
	until(t, "and follows", serves(n, zone, serial))

	// It expires after 2 seconds without its primary.
	p.cli("record", "set", zone, "@", "SOA", "60", fmt.Sprintf("ns1 host %d 1 1 2 60", serial+1))
	serial = p.serial(zone)
	until(t, "the SOA comes", serves(n, zone, serial))
	p.Kill()
	until(t, "the zone expires", func() bool {
		m, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), n.DNS)
		return err == nil && m.Rcode == dns.RcodeServerFailure
	})
	contains(t, "an expired zone", n.dig("www."+zone, "A"), "status: SERVFAIL", "EDE: 24")
	rows(t, n.cli("zone", "show", zone), row("secondary", "expired, confirmed at .*"))
	n = n.again()
	contains(t, "an expired zone, after kill -9", n.dig("www."+zone, "A"), "status: SERVFAIL", "EDE: 24")
	p = p.again()
	n.cli("zone", "refresh", zone) // of itself it would ask only after a minute, after it had no answer so often
	until(t, "it is back", serves(n, zone, serial))

	// What it was, one can make one's own.
	n.cli("zone", "set", zone, "--secondary-of", "none")
	n.cli("record", "set", zone, "own", "A", "60", "192.0.2.9")
	n.fails(1, "no primaries", "zone", "refresh", zone)
}

// TestSecondaryInRegion: zones of a primary, at two nodes of one region that share the partitions. Whichever node is told of a change, the one on duty fetches it, and both
// answer it; and when one leaves, the other goes on.
func TestSecondaryInRegion(t *testing.T) {
	t.Parallel()
	p := startHidden(t)
	nodes := sharing(t, "--dns-allow-peers", "127.0.0.0/8")
	nodes[0].cli("tsig", "import", p.key.Name, "--algorithm", p.key.Algorithm, "--secret-file", p.secret)
	knowKey(t, nodes, p.key.Name)
	var all []string
	partitions := map[string]bool{}
	for i := range 8 {
		zone := fmt.Sprintf("z%d.test.", i)
		p.have(zone, 1, nodes[0].DNS)
		nodes[i%2].cli("zone", "create", zone, "--secondary-of", p.DNS, "--tsig", p.key.Name, "--wait", "region")
		at := jsonOf[struct{ Position string }](nodes[0], "zone", "show", zone).Position
		partitions[at[:strings.IndexByte(at, '@')]] = true
		all = append(all, zone)
	}
	if len(partitions) < 3 { // of four, two at each node
		t.Fatalf("the zones are in %d partitions", len(partitions))
	}
	everywhere := func(nodes []node, serials map[string]uint32) {
		t.Helper()
		for zone, serial := range serials {
			for _, n := range nodes {
				until(t, fmt.Sprintf("%s has serial %d of %s\n%s\n%s", n.DNS, serial, zone, nodes[0].Log(), nodes[len(nodes)-1].Log()), serves(n, zone, serial))
			}
		}
	}
	change := func(value string) map[string]uint32 {
		serials := map[string]uint32{}
		for _, zone := range all {
			serials[zone] = p.set(zone, "value", value)
		}
		return serials
	}
	serials := map[string]uint32{}
	for _, zone := range all {
		serials[zone] = 1
	}
	everywhere(nodes[:], serials)
	everywhere(nodes[:], change("one"))
	kept := [2]int{}
	for _, zone := range all {
		for i, n := range nodes { // both name the node on duty
			st := jsonOf[struct {
				Node      string
				Secondary struct {
					OnDuty bool `json:"on_duty"`
				}
			}](n, "zone", "status", zone)
			if !st.Secondary.OnDuty {
				t.Errorf("node %d says of %s: %+v", i, zone, st)
			}
			kept[slices.Index([]string{"n1", "n2"}, st.Node)]++
		}
	}
	if kept[0] == 0 || kept[1] == 0 {
		t.Errorf("one node does all: %v", kept)
	}

	nodes[1].cli("node", "drain", "--leave")
	until(t, "all partitions are at the other node", func() bool { return nodes[0].partitions("n1", "ready") == 4 && nodes[0].partitions("n2", "") == 0 })
	if err := nodes[1].Stop(patience); err != nil {
		t.Error(err)
	}
	everywhere(nodes[:1], change("two"))
}
