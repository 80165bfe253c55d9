package dnsserver

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"balefire/dnsserver/wire"
)

// keepRest is the largest buffer for the beginning of a query that a connection keeps when it is empty.
const keepRest = 256

// tcpConn is one connection. Its loop alone reads, and closes it; whoever has an answer writes, under the lock, without waiting. What the
// client does not take is pending, and nothing more is read or answered until the loop has written that.
type tcpConn struct {
	loop   *tcpLoop
	fd     int
	slot   int32
	from   netip.Addr
	via    transport
	limits *TCPSettings
	tls    *secured // nil without TLS

	// The loop's own.
	rest  []byte // what was read and not served: the beginning of a query, or all that waits for room
	kept  int    // octets that are counted for it
	more  bool   // rest has whole queries
	quiet int64  // when the client will have been silent for too long

	under atomic.Int32 // queries with exchanges of the pool; counted down under the lock

	mu       sync.Mutex // guards what follows
	interest uint32     // what epoll tells the loop
	full     bool       // as many queries are under way as may be: the loop waits until one is answered
	starved  bool       // a query waits for an exchange, and the loop until it has one
	ended    bool       // nothing more is read
	dead     bool       // answers go nowhere, and the loop closes the connection if it has not yet
	pending  []byte     // answers to be written
	due      int64      // when they must be taken
	flow     *flow      // nil before the first answer of many messages
}

// handle does what an event allows.
func (l *tcpLoop) handle(c *tcpConn, events uint32) {
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 { // reset, or shut down from both sides: nobody takes answers
		l.remove(c)
		return
	}
	if events&unix.EPOLLOUT != 0 {
		l.writePending(c)
	}
	if events&unix.EPOLLIN != 0 {
		l.read(c)
	}
	l.settle(c)
}

// settle closes the connection if all is done, else tells epoll what it waits for.
func (l *tcpLoop) settle(c *tcpConn) {
	for {
		c.mu.Lock()
		waits := c.waits()
		fresh := c.tls != nil && c.tls.fresh
		again := (c.more || fresh) && !waits && !c.dead // an answer made room since the loop found none, or a handshake is done
		gone := c.dead || c.ended && !c.more && !fresh && c.under.Load() == 0 && len(c.pending) == 0
		if !gone && !again {
			var interest uint32
			if len(c.pending) > 0 {
				interest = unix.EPOLLOUT
			}
			if !waits && !c.ended {
				interest |= unix.EPOLLIN
			}
			c.want(interest)
		}
		if gone && !c.dead && c.tls != nil {
			c.tls.part()
		}
		c.mu.Unlock()
		if gone {
			l.remove(c)
		}
		if !again {
			return
		}
		if fresh {
			c.quiet = l.now + int64(c.limits.Idle)
			l.serveRead(c, nil)
		} else {
			l.serveAll(c, c.rest)
		}
	}
}

// waits reports whether nothing more may be read or served for now. c.mu is held.
func (c *tcpConn) waits() bool {
	return c.full || c.starved || len(c.pending) > c.slack() || c.tls != nil && c.tls.flooded()
}

// want tells epoll what the loop wants to know of. c.mu is held.
func (c *tcpConn) want(interest uint32) {
	if interest == c.interest {
		return
	}
	event := unix.EpollEvent{Events: interest, Fd: c.slot}
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &event); err != nil {
		c.die() // out of memory: without events the connection is lost
		return
	}
	c.interest = interest
}

// room reports whether the loop may go on with the next query; if not, it will hear when it may.
func (c *tcpConn) room() bool {
	if int(c.under.Load()) < c.limits.Pipeline {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = int(c.under.Load()) >= c.limits.Pipeline
	return !c.full
}

// read reads what has come, up to a buffer full, and answers it.
func (l *tcpLoop) read(c *tcpConn) {
	c.mu.Lock()
	reads := !c.dead && !c.ended && !c.waits()
	c.mu.Unlock()
	if !reads {
		return
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&l.in[0])), uintptr(len(l.in)), unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		c.mu.Lock()
		c.dead = true
		c.mu.Unlock()
		return
	case r == 0:
		c.end()
		return
	}
	l.serveRead(c, l.in[:r])
}

// serveRead serves what was read, and what came before it and was not whole.
func (l *tcpLoop) serveRead(c *tcpConn, data []byte) {
	if c.tls != nil {
		if data = c.tls.open(data, l.plain); len(data) == 0 {
			return
		}
	}
	if len(c.rest) > 0 {
		c.rest = append(c.rest, data...)
		data = c.rest
	}
	l.serveAll(c, data)
}

// end makes the connection end when all that was read is answered.
func (c *tcpConn) end() {
	c.mu.Lock()
	c.finish()
	c.mu.Unlock()
}

// finish is end for who holds c.mu.
func (c *tcpConn) finish() {
	c.ended = true
	if c.tls != nil {
		c.tls.arrived.Signal()
	}
}

// serveAll answers the queries that are whole, as long as there is room, writes the answers, and keeps what is left.
func (l *tcpLoop) serveAll(c *tcpConn, data []byte) {
	c.more = false
	l.exchange.via = c.via
	for open := true; !c.more; {
		n, broken := l.parse(data)
		for i := range n {
			if !open || !c.room() {
				c.more = true
				break
			}
			open = l.serve(c, i)
			data = data[2+len(l.packets[i]):]
			if len(l.out) >= maxPendingConn {
				open = l.write(c) && open
			}
		}
		if n > 0 {
			c.quiet = l.now + int64(c.limits.Idle)
		}
		if broken && !c.more {
			c.end() // what can't be a message has no answer; where the next one begins can't be known
			data = nil
		}
		if broken || n < tcpBatch {
			break
		}
	}
	l.write(c)
	if !c.keep(data) {
		c.mu.Lock()
		c.die()
		c.mu.Unlock()
	}
}

// parse reads a batch of the whole queries that data begins with, and has what they ask for brought near. broken says that
// after them comes what is no message.
func (l *tcpLoop) parse(data []byte) (n int, broken bool) {
	cache := l.exchange.cache
	for n < tcpBatch && len(data) >= 2 {
		size := int(binary.BigEndian.Uint16(data))
		if broken = size < wire.HeaderLen; broken || len(data) < 2+size {
			break
		}
		q := &l.queries[n]
		l.packets[n] = data[2 : 2+size]
		l.exchange.parse(l.packets[n], q)
		if cache != nil && q.Verdict == wire.Ask {
			question := questionOf(q)
			l.hashes[n] = cache.Hash(&question)
			cache.Expect(l.hashes[n])
		}
		data = data[2+size:]
		n++
	}
	if cache == nil || n == 1 {
		return n, broken
	}
	for i := range n {
		if l.queries[i].Verdict == wire.Ask {
			cache.ExpectAnswer(l.hashes[i])
		}
	}
	return n, broken
}

// keep keeps what is left of what was read, and reports whether there is room for it.
func (c *tcpConn) keep(data []byte) bool {
	switch {
	case len(data) > 0:
		c.rest = append(c.rest[:0], data...) // data may be the end of it
	case cap(c.rest) > keepRest:
		c.rest = nil
	default:
		c.rest = c.rest[:0]
	}
	return c.account()
}

// account counts what is kept, or gives it up when there is no room.
func (c *tcpConn) account() bool {
	tcp := &c.loop.server.tcp
	grown := cap(c.rest) - c.kept
	if grown == 0 {
		return true
	}
	ok := tcp.reserve(grown)
	if !ok {
		c.rest, c.more = nil, false
		tcp.reserve(-c.kept)
	}
	c.kept = cap(c.rest)
	return ok
}

// serve answers query i of the batch into the loop's buffer, or has it answered by somebody who may wait. It reports whether there is
// room for another one.
func (l *tcpLoop) serve(c *tcpConn, i int) bool {
	start := len(l.out)
	l.out = append(l.out, 0, 0)
	l.exchange.hash = l.hashes[i]
	reply, later := l.exchange.serveParsed(&l.queries[i], l.packets[i], c.from, l.out)
	if later || len(reply) <= start+2 {
		l.out = l.out[:start]
		return !later || c.putOff(l.packets[i])
	}
	l.out = reply
	binary.BigEndian.PutUint16(l.out[start:], uint16(len(l.out)-start-2))
	return true
}

// write writes the answers in the loop's buffer and reports whether the client took them.
func (l *tcpLoop) write(c *tcpConn) bool {
	if len(l.out) == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(l.out)
	l.out = l.out[:0]
	return !c.dead && len(c.pending) <= c.slack()
}

// send writes answers, behind those that are pending, if any. c.mu is held.
func (c *tcpConn) send(b []byte) {
	switch {
	case c.dead:
	case c.tls != nil:
		c.tls.seal(b)
	default:
		c.put(b)
	}
}

// put writes octets, behind those that are pending, if any. c.mu is held, and the connection is not dead.
func (c *tcpConn) put(b []byte) {
	if len(c.pending) == 0 {
		if b = b[c.writeNow(b):]; len(b) == 0 || c.dead {
			return
		}
		c.due = c.loop.server.sinceMade() + c.patience()
	}
	if !c.loop.server.tcp.reserve(len(b)) {
		c.die()
		return
	}
	c.pending = append(c.pending, b...)
	c.want(c.interest | unix.EPOLLOUT)
}

// writeNow returns how many octets the kernel takes at once. c.mu is held.
func (c *tcpConn) writeNow(b []byte) int {
	for {
		at, size := uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), at, size, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EAGAIN:
			return 0
		case unix.EINTR:
		default:
			c.die()
			return 0
		}
	}
}

// writePending writes what is pending, as far as the client takes it.
func (l *tcpLoop) writePending(c *tcpConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 || c.dead {
		return
	}
	n := c.writeNow(c.pending)
	if c.dead {
		return // and nothing is pending
	}
	if n == len(c.pending) {
		c.dropPending()
		c.quiet = l.now + int64(c.limits.Idle)
	} else {
		c.pending = c.pending[n:]
		c.loop.server.tcp.reserve(-n)
	}
	c.taken(l.now)
}

// dropPending forgets what is pending. c.mu is held.
func (c *tcpConn) dropPending() {
	c.loop.server.tcp.reserve(-len(c.pending))
	c.pending = nil
}

// die gives the connection up: its client does not take what it asked for. The loop hears of it. c.mu is held.
func (c *tcpConn) die() {
	if c.dead {
		return
	}
	c.dead = true
	c.loop.server.tcp.cut.Add(1)
	c.dropPending()
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // fails only when there is no connection any more, of which the loop hears as well
	c.wakeStreams()
}

// late reports whether the connection is to be expired.
func (c *tcpConn) late(now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 {
		return now >= c.due
	}
	if c.streams() > 0 {
		c.quiet = now + int64(c.limits.Idle) // it is not the client who is silent
		return false
	}
	return !c.ended && !c.full && !c.starved && now >= c.quiet
}

// expire cuts a client that does not take its answers, and reads no more from one that is silent.
func (l *tcpLoop) expire(c *tcpConn) {
	c.mu.Lock()
	if len(c.pending) > 0 {
		c.die()
	} else {
		c.finish()
	}
	c.mu.Unlock()
	l.settle(c)
}

// end reads no more from a connection, and answers what has come already.
func (l *tcpLoop) end(c *tcpConn) {
	l.read(c)
	c.end()
	l.settle(c)
}
