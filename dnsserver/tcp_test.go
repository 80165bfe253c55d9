package dnsserver

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestPipelining: a second query on a connection is answered before the first, when that has to wait
// (RFC 7766 §6.2.1.1), and messages that come in one segment, or octet by octet, are the same.
func TestPipelining(t *testing.T) {
	h := newHosted(t)
	releaseA, releaseB := h.wait("a.slow.example.com."), h.wait("b.slow.example.com.")
	s := start(t, Options{Zones: h})
	c := dial(t, "tcp", s.testAddr())
	a, b, fast := question("a.slow.example.com.", dns.TypeA), question("b.slow.example.com.", dns.TypeA), question("www.example.com.", dns.TypeA)

	var segment []byte
	for _, m := range []*dns.Msg{a, b, fast} {
		p := pack(t, m)
		segment = append(segment, byte(len(p)>>8), byte(len(p)))
		segment = append(segment, p...)
	}
	if _, err := c.Write(segment); err != nil {
		t.Fatal(err)
	}
	if m := c.receiveMsg(); m.Id != fast.Id || len(m.Answer) != 2 {
		t.Errorf("first should come the one that need not wait: %v", m)
	}
	releaseB()
	if m := c.receiveMsg(); m.Id != b.Id {
		t.Errorf("then the second: %v", m)
	}
	releaseA()
	if m := c.receiveMsg(); m.Id != a.Id {
		t.Errorf("last the first: %v", m)
	}
	for i := range segment[:len(segment)-len(pack(t, fast))-2] {
		if _, err := c.Write(segment[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	got := map[uint16]bool{c.receiveMsg().Id: true, c.receiveMsg().Id: true}
	if !got[a.Id] || !got[b.Id] {
		t.Errorf("octet by octet: %v", got)
	}
}

// TestPipelineBound: no more queries of a connection are under way than allowed; the others wait in it.
func TestPipelineBound(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h, Settings: Settings{TCP: TCPSettings{Pipeline: 2}}})
	c := dial(t, "tcp", s.testAddr())
	for range 5 {
		c.send(pack(t, question("a.slow.example.com.", dns.TypeA)))
	}
	c.send(pack(t, question("www.example.com.", dns.TypeA)))
	<-h.waiting
	<-h.waiting
	// Another connection is not held up, and by the time that it has its answer the first would have begun a third.
	if m := dial(t, "tcp", s.testAddr()).ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("another connection: %v", m)
	}
	if n := len(h.waiting); n != 0 {
		t.Errorf("%d more under way than the 2 allowed", n)
	}
	release()
	for range 6 {
		c.receiveMsg()
	}
}

// TestExchangesBound: with all exchanges in use, TCP waits for one; UDP does not.
func TestExchangesBound(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h, Exchanges: 1})
	first, second := dial(t, "tcp", s.testAddr()), dial(t, "tcp", s.testAddr())
	first.send(pack(t, question("a.slow.example.com.", dns.TypeA)))
	<-h.waiting
	second.send(pack(t, question("www.example.com.", dns.TypeA)))
	if m := dial(t, "udp", s.testAddr()).ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("UDP: %v", m)
	}
	release()
	first.receiveMsg()
	if m := second.receiveMsg(); len(m.Answer) != 2 {
		t.Errorf("the second connection: %v", m)
	}
}

// TestHalfClose: a client that has said all it will say still gets its answers.
func TestHalfClose(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h})
	c := dial(t, "tcp", s.testAddr())
	c.send(pack(t, question("a.slow.example.com.", dns.TypeA)))
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-h.waiting
	release()
	if m := c.receiveMsg(); m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
	if _, err := c.tryReceive(); err != io.EOF {
		t.Errorf("then the connection should end, got %v", err)
	}
}

// TestIdle: a connection that says nothing, or a message that does not come to its end, is closed.
func TestIdle(t *testing.T) {
	s := start(t, Options{Settings: Settings{TCP: TCPSettings{Idle: 30 * time.Millisecond}}})
	for name, begun := range map[string][]byte{"silent": nil, "half a length": {0}, "half a message": {0, 20, 1, 2, 3}} {
		c := dial(t, "tcp", s.testAddr())
		if len(begun) > 0 {
			if _, err := c.Write(begun); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.tryReceive(); !ended(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := gather(t, s)[`balefire_dns_tcp_cut_total`]; got != 0 {
		t.Errorf("%v idle connections counted as cut", got)
	}
}

// ended reports whether the peer closed the connection.
func ended(err error) bool {
	return err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// TestSlowReader: a client that asks, but does not read, is cut after the write time-out; what waits for it
// is bounded, and others are answered meanwhile.
func TestSlowReader(t *testing.T) {
	s := start(t, Options{Settings: Settings{TCP: TCPSettings{Write: 50 * time.Millisecond}}})
	c := dial(t, "tcp", s.testAddr())
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	huge := pack(t, question("huge.example.com.", dns.TypeA))
	for {
		p := append([]byte{byte(len(huge) >> 8), byte(len(huge))}, huge...)
		if _, err := c.Write(p); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the server neither answered nor closed")
			}
			break
		}
		if n := s.tcp.pending.Load(); n > maxPendingConn+33*65537 {
			t.Fatalf("%d octets are pending", n)
		}
		if gather(t, s)["balefire_dns_tcp_cut_total"] > 0 {
			break
		}
	}
	if m := dial(t, "tcp", s.testAddr()).ask(question("www.example.com.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("another client: %v", m)
	}
	stop(t, s)
	if got := gather(t, s); got["balefire_dns_tcp_cut_total"] != 1 || got["balefire_dns_tcp_connections"] != 0 || s.tcp.pending.Load() != 0 {
		t.Errorf("cut %v, open %v, pending %d", got["balefire_dns_tcp_cut_total"], got["balefire_dns_tcp_connections"], s.tcp.pending.Load())
	}
}

// TestConnectionLimits: in all, and for each client network.
func TestConnectionLimits(t *testing.T) {
	s := start(t, Options{Listen: []string{"0.0.0.0:0"}, Settings: Settings{TCP: TCPSettings{Connections: 3, PerNetwork: 2, Idle: waitLimit}}})
	_, port, err := net.SplitHostPort(s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	// The client's network is that of the address that it calls from.
	from := func(ip string) *wireConn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(waitLimit)); err != nil {
			t.Fatal(err)
		}
		return &wireConn{c, t, true}
	}
	open := func(ip string) (*wireConn, bool) {
		c := from(ip)
		c.Write(append([]byte{0, 33}, pack(t, question("www.example.com.", dns.TypeA))...))
		_, err := c.tryReceive()
		return c, err == nil
	}
	first, ok := open("127.0.1.1")
	if !ok {
		t.Fatal("the first was refused")
	}
	if _, ok := open("127.0.1.2"); !ok {
		t.Error("the second of a network was refused")
	}
	if _, ok := open("127.0.1.3"); ok {
		t.Error("the third of a network was let in")
	}
	if _, ok := open("127.0.2.1"); !ok {
		t.Error("another network was refused")
	}
	if _, ok := open("127.0.3.1"); ok {
		t.Error("the fourth in all was let in")
	}
	got := gather(t, s)
	if got[`balefire_dns_tcp_refused_total{limit="network"}`] != 1 || got[`balefire_dns_tcp_refused_total{limit="connections"}`] != 1 || got["balefire_dns_tcp_connections"] != 3 {
		t.Errorf("%v", got)
	}
	// Room comes back when one goes; that is when the server notices.
	if err := first.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.tryReceive(); err != io.EOF {
		t.Fatal(err)
	}
	await(t, "there is room again", func() bool { // the connection ends just before it is counted out
		_, ok := open("127.0.1.4")
		return ok
	})
}

// TestManyClients: many connections with many queries each, all answered.
func TestManyClients(t *testing.T) {
	s := start(t, Options{Exchanges: 8})
	var wg sync.WaitGroup
	for range 16 {
		c := dial(t, "tcp", s.testAddr())
		wg.Go(func() {
			for i := range 100 {
				q := question("www.example.com.", dns.TypeA)
				q.Id = uint16(i)
				p, err := q.Pack()
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Write(append([]byte{byte(len(p) >> 8), byte(len(p))}, p...)); err != nil {
					t.Error(err)
					return
				}
			}
			seen := make(map[byte]bool)
			for range 100 {
				b, err := c.tryReceive()
				if err != nil || len(b) < 12 || seen[b[1]] {
					t.Errorf("%v %x", err, b)
					return
				}
				seen[b[1]] = true
			}
		})
	}
	wg.Wait()
}
