package dnsserver

import (
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// TestTLSOneRecord: queries that come in one record, and can be answered at once, are answered in their order and in one record.
func TestTLSOneRecord(t *testing.T) {
	s := startTLS(t, Options{})
	c := dialTLS(t, s, &tls.Config{DynamicRecordSizingDisabled: true})
	raw := c.Conn.(*tls.Conn).NetConn().(*wireConn).Conn
	c.ask(question("www.example.com.", dns.TypeA))
	const n, rounds = 100, 5
	once := 0
	for range rounds {
		before := segmentsIn(t, raw)
		if _, err := c.Write(hotQueries(t, n)); err != nil {
			t.Fatal(err)
		}
		all := make([]byte, tlsRecord)
		size, err := c.Read(all) // a record at most
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if size < 4 || int(all[2])<<8+int(all[3]) != i {
				t.Fatalf("answer %d is not in the first record, or not to query %d", i, i)
			}
			whole := 2 + int(all[0])<<8 + int(all[1])
			all, size = all[whole:], size-whole
		}
		if segmentsIn(t, raw)-before == 1 {
			once++
		}
	}
	if once <= rounds/2 { // the kernel sends some twice when the machine is busy
		t.Errorf("answers came in one segment in %d rounds of %d", once, rounds)
	}
}

// TestTLSSilentConnections: after the handshake a connection that says nothing has no goroutine.
func TestTLSSilentConnections(t *testing.T) {
	s := startTLS(t, Options{})
	dialTLS(t, s, nil).ask(question("www.example.com.", dns.TypeA))
	before := runtime.NumGoroutine()
	for range 50 {
		dialTLS(t, s, nil).ask(question("www.example.com.", dns.TypeA))
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines for 50 connections", n)
	}
}

// TestTLSHelloIsBounded: what comes during a handshake is kept up to a bound, and read when there is room again.
func TestTLSHelloIsBounded(t *testing.T) {
	s := startTLS(t, Options{})
	for range cap(s.tls.working) {
		s.tls.working <- struct{}{} // no handshake gets to compute
	}
	l, c, client := stillLoop(t, s)
	c.secure(s.tls.config)
	s.tls.open.Add(1)
	for range 100 {
		if _, err := unix.Write(client, make([]byte, tcpRead)); err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		l.handle(c, unix.EPOLLIN)
	}
	c.mu.Lock()
	kept, interest := len(c.tls.in), c.interest
	c.mu.Unlock()
	if kept < maxHello || kept >= maxHello+tcpRead || interest != 0 || s.tcp.pending.Load() != int64(kept) {
		t.Errorf("%d octets are kept, %d counted, and interest is in %x", kept, s.tcp.pending.Load(), interest)
	}
	for range cap(s.tls.working) {
		<-s.tls.working
	}
	for begun := time.Now(); c.under.Load() > 0; runtime.Gosched() { // it is no handshake
		if time.Since(begun) > waitLimit {
			t.Fatal("the handshake does not end")
		}
	}
	if n := s.tcp.pending.Load(); n != 0 {
		t.Errorf("%d octets are kept for nobody", n)
	}
}

// TestTLSAllocations: of its own the server allocates nothing for queries over TLS; the library does for each record that it reads.
func TestTLSAllocations(t *testing.T) {
	s := startTLS(t, Options{})
	l, c, client := stillLoop(t, s)
	c.via = overTLS
	c.secure(s.tls.config)
	s.tls.open.Add(1)
	secure := tls.Client(&turns{fd: client, turn: func() {
		for range 2 { // once for what has come, once for what the handshake has made of it
			l.handle(c, unix.EPOLLIN)
			runtime.Gosched()
		}
	}}, &tls.Config{InsecureSkipVerify: true})
	queries, answers := hotQueries(t, 40), make([]byte, 1<<20)
	ask := func() {
		if _, err := secure.Write(queries); err != nil {
			t.Fatal(err)
		}
		l.handle(c, unix.EPOLLIN)
		if n, err := secure.Read(answers); n < 40*12 || err != nil {
			t.Fatal(n, err)
		}
	}
	ask()
	// The library's, on both sides, are for a record, and depend on what its pools still hold. One for each query would be 40.
	if n := testing.AllocsPerRun(100, ask); n >= 20 {
		t.Errorf("%v allocations for 40 queries in a record", n)
	}
}

// turns is a client's socket, whose peer has a turn while the client waits.
type turns struct {
	net.Conn
	fd   int
	turn func()
}

func (c *turns) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, p)
		if err != unix.EAGAIN {
			return n, err
		}
		c.turn()
	}
}

func (c *turns) Write(p []byte) (int, error) { return unix.Write(c.fd, p) }
