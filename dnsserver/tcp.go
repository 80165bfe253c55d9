package dnsserver

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPendingConn is how many octets of answers are gathered for a connection before they are written. While its client has
	// not taken them, no more of its queries are served.
	maxPendingConn = 64 << 10
	// maxPendingAll bounds the octets that are kept for connections, over all of them: answers that clients have not taken, and
	// queries that have not come whole. Connections that want to add more are cut.
	maxPendingAll = 64 << 20
	// acceptPause is how long nothing is accepted after an error such as too many open files.
	acceptPause = 50 * time.Millisecond
)

// tcpLimits counts connections, in all and by client network, and what is kept for them.
type tcpLimits struct {
	refusedTotal, refusedNetwork, cut atomic.Uint64
	pending                           atomic.Int64 // octets, of all connections
	ending                            atomic.Bool  // nothing more is read
	sockets                           tcpSockets

	mu       sync.Mutex // guards what follows
	count    int
	networks map[uint64]int
}

func (l *tcpLimits) init() { l.networks = make(map[uint64]int) }

func (l *tcpLimits) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// enter counts a connection, unless a limit is reached.
func (l *tcpLimits) enter(from netip.Addr, limits *TCPSettings) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := network(from)
	switch {
	case l.ending.Load():
		return false
	case l.count >= limits.Connections:
		l.refusedTotal.Add(1)
		return false
	case l.networks[n] >= limits.PerNetwork:
		l.refusedNetwork.Add(1)
		return false
	}
	l.count++
	l.networks[n]++
	return true
}

func (l *tcpLimits) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	n := network(from)
	if l.networks[n]--; l.networks[n] == 0 {
		delete(l.networks, n)
	}
}

// reserve counts n octets that are kept, or fewer when n is negative, and reports whether there is room for them.
func (l *tcpLimits) reserve(n int) bool {
	if l.pending.Add(int64(n)) > maxPendingAll && n > 0 {
		l.pending.Add(-int64(n))
		return false
	}
	return true
}

// sinceMade is the clock of connections' time-outs, nanoseconds.
func (s *Server) sinceMade() int64 { return int64(time.Since(s.born)) }
