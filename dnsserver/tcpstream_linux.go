package dnsserver

import (
	"context"
	"sync"
)

// flow is what a connection has besides while answers of many messages are written to it. It can be pending all the time then, so
// that the connection is read, and other queries answered, as long as not too much is.
type flow struct {
	streams int       // answers that have not ended
	taken   sync.Cond // the client has taken something, or the connection is dead
}

// streamSlack is how many octets may be pending while more is read.
const streamSlack = 2 * maxPendingConn

// streams returns how many answers of many messages have not ended. c.mu is held.
func (c *tcpConn) streams() int {
	if c.flow == nil {
		return 0
	}
	return c.flow.streams
}

// slack is how many octets may be pending while more is read. c.mu is held.
func (c *tcpConn) slack() int {
	if c.streams() > 0 {
		return streamSlack
	}
	return 0
}

// patience is how long a client may take nothing of what is pending, nanoseconds. c.mu is held.
func (c *tcpConn) patience() int64 {
	if c.streams() > 0 {
		return int64(streamPatience * c.limits.Write)
	}
	return int64(c.limits.Write)
}

// taken notes that the client has taken something. c.mu is held.
func (c *tcpConn) taken(now int64) {
	if c.streams() > 0 {
		c.due = now + c.patience()
	}
	c.wakeStreams()
}

// wakeStreams has those look who wait for the client. c.mu is held.
func (c *tcpConn) wakeStreams() {
	if c.flow != nil {
		c.flow.taken.Broadcast()
	}
}

// stream has a transfer written to the connection. Its query is under way until then.
func (c *tcpConn) stream(j *transferJob) {
	c.mu.Lock()
	if c.flow == nil {
		c.flow = new(flow)
		c.flow.taken.L = &c.mu
	}
	c.flow.streams++
	c.mu.Unlock()
	j.run(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flow.streams--
	c.answered()
}

// wait implements stream.
func (c *tcpConn) wait(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) >= maxPendingConn && !c.dead {
		stop := context.AfterFunc(ctx, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.wakeStreams()
		})
		defer stop()
		for len(c.pending) >= maxPendingConn && !c.dead && ctx.Err() == nil {
			c.flow.taken.Wait()
		}
	}
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
	c.send(framed)
	if c.dead {
		return errClientGone
	}
	return nil
}

var _ stream = (*tcpConn)(nil)
