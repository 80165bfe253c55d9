package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/replication"
	"balefire/replication/porttest"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/zonefile"
)

// updateFixture is the zone of each case; $ is its apex.
const updateFixture = `
$      3600 IN SOA ns1.$ hostmaster.$ 10 7200 900 1209600 300
$      3600 IN NS  ns1.$
$      3600 IN NS  ns2.$
$      3600 IN MX  10 mail.$
ns1.$  3600 IN A   192.0.2.1
ns2.$  3600 IN A   192.0.2.2
www.$  300  IN A   192.0.2.80
www.$  300  IN A   192.0.2.81
www.$  300  IN TXT "one"
alias.$ 300 IN CNAME www.$
sub.$  300  IN NS  ns.sub.$
sub.$  300  IN NS  ns2.sub.$
sub.$  300  IN DS  1 8 2 00000000000000000000000000000000000000000000000000000000000000ff
ns.sub.$ 300 IN A  192.0.2.9
deep.er.$ 300 IN TXT "below an empty non-terminal"
tree.$ 300  IN DNAME other.$
`

type updateCase struct {
	message    string
	want       int
	bind, knot string
}

// exception is what a server does otherwise.
func (c updateCase) exception(server string) string {
	return map[string]string{"BIND": c.bind, "Knot": c.knot}[server]
}

// updateCases are messages: prerequisites and updates. Each has a zone of its own. Where one of the others does not do as the RFC says, or may do
// otherwise, bind and knot say which RCODE it gives ("zone" when only its zone is another one, "ends" when the server does), and why.
var updateCases = []updateCase{
	{message: "pre www.$ 0 ANY A"},
	{message: "pre www.$ 0 ANY AAAA", want: dns.RcodeNXRrset},
	{message: "pre no.$ 0 ANY A", want: dns.RcodeNXRrset},
	{message: "pre www.$ 0 IN A 192.0.2.81\npre www.$ 0 IN A 192.0.2.80"},
	{message: "pre www.$ 0 IN A 192.0.2.81", want: dns.RcodeNXRrset},
	{message: "pre www.$ 0 IN A 192.0.2.81\npre www.$ 0 IN A 192.0.2.80\npre www.$ 0 IN A 192.0.2.82", want: dns.RcodeNXRrset},
	{message: "pre alias.$ 0 IN CNAME WWW.$"},
	{message: "pre www.$ 0 IN TXT one\npre $ 0 IN MX 10 mail.$"},
	{message: "pre www.$ 0 IN TXT one\npre $ 0 IN MX 20 mail.$", want: dns.RcodeNXRrset},
	{message: "pre www.$ 0 NONE AAAA"},
	{message: "pre no.$ 0 NONE A"},
	{message: "pre www.$ 0 NONE A", want: dns.RcodeYXRrset},
	{message: "pre www.$ 0 ANY ANY"},
	{message: "pre no.$ 0 ANY ANY", want: dns.RcodeNameError},
	{message: "pre er.$ 0 ANY ANY", want: dns.RcodeNameError},
	{message: "pre no.$ 0 NONE ANY"},
	{message: "pre er.$ 0 NONE ANY"},
	{message: "pre www.$ 0 NONE ANY", want: dns.RcodeYXDomain},
	{message: "pre www.other. 0 ANY A", want: dns.RcodeNotZone},
	{message: "pre no.$ 0 ANY ANY\npre www.$ 0 NONE A", want: dns.RcodeNameError},
	{message: "pre no.$ 0 ANY ANY\nupd new.$ 1 IN A 192.0.2.1", want: dns.RcodeNameError},
	{message: "pre no.$ 0 NONE ANY\npre www.$ 0 IN TXT one\nupd new.$ 1 IN A 192.0.2.1"},
	{message: "upd www.other. 1 IN A 192.0.2.1", want: dns.RcodeNotZone},
	{message: "upd new.$ 1 IN A 192.0.2.1\nupd www.other. 1 IN A 192.0.2.1", want: dns.RcodeNotZone},

	{message: "upd new.$ 60 IN A 192.0.2.3"},
	{message: "upd new.$ 60 IN A 192.0.2.3\nupd new.$ 60 IN AAAA 2001:db8::1\nupd x.new.$ 60 IN TXT \"a\" \"b\""},
	{message: "upd www.$ 300 IN A 192.0.2.82"},
	{message: "upd www.$ 60 IN A 192.0.2.82"},
	{message: "upd www.$ 300 IN A 192.0.2.80"},
	{message: "upd www.$ 60 IN TXT one", knot: knotKeepsTTL},
	{message: "upd new.$ 60 IN TYPE65280 \\# 2 abcd"},
	{message: "upd new.$ 60 IN MX 10 WWW.$"},
	{message: "upd new.$ 60 IN SRV 1 2 3 www.$"},
	{message: "upd x.sub.$ 60 IN A 192.0.2.3"},
	{message: "upd new.$ 60 IN CNAME www.$"},
	{message: "upd alias.$ 60 IN CNAME ns1.$"},
	{message: "upd new.$ 60 IN CNAME www.$\nupd new.$ 60 IN CNAME ns1.$"},
	{message: "upd www.$ 60 IN CNAME ns1.$"},
	{message: "upd $ 60 IN CNAME ns1.other."},
	{message: "upd alias.$ 60 IN A 192.0.2.3"},
	{message: "upd alias.$ 60 IN A 192.0.2.3\nupd new.$ 60 IN A 192.0.2.3"},
	{message: "upd www.$ 0 ANY ANY\nupd www.$ 60 IN CNAME ns1.$"},
	{message: "upd alias.$ 0 ANY CNAME\nupd alias.$ 60 IN A 192.0.2.3"},
	{message: "upd alias.$ 0 NONE CNAME www.$\nupd alias.$ 60 IN A 192.0.2.3"},
	{message: "upd new.$ 60 IN A 192.0.2.3\nupd new.$ 60 IN CNAME www.$"},
	{message: "upd new.$ 60 IN CNAME www.$\nupd new.$ 60 IN A 192.0.2.3"},
	{message: "upd tree.$ 60 IN DNAME www.$", knot: "ends: an assertion fails"},
	{message: "upd alias.$ 60 IN DNAME www.$"},
	{message: "upd tree.$ 60 IN CNAME www.$"},
	{message: "upd $ 60 IN SOA ns2.$ hostmaster.$ 20 1 2 3 4"},
	{message: "upd $ 60 IN SOA ns2.$ hostmaster.$ 10 1 2 3 4"},
	{message: "upd $ 60 IN SOA ns2.$ hostmaster.$ 9 1 2 3 4"},
	{message: "upd www.$ 60 IN SOA ns2.$ hostmaster.$ 20 1 2 3 4"},
	{message: "upd sub.$ 300 IN DS 2 8 2 00000000000000000000000000000000000000000000000000000000000000fe"},
	{message: "upd www.$ 300 IN DS 2 8 2 00000000000000000000000000000000000000000000000000000000000000fe", knot: knotKeepsDS},

	{message: "upd www.$ 0 ANY TXT"},
	{message: "upd www.$ 0 ANY AAAA"},
	{message: "upd www.$ 0 ANY ANY"},
	{message: "upd no.$ 0 ANY ANY"},
	{message: "upd er.$ 0 ANY ANY"},
	{message: "upd $ 0 ANY ANY"},
	{message: "upd $ 0 ANY SOA"},
	{message: "upd $ 0 ANY NS"},
	{message: "upd $ 0 ANY MX"},
	{message: "upd sub.$ 0 ANY NS", knot: knotKeepsDS},
	{message: "upd sub.$ 0 ANY ANY"},
	{message: "upd new.$ 60 IN A 192.0.2.3\nupd new.$ 0 ANY ANY"},
	{message: "upd www.$ 0 ANY A\nupd www.$ 60 IN A 192.0.2.3"},
	{message: "upd www.$ 0 NONE A 192.0.2.80"},
	{message: "upd www.$ 0 NONE A 192.0.2.80\nupd www.$ 0 NONE A 192.0.2.81"},
	{message: "upd www.$ 0 NONE A 192.0.2.99"},
	{message: "upd alias.$ 0 NONE CNAME WWW.$"},
	{message: "upd $ 0 NONE SOA ns1.$ hostmaster.$ 10 7200 900 1209600 300"},
	{message: "upd $ 0 NONE NS ns1.$"},
	{message: "upd $ 0 NONE NS ns1.$\nupd $ 0 NONE NS ns2.$"},
	{message: "upd $ 0 NONE NS ns1.$\nupd $ 0 NONE NS ns2.$\nupd $ 3600 IN NS ns3.other."},
	{message: "upd $ 3600 IN NS ns3.other.\nupd $ 0 NONE NS ns1.$\nupd $ 0 NONE NS ns2.$"},
	{message: "upd sub.$ 0 NONE NS ns.sub.$"},
	{message: "upd sub.$ 0 NONE NS ns.sub.$\nupd sub.$ 0 NONE NS ns2.sub.$", knot: knotKeepsDS},

	// What the clients that are made for people don't send.
	{message: "pre www.$ 1 ANY A", want: dns.RcodeFormatError},
	{message: "pre www.$ 0 CH A", want: dns.RcodeFormatError},
	{message: "upd www.$ 1 CH A", want: dns.RcodeFormatError},
	{message: "upd www.$ 1 IN ANY", want: dns.RcodeFormatError},
	{message: "upd www.$ 1 IN AXFR", want: dns.RcodeFormatError},
	{message: "upd www.$ 1 IN MAILB", want: dns.RcodeFormatError, knot: "NOERROR: and the zone has one"},
	{message: "upd www.$ 1 ANY A", want: dns.RcodeFormatError, knot: "NOERROR: and it does it"},
	{message: "upd www.$ 0 ANY AXFR", want: dns.RcodeFormatError},
	{message: "upd www.$ 300 NONE A 192.0.2.80", want: dns.RcodeFormatError},
	{message: "upd www.$ 0 NONE ANY", want: dns.RcodeFormatError},
}

const (
	knotKeepsTTL = "zone: a record that is there already keeps its TTL"
	knotKeepsDS  = "zone: DS may be without a delegation"
)

// updateLine is a line of a case.
type updateLine struct {
	section, owner, ttl, class, rrtype, rdata string
}

func updateLines(message, apex string) (lines []updateLine) {
	for line := range strings.Lines(strings.ReplaceAll(message, "$", apex)) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 6)
		for len(f) < 6 {
			f = append(f, "")
		}
		lines = append(lines, updateLine{f[0], f[1], f[2], f[3], f[4], f[5]})
	}
	return lines
}

// asMessage makes the message of a case.
func asMessage(t *testing.T, message, apex string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate(apex)
	for _, l := range updateLines(message, apex) {
		var rr dns.RR
		var ttl uint32
		fmt.Sscan(l.ttl, &ttl)
		if l.rdata == "" {
			rr = &dns.ANY{Hdr: dns.RR_Header{Name: l.owner, Rrtype: dns.StringToType[l.rrtype], Class: dns.StringToClass[l.class], Ttl: ttl}}
		} else {
			var err error
			if rr, err = dns.NewRR(fmt.Sprintf("%s %s IN %s %s", l.owner, l.ttl, l.rrtype, l.rdata)); err != nil {
				t.Fatal(err)
			}
			rr.Header().Class = dns.StringToClass[l.class]
		}
		if l.section == "pre" {
			m.Answer = append(m.Answer, rr)
		} else {
			m.Ns = append(m.Ns, rr)
		}
	}
	return m
}

// asScript makes what nsupdate and knsupdate read; ok is false when they can't say it.
func asScript(message, apex string) (script string, ok bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "zone %s\n", apex)
	for _, l := range updateLines(message, apex) {
		if l.class == "CH" || l.section == "upd" && l.class != "IN" && l.ttl != "0" || l.section == "pre" && l.ttl != "0" {
			return "", false
		}
		switch {
		case l.section == "pre" && l.class == "ANY" && l.rrtype == "ANY":
			fmt.Fprintf(&b, "prereq yxdomain %s\n", l.owner)
		case l.section == "pre" && l.class == "NONE" && l.rrtype == "ANY":
			fmt.Fprintf(&b, "prereq nxdomain %s\n", l.owner)
		case l.section == "pre" && l.class == "NONE":
			fmt.Fprintf(&b, "prereq nxrrset %s %s\n", l.owner, l.rrtype)
		case l.section == "pre":
			fmt.Fprintf(&b, "prereq yxrrset %s %s %s\n", l.owner, l.rrtype, l.rdata)
		case l.class == "IN" && l.rdata == "", l.class == "NONE" && l.rdata == "", l.rrtype == "AXFR":
			return "", false
		case l.class == "IN":
			fmt.Fprintf(&b, "update add %s %s %s %s\n", l.owner, l.ttl, l.rrtype, l.rdata)
		case l.rrtype == "ANY":
			fmt.Fprintf(&b, "update delete %s\n", l.owner)
		default:
			fmt.Fprintf(&b, "update delete %s %s %s\n", l.owner, l.rrtype, l.rdata)
		}
	}
	b.WriteString("send\nanswer\n")
	return b.String(), true
}

var answerStatus = regexp.MustCompile(`opcode: UPDATE[;,] status: ([A-Z]+)[;,]`)

// runScripts has a client send the cases that it can, and returns the RCODEs that it says they were answered with, by case. One process sends as many as it
// does: knsupdate ends after an answer that is an error.
func runScripts(t *testing.T, client, server, addr string) map[int]string {
	host, port, _ := net.SplitHostPort(addr)
	var cases []int
	var scripts []string
	for i, c := range updateCases {
		if script, ok := asScript(c.message, caseApex(i, client)); ok && !strings.HasPrefix(c.exception(server), "ends:") {
			cases, scripts = append(cases, i), append(scripts, script)
		}
	}
	rcodes := map[int]string{}
	for len(scripts) > 0 {
		cmd := exec.CommandContext(t.Context(), client, "-t", "60")
		cmd.Stdin = strings.NewReader(fmt.Sprintf("server %s %s\n%s", host, port, strings.Join(scripts, "")))
		out, err := cmd.CombinedOutput() // the exit code says that some have failed
		said := answerStatus.FindAllSubmatch(out, -1)
		if len(said) == 0 || len(said) > len(scripts) {
			t.Errorf("%s: %v: %d answers to %d messages\n%s", client, err, len(said), len(scripts), out)
			break
		}
		for at, status := range said {
			rcodes[cases[at]] = string(status[1])
		}
		cases, scripts = cases[len(said):], scripts[len(said):]
	}
	return rcodes
}

// sendMessages sends all cases, and returns the RCODEs that they were answered with.
func sendMessages(t *testing.T, server, addr string) map[int]string {
	rcodes := map[int]string{}
	for i, c := range updateCases {
		if strings.HasPrefix(c.exception(server), "ends:") {
			continue
		}
		m := asMessage(t, c.message, caseApex(i, "message"))
		reply, _, err := update([]string{"udp", "tcp"}[i%2], addr, m)
		if err != nil {
			t.Errorf("%s: %v\n%s", server, err, m)
			return nil
		}
		rcodes[i] = dns.RcodeToString[reply.Rcode]
	}
	return rcodes
}

// startPeer runs another server until the test ends, and waits until it answers.
func startPeer(t *testing.T, name, addr, apex string, command ...string) {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		path = "/usr/sbin/" + command[0]
	}
	cmd := exec.Command(path, command[1:]...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s (on Debian: apt-get install bind9 knot): %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the exit code after an interrupt says nothing
		late.Stop()
		if t.Failed() {
			t.Logf("%s said: %.10000s", name, output.String())
		}
	})
	client := dns.Client{Net: "tcp", Timeout: time.Second}
	until(t, name+" answers", func() bool {
		reply, _, err := client.Exchange(askFor(apex, dns.TypeSOA), addr)
		return err == nil && reply.Rcode == dns.RcodeSuccess
	})
}

// startBIND and startKnot serve zones from files that loopback may update and transfer.
func startBIND(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(addr)
	var conf strings.Builder
	fmt.Fprintf(&conf, `
controls { };
options {
	directory "%[1]s"; pid-file none; session-keyfile "%[1]s/session.key"; managed-keys-directory "%[1]s";
	listen-on port %[3]s { %[2]s; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no; empty-zones-enable no; check-names primary ignore;
	allow-transfer { any; }; allow-update { any; };
};
`, dir, host, port)
	var first string
	for apex, file := range files {
		copied := filepath.Join(dir, apex+"zone")
		copyFile(t, file, copied)
		fmt.Fprintf(&conf, "zone \"%s\" { type primary; file \"%s\"; };\n", apex, copied)
		first = apex
	}
	file := filepath.Join(dir, "named.conf")
	putFile(t, file, conf.String())
	startPeer(t, "BIND", addr, first, "named", "-g", "-n", "1", "-c", file)
	return addr
}

func startKnot(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(addr)
	var conf strings.Builder
	fmt.Fprintf(&conf, `
server:
    rundir: "%[1]s"
    listen: %[2]s@%[3]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "%[1]s"
log:
  - target: stdout
    any: info
acl:
  - id: all
    address: 127.0.0.0/8
    action: [update, transfer]
template:
  - id: default
    storage: "%[1]s"
    acl: all
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: changes
zone:
`, dir, host, port)
	var first string
	for apex, file := range files {
		fmt.Fprintf(&conf, "  - domain: \"%s\"\n    file: \"%s\"\n", apex, file)
		first = apex
	}
	file := filepath.Join(dir, "knot.conf")
	putFile(t, file, conf.String())
	startPeer(t, "Knot", addr, first, "knotd", "-c", file)
	return addr
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, to, string(content))
}

func putFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// without returns the lines of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return slices.Contains(b, line) })
}

// caseApex is the zone in which a client sends a case.
func caseApex(i int, client string) string { return fmt.Sprintf("c%d.%s.", i, client) }

// TestUpdateBesideOthers sends each case to Balefire, BIND and Knot: as a message, by nsupdate and by knsupdate. All three must answer alike, and have the
// same zone afterwards.
func TestUpdateBesideOthers(t *testing.T) {
	node := startUpdated(t, replication.Options{})
	// With whom each client speaks: with the servers that were made beside it, and ours.
	clients := map[string][]string{"message": {"Balefire", "BIND", "Knot"}, "nsupdate": {"Balefire", "BIND"}, "knsupdate": {"Balefire", "Knot"}}
	files := map[string]string{}
	dir := t.TempDir()
	var creating sync.WaitGroup
	for client := range clients {
		for i := range updateCases {
			apex := caseApex(i, client)
			text := strings.ReplaceAll(updateFixture, "$", apex)
			files[apex] = filepath.Join(dir, apex+"zone")
			putFile(t, files[apex], text)
			c, err := zonefile.Read(strings.NewReader(text), zonefile.Options{File: "test", Origin: zones.Root})
			if err != nil {
				t.Fatal(err)
			}
			creating.Go(func() { node.do(t, storetest.Change(apex, zones.OpCreateZone{RRsets: c.RRsets})) })
		}
	}
	addrs := map[string]string{"Balefire": node.addr, "BIND": startBIND(t, files), "Knot": startKnot(t, files)}
	creating.Wait()
	if t.Failed() {
		return
	}

	var all sync.WaitGroup
	var mu sync.Mutex
	rcodes := map[string]map[string]map[int]string{} // by client and server, and then by case
	for client, servers := range clients {
		rcodes[client] = map[string]map[int]string{}
		for _, server := range servers {
			all.Go(func() {
				var got map[int]string
				if client == "message" {
					got = sendMessages(t, server, addrs[server])
				} else {
					got = runScripts(t, client, server, addrs[server])
				}
				mu.Lock()
				defer mu.Unlock()
				rcodes[client][server] = got
			})
		}
	}
	all.Wait()
	for client, servers := range clients {
		compared := 0
		for i, c := range updateCases {
			t.Run(client+" "+strings.ReplaceAll(c.message, "\n", "; "), func(t *testing.T) {
				var ours []string
				for _, server := range servers {
					got, sent := rcodes[client][server][i]
					if !sent {
						continue
					}
					compared++
					exception := c.exception(server)
					code, _, _ := strings.Cut(exception, ":")
					want := dns.RcodeToString[c.want]
					if exception != "" && code != "zone" {
						want = code
					}
					if got != want {
						t.Errorf("%s answers %s, want %s", server, got, want)
					}
					if exception != "" {
						continue
					}
					apex := caseApex(i, client)
					if server == "Balefire" {
						ours = zoneLines(t, node, apex)
					} else if theirs := transferred(t, addrs[server], apex); !slices.Equal(theirs, ours) {
						t.Errorf("%s has, and Balefire has not:\n%s\nthe other way round:\n%s", server,
							strings.Join(without(theirs, ours), "\n"), strings.Join(without(ours, theirs), "\n"))
					}
				}
			})
		}
		t.Logf("%s: %d answers", client, compared)
	}
}
