package relay

import (
	"container/list"
	"net"
	"sync"
)

// admissions are the connections that others have opened: first without a certificate, then as a node's.
type admissions struct {
	limits Limits

	mu       sync.Mutex
	closed   bool
	unknown  *list.List // of *admission, the oldest in front
	nodes    map[*admission]struct{}
	perPeer  map[[32]byte]int
	squeezed int // connections that had to make room before they had shown a certificate
}

// admission is one connection.
type admission struct {
	conn    net.Conn
	place   *list.Element // in unknown; nil for a node's
	print   [32]byte
	isNodes bool
}

func newAdmissions(l Limits) *admissions {
	return &admissions{limits: l, unknown: list.New(), nodes: map[*admission]struct{}{}, perPeer: map[[32]byte]int{}}
}

// enter takes a connection up that has shown nothing yet. Where there are too many, the one that has been
// silent for longest is closed: a flood can delay a node, but not lock it out. It returns nil after close.
func (a *admissions) enter(conn net.Conn) *admission {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	if a.unknown.Len() >= a.limits.Handshakes {
		oldest := a.unknown.Remove(a.unknown.Front()).(*admission)
		oldest.place = nil
		_ = oldest.conn.Close() // its goroutine says what became of it
		a.squeezed++
	}
	c := &admission{conn: conn}
	c.place = a.unknown.PushBack(c)
	return c
}

// identify counts a connection as a node's, and reports whether there is room for it.
func (a *admissions) identify(c *admission, print [32]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || c.place == nil || len(a.nodes) >= a.limits.Connections || a.perPeer[print] >= a.limits.ConnectionsPerPeer {
		return false
	}
	a.unknown.Remove(c.place)
	c.place, c.print, c.isNodes = nil, print, true
	a.nodes[c] = struct{}{}
	a.perPeer[print]++
	return true
}

// leave forgets a connection, and closes it.
func (a *admissions) leave(c *admission) {
	_ = c.conn.Close() // closed twice, mostly
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.place != nil {
		a.unknown.Remove(c.place)
		c.place = nil
	}
	if !c.isNodes {
		return
	}
	c.isNodes = false
	delete(a.nodes, c)
	if a.perPeer[c.print]--; a.perPeer[c.print] == 0 {
		delete(a.perPeer, c.print)
	}
}

// close closes all connections, and lets none in from then on.
func (a *admissions) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for e := a.unknown.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*admission).conn.Close()
	}
	for c := range a.nodes {
		_ = c.conn.Close()
	}
}

func (a *admissions) counts() (unknown, nodes, squeezed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unknown.Len(), len(a.nodes), a.squeezed
}
