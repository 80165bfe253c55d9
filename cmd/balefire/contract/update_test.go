package contract

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"balefire/replication/porttest"

	"github.com/miekg/dns"
)

// dnsPatience ends what waits for an answer that never comes.
const dnsPatience = time.Minute

// updateMessage makes an UPDATE of a zone. Lines that begin with "pre " are prerequisites, "OWNER TTL CLASS TYPE [RDATA]" each; the others
// are updates.
func updateMessage(t *testing.T, zone string, lines ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetUpdate(zone)
	for _, line := range lines {
		line, pre := strings.CutPrefix(line, "pre ")
		f := strings.SplitN(line, " ", 5)
		class := dns.StringToClass[f[2]]
		f[2] = "IN"
		var rr dns.RR
		if len(f) < 5 {
			ttl, err := strconv.ParseUint(f[1], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			rr = &dns.ANY{Hdr: dns.RR_Header{Name: f[0], Rrtype: dns.StringToType[f[3]], Ttl: uint32(ttl)}}
		} else {
			var err error
			if rr, err = dns.NewRR(strings.Join(f, " ")); err != nil {
				t.Fatal(err)
			}
		}
		rr.Header().Class = class
		if pre {
			m.Answer = append(m.Answer, rr)
		} else {
			m.Ns = append(m.Ns, rr)
		}
	}
	return m
}

// path is one way to a server: "udp", "tcp" or "tls".
type path struct {
	network, addr string
}

// dial opens a connection, or a socket.
func (p path) dial(t *testing.T) net.Conn {
	t.Helper()
	var c net.Conn
	var err error
	if p.network == "tls" {
		c, err = tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"dot"}})
	} else {
		c, err = net.Dial(p.network, p.addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// octets sends a message as it is, and returns the answer as it is. What gets lost over UDP is sent again.
func octets(t *testing.T, c net.Conn, packet []byte) []byte {
	t.Helper()
	answer, err := tryOctets(c, packet)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func tryOctets(c net.Conn, packet []byte) ([]byte, error) {
	_, datagrams := c.(*net.UDPConn)
	conn := dns.Conn{Conn: c}
	answer := make([]byte, dns.MaxMsgSize)
	for begun := time.Now(); ; {
		if _, err := conn.Write(packet); err != nil {
			return nil, err
		}
		patience := dnsPatience
		if datagrams {
			patience = 10 * time.Second
		}
		_ = c.SetReadDeadline(time.Now().Add(patience)) // it is open
		n, err := conn.Read(answer)
		for err == nil && !bytes.Equal(answer[:2], packet[:2]) { // a late answer to what was sent before
			n, err = conn.Read(answer)
		}
		var timeout net.Error
		if err == nil || !datagrams || !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(begun) > dnsPatience {
			return answer[:n], err
		}
	}
}

// signing is how a message is signed: with a key, by a clock.
type signing struct {
	name, algorithm, secret string
	off                     time.Duration // of the clock
	cut                     int           // octets that the MAC is cut to; 0: it is whole
}

// sign signs a message, and returns its octets and its MAC. Without a name it isn't signed.
func (s signing) sign(t *testing.T, m *dns.Msg) (packet []byte, mac string) {
	t.Helper()
	m = m.Copy()
	if s.name == "" {
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packet, ""
	}
	packet, mac, err := dns.TsigGenerate(m.SetTsig(s.name, s.algorithm+".", 300, time.Now().Add(s.off).Unix()), s.secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if s.cut > 0 {
		if err := m.Unpack(packet); err != nil {
			t.Fatal(err)
		}
		rr := m.IsTsig()
		rr.MACSize, rr.MAC = uint16(s.cut), rr.MAC[:2*s.cut]
		if packet, err = m.Pack(); err != nil {
			t.Fatal(err)
		}
		mac = rr.MAC
	}
	return packet, mac
}

// verify looks at the signature of an answer to what was signed with a MAC.
func (s signing) verify(answer []byte, mac string) error {
	var m dns.Msg
	if err := m.Unpack(answer); err != nil {
		return err
	}
	if m.Rcode != dns.RcodeNotAuth {
		return dns.TsigVerify(answer, s.secret, mac, false)
	}
	// The library looks no further when it sees that RCODE. It makes the same octets of the message, and so the same MAC.
	rr := m.IsTsig()
	if rr == nil {
		return dns.ErrNoSig
	}
	got := rr.MAC
	_, want, err := dns.TsigGenerate(&m, s.secret, mac, false)
	if err == nil && !strings.EqualFold(got, want) {
		err = dns.ErrSig
	}
	return err
}

// busy is how often something is asked of a server that says that it can't do it now: a machine may be too busy for its log.
const busy = 10

// update has a server do what a message asks for, and returns what was sent and what came. When it can't be done now, it is asked again, as a message of
// its own.
func (p path) update(t *testing.T, by signing, m *dns.Msg) (packet, answer []byte, mac string) {
	t.Helper()
	for range busy {
		packet, mac = by.sign(t, m)
		answer = octets(t, p.dial(t), packet)
		if answer[3]&15 != dns.RcodeServerFailure {
			break
		}
		m.Id = dns.Id()
	}
	return packet, answer, mac
}

func (k tsigKey) signs() signing {
	return signing{name: k.Name, algorithm: k.Algorithm, secret: k.Secret}
}

// addresses asks for the A records of a name; several are parted by spaces.
func (n node) addresses(name string) string {
	n.t.Helper()
	client := dns.Client{Net: "tcp", Timeout: dnsPatience}
	m, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), n.DNS)
	if err != nil {
		n.t.Fatal(err)
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return m.String()
	}
	var all []string
	for _, rr := range m.Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(all, " ")
}

// withTLS starts a server that takes DNS over TLS too, and returns all ways to it.
func withTLS(t *testing.T) (node, []path) {
	t.Helper()
	addr := porttest.Free(t, "127.0.0.1")
	cert, key := issue(t, t.TempDir(), "ns.example")
	n := start(t, "--dns-tls-listen", addr, "--dns-tls-cert", cert, "--dns-tls-key", key)
	return n, []path{{"udp", n.DNS}, {"tcp", n.DNS}, {"tls", addr}}
}

// client runs nsupdate or knsupdate with a script, after a line that says where the server is, and returns what it said and whether that was success.
func (n node) client(argv []string, script string) (said string, ok bool) {
	n.t.Helper()
	host, port, err := net.SplitHostPort(n.DNS)
	if err != nil {
		n.t.Fatal(err)
	}
	for range busy {
		cmd := exec.CommandContext(n.t.Context(), argv[0], append([]string{"-t", "60"}, argv[1:]...)...)
		cmd.Stdin = strings.NewReader("server " + host + " " + port + "\n" + script + "send\nanswer\n")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			n.t.Fatalf("%v (`make test` installs what tests need)", err)
		}
		// knsupdate ends with success when an update was refused.
		said, ok = string(out), err == nil && !strings.Contains(string(out), "failed")
		if !strings.Contains(said, "SERVFAIL") {
			break
		}
	}
	return said, ok
}

// TestUpdateByPrograms: keys made by the command line, and granted, let nsupdate and knsupdate change a zone, in each of the ways in which they take a key and
// send; the next question sees it.
func TestUpdateByPrograms(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")
	n.cli("zone", "create", "example.org.", "--ns", "ns1")

	dir := t.TempDir()
	const name = "update.example."
	clause := n.cli("tsig", "create", name, "--algorithm", "hmac-sha512", "--bind")
	bindFile := write(t, dir, "bind.key", clause)
	_, secret, _ := strings.Cut(clause, "secret \"")
	secret, _, _ = strings.Cut(secret, "\"")
	term := "hmac-sha512:" + name + ":" + secret
	knotFile := write(t, dir, "knot.key", term)
	clients := [][]string{
		{"nsupdate", "-k", bindFile},
		{"nsupdate", "-v", "-k", bindFile},
		{"nsupdate", "-y", term},
		{"nsupdate", "-v", "-y", term},
		{"knsupdate", "-k", knotFile},
		{"knsupdate", "-v", "-k", knotFile},
		{"knsupdate", "-y", term},
		{"knsupdate", "-v", "-y", term},
	}
	const before = "zone example.com.\nupdate add early.example.com. 60 A 192.0.2.9\n"
	for _, argv := range [][]string{{"nsupdate"}, clients[0], {"knsupdate"}, clients[4]} {
		if said, ok := n.client(argv, before); ok || !strings.Contains(said, "REFUSED") {
			t.Errorf("%q, before anything was granted: %s", argv, said)
		}
	}
	if got := n.addresses("early.example.com"); got != "" {
		t.Errorf("it was changed: %q", got)
	}

	n.cli("zone", "set", "example.com.", "--allow-update", "key:"+name)
	n.cli("acl", "set", "updaters", "--allow", "update", "--key", name, "--zone", "example.org.")
	for _, zone := range []string{"example.com.", "example.org."} {
		for i, argv := range clients {
			address := "192.0.2." + utoa(uint32(i+1))
			script := "zone " + zone + "\nprereq yxdomain " + zone + "\nupdate delete www." + zone + " A\nupdate add www." + zone + " 60 A " + address + "\n"
			if said, ok := n.client(argv, script); !ok || !strings.Contains(said, "NOERROR") {
				t.Errorf("%q of %s: %s", argv, zone, said)
			}
			if got := n.addresses("www." + zone); got != address {
				t.Errorf("after %q, %s has %q", argv, zone, got)
			}
			said, ok := n.client(argv, "zone "+zone+"\nprereq nxrrset www."+zone+" A\nupdate add www."+zone+" 60 A 192.0.2.99\n")
			if ok || !strings.Contains(said, "YXRRSET") {
				t.Errorf("%q, with a prerequisite that does not hold: %s", argv, said)
			}
		}
		if said, ok := n.client([]string{"nsupdate"}, "zone "+zone+"\nupdate delete www."+zone+"\n"); ok || !strings.Contains(said, "REFUSED") {
			t.Errorf("unsigned: %s", said)
		}
	}
	// nsupdate finds the zone by itself.
	if said, ok := n.client(clients[0], "update add deep.in.example.com. 60 A 192.0.2.44\n"); !ok {
		t.Error(said)
	}
	if got := n.addresses("deep.in.example.com"); got != "192.0.2.44" {
		t.Errorf("%q", got)
	}
	history := n.cli("zone", "history", "example.com.")
	rows(t, history, row("[0-9]+@[0-9]+", ".*", "[0-9]+", "changed", "[0-9]+", `update\.example\.`, "UPDATE"))

	n.cli("zone", "freeze", "example.com.")
	if said, ok := n.client(clients[0], "zone example.com.\nupdate delete www.example.com.\n"); ok || !strings.Contains(said, "REFUSED") {
		t.Errorf("frozen: %s", said)
	}
	n.cli("zone", "thaw", "example.com.")
	n = n.again()
	if got, want := n.addresses("www.example.org"), "192.0.2."+utoa(uint32(len(clients))); got != want {
		t.Errorf("after a restart: %q, want %q", got, want)
	}
	if said, ok := n.client(clients[0], "zone example.com.\nupdate delete www.example.com.\n"); !ok {
		t.Errorf("thawed, after a restart: %s", said)
	}
	if got := n.addresses("www.example.com"); got != "" {
		t.Errorf("after it was removed: %q", got)
	}
	n.cli("acl", "delete", "updaters")
	if said, ok := n.client(clients[0], "zone example.org.\nupdate delete www.example.org.\n"); ok || !strings.Contains(said, "REFUSED") {
		t.Errorf("without its ACL: %s", said)
	}
	n.cli("tsig", "delete", name)
	if said, ok := n.client(clients[0], "zone example.com.\nupdate add www.example.com. 60 A 192.0.2.1\n"); ok || !strings.Contains(said, "BADKEY") {
		t.Errorf("without its key: %s", said)
	}
}

// TestUpdateCodes: over UDP, TCP and TLS, what each message is answered with, and how the answer is signed (RFC 8945 §5.2, §5.3).
func TestUpdateCodes(t *testing.T) {
	t.Parallel()
	n, paths := withTLS(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")
	good := jsonOf[tsigKey](n, "tsig", "create", "good.")
	other := jsonOf[tsigKey](n, "tsig", "create", "other.", "--algorithm", "hmac-sha384")
	n.cli("zone", "set", "example.com.", "--allow-update", "key:good")

	weak := jsonOf[tsigKey](n, "tsig", "create", "weak.", "--algorithm", "hmac-sha1").signs()
	weak.cut = 12
	unknown, wrong, early, late, cut, short := good.signs(), good.signs(), good.signs(), good.signs(), good.signs(), good.signs()
	unknown.name = "unknown."
	wrong.secret = other.Secret
	early.off, late.off = -time.Hour, time.Hour
	cut.cut, short.cut = 16, 8
	const add = "www.example.com. 60 IN A 192.0.2.1"
	for _, c := range []struct {
		what   string
		by     signing
		zone   string
		lines  []string
		want   int
		error  uint16 // of the answer's TSIG
		signed bool
	}{
		{what: "unsigned", lines: []string{add}, want: dns.RcodeRefused},
		{what: "a key that is not known", by: unknown, lines: []string{add}, want: dns.RcodeNotAuth, error: dns.RcodeBadKey},
		{what: "another secret", by: wrong, lines: []string{add}, want: dns.RcodeNotAuth, error: dns.RcodeBadSig},
		{what: "too early", by: early, lines: []string{add}, want: dns.RcodeNotAuth, error: dns.RcodeBadTime, signed: true},
		{what: "too late", by: late, lines: []string{add}, want: dns.RcodeNotAuth, error: dns.RcodeBadTime, signed: true},
		{what: "a MAC that is short", by: weak, lines: []string{add}, want: dns.RcodeNotAuth, error: dns.RcodeBadTrunc, signed: true},
		{what: "a MAC that is too short", by: short, lines: []string{add}, want: dns.RcodeFormatError},
		{what: "a key without a grant", by: other.signs(), lines: []string{add}, want: dns.RcodeRefused, signed: true},
		{what: "a zone that is not here", by: good.signs(), zone: "example.net.", lines: []string{"www.example.net. 60 IN A 192.0.2.1"}, want: dns.RcodeNotAuth, signed: true},
		{what: "a name in a zone", by: good.signs(), zone: "www.example.com.", lines: []string{add}, want: dns.RcodeNotAuth, signed: true},
		{what: "a name outside", by: good.signs(), lines: []string{"www.example.net. 60 IN A 192.0.2.1"}, want: dns.RcodeNotZone, signed: true},
		{what: "a class that is none", by: good.signs(), lines: []string{"www.example.com. 60 CH TXT x"}, want: dns.RcodeFormatError, signed: true},
		{what: "a removal with a TTL", by: good.signs(), lines: []string{"www.example.com. 60 ANY A"}, want: dns.RcodeFormatError, signed: true},
		{what: "YXDOMAIN", by: good.signs(), lines: []string{"pre example.com. 0 NONE ANY", add}, want: dns.RcodeYXDomain, signed: true},
		{what: "NXDOMAIN", by: good.signs(), lines: []string{"pre no.example.com. 0 ANY ANY", add}, want: dns.RcodeNameError, signed: true},
		{what: "YXRRSET", by: good.signs(), lines: []string{"pre example.com. 0 NONE NS", add}, want: dns.RcodeYXRrset, signed: true},
		{what: "NXRRSET", by: good.signs(), lines: []string{"pre example.com. 0 ANY MX", add}, want: dns.RcodeNXRrset, signed: true},
		{what: "NXRRSET by value", by: good.signs(), lines: []string{"pre example.com. 0 IN NS ns2.example.com.", add}, want: dns.RcodeNXRrset, signed: true},
		{what: "nothing", by: good.signs(), signed: true},
		{what: "a removal of what is not there", by: good.signs(), lines: []string{"no.example.com. 0 ANY ANY"}, signed: true},
		{what: "an addition", by: good.signs(), lines: []string{add}, signed: true},
		{what: "a removal, with a MAC that is cut", by: cut, lines: []string{"www.example.com. 0 ANY ANY"}, signed: true},
	} {
		if c.zone == "" {
			c.zone = "example.com."
		}
		for _, p := range paths {
			what := c.what + " over " + p.network
			packet, answer, mac := p.update(t, c.by, updateMessage(t, c.zone, c.lines...))
			var m dns.Msg
			if err := m.Unpack(answer); err != nil {
				t.Fatalf("%s: %v in %x", what, err, answer)
			}
			if m.Rcode != c.want || m.Opcode != dns.OpcodeUpdate || !m.Response || !bytes.Equal(answer[:2], packet[:2]) {
				t.Errorf("%s: %s, want %s", what, m.String(), dns.RcodeToString[c.want])
			}
			rr := m.IsTsig()
			switch {
			case c.signed:
				if rr == nil || rr.Error != c.error {
					t.Fatalf("%s: %s", what, m.String())
				}
				if err := c.by.verify(answer, mac); err != nil {
					t.Errorf("%s: the signature: %v\n%s", what, err, m.String())
				}
				if c.error == dns.RcodeBadTime {
					// §5.2.3: the time that the client gave, and the server's own.
					var asked dns.Msg
					if err := asked.Unpack(packet); err != nil {
						t.Fatal(err)
					}
					clock, err := strconv.ParseInt(rr.OtherData, 16, 64)
					if err != nil || rr.TimeSigned != asked.IsTsig().TimeSigned || rr.OtherLen != 6 {
						t.Fatalf("%s: %s", what, m.String())
					}
					if off := time.Since(time.Unix(clock, 0)).Abs(); off > 10*time.Minute {
						t.Errorf("%s: the server's clock is said to be off by %s", what, off)
					}
				}
			case c.error != 0:
				if rr == nil || rr.Error != c.error || rr.MACSize != 0 || rr.MAC != "" {
					t.Errorf("%s: %s", what, m.String())
				}
			case rr != nil:
				t.Errorf("%s: signed, and it should not be: %s", what, m.String())
			}
			if c.what == "an addition" && n.addresses("www.example.com") != "192.0.2.1" {
				t.Errorf("%s is not seen", what)
			}
			if strings.HasPrefix(c.what, "a removal, ") && n.addresses("www.example.com") != "" {
				t.Errorf("%s is not seen", what)
			}
		}
	}
}

// TestUpdateAgain: over UDP, the same octets from the same address and port get the first result again; other octets, and others, their own.
func TestUpdateAgain(t *testing.T) {
	t.Parallel()
	n, paths := withTLS(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")
	key := jsonOf[tsigKey](n, "tsig", "create", "key.")
	n.cli("zone", "set", "example.com.", "--allow-update", "key:key", "--allow-update", "127.0.0.2")
	rcode := func(c net.Conn, packet []byte, by signing, mac string) string {
		t.Helper()
		answer := octets(t, c, packet)
		var m dns.Msg
		if err := m.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if by.name != "" {
			if err := by.verify(answer, mac); err != nil {
				t.Errorf("%v\n%s", err, m.String())
			}
		}
		return dns.RcodeToString[m.Rcode]
	}
	// fresh sends a message that has not been sent before.
	fresh := func(c net.Conn, by signing, m *dns.Msg) (got string, packet []byte, mac string, begun time.Time) {
		t.Helper()
		for range busy {
			m.Id++
			packet, mac = by.sign(t, m)
			begun = time.Now()
			if got = rcode(c, packet, by, mac); got != "SERVFAIL" {
				break
			}
		}
		return got, packet, mac, begun
	}
	// Only what comes within 30 s is a repeat.
	repeat := func(begun time.Time, got string) {
		t.Helper()
		if got != "NOERROR" && time.Since(begun) < 25*time.Second {
			t.Errorf("the same again: %s", got)
		}
	}
	own, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(n.DNS)))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for name, c := range map[string]struct {
		by   signing
		conn net.Conn
	}{"signed": {key.signs(), paths[0].dial(t)}, "unsigned": {signing{}, own}} {
		m := updateMessage(t, "example.com.", "pre "+name+".example.com. 0 NONE ANY", name+".example.com. 60 IN A 192.0.2.1")
		got, packet, mac, begun := fresh(c.conn, c.by, m)
		if got != "NOERROR" {
			t.Fatal(got)
		}
		serial := n.serial("example.com.")
		for range 3 {
			repeat(begun, rcode(c.conn, packet, c.by, mac))
		}
		if got := n.serial("example.com."); got != serial {
			t.Errorf("the same again changed something: serial %d after %d", got, serial)
		}
		if got, _, _, _ := fresh(c.conn, c.by, m); got != "YXDOMAIN" {
			t.Errorf("with another ID: %s", got)
		}
	}
	for _, p := range paths {
		m := updateMessage(t, "example.com.", "pre signed.example.com. 0 NONE ANY", "signed.example.com. 60 IN A 192.0.2.1")
		if got, _, _, _ := fresh(p.dial(t), key.signs(), m); got != "YXDOMAIN" {
			t.Errorf("over %s: %s", p.network, got)
		}
	}
}

// TestUpdatePolicy: what a grant for names and types lets through, and what it does not.
func TestUpdatePolicy(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")
	n.cli("record", "set", "example.com.", "host.dyn", "A", "60", "192.0.2.1")
	n.cli("record", "set", "example.com.", "host.dyn", "MX", "60", "10 mail.example.net.")
	n.cli("record", "set", "example.com.", "both.dyn", "A", "60", "192.0.2.1")
	keys := map[string]tsigKey{}
	for _, name := range []string{"dhcp.", "acme.", "net."} {
		keys[name] = jsonOf[tsigKey](n, "tsig", "create", name)
	}
	n.cli("zone", "set", "example.com.", "--allow-update", "key:dhcp", "--update-names", "dyn", "--update-types", "A,TXT")
	n.cli("acl", "set", "acme", "--allow", "update", "--key", "acme.", "--zone", "+com.", "--name", "_acme-challenge.example.com.", "--name", "*.acme.example.com.", "--type", "TXT")
	n.cli("acl", "set", "elsewhere", "--allow", "update", "--key", "net.", "--network", "192.0.2.0/24")
	n.cli("acl", "set", "not-here", "--allow", "update", "--key", "net.", "--zone", "*.example.com.")
	n.cli("acl", "set", "not-that", "--allow", "transfer,notify", "--key", "net.")
	for _, c := range []struct {
		key   string
		lines string // parted by "; "
		want  string
	}{
		{"dhcp.", "a.dyn.example.com. 60 IN A 192.0.2.2", "NOERROR"},
		{"dhcp.", "dyn.example.com. 60 IN TXT x", "NOERROR"},
		{"dhcp.", "a.dyn.example.com. 60 IN AAAA 2001:db8::1", "REFUSED"},
		{"dhcp.", "a.example.com. 60 IN A 192.0.2.2", "REFUSED"},
		{"dhcp.", "example.com. 60 IN A 192.0.2.2", "REFUSED"},
		{"dhcp.", "xdyn.example.com. 60 IN A 192.0.2.2", "REFUSED"},
		{"dhcp.", "b.dyn.example.com. 60 IN A 192.0.2.2; a.example.com. 60 IN A 192.0.2.2", "REFUSED"},
		{"dhcp.", "b.dyn.example.com. 60 IN A 192.0.2.2; b.dyn.example.com. 0 ANY MX", "REFUSED"},
		{"dhcp.", "host.dyn.example.com. 0 ANY ANY", "REFUSED"}, // it has an MX
		{"dhcp.", "host.dyn.example.com. 0 ANY A", "NOERROR"},
		{"dhcp.", "host.dyn.example.com. 0 NONE MX 10 mail.example.net.", "REFUSED"},
		{"dhcp.", "both.dyn.example.com. 0 ANY ANY", "NOERROR"},
		{"dhcp.", "pre example.com. 0 ANY NS; a.dyn.example.com. 0 ANY A", "NOERROR"},
		{"dhcp.", "pre nothing.example.com. 0 ANY ANY", "NXDOMAIN"},
		{"acme.", "_acme-challenge.example.com. 60 IN TXT x", "NOERROR"},
		{"acme.", "_acme-challenge.example.com. 60 IN A 192.0.2.1", "REFUSED"},
		{"acme.", "x._acme-challenge.example.com. 60 IN TXT x", "REFUSED"},
		{"acme.", "acme.example.com. 60 IN TXT x", "REFUSED"},
		{"acme.", "a.b.acme.example.com. 60 IN TXT x", "NOERROR"},
		{"acme.", "a.dyn.example.com. 60 IN TXT x", "REFUSED"},
		{"net.", "a.example.com. 60 IN A 192.0.2.2", "REFUSED"},
		{"net.", "", "REFUSED"},
	} {
		var lines []string
		if c.lines != "" {
			lines = strings.Split(c.lines, "; ")
		}
		by := keys[c.key].signs()
		_, answer, mac := path{"tcp", n.DNS}.update(t, by, updateMessage(t, "example.com.", lines...))
		var m dns.Msg
		if err := m.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if err := by.verify(answer, mac); err != nil {
			t.Errorf("%s %s: %v", c.key, c.lines, err)
		}
		if got := dns.RcodeToString[m.Rcode]; got != c.want {
			t.Errorf("%s %s: %s, want %s", c.key, c.lines, got, c.want)
		}
	}
	for name, want := range map[string]string{"a.dyn.example.com": "", "b.dyn.example.com": "", "host.dyn.example.com": "", "both.dyn.example.com": "", "a.example.com": "", "example.com": ""} {
		if got := n.addresses(name); got != want {
			t.Errorf("%s has %q", name, got)
		}
	}
	if got := n.short("host.dyn.example.com", "MX"); got != "10 mail.example.net.\n" {
		t.Errorf("%q", got)
	}
}
