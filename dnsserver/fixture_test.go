package dnsserver

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/store"
	"balefire/store/hotzone"
	"balefire/zones"
	"balefire/zones/zonefile"
	"balefire/zones/zonestest"
)

// waitLimit ends a test that waits for what never comes.
const waitLimit = time.Minute

// exampleZone is served by most tests.
const exampleZone = `
$ORIGIN example.com.
$TTL 3600
@        SOA ns1 hostmaster 7 7200 900 1209600 300
@        NS  ns1
@        NS  ns2
ns1      A   192.0.2.53
ns2      A   192.0.2.54
www  300 A   192.0.2.80
www  300 A   192.0.2.81
alias    CNAME www
*.wild   TXT "wild"
child    NS  ns.child
ns.child A   192.0.2.99
fat      TXT "$FILL"
fatter   TXT "$FILL" "$FILL" "$FILL" "$FILL" "$FILL" "$FILL"
$GENERATE 1-2000 huge A 10.0.${0,1}.1
`

// hosted is zones in memory. What is asked below slow.example.com waits, as for a disk, until the name is released.
type hosted struct {
	zones map[zones.Name]*hotzone.Zone
	// views replace zones that are found; for failures.
	views    map[zones.Name]store.Holding
	waiting  chan zones.Name          // gets each name that begins to wait
	released map[string]chan struct{} // by name
}

// fixed is the stamp of the zones, none of which changes.
var fixed = store.StampOf([3]uint64{2, 0, 0})

func (h *hosted) Current(at store.Stamp) bool { return at == fixed }

func (h *hosted) FindHot(qname zones.Name, qtype zones.Type) (store.Holding, bool) {
	if qname.IsAtOrBelow(slowName) {
		return store.Holding{}, false
	}
	return h.find(qname, qtype), true
}

func (h *hosted) Find(qname zones.Name, qtype zones.Type) store.Holding {
	if qname.IsAtOrBelow(slowName) {
		h.waiting <- zones.Name(strings.Clone(string(qname)))
		<-h.released[qname.String()]
	}
	return h.find(qname, qtype)
}

func (h *hosted) find(qname zones.Name, qtype zones.Type) store.Holding {
	for name := qname; ; name = name.Parent() {
		if holding, ok := h.views[name]; ok {
			return holding
		}
		if z := h.zones[name]; z != nil && (qtype != zones.TypeDS || name != qname) {
			return store.Holding{Status: store.Here, Apex: name, View: z, Stamp: fixed}
		}
		if name == zones.Root {
			return store.Holding{}
		}
	}
}

var slowName = zones.MustParseName("slow.example.com.")

// brokenView can't be read, or panics.
type brokenView struct {
	zones.View
	panics bool
}

func (v brokenView) Find(zones.Name, *zones.Location) error {
	if v.panics {
		panic("the view is broken")
	}
	return store.ErrCorrupt
}

func loadZone(t testing.TB, text string) *hotzone.Zone {
	t.Helper()
	text = strings.ReplaceAll(text, "$FILL", strings.Repeat("x", 240))
	text = strings.ReplaceAll(text, "$GENERATE 1-2000 huge A 10.0.${0,1}.1\n", generateHuge())
	c, err := zonefile.Read(strings.NewReader(text), zonefile.Options{File: "test", Origin: zones.Root})
	if err != nil {
		t.Fatal(err)
	}
	b := hotzone.NewBuilder(c.Apex)
	for _, node := range zonestest.NewView(c.Apex, c.RRsets).Nodes() {
		if err := b.Add(node); err != nil {
			t.Fatal(err)
		}
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// generateHuge makes an RRset that fits TCP, just.
func generateHuge() string {
	var b strings.Builder
	for i := range 3000 {
		b.WriteString("huge A 10." + strings.Join([]string{itoa(i >> 16), itoa(i >> 8 & 255), itoa(i & 255)}, ".") + "\n")
	}
	return b.String()
}

func itoa(i int) string {
	if i >= 10 {
		return itoa(i/10) + string(rune('0'+i%10))
	}
	return string(rune('0' + i))
}

func newHosted(t testing.TB) *hosted {
	t.Helper()
	tiny := func(apex string) *hotzone.Zone {
		return loadZone(t, apex+" 60 SOA . . 1 2 3 4 5\n"+apex+" 60 NS ns.example.net.\n")
	}
	broken, panics := zones.MustParseName("broken."), zones.MustParseName("panics.")
	return &hosted{
		zones: map[zones.Name]*hotzone.Zone{zones.MustParseName("example.com."): loadZone(t, exampleZone)},
		views: map[zones.Name]store.Holding{
			zones.MustParseName("unavailable."): {Status: store.Unavailable, Err: store.ErrNotOpen},
			zones.MustParseName("awaiting."):    {Status: store.Unavailable, Err: store.ErrAwaiting},
			zones.MustParseName("expired."):     {Status: store.Unavailable, Err: fmt.Errorf("a zone: %w", store.ErrExpired)},
			broken:                              {Status: store.Here, Apex: broken, View: brokenView{View: tiny("broken.")}},
			panics:                              {Status: store.Here, Apex: panics, View: brokenView{View: tiny("panics."), panics: true}},
		},
		waiting:  make(chan zones.Name, 64),
		released: map[string]chan struct{}{},
	}
}

// wait makes a name below slow.example.com wait until the returned function is called.
func (h *hosted) wait(name string) (release func()) {
	ch := make(chan struct{})
	h.released[name] = ch
	return func() { close(ch) }
}

// start starts a server on loopback with the options, and stops it when the test ends.
func start(t testing.TB, opts Options) *Server {
	t.Helper()
	if opts.Zones == nil {
		opts.Zones = newHosted(t)
	}
	if opts.Listen == nil {
		opts.Listen = []string{"127.0.0.1:0"}
	}
	if opts.Workers == 0 {
		opts.Workers = 1
	}
	opts.Logger = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil && err != ErrStopped {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

func (s *Server) testAddr() string { return s.Addrs()[0].String() }

// wireConn sends and receives raw messages over UDP or TCP.
type wireConn struct {
	net.Conn
	t   testing.TB
	tcp bool
}

func dial(t testing.TB, network, address string) *wireConn {
	t.Helper()
	c, err := net.DialTimeout(network, address, waitLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	return &wireConn{c, t, network[:3] == "tcp"}
}

func (c *wireConn) send(p []byte) {
	c.t.Helper()
	if c.tcp {
		p = append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
	}
	c.patience()
	if _, err := c.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// patience gives the server time for what comes next: a test that takes long on a machine that is busy is not one that waits for what never comes.
func (c *wireConn) patience() {
	_ = c.SetDeadline(time.Now().Add(waitLimit)) // it fails when the connection is closed, which what comes next does, too
}

func (c *wireConn) tryReceive() ([]byte, error) {
	c.patience()
	buf := make([]byte, 65535)
	if !c.tcp {
		n, err := c.Read(buf)
		return buf[:n], err
	}
	if _, err := io.ReadFull(c, buf[:2]); err != nil {
		return nil, err
	}
	buf = buf[:binary.BigEndian.Uint16(buf)]
	_, err := io.ReadFull(c, buf)
	return buf, err
}

func (c *wireConn) receive() []byte {
	c.t.Helper()
	b, err := c.tryReceive()
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *wireConn) receiveMsg() *dns.Msg {
	c.t.Helper()
	return unpack(c.t, c.receive())
}

func unpack(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%v in %x", err, b)
	}
	return m
}

// ask sends the query with miekg/dns and reads the answer.
func (c *wireConn) ask(m *dns.Msg) *dns.Msg {
	c.t.Helper()
	c.send(pack(c.t, m))
	return c.receiveMsg()
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// question is a query without EDNS.
func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.RecursionDesired = false
	return m
}

// withEDNS adds OPT.
func withEDNS(m *dns.Msg, size uint16, do bool, options ...dns.EDNS0) *dns.Msg {
	m.SetEdns0(size, do)
	m.IsEdns0().Option = options
	return m
}

// ede returns the INFO-CODE of an answer, or −1.
func ede(m *dns.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return int(e.InfoCode)
			}
		}
	}
	return -1
}

// oddPacket is a line of testdata/wire/odd.txt.
type oddPacket struct {
	row, want, echo string
	packet          []byte
}

func oddPackets(t testing.TB) (packets []oddPacket) {
	t.Helper()
	text, err := os.ReadFile("../testdata/wire/odd.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("odd.txt: %q", line)
		}
		p, err := hex.DecodeString(f[3])
		if err != nil {
			t.Fatalf("odd.txt: %s: %v", f[0], err)
		}
		packets = append(packets, oddPacket{f[0], f[1], f[2], p})
	}
	return packets
}
