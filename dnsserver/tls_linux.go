package dnsserver

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tlsRecord is the most that a record says, and tlsOverhead the most octets that it has besides (RFC 8446 §5.2, RFC 5246 §6.2.3).
	tlsRecord, tlsOverhead = 16 << 10, 5 + 2048
	// maxHello is how many octets of a handshake are kept until it takes them; no more are read meanwhile.
	maxHello = 32 << 10
)

// secured is what a connection has that speaks TLS: it stands between what the socket carries and the queries and answers. For the
// library it is the connection, one that never waits: a read that finds nothing fails in a way that is no end to the library. Only
// handshakes can't be gone on with after that, so each runs on a goroutine, and there reads wait. After it nobody needs one.
type secured struct {
	c       *tcpConn
	conn    *tls.Conn // c.mu is held by who uses it, once it is served
	arrived sync.Cond // in has something, or there will be no more; for the handshake
	begun   bool      // the handshake; the loop's own

	// c.mu guards what follows.
	served  bool   // the handshake is done: the loop reads what comes, as queries
	fresh   bool   // there may be queries that the loop has not looked at, though nothing has come
	parting bool   // what is written is the last, and nobody looks whether it is
	in      []byte // received, and not taken yet
	counted int    // octets of in that are counted
}

// secure makes a connection speak TLS.
func (c *tcpConn) secure(config *tls.Config) {
	t := &secured{c: c}
	t.arrived.L = &c.mu
	t.conn = tls.Server(t, config)
	c.tls = t
}

// open takes what was received and returns the queries in it, in plain's memory; none before the handshake is done.
func (t *secured) open(data, plain []byte) []byte {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.served {
		t.offer(data)
		return nil
	}
	t.fresh = false
	if len(t.in) > 0 {
		data = append(t.in, data...)
	}
	t.in = data
	n := 0
	for {
		if n == len(plain) { // can be only after the handshake, which may leave more than a read brings
			t.in, t.fresh = bytes.Clone(t.in), true
			return plain
		}
		m, err := t.conn.Read(plain[n:])
		n += m
		if err != nil {
			if err != errNothingCame {
				c.ended = true // the client's end, or what is no TLS: where it goes on can't be known
			}
			t.in = nil
			return plain[:n]
		}
	}
}

// offer gives the handshake what was received. c.mu is held.
func (t *secured) offer(data []byte) {
	c := t.c
	if c.dead || c.ended {
		return
	}
	if !c.loop.server.tcp.reserve(len(data)) {
		c.die()
		return
	}
	t.in = append(t.in, data...)
	t.counted += len(data)
	if !t.begun {
		t.begun = true
		c.under.Add(1)
		c.loop.server.conns.Go(t.shake)
	}
	t.arrived.Signal()
}

// flooded reports whether the handshake has more to take than should wait for it. c.mu is held.
func (t *secured) flooded() bool { return !t.served && len(t.in) >= maxHello }

// shake does the handshake.
func (t *secured) shake() {
	c, s := t.c, t.c.loop.server
	s.tls.working <- struct{}{}
	err := s.handshake(t.conn)
	<-s.tls.working
	s.tls.shaken(t.conn, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead {
		// Nothing is sent in answer to the end of a TLS 1.3 handshake, so its acknowledgement would be delayed, for which clients with
		// Nagle's algorithm keep their first query.
		_ = unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
	s.tcp.reserve(-t.counted)
	t.counted = 0
	if err != nil {
		c.ended, t.in = true, nil // and what the client is told of it may still be pending
	} else {
		t.served, t.fresh = true, true
	}
	c.under.Add(-1)
	c.wake()
}

// errNothingCame is for the library a deadline that has passed, after which it may go on.
var errNothingCame net.Error = nothingCame{}

type nothingCame struct{}

func (nothingCame) Error() string   { return "nothing has come yet" }
func (nothingCame) Timeout() bool   { return true }
func (nothingCame) Temporary() bool { return true }

// Read is for the library: it takes what was received. In the handshake it waits for that.
func (t *secured) Read(p []byte) (int, error) {
	if t.served { // which the handshake's goroutine has made so, and nobody else could have read
		n := copy(p, t.in)
		t.in = t.in[n:]
		if n == 0 {
			return 0, errNothingCame
		}
		return n, nil
	}
	c, working := t.c, t.c.loop.server.tls.working
	c.mu.Lock()
	if len(t.in) == 0 {
		c.mu.Unlock()
		<-working // others may compute while this one waits
		c.mu.Lock()
		for len(t.in) == 0 && !c.dead && !c.ended {
			t.arrived.Wait()
		}
		c.mu.Unlock()
		working <- struct{}{}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.dead || len(t.in) == 0 {
		return 0, net.ErrClosed
	}
	was := t.flooded()
	n := copy(p, t.in)
	if t.in = t.in[:copy(t.in, t.in[n:])]; was {
		c.wake()
	}
	c.loop.server.tcp.reserve(-n)
	t.counted -= n
	return n, nil
}

// Write is for the library: it writes records as answers are written.
func (t *secured) Write(p []byte) (int, error) {
	c := t.c
	if !t.served {
		c.mu.Lock()
		defer c.mu.Unlock()
	}
	switch {
	case t.parting:
		_, _ = unix.SendmsgN(c.fd, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	case c.dead:
		return 0, net.ErrClosed
	default:
		c.put(p)
	}
	return len(p), nil
}

// seal writes answers. c.mu is held.
func (t *secured) seal(b []byte) {
	if _, err := t.conn.Write(b); err != nil {
		t.c.die()
	}
}

// part tells the client that nothing more comes (RFC 8446 §6.1), if that can be done at once. c.mu is held.
func (t *secured) part() {
	if t.served {
		t.parting = true
		_ = t.conn.CloseWrite() // it fails when that was said
	}
}

// What the library's connection needs besides, and nobody uses: time-outs are the loop's.

func (t *secured) Close() error        { return nil }
func (t *secured) LocalAddr() net.Addr { return t.RemoteAddr() }
func (t *secured) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.c.from, 0))
}
func (t *secured) SetDeadline(time.Time) error      { return nil }
func (t *secured) SetReadDeadline(time.Time) error  { return nil }
func (t *secured) SetWriteDeadline(time.Time) error { return nil }
