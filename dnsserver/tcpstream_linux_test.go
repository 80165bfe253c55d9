package dnsserver

import (
	"testing"
	"time"
)

// TestStreamPatience: a client that takes something of a transfer, now and then, is given more time, other than one that takes an answer piece by
// piece; and it is not silent while it does.
func TestStreamPatience(t *testing.T) {
	const write, now = 10 * time.Millisecond, int64(time.Hour)
	s := start(t, Options{Settings: Settings{TCP: TCPSettings{Write: write}}})
	c := &tcpConn{loop: &tcpLoop{server: s}, limits: &TCPSettings{Write: write, Idle: write}, pending: make([]byte, 1), due: now + 1}
	c.taken(now)
	if c.due != now+1 || c.late(now) || !c.late(now+1) || c.slack() != 0 {
		t.Errorf("an answer is due %d later, with %d octets of slack", c.due-now, c.slack())
	}
	c.flow = &flow{streams: 1}
	c.flow.taken.L = &c.mu
	c.taken(now)
	due := now + int64(streamPatience*write)
	if c.due != due || c.late(due-1) || !c.late(due) || c.slack() != streamSlack {
		t.Errorf("a transfer is due %d later, with %d octets of slack", c.due-now, c.slack())
	}
	c.pending, c.quiet = nil, now
	if c.late(now) || c.quiet != now+int64(write) {
		t.Error("it is the client who is silent while its transfer is made")
	}
	c.flow.streams = 0
	if c.late(now) || !c.late(now+int64(write)) {
		t.Error("and is silent no longer after that")
	}
}
