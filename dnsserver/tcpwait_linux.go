package dnsserver

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// putOff has an exchange of the pool answer a query. It reports whether there was one that is free; else nothing more of
// the connection is served until there is.
func (c *tcpConn) putOff(packet []byte) bool {
	s := c.loop.server
	c.under.Add(1)
	if x := s.free.tryTake(); x != nil {
		x.packet = append(x.packet[:0], packet...)
		s.conns.Go(func() { c.serve(x) })
		return true
	}
	c.mu.Lock()
	c.starved = true
	c.mu.Unlock()
	own := bytes.Clone(packet)
	s.conns.Go(func() {
		x := s.free.take()
		x.packet = append(x.packet[:0], own...)
		c.mu.Lock()
		c.starved = false
		c.wake()
		c.mu.Unlock()
		c.serve(x)
	})
	return false
}

// serve answers the query in x, which was admitted before, and gives x back. The query is under way until then.
func (c *tcpConn) serve(x *exchange) {
	x.begin()
	x.again, x.via = true, c.via
	x.out = append(x.out[:0], 0, 0)
	reply, _ := x.serve(x.packet, c.from, x.out)
	x.flush()
	if j := x.transfer; j != nil {
		x.transfer = nil
		c.loop.server.conns.Go(func() { c.stream(j) })
		c.loop.server.free.put(x)
		return
	}
	c.mu.Lock()
	if len(reply) > 2 {
		x.out = reply
		binary.BigEndian.PutUint16(x.out, uint16(len(x.out)-2))
		c.send(x.out)
	}
	c.answered()
	c.mu.Unlock()
	c.loop.server.free.put(x)
}

// answered notes that a query that was under way no longer is. c.mu is held.
func (c *tcpConn) answered() {
	c.under.Add(-1)
	if c.full || c.ended {
		c.full = false
		c.wake()
	}
}

// wake makes the loop look at the connection, as soon as it can be written to. c.mu is held.
func (c *tcpConn) wake() {
	if !c.dead {
		c.want(c.interest | unix.EPOLLOUT)
	}
}
