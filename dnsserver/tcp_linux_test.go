package dnsserver

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"balefire/store"
	"balefire/zones"
)

// framed appends a message as TCP carries it.
func framed(segment, message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(segment, uint16(len(message))), message...)
}

// hotQueries returns n different queries in one segment, with IDs from 0.
func hotQueries(t testing.TB, n int) (segment []byte) {
	for i := range n {
		q := question([]string{"www.example.com.", "nope.example.com.", "example.net.", "fatter.example.com."}[i%4], dns.TypeA)
		q.Id = uint16(i)
		segment = framed(segment, pack(t, q))
	}
	return segment
}

// segmentsIn returns how many segments with data a connection has received.
func segmentsIn(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); infoErr == nil {
			n = int(info.Data_segs_in)
		}
	})
	if err != nil || infoErr != nil {
		t.Fatal(err, infoErr)
	}
	return n
}

// TestOneSegment: queries that come in one segment, and can be answered at once, are answered in their order and in one segment.
func TestOneSegment(t *testing.T) {
	s := start(t, Options{})
	c := dial(t, "tcp", s.testAddr())
	const n = 200
	const rounds = 5
	once := 0
	for range rounds {
		before := segmentsIn(t, c.Conn)
		if _, err := c.Write(hotQueries(t, n)); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if m := c.receiveMsg(); int(m.Id) != i {
				t.Fatalf("answer %d is to query %d", i, m.Id)
			}
		}
		if segmentsIn(t, c.Conn)-before == 1 {
			once++
		}
	}
	if once <= rounds/2 { // the kernel sends some twice when the machine is busy
		t.Errorf("answers came in one segment in %d rounds of %d", once, rounds)
	}
}

// TestColdAmongHot: a query that waits holds up none of those around it, which are answered in their order.
func TestColdAmongHot(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h})
	c := dial(t, "tcp", s.testAddr())
	cold := question("a.slow.example.com.", dns.TypeA)
	cold.Id = 1000
	segment := framed(hotQueries(t, 3), pack(t, cold))
	if _, err := c.Write(append(segment, hotQueries(t, 100)...)); err != nil {
		t.Fatal(err)
	}
	for i := range 103 {
		want := i
		if i >= 3 {
			want = i - 3
		}
		if m := c.receiveMsg(); int(m.Id) != want {
			t.Fatalf("answer %d is to query %d", i, m.Id)
		}
	}
	release()
	if m := c.receiveMsg(); m.Id != cold.Id || m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
}

// TestSplitAnywhere: a query that comes in two parts is answered, wherever it is split.
func TestSplitAnywhere(t *testing.T) {
	s := start(t, Options{})
	c := dial(t, "tcp", s.testAddr())
	first, split := framed(nil, pack(t, question("www.example.com.", dns.TypeA))), question("alias.example.com.", dns.TypeA)
	whole := framed(nil, pack(t, split))
	for i := range whole {
		// What came in one segment is read at once: with the answer to the first, the part of the second is read as well.
		if _, err := c.Write(append(first[:len(first):len(first)], whole[:i]...)); err != nil {
			t.Fatal(err)
		}
		c.receive()
		if _, err := c.Write(whole[i:]); err != nil {
			t.Fatal(err)
		}
		if m := c.receiveMsg(); m.Id != split.Id || len(m.Answer) != 3 {
			t.Fatalf("split after %d octets: %v", i, m)
		}
	}
}

// TestLongQuery: a query longer than what is read at once, with others behind it.
func TestLongQuery(t *testing.T) {
	s := start(t, Options{})
	c := dial(t, "tcp", s.testAddr())
	long := withEDNS(question("www.example.com.", dns.TypeA), 1232, false)
	long.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 3*tcpRead)}}
	if _, err := c.Write(append(framed(nil, pack(t, long)), hotQueries(t, 5)...)); err != nil {
		t.Fatal(err)
	}
	if m := c.receiveMsg(); m.Id != long.Id || len(m.Answer) != 2 {
		t.Errorf("%v", m)
	}
	for i := range 5 {
		if m := c.receiveMsg(); int(m.Id) != i {
			t.Errorf("answer %d is to query %d", i, m.Id)
		}
	}
	stop(t, s)
	if n := s.tcp.pending.Load(); n != 0 {
		t.Errorf("%d octets are kept for nobody", n)
	}
}

// TestPipelineResumes: a client that goes on and on, far over the bounds, gets all of its answers.
func TestPipelineResumes(t *testing.T) {
	h := coldZones{newHosted(t)}
	s := start(t, Options{Zones: h, Exchanges: 3, Settings: Settings{TCP: TCPSettings{Pipeline: 2}}})
	const n = 500
	conns := []*wireConn{dial(t, "tcp", s.testAddr()), dial(t, "tcp", s.testAddr()), dial(t, "tcp", s.testAddr())}
	for _, c := range conns {
		if _, err := c.Write(hotQueries(t, n)); err != nil {
			t.Fatal(err)
		}
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		seen := make(map[uint16]bool)
		for range n {
			seen[c.receiveMsg().Id] = true
		}
		if len(seen) != n {
			t.Errorf("%d of %d queries were answered", len(seen), n)
		}
		if _, err := c.tryReceive(); err != io.EOF {
			t.Errorf("then the connection should end, got %v", err)
		}
	}
	stop(t, s)
	if got := gather(t, s); got[`balefire_dns_queries_total{transport="tcp"}`] != 3*n {
		t.Errorf("%v queries, want %d: none counted twice", got[`balefire_dns_queries_total{transport="tcp"}`], 3*n)
	}
}

// coldZones must be waited for.
type coldZones struct{ *hosted }

func (coldZones) FindHot(zones.Name, zones.Type) (store.Holding, bool) { return store.Holding{}, false }

// TestSlowReaderOfLateAnswers: the write time-out holds for answers that were waited for as well.
func TestSlowReaderOfLateAnswers(t *testing.T) {
	s := start(t, Options{Zones: coldZones{newHosted(t)}, Settings: Settings{TCP: TCPSettings{Pipeline: 1000, Write: 50 * time.Millisecond}}})
	c := dial(t, "tcp", s.testAddr())
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	var segment []byte
	for range 400 { // far more than the kernel keeps
		segment = framed(segment, pack(t, question("huge.example.com.", dns.TypeA)))
	}
	if _, err := c.Write(segment); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); gather(t, s)["balefire_dns_tcp_cut_total"] == 0; runtime.Gosched() {
		if time.Since(begun) > waitLimit {
			t.Fatal("not cut")
		}
	}
	stop(t, s)
	if got := gather(t, s); got["balefire_dns_tcp_connections"] != 0 || s.tcp.pending.Load() != 0 {
		t.Errorf("open %v, pending %d", got["balefire_dns_tcp_connections"], s.tcp.pending.Load())
	}
}

// TestTrickle: only a query that comes whole gives its connection more time, octets of one don't.
func TestTrickle(t *testing.T) {
	l, c, client := stillLoop(t, start(t, Options{}))
	query, idle := framed(nil, pack(t, question("www.example.com.", dns.TypeA))), int64(c.limits.Idle)
	until := c.quiet
	for i := range query {
		if c.late(until - 1) {
			t.Fatalf("late too early, after %d octets", i)
		}
		if !c.late(until) {
			t.Fatalf("not late, after %d octets", i)
		}
		l.now = until - 1
		if _, err := unix.Write(client, query[i:i+1]); err != nil {
			t.Fatal(err)
		}
		l.handle(c, unix.EPOLLIN)
	}
	if l.now = until - 1; c.late(l.now+idle-1) || !c.late(l.now+idle) {
		t.Errorf("after a whole query the time is up %d ns later, want %d", c.quiet-l.now, idle)
	}
	if n, err := unix.Read(client, make([]byte, 1000)); n < len(query) {
		t.Error(n, err)
	}
}

// TestKeptOctetsAreBounded: queries that don't come whole count as what is kept for connections, and go when there is too much.
func TestKeptOctetsAreBounded(t *testing.T) {
	s := start(t, Options{})
	const taken = maxPendingAll - 30_000
	s.tcp.pending.Add(taken)
	defer s.tcp.pending.Add(-taken)
	small, large := dial(t, "tcp", s.testAddr()), dial(t, "tcp", s.testAddr())
	begun := append([]byte{255, 255}, make([]byte, 60_000)...)
	if _, err := small.Write(begun[:1000]); err != nil {
		t.Fatal(err)
	}
	if _, err := large.Write(begun); err != nil && !ended(err) {
		t.Fatal(err)
	}
	if _, err := large.tryReceive(); !ended(err) {
		t.Errorf("want the connection to be cut, got %v", err)
	}
	small.Close()
	stop(t, s)
	if n := s.tcp.pending.Load(); n != taken {
		t.Errorf("%d octets are kept for nobody", n-taken)
	}
	if got := gather(t, s)["balefire_dns_tcp_cut_total"]; got != 1 {
		t.Errorf("%v connections were cut", got)
	}
}

// TestSilentConnections: a connection that says nothing has no goroutine.
func TestSilentConnections(t *testing.T) {
	s := start(t, Options{})
	dial(t, "tcp", s.testAddr()).ask(question("www.example.com.", dns.TypeA))
	before := runtime.NumGoroutine()
	for range 100 {
		dial(t, "tcp", s.testAddr()).ask(question("www.example.com.", dns.TypeA))
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines for 100 connections", n)
	}
}

// TestPendingIsCounted: what a client has not taken is counted, until it takes it piece by piece.
func TestPendingIsCounted(t *testing.T) {
	s := start(t, Options{})
	l, c, client := stillLoop(t, s)
	if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.send(make([]byte, 100_000))
	c.mu.Unlock()
	taken := make([]byte, 2048)
	for rounds := 0; len(c.pending) > 0; rounds++ {
		if n := s.tcp.pending.Load(); n != int64(len(c.pending)) || rounds > 100_000 {
			t.Fatalf("%d octets are pending, %d counted", len(c.pending), n)
		}
		if _, err := unix.Read(client, taken); err != nil {
			t.Fatal(err)
		}
		l.handle(c, unix.EPOLLOUT)
	}
	if n := s.tcp.pending.Load(); n != 0 || c.interest != unix.EPOLLIN {
		t.Errorf("nothing is pending, %d octets are counted, and interest is in %x", n, c.interest)
	}
}

// TestUntakenAnswersStopServing: of queries that were read, no more are answered than there is room for while the client takes nothing; all
// are when it does.
func TestUntakenAnswersStopServing(t *testing.T) {
	l, c, client := stillLoop(t, start(t, Options{}))
	if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	const n = 200
	var segment []byte
	for range n {
		segment = framed(segment, pack(t, question("huge.example.com.", dns.TypeA)))
	}
	if _, err := unix.Write(client, segment); err != nil {
		t.Fatal(err)
	}
	l.handle(c, unix.EPOLLIN)
	if kept := len(c.pending); kept == 0 || kept > maxPendingConn+65537 || c.interest != unix.EPOLLOUT {
		t.Fatalf("%d octets are pending, and interest is in %x", kept, c.interest)
	}
	var taken []byte
	for answers := 0; answers < n; {
		chunk := make([]byte, 1<<20)
		got, err := unix.Read(client, chunk)
		if err != nil {
			t.Fatalf("after %d answers: %v", answers, err)
		}
		taken = append(taken, chunk[:got]...)
		for len(taken) >= 2 && len(taken) >= 2+int(binary.BigEndian.Uint16(taken)) {
			taken = taken[2+binary.BigEndian.Uint16(taken):]
			answers++
		}
		l.handle(c, unix.EPOLLOUT)
		if kept := len(c.pending); kept > maxPendingConn+65537 {
			t.Fatalf("%d octets are pending", kept)
		}
	}
	if c.interest != unix.EPOLLIN || len(taken) != 0 {
		t.Errorf("at the end %d octets are too many, and interest is in %x", len(taken), c.interest)
	}
}

// TestShutdownAnswersWhatWasRead: also what waited for room.
func TestShutdownAnswersWhatWasRead(t *testing.T) {
	h := newHosted(t)
	release := h.wait("a.slow.example.com.")
	s := start(t, Options{Zones: h, Settings: Settings{TCP: TCPSettings{Pipeline: 1}}})
	c, idle := dial(t, "tcp", s.testAddr()), dial(t, "tcp", s.testAddr())
	idle.ask(question("www.example.com.", dns.TypeA))
	segment := framed(nil, pack(t, question("a.slow.example.com.", dns.TypeA)))
	if _, err := c.Write(append(segment, hotQueries(t, 50)...)); err != nil {
		t.Fatal(err)
	}
	<-h.waiting
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	if b, err := idle.tryReceive(); err == nil {
		t.Errorf("the idle connection should end: %x", b)
	}
	release()
	if m := c.receiveMsg(); m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
	for i := range 50 {
		if m := c.receiveMsg(); int(m.Id) != i {
			t.Errorf("answer %d is to query %d", i, m.Id)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTCPKeepsAnswers: each under its own question, wherever in a batch that comes.
func TestTCPKeepsAnswers(t *testing.T) {
	s := start(t, Options{})
	c := dial(t, "tcp", s.testAddr())
	a, b := question("www.example.com.", dns.TypeA), question("ns1.example.com.", dns.TypeA)
	for _, order := range [][2]*dns.Msg{{a, b}, {b, a}} {
		if _, err := c.Write(framed(framed(nil, pack(t, order[0])), pack(t, order[1]))); err != nil {
			t.Fatal(err)
		}
		for _, q := range order {
			if m := c.receiveMsg(); m.Id != q.Id || len(m.Answer) == 0 || m.Answer[0].Header().Name != q.Question[0].Name {
				t.Errorf("%v", m)
			}
		}
	}
	stop(t, s)
	if kept := gather(t, s)["balefire_dns_answers_kept_total"]; kept != 2 {
		t.Errorf("%v answers came from what was kept, want 2", kept)
	}
}

// stillLoop returns a loop that does not run, with one connection, and that one's other end.
func stillLoop(t *testing.T, s *Server) (l *tcpLoop, c *tcpConn, client int) {
	t.Helper()
	l, err := s.newTCPLoop()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	c = &tcpConn{fd: pair[0], via: overTCP, limits: &s.settings.Load().TCP}
	if !s.tcp.enter(c.from, c.limits) {
		t.Fatal("not let in")
	}
	if err := l.add(c); err != nil {
		t.Fatal(err)
	}
	l.exchange.begin()
	t.Cleanup(func() {
		_ = unix.Close(pair[1])
		l.remove(c)
		if !l.close() {
			t.Error("a connection is left")
		}
	})
	return l, c, pair[1]
}

// TestHotTCPAllocatesNothing: from what was read to what is written.
func TestHotTCPAllocatesNothing(t *testing.T) {
	l, c, client := stillLoop(t, start(t, Options{}))
	queries, answers := hotQueries(t, 40), make([]byte, 1<<20)
	if n := testing.AllocsPerRun(100, func() {
		if n, err := unix.Write(client, queries); n != len(queries) {
			t.Fatal(err)
		}
		l.handle(c, unix.EPOLLIN)
		if n, err := unix.Read(client, answers); n < 40*12 {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for 40 queries", n)
	}
}
