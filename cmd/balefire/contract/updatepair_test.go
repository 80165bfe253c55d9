package contract

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/twmb/franz-go/pkg/kfake"
)

// wantTXT asks for the TXT record of a name, which must have one value.
func (n node) wantTXT(name, want string) {
	n.t.Helper()
	if got := n.txt(name); got != want {
		n.t.Errorf("%s says of %s: %q, want %q", n.Args, name, got, want)
	}
}

func (n node) txt(name string) string {
	n.t.Helper()
	client := dns.Client{Net: "tcp", Timeout: dnsPatience}
	m, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeTXT), n.DNS)
	if err != nil {
		n.t.Fatal(err)
	}
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		return m.String()
	}
	return strings.Join(m.Answer[0].(*dns.TXT).Txt, "")
}

// knowUpdaters waits until nodes know the ACL of these tests, and its key, which one of them was told of.
func knowUpdaters(t *testing.T, nodes []node) {
	t.Helper()
	knowKey(t, nodes, "key.")
	for i, n := range nodes {
		until(t, fmt.Sprintf("node %d knows the ACL", i+1), func() bool { return strings.Contains(n.cli("acl", "list"), "updaters") })
	}
}

// TestUpdateAtAnyNode: a node that does not have a zone takes its updates, signed and not, answers as those that have it do, and the next question to it
// sees the change, whichever of them it is passed on to.
func TestUpdateAtAnyNode(t *testing.T) {
	t.Parallel()
	nodes := startRegion(t, []member{{"n1", "a"}, {"n2", "a"}, {"b", "b"}})
	key := jsonOf[tsigKey](nodes[0], "tsig", "create", "key.")
	nodes[0].cli("acl", "set", "updaters", "--allow", "update", "--key", "key.", "--type", "TXT")
	knowUpdaters(t, nodes)
	forwarded := func(n node) float64 { return n.metric(`balefire_dns_forwarded_total{answered="yes"}`) }
	const zones = 5
	passedOn := [3]int{}
	for z := range zones {
		zone := fmt.Sprintf("z%d.test.", z)
		nodes[z%2].cli("zone", "create", zone, "--ns", "ns1", "--wait", "everywhere")
		name := "www." + zone
		text := fmt.Sprintf("hmac-sha256:key.:%s", key.Secret)
		before := [3]float64{forwarded(nodes[0]), forwarded(nodes[1]), forwarded(nodes[2])}
		for i, n := range nodes {
			for j, argv := range [][]string{{"nsupdate", "-y", text}, {"nsupdate", "-v", "-y", text}, {"knsupdate", "-y", text}} {
				value := fmt.Sprintf("%d-%d", i, j)
				if said, ok := n.client(argv, fmt.Sprintf("zone %[1]s\nupdate delete %[2]s TXT\nupdate add %[2]s 60 TXT %[3]s\n", zone, name, value)); !ok {
					t.Fatalf("%q at node %d: %s\n%s", argv, i+1, said, n.Log())
				}
				n.wantTXT(name, value)
			}
			for _, c := range []struct {
				by   signing
				line string
				want int
			}{
				{key.signs(), "pre " + name + " 0 NONE ANY", dns.RcodeYXDomain},
				{key.signs(), "pre " + name + " 0 IN TXT no", dns.RcodeNXRrset},
				{key.signs(), name + " 60 IN A 192.0.2.1", dns.RcodeRefused},
				{key.signs(), "www.other. 60 IN TXT no", dns.RcodeNotZone},
				{signing{}, name + " 60 IN TXT no", dns.RcodeRefused},
			} {
				_, answer, mac := path{"udp", n.DNS}.update(t, c.by, updateMessage(t, zone, c.line))
				if got := int(answer[3] & 15); got != c.want {
					t.Errorf("node %d, %s: %s", i+1, c.line, dns.RcodeToString[got])
				}
				if c.by.name != "" {
					if err := c.by.verify(answer, mac); err != nil {
						t.Errorf("node %d, %s: %v", i+1, c.line, err)
					}
				}
			}
		}
		for round := range 20 {
			n, value := nodes[round%2], fmt.Sprintf("round %d", round)
			_, answer, _ := path{"tcp", n.DNS}.update(t, key.signs(), updateMessage(t, zone, name+" 0 ANY TXT", name+` 60 IN TXT "`+value+`"`))
			if got := answer[3] & 15; got != dns.RcodeSuccess {
				t.Fatalf("%s at %s: %s", value, n.Args, dns.RcodeToString[int(got)])
			}
			n.wantTXT(name, value)
		}
		for i, n := range nodes {
			if forwarded(n) > before[i] {
				passedOn[i]++
			}
		}
		rows(t, nodes[0].cli("zone", "history", zone), row("[0-9]+@[0-9]+", ".*", "7", "changed", "[0-9]+", `key\.`, "UPDATE"))
	}
	if passedOn[0]+passedOn[1] != zones || passedOn[2] != 0 {
		t.Errorf("the nodes have passed on updates of %v of %d zones", passedOn, zones)
	}
}

// TestUpdatesAtTwoNodes: of updates that come to two nodes at once, for one RRset as it was, one is made. It is the one that is told so.
func TestUpdatesAtTwoNodes(t *testing.T) {
	t.Parallel()
	nodes := sharing(t)
	key := jsonOf[tsigKey](nodes[0], "tsig", "create", "key.")
	nodes[0].cli("acl", "set", "updaters", "--allow", "update", "--key", "key.")
	knowUpdaters(t, nodes)
	const zones, rounds = 4, 15
	clear := 0
	for z := range zones {
		zone := fmt.Sprintf("z%d.test.", z)
		nodes[z%2].cli("zone", "create", zone, "--ns", "ns1", "--wait", "everywhere")
		name, value := "lock."+zone, "nobody"
		nodes[z%2].cli("record", "set", zone, "lock", "TXT", "60", `"nobody"`, "--wait", "everywhere")
		for round := range rounds {
			rcodes := [4]int{}
			var all sync.WaitGroup
			for c := range rcodes {
				p := path{[]string{"udp", "tcp"}[c/2], nodes[c%2].DNS}
				by := key.signs()
				packet, mac := by.sign(t, updateMessage(t, zone, fmt.Sprintf("pre %s 0 IN TXT %s", name, value), name+" 0 ANY TXT", fmt.Sprintf("%s 60 IN TXT %d-%d", name, round, c)))
				conn := p.dial(t)
				all.Go(func() {
					rcodes[c] = dns.RcodeServerFailure
					answer, err := tryOctets(conn, packet)
					if err == nil {
						err = by.verify(answer, mac)
					}
					if err != nil {
						t.Errorf("%s, client %d: %v", zone, c, err)
						return
					}
					rcodes[c] = int(answer[3] & 15)
				})
			}
			all.Wait()
			won, unknown := -1, 0
			for c, rcode := range rcodes {
				switch rcode {
				case dns.RcodeSuccess:
					if won >= 0 {
						t.Errorf("%s, round %d: clients %d and %d have won", zone, round, won, c)
					}
					won = c
				case dns.RcodeNXRrset:
				case dns.RcodeServerFailure: // a machine that is too busy for its log
					unknown++
				default:
					t.Errorf("%s, round %d, client %d: %s", zone, round, c, dns.RcodeToString[rcode])
				}
			}
			if won >= 0 {
				value = fmt.Sprintf("%d-%d", round, won)
				for _, n := range nodes {
					n.wantTXT(name, value)
				}
			} else if unknown == 0 {
				t.Fatalf("%s, round %d: nobody has won", zone, round)
			}
			if unknown == 0 {
				clear++
			} else if won < 0 {
				value = nodes[0].txt(name)
			}
		}
	}
	if clear < 50 {
		t.Errorf("of %d rounds, only %d have ended with answers to everybody", zones*rounds, clear)
	}
}

// TestUpdateWithoutLog: while the log is away, nothing is changed, nor said of the zone that could be outdated. What may not be is refused all the same, and questions are
// answered.
func TestUpdateWithoutLog(t *testing.T) {
	t.Parallel()
	log, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	away := sync.OnceFunc(log.Close)
	t.Cleanup(away)
	n := start(t, "--brokers", log.ListenAddrs()[0], "--partitions", "3", "--node-id", "n1", "--secrets-key-file", secretFile(t))
	n.cli("zone", "create", "example.com.", "--ns", "ns1")
	key := jsonOf[tsigKey](n, "tsig", "create", "key.")
	n.cli("zone", "set", "example.com.", "--allow-update", "key:key", "--update-types", "A")
	const add = "www.example.com. 60 IN A 192.0.2.1"
	if _, answer, _ := (path{"udp", n.DNS}).update(t, key.signs(), updateMessage(t, "example.com.", add)); answer[3]&15 != dns.RcodeSuccess {
		t.Fatalf("%x", answer)
	}
	away()
	var all sync.WaitGroup
	for line, want := range map[string]int{
		"www.example.com. 0 ANY ANY":          dns.RcodeServerFailure,
		"pre no.example.com. 0 ANY ANY":       dns.RcodeServerFailure,
		"www.example.com. 60 IN TXT x":        dns.RcodeRefused,
		"www.example.net. 60 IN A 192.0.2.1":  dns.RcodeNotZone,
		"www.example.com. 60 ANY A":           dns.RcodeFormatError,
		"pre www.example.com. 0 NONE TXT":     dns.RcodeServerFailure,
		"new.example.com. 60 IN A 192.0.2.11": dns.RcodeServerFailure,
	} {
		by := key.signs()
		packet, mac := by.sign(t, updateMessage(t, "example.com.", line))
		for _, network := range []string{"udp", "tcp"} {
			conn := path{network, n.DNS}.dial(t)
			all.Go(func() {
				answer, err := tryOctets(conn, packet)
				if err == nil {
					err = by.verify(answer, mac)
				}
				if err != nil {
					t.Errorf("%s over %s: %v", line, network, err)
				} else if got := int(answer[3] & 15); got != want {
					t.Errorf("%s over %s: %s, want %s", line, network, dns.RcodeToString[got], dns.RcodeToString[want])
				}
			})
		}
	}
	all.Wait()
	if got := n.addresses("www.example.com"); got != "192.0.2.1" {
		t.Errorf("while the log is away: %q", got)
	}
}
