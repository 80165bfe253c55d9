package dnsserver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/dnsserver/wire"
)

// selfSigned makes a certificate for a name.
func selfSigned(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// startTLS starts a server that speaks TLS as well.
func startTLS(t testing.TB, opts Options) *Server {
	t.Helper()
	if opts.Certificate == nil {
		certificate := selfSigned(t, "ns.example.net")
		opts.Certificate = func() *tls.Certificate { return certificate }
	}
	opts.ListenTLS = []string{"127.0.0.1:0"}
	return start(t, opts)
}

func (s *Server) testTLSAddr() string { return s.TLSAddrs()[0].String() }

// dialTLS connects and shakes hands. The certificate is not looked at, unless config says so.
func dialTLS(t testing.TB, s *Server, config *tls.Config) *wireConn {
	t.Helper()
	if config == nil {
		config = &tls.Config{NextProtos: []string{"dot"}}
	}
	config.InsecureSkipVerify = config.RootCAs == nil
	c := tls.Client(dial(t, "tcp", s.testTLSAddr()), config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &wireConn{c, t, true}
}

// TestTLSAnswersAsTCP: the octets are the same.
func TestTLSAnswersAsTCP(t *testing.T) {
	s := startTLS(t, Options{Settings: Settings{NSID: "here", Identity: "here", CookieSecrets: []CookieSecret{{1}}}, Now: func() time.Time { return time.Unix(1_700_000_000, 0) }})
	plain, secure := dial(t, "tcp", s.testAddr()), dialTLS(t, s, nil)
	cookie := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}
	chaos := question("id.server.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	questions := []*dns.Msg{
		question("www.example.com.", dns.TypeA), question("WWW.example.com.", dns.TypeAAAA), question("nope.example.com.", dns.TypeA),
		question("alias.example.com.", dns.TypeA), question("example.net.", dns.TypeA), question("huge.example.com.", dns.TypeA),
		question("fatter.example.com.", dns.TypeTXT), question("broken.", dns.TypeA), question("panics.", dns.TypeA), question("unavailable.", dns.TypeA),
		question("example.com.", dns.TypeAXFR), chaos, withEDNS(question("www.example.com.", dns.TypeA), 1232, true),
		withEDNS(question("example.com.", dns.TypeANY), 512, false, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, cookie),
	}
	var queries [][]byte
	for _, q := range questions {
		queries = append(queries, pack(t, q))
	}
	for _, odd := range oddPackets(t) {
		if odd.want != "drop" && len(odd.packet) >= wire.HeaderLen && odd.packet[2]&0x80 == 0 {
			queries = append(queries, odd.packet)
		}
	}
	for _, q := range queries {
		plain.send(q)
		secure.send(q)
		want, got := plain.receive(), secure.receive()
		if !bytes.Equal(want, got) {
			t.Errorf("%x\nover TCP %x\nover TLS %x", q, want, got)
		}
		if got[2]&0x02 != 0 {
			t.Errorf("truncated over TLS: %x", q)
		}
	}
	stop(t, s)
	got := gather(t, s)
	if n := float64(len(queries)); got[`balefire_dns_queries_total{transport="tls"}`] != n || got[`balefire_dns_queries_total{transport="tcp"}`] != n {
		t.Errorf("%v and %v queries were counted, want %v", got[`balefire_dns_queries_total{transport="tls"}`], got[`balefire_dns_queries_total{transport="tcp"}`], n)
	}
	if got[`balefire_dns_tls_handshakes_total{result="full"}`] != 1 || got["balefire_dns_tls_connections"] != 0 || got["balefire_dns_tls_certificate_expires_seconds"] == 0 {
		t.Errorf("%v", got)
	}
}

// TestTLSVersions: 1.2 and 1.3, with forward secrecy; nothing older (RFC 9325 §3.1.1, §4.2).
func TestTLSVersions(t *testing.T) {
	s := startTLS(t, Options{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := dialTLS(t, s, &tls.Config{MinVersion: version, MaxVersion: version})
		for range 3 {
			if m := c.ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
				t.Errorf("%s: %v", tls.VersionName(version), m)
			}
		}
	}
	for name, config := range map[string]*tls.Config{
		"TLS 1.1":     {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"CBC":         {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
		"other ALPN":  {NextProtos: []string{"h2", "http/1.1"}},
		"other name":  {RootCAs: x509.NewCertPool(), ServerName: "ns.example.org"},
		"unknown CAs": {RootCAs: x509.NewCertPool(), ServerName: "ns.example.net"},
	} {
		config.InsecureSkipVerify = config.RootCAs == nil
		if err := tls.Client(dial(t, "tcp", s.testTLSAddr()), config).Handshake(); err == nil {
			t.Errorf("%s was taken", name)
		} else if name == "other ALPN" && !strings.Contains(err.Error(), "no application protocol") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := dialTLS(t, s, &tls.Config{NextProtos: []string{"h2", "dot"}}).Conn.(*tls.Conn); c.ConnectionState().NegotiatedProtocol != "dot" {
		t.Errorf("of h2 and dot: %q", c.ConnectionState().NegotiatedProtocol)
	}
}

// TestTLSResumes: a client that comes back needs no signature.
func TestTLSResumes(t *testing.T) {
	s := startTLS(t, Options{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{MaxVersion: version, ServerName: "ns.example.net", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for i := range 2 {
			c := dialTLS(t, s, config)
			c.ask(question("www.example.com.", dns.TypeA)) // with which the ticket has come
			if got := c.Conn.(*tls.Conn).ConnectionState().DidResume; got != (i == 1) {
				t.Errorf("%s, connection %d: resumed %v", tls.VersionName(version), i, got)
			}
		}
	}
	if got := gather(t, s); got[`balefire_dns_tls_handshakes_total{result="full"}`] != 2 || got[`balefire_dns_tls_handshakes_total{result="resumed"}`] != 2 {
		t.Errorf("%v", got)
	}
}

// TestTLSNewCertificate: it is shown to who comes after it is there; connections stay.
func TestTLSNewCertificate(t *testing.T) {
	var current atomic.Pointer[tls.Certificate]
	current.Store(selfSigned(t, "old.example.net"))
	s := startTLS(t, Options{Certificate: current.Load})
	nameOf := func(c *wireConn) string {
		return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	before := dialTLS(t, s, nil)
	current.Store(selfSigned(t, "new.example.net"))
	after := dialTLS(t, s, nil)
	if nameOf(before) != "old.example.net" || nameOf(after) != "new.example.net" {
		t.Errorf("%s, then %s", nameOf(before), nameOf(after))
	}
	for _, c := range []*wireConn{before, after} {
		if m := c.ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
			t.Errorf("%v", m)
		}
	}
}

// TestTLSPadding: answers to padded queries are whole blocks (RFC 8467 §4.1), over TLS only.
func TestTLSPadding(t *testing.T) {
	s := startTLS(t, Options{})
	plain, secure := dial(t, "tcp", s.testAddr()), dialTLS(t, s, nil)
	padded := func(name string, qtype uint16) []byte {
		return pack(t, withEDNS(question(name, qtype), 1232, false, &dns.EDNS0_PADDING{Padding: make([]byte, 50)}))
	}
	for _, name := range []string{"www.example.com.", "nope.example.com.", "fatter.example.com.", "huge.example.com.", "unhosted.test."} {
		q := padded(name, dns.TypeA)
		plain.send(q)
		secure.send(q)
		want, got := plain.receive(), secure.receive()
		if len(got)%wire.PaddingBlock != 0 || len(got) < len(want)+4 || len(got) >= len(want)+4+wire.PaddingBlock {
			t.Errorf("%s: %d octets, of %d without padding", name, len(got), len(want))
		}
		m, unpadded := unpack(t, got), unpack(t, want)
		options := m.IsEdns0().Option
		last, ok := options[len(options)-1].(*dns.EDNS0_PADDING)
		if !ok || bytes.ContainsFunc(last.Padding, func(r rune) bool { return r != 0 }) {
			t.Fatalf("%s: %v", name, m)
		}
		m.IsEdns0().Option = options[:len(options)-1]
		if m.String() != unpadded.String() {
			t.Errorf("%s: %v, want %v", name, m, unpadded)
		}
	}
	// Who does not pad gets no padding, and what has no OPT can't have any.
	if m := secure.ask(withEDNS(question("www.example.com.", dns.TypeA), 1232, false)); len(m.IsEdns0().Option) != 0 {
		t.Errorf("%v", m)
	}
}

// TestTLSPipelining: as over TCP, one that waits holds up none, and half a query waits for its rest.
func TestTLSPipelining(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := startTLS(t, Options{Zones: h})
	c := dialTLS(t, s, nil)
	cold := withEDNS(question("a.slow.example.com.", dns.TypeA), 1232, false, &dns.EDNS0_PADDING{})
	segment := frame(nil, pack(t, cold))
	for range 100 {
		segment = frame(segment, pack(t, question("www.example.com.", dns.TypeA)))
	}
	for _, part := range [][]byte{segment[:1], segment[1:70], segment[70:]} { // each a record of its own
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if m := c.receiveMsg(); m.Id == cold.Id || len(m.Answer) != 2 {
			t.Fatalf("%v", m)
		}
	}
	release()
	if late := c.receive(); unpack(t, late).Id != cold.Id || unpack(t, late).Rcode != dns.RcodeNameError || len(late) != wire.PaddingBlock {
		t.Errorf("%d octets: %v", len(late), unpack(t, late))
	}
}

// TestTLSSaysGoodbye: a connection that the server ends, ends as TLS ends (RFC 8446 §6.1), and not only as TCP does.
func TestTLSSaysGoodbye(t *testing.T) {
	s := startTLS(t, Options{})
	var raw *wireConn
	for idle := 50 * time.Millisecond; ; idle *= 2 { // until a handshake is done well within it
		s.mustSet(t, Settings{TCP: TCPSettings{Idle: idle}})
		begun := time.Now()
		raw = dial(t, "tcp", s.testTLSAddr())
		// TLS 1.2 shows what a record is.
		err := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
		if err == nil && time.Since(begun) < idle/2 {
			break
		}
		if idle > waitLimit {
			t.Fatalf("no handshake in time: %v", err)
		}
	}
	raw.patience()
	const alert = 21
	if last, err := io.ReadAll(raw.Conn); err != nil || len(last) < 5 || last[0] != alert {
		t.Errorf("%x, %v", last, err)
	}
}

// frame appends a message as TCP carries it.
func frame(segment, message []byte) []byte {
	return append(append(segment, byte(len(message)>>8), byte(len(message))), message...)
}

// TestTLSQueryWithFinished: what comes together with the end of the handshake, and the client's end, is answered.
func TestTLSQueryWithFinished(t *testing.T) {
	s := startTLS(t, Options{})
	for range 20 {
		held := &holdingConn{Conn: dial(t, "tcp", s.testTLSAddr())}
		client := tls.Client(held, &tls.Config{InsecureSkipVerify: true})
		held.hold = 1 // after the client's hello, all is held back, and then written at once
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write(frame(nil, pack(t, question("www.example.com.", dns.TypeA)))); err != nil {
			t.Fatal(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := held.Conn.Write(held.kept); err != nil {
			t.Fatal(err)
		}
		if err := held.Conn.(*wireConn).Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c := &wireConn{client, t, true}
		if m := c.receiveMsg(); len(m.Answer) != 2 {
			t.Errorf("%v", m)
		}
		if _, err := c.tryReceive(); err != io.EOF {
			t.Errorf("then the connection should end as TLS ends, got %v", err)
		}
	}
}

// holdingConn writes so many times, and keeps what is written after that.
type holdingConn struct {
	net.Conn
	hold int
	kept []byte
}

func (c *holdingConn) Write(p []byte) (int, error) {
	if c.hold > 0 {
		c.hold--
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p...)
	return len(p), nil
}

// TestTLSGarbage: what is no TLS is closed, and counted.
func TestTLSGarbage(t *testing.T) {
	s := startTLS(t, Options{})
	hello := clientHello(t)
	for name, sent := range map[string][]byte{
		"plain DNS":          frame(nil, pack(t, question("www.example.com.", dns.TypeA))),
		"HTTP":               []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
		"zeros":              make([]byte, 100_000),
		"a damaged hello":    append(bytes.Clone(hello[:9]), make([]byte, len(hello)-9)...),
		"a record too large": {22, 3, 1, 255, 255, 1, 0, 255, 250},
	} {
		c := dial(t, "tcp", s.testTLSAddr())
		c.Write(sent) // it may be closed meanwhile
		if rest, err := io.ReadAll(c.Conn); err != nil && !ended(err) {
			t.Errorf("%s: %v", name, err)
		} else if len(rest) > 0 && rest[0] != 21 {
			t.Errorf("%s was answered with %x", name, rest)
		}
	}
	if got := gather(t, s)[`balefire_dns_tls_handshakes_total{result="failed"}`]; got != 5 {
		t.Errorf("%v handshakes failed, want 5", got)
	}
	// After the handshake.
	raw := dial(t, "tcp", s.testTLSAddr())
	c := &wireConn{tls.Client(raw, &tls.Config{InsecureSkipVerify: true}), t, true}
	c.ask(question("www.example.com.", dns.TypeA))
	if _, err := raw.Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tryReceive(); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("a record that can't be opened: %v", err)
	}
	stop(t, s)
	if n := s.tcp.pending.Load(); n != 0 || s.tls.open.Load() != 0 {
		t.Errorf("%d octets are kept for nobody, %d connections counted", n, s.tls.open.Load())
	}
}

// SetWriteDeadline is called by the library when it has written its last.
func (c *holdingConn) SetWriteDeadline(time.Time) error { return nil }

// clientHello returns what a client begins with.
func clientHello(t *testing.T) []byte {
	t.Helper()
	held := &holdingConn{Conn: deafConn{}}
	if err := tls.Client(held, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil || len(held.kept) < 50 {
		t.Fatalf("%v, %x", err, held.kept)
	}
	return held.kept
}

// deafConn has nothing to read.
type deafConn struct{ net.Conn }

func (deafConn) Read([]byte) (int, error) { return 0, io.EOF }

// TestTLSStalls: a handshake that does not come to its end is closed in time, and holds up no other.
func TestTLSStalls(t *testing.T) {
	s := startTLS(t, Options{Settings: Settings{TCP: TCPSettings{Idle: time.Hour}}})
	hello := clientHello(t)
	stall := func() (stalled []*wireConn) {
		for _, begun := range [][]byte{nil, hello[:1], hello[:len(hello)/2], hello[:len(hello)-1], hello, hello} {
			c := dial(t, "tcp", s.testTLSAddr())
			if len(begun) > 0 {
				if _, err := c.Write(begun); err != nil {
					t.Fatal(err)
				}
			}
			stalled = append(stalled, c)
		}
		return stalled
	}
	stall()
	if m := dialTLS(t, s, nil).ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("%v", m)
	}
	short := 300 * time.Millisecond
	s.mustSet(t, Settings{TCP: TCPSettings{Idle: short}}) // for those that come from now on
	for i, c := range stall() {
		c.patience()
		if _, err := io.ReadAll(c.Conn); err != nil && !ended(err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	var client *wireConn
	for ; ; short *= 2 { // until a handshake and an answer take no longer
		s.mustSet(t, Settings{TCP: TCPSettings{Idle: short}})
		client = &wireConn{tls.Client(dial(t, "tcp", s.testTLSAddr()), &tls.Config{InsecureSkipVerify: true}), t, true}
		_, err := client.Write(frame(nil, pack(t, question("www.example.com.", dns.TypeA))))
		if err == nil {
			_, err = client.tryReceive()
		}
		if err == nil {
			break
		}
		if short > waitLimit {
			t.Fatal(err)
		}
	}
	if _, err := client.tryReceive(); err != io.EOF {
		t.Errorf("an idle connection should end as TLS ends, got %v", err)
	}
	stop(t, s)
	if got := gather(t, s); got["balefire_dns_tls_connections"] != 0 || got["balefire_dns_tcp_connections"] != 0 || got["balefire_dns_tcp_cut_total"] != 0 || s.tcp.pending.Load() != 0 {
		t.Errorf("%v, pending %d", got, s.tcp.pending.Load())
	}
}

// TestTLSLimits: those of TCP hold for both together.
func TestTLSLimits(t *testing.T) {
	s := startTLS(t, Options{Settings: Settings{TCP: TCPSettings{Connections: 3}}})
	dial(t, "tcp", s.testAddr()).ask(question("www.example.com.", dns.TypeA))
	dialTLS(t, s, nil)
	dialTLS(t, s, nil)
	c := tls.Client(dial(t, "tcp", s.testTLSAddr()), &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); !ended(err) && !errors.Is(err, io.EOF) {
		t.Errorf("the fourth: %v", err)
	}
	if got := gather(t, s); got[`balefire_dns_tcp_refused_total{limit="connections"}`] != 1 || got["balefire_dns_tls_connections"] != 2 || got["balefire_dns_tcp_connections"] != 3 {
		t.Errorf("%v", got)
	}
}

// TestTLSSlowReader: a client that takes no answers is cut, and what waits for it is bounded.
func TestTLSSlowReader(t *testing.T) {
	s := startTLS(t, Options{Settings: Settings{TCP: TCPSettings{Write: 50 * time.Millisecond}}})
	c := dialTLS(t, s, nil)
	huge := frame(nil, pack(t, question("huge.example.com.", dns.TypeA)))
	for gather(t, s)["balefire_dns_tcp_cut_total"] == 0 {
		if _, err := c.Write(huge); err != nil {
			break
		}
		if n := s.tcp.pending.Load(); n > 2*(maxPendingConn+65537) {
			t.Fatalf("%d octets are pending", n)
		}
	}
	stop(t, s)
	if got := gather(t, s); got["balefire_dns_tcp_cut_total"] != 1 || got["balefire_dns_tls_connections"] != 0 || s.tcp.pending.Load() != 0 {
		t.Errorf("%v, pending %d", got, s.tcp.pending.Load())
	}
}

// TestTLSClients: those that people use.
func TestTLSClients(t *testing.T) {
	s := startTLS(t, Options{})
	_, port, err := net.SplitHostPort(s.testTLSAddr())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"kdig", "+tls", "+padding", "+keepopen"}, {"kdig", "+tls", "+alignment=128"}, {"dig", "+tls", "+noedns"}, {"dig", "+tls", "+padding=128"},
	} {
		args := append(patient(c), "@127.0.0.1", "-p", port, "www.example.com", "A", "alias.example.com", "A")
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil || strings.Count(string(out), "192.0.2.80") != 2 || !strings.Contains(string(out), "status: NOERROR") {
			t.Errorf("%v: %v\n%s", c, err, out)
		}
	}
}
