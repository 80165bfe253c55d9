package dnsserver

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"balefire/dnsserver/answercache"
	"balefire/dnsserver/wire"
)

const (
	// tcpEvents is how many connections a loop learns of at once.
	tcpEvents = 64
	// tcpRead is how many octets one system call reads: hundreds of queries, when a client sends that many.
	tcpRead = 16 << 10
	// tcpBatch is how many queries of a connection are read before the first of them is looked up.
	tcpBatch = 32
	// longestSweep is the longest time between two looks for connections that are too slow.
	longestSweep = time.Second
	// bell is the slot of what wakes a loop.
	bell = -1
	// tcpCachePart is the part of Options.AnswerCache that is given to the loops of TCP besides.
	tcpCachePart = 8
)

// tcpSockets are the loops that connections are spread over.
type tcpSockets struct{ loops []*tcpLoop }

// startTCP starts the loops. The server's lock is held.
func (s *Server) startTCP() error {
	for range s.opts.Workers {
		l, err := s.newTCPLoop()
		if err != nil {
			for _, l := range s.tcp.sockets.loops {
				l.close()
			}
			s.tcp.sockets.loops = nil
			return err
		}
		s.tcp.sockets.loops = append(s.tcp.sockets.loops, l)
	}
	for _, l := range s.tcp.sockets.loops {
		s.exchanges = append(s.exchanges, l.exchange)
		s.conns.Go(l.run)
	}
	return nil
}

// endTCP makes every connection stop reading; what it has read is answered.
func (s *Server) endTCP() {
	s.tcp.ending.Store(true)
	for _, l := range s.tcp.sockets.loops {
		l.ring()
	}
}

// cutTCP closes every connection.
func (s *Server) cutTCP() {
	for _, l := range s.tcp.sockets.loops {
		l.cutting.Store(true)
		l.ring()
	}
}

// tcpLoop serves its part of the connections (RFC 7766), on a thread of its own. What can be answered at once it answers itself, in the order in
// which it came, into memory that all of its connections use in turn: a connection that says nothing has no buffer, and no
// goroutine. What can't goes to an exchange of the pool, and the answer is written when it is ready (§6.2.1.1, §7).
type tcpLoop struct {
	server   *Server
	exchange *exchange
	epoll    int
	bell     int
	cutting  atomic.Bool
	count    atomic.Int32 // connections
	now      int64        // of this turn, nanoseconds since the server was made
	sweepAt  int64
	in, out  []byte
	plain    []byte // what came with TLS; nil without
	queries  [tcpBatch]wire.Query
	packets  [tcpBatch][]byte
	hashes   [tcpBatch]uint64
	events   [tcpEvents]unix.EpollEvent
	ready    [tcpEvents]*tcpConn
	some     []*tcpConn // memory of sweep

	mu     sync.Mutex // guards what follows; may be held when a connection's is taken, not the other way round
	conns  []*tcpConn // by slot; nil where there is none
	free   []int32    // slots
	closed bool
}

func (s *Server) newTCPLoop() (*tcpLoop, error) {
	l := &tcpLoop{
		server: s, exchange: &exchange{server: s},
		in: make([]byte, tcpRead), out: make([]byte, 0, maxPendingConn+2+wire.MaxSize),
	}
	if s.tls.config != nil {
		l.plain = make([]byte, tcpRead+tlsRecord+tlsOverhead)
	}
	if s.opts.AnswerCache >= 0 {
		l.exchange.cache = answercache.New(s.opts.AnswerCache / tcpCachePart / s.opts.Workers)
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(l.epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: bell}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.bell, &event); err != nil {
		l.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return l, nil
}

// close gives the loop's descriptors back, unless there are connections.
func (l *tcpLoop) close() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < len(l.conns) {
		return false
	}
	l.closed = true
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.bell)
	return true
}

// ring wakes the loop.
func (l *tcpLoop) ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		one := [8]byte{1}
		_, _ = unix.Write(l.bell, one[:]) // fails only when it rings already
	}
}

// add gives the loop a connection.
func (l *tcpLoop) add(c *tcpConn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrStopped
	}
	if n := len(l.free); n > 0 {
		c.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c.slot, l.conns = int32(len(l.conns)), append(l.conns, nil)
	}
	c.loop, c.interest = l, unix.EPOLLIN
	c.quiet = l.server.sinceMade() + int64(c.limits.Idle)
	event := unix.EpollEvent{Events: c.interest, Fd: c.slot}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
		l.free = append(l.free, c.slot)
		return fmt.Errorf("epoll: %w", err)
	}
	l.conns[c.slot] = c
	l.count.Add(1)
	return nil
}

// remove closes a connection.
func (l *tcpLoop) remove(c *tcpConn) {
	c.mu.Lock()
	c.dead = true
	c.dropPending()
	_ = unix.Close(c.fd) // under the lock: who has an answer for it looks at dead first
	if c.tls != nil {
		c.tls.arrived.Signal()
	}
	c.wakeStreams()
	c.mu.Unlock()
	c.rest, c.more = nil, false
	c.account()
	l.mu.Lock()
	l.conns[c.slot] = nil
	l.free = append(l.free, c.slot)
	l.mu.Unlock()
	l.count.Add(-1)
	l.server.tcp.leave(c.from)
	if c.tls != nil {
		l.server.tls.open.Add(-1)
	}
}

// run serves until the server ends and all connections are closed.
func (l *tcpLoop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	busy := false
	for {
		n := l.wait(busy)
		busy = n > 1
		l.exchange.begin()
		l.now = l.server.sinceMade()
		for i := range n {
			if c := l.ready[i]; c != nil {
				l.ready[i] = nil
				l.handle(c, l.events[i].Events)
			}
		}
		if n > 0 {
			l.exchange.flush()
		}
		ending := l.server.tcp.ending.Load()
		if l.now >= l.sweepAt || ending || l.cutting.Load() {
			l.sweep(ending)
		}
		if ending && l.close() {
			return
		}
	}
}

// wait returns how many connections something has happened to. While there is much to do it asks without waiting, which does not
// concern the scheduler.
func (l *tcpLoop) wait(busy bool) (n int) {
	fd, events := uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0]))
	if busy {
		r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, events, tcpEvents, 0, 0, 0)
		if errno == 0 {
			n = int(r)
		}
	}
	if n == 0 {
		timeout := max(0, l.sweepAt-l.server.sinceMade())/int64(time.Millisecond) + 1
		r, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, fd, events, tcpEvents, uintptr(timeout), 0, 0)
		if errno == 0 {
			n = int(r)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range n {
		if slot := l.events[i].Fd; slot != bell {
			l.ready[i] = l.conns[slot]
		}
	}
	return n
}

// sweep ends connections that are too slow, or all of them.
func (l *tcpLoop) sweep(ending bool) {
	limits := &l.server.settings.Load().TCP
	l.sweepAt = l.now + int64(min(longestSweep, max(time.Millisecond, min(limits.Idle, limits.Write)/8)))
	l.mu.Lock()
	for _, c := range l.conns {
		if c != nil && (ending || c.late(l.now)) {
			l.some = append(l.some, c)
		}
	}
	l.mu.Unlock()
	for _, c := range l.some {
		switch {
		case l.cutting.Load():
			l.remove(c)
		case ending:
			l.end(c)
		default:
			l.expire(c)
		}
	}
	clear(l.some)
	l.some = l.some[:0]
}
