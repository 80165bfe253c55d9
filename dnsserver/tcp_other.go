//go:build !linux

package dnsserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"balefire/dnsserver/wire"
)

const (
	// tcpReadBuffer is what an idle connection keeps, with its goroutine.
	tcpReadBuffer = 2048
	// keepBuffer is the largest buffer that a connection keeps when it is drained.
	keepBuffer = 16 << 10
)

// tcpSockets are the connections that are open. Elsewhere than on Linux each has a goroutine, and so has each query.
type tcpSockets struct {
	mu    sync.Mutex // guards what follows
	conns map[*tcpConn]struct{}
}

// tcpListener is a listening socket.
type tcpListener struct{ *net.TCPListener }

func newTCPListener(ln *net.TCPListener) (*tcpListener, error) { return &tcpListener{ln}, nil }

// end makes accept return.
func (ln *tcpListener) end() { ln.close() }

// close gives the socket back.
func (ln *tcpListener) close() { _ = ln.TCPListener.Close() } // fails only when closed already

func (s *Server) startTCP() error {
	s.tcp.sockets.conns = make(map[*tcpConn]struct{})
	return nil
}

// endTCP makes every connection stop reading; what it has read is answered.
func (s *Server) endTCP() {
	s.tcp.ending.Store(true)
	s.tcp.sockets.each(func(c *tcpConn) { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }) // fails only when closed already
}

// cutTCP closes every connection.
func (s *Server) cutTCP() { s.tcp.sockets.each(func(c *tcpConn) { c.conn.Close() }) }

func (o *tcpSockets) each(do func(*tcpConn)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		do(c)
	}
}

func (o *tcpSockets) add(c *tcpConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns[c] = struct{}{}
}

func (o *tcpSockets) remove(c *tcpConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, c)
}

// accept takes connections, and what they carry, until the listener is closed.
func (s *Server) accept(ln *tcpListener, via transport) {
	for {
		conn, err := ln.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.opts.Logger.Warn().Err(err).Msg("can't accept TCP connections")
			time.Sleep(acceptPause)
			continue
		}
		s.admitConn(conn, via)
	}
}

func (s *Server) admitConn(conn net.Conn, via transport) {
	c := &tcpConn{server: s, conn: conn, via: via, limits: s.settings.Load().TCP}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.from = a.AddrPort().Addr().Unmap().WithZone("")
	}
	c.room.L = &c.mu
	if !s.tcp.enter(c.from, &c.limits) {
		conn.Close()
		return
	}
	if via == overTLS {
		s.tls.open.Add(1)
		c.conn = tls.Server(conn, s.tls.config)
	}
	s.tcp.sockets.add(c)
	s.conns.Go(func() {
		defer s.tcp.leave(c.from)
		if via == overTLS {
			defer s.tls.open.Add(-1)
		}
		defer s.tcp.sockets.remove(c)
		c.run()
	})
}

// tcpConn is one connection (RFC 7766). One goroutine reads queries; each is answered by one of the server's
// exchanges, as soon as it is ready (§6.2.1.1, §7). Whichever has an answer while nobody writes, writes all that is pending.
type tcpConn struct {
	server *Server
	conn   net.Conn // with TLS, a *tls.Conn
	via    transport
	from   netip.Addr
	limits TCPSettings

	mu      sync.Mutex // guards what follows
	room    sync.Cond  // less is under way or pending
	under   int        // queries under way
	pending []byte     // answers to be written
	spare   []byte     // the buffer that pending takes turns with
	writing bool
	dead    bool // writing failed: answers go nowhere
}

// run reads queries until the client ends, is too slow, or the server ends; then it waits for what is under way.
func (c *tcpConn) run() {
	defer c.conn.Close()
	if t, ok := c.conn.(*tls.Conn); ok && !c.shake(t) {
		return
	}
	in := bufio.NewReaderSize(c.conn, tcpReadBuffer)
	for c.waitForRoom() {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.limits.Idle)); err != nil {
			break
		}
		if c.server.tcp.ending.Load() {
			// Looked at after the deadline was set, so that endAll's is not undone. What is read already is answered.
			_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		}
		length, err := readLength(in)
		if err != nil || length < wire.HeaderLen {
			break // what can't be a message has no answer; where the next one begins can't be known
		}
		x := c.server.free.take()
		if cap(x.packet) < length {
			x.packet = make([]byte, length)
		}
		x.packet = x.packet[:length]
		if _, err := io.ReadFull(in, x.packet); err != nil {
			c.server.free.put(x)
			break
		}
		c.mu.Lock()
		c.under++
		c.mu.Unlock()
		go c.serve(x)
	}
	c.mu.Lock()
	for c.under > 0 {
		c.room.Wait()
	}
	c.mu.Unlock()
}

// shake does the handshake, in the time that a query may take to come.
func (c *tcpConn) shake(t *tls.Conn) bool {
	if err := t.SetDeadline(time.Now().Add(c.limits.Idle)); err != nil {
		return false
	}
	err := c.server.handshake(t)
	c.server.tls.shaken(t, err)
	return err == nil
}

// readLength reads the two octets before a message (RFC 1035 §4.2.2).
func readLength(in *bufio.Reader) (int, error) {
	b, err := in.Peek(2)
	if err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(b))
	_, err = in.Discard(2)
	return n, err
}

// waitForRoom waits until the connection may have another query under way. It returns false when the connection
// is dead.
func (c *tcpConn) waitForRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead && (c.under >= c.limits.Pipeline || len(c.pending) >= maxPendingConn) {
		c.room.Wait()
	}
	return !c.dead
}

// serve answers the query in x.
func (c *tcpConn) serve(x *exchange) {
	x.begin()
	x.via = c.via
	x.out = append(x.out[:0], 0, 0)
	reply, _ := x.serve(x.packet, c.from, x.out)
	if j := x.transfer; j != nil {
		x.transfer = nil
		x.flush()
		c.server.free.put(x)
		j.run(c)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.under--
		c.room.Broadcast()
		return
	}
	if len(reply) > 2 {
		x.out = reply
		binary.BigEndian.PutUint16(x.out, uint16(len(x.out)-2))
	} else {
		x.out = x.out[:0]
	}
	c.deliver(x)
}

// deliver puts the answer in x among those pending, gives x back, and writes, unless another goroutine does already. The
// query is under way until then.
func (c *tcpConn) deliver(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead || len(x.out) == 0:
	case !c.server.tcp.reserve(len(x.out)):
		c.die()
	default:
		c.pending = append(c.pending, x.out...)
	}
	x.flush()
	c.server.free.put(x)
	c.writeAll()
	c.under--
	c.room.Broadcast()
}

// writeAll writes what is pending, unless somebody does already. c.mu is held, but not while writing.
func (c *tcpConn) writeAll() {
	if !c.writing {
		c.writing = true
		c.writePending()
		c.writing = false
	}
}

var _ stream = (*tcpConn)(nil)

// wait implements stream.
func (c *tcpConn) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.room.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	for len(c.pending) >= maxPendingConn && !c.dead && ctx.Err() == nil {
		c.room.Wait()
	}
	defer c.mu.Unlock()
	if c.dead {
		return errClientGone
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// write implements stream.
func (c *tcpConn) write(framed []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
	case !c.server.tcp.reserve(len(framed)):
		c.die()
	default:
		c.pending = append(c.pending, framed...)
		c.writeAll()
	}
	if c.dead {
		return errClientGone
	}
	return nil
}

// writePending writes until nothing is pending. c.mu is held, but not while writing.
func (c *tcpConn) writePending() {
	for len(c.pending) > 0 && !c.dead {
		out := c.pending
		c.pending = c.spare[:0]
		c.spare = nil
		c.room.Broadcast()
		c.mu.Unlock()
		err := c.conn.SetWriteDeadline(time.Now().Add(c.limits.Write))
		if err == nil {
			_, err = c.conn.Write(out)
		}
		c.mu.Lock()
		c.server.tcp.reserve(-len(out))
		if cap(out) <= keepBuffer {
			c.spare = out
		}
		if err != nil {
			c.die()
		}
	}
}

// die gives the connection up: its client does not take what it asked for. c.mu is held.
func (c *tcpConn) die() {
	if c.dead {
		return
	}
	c.dead = true
	c.server.tcp.cut.Add(1)
	c.server.tcp.reserve(-len(c.pending))
	c.pending = nil
	c.conn.Close()
	c.room.Broadcast()
}
