package dnsserver

import (
	"net/netip"
	"sync"

	"balefire/dnsserver/wire"
)

// slowLane serves queries over UDP that must not hold up a receiving loop, on goroutines of its own. A query
// that finds no free job is dropped: its client will ask again, perhaps another server.
type slowLane struct {
	server  *Server
	workers int
	next    *slowLane // takes what can't be answered from this node; nil for the lane that waits for others
	free    chan *slowJob
	jobs    chan *slowJob
	wait    sync.WaitGroup
}

// jobsPerWorker bounds the queue: what waits longer than that is not waited for by clients either.
const jobsPerWorker = 8

// slowJob is a query that was put off, with what is needed to answer it.
type slowJob struct {
	packet []byte
	from   netip.Addr
	since  int64 // when it was read, Unix nanoseconds
	back   returnAddress
}

func newSlowLane(s *Server, workers int, next *slowLane) *slowLane {
	n := workers * jobsPerWorker
	return &slowLane{server: s, workers: workers, next: next, free: make(chan *slowJob, n), jobs: make(chan *slowJob, n)}
}

func (l *slowLane) start() {
	for range cap(l.free) {
		l.free <- new(slowJob)
	}
	for range l.workers {
		x := &exchange{server: l.server, mayWait: true, mayAsk: l.next == nil, again: true, via: overUDP, out: make([]byte, 0, wire.MaxUDPSize)}
		l.server.exchanges = append(l.server.exchanges, x) // the server's lock is held
		l.wait.Go(func() { l.work(x) })
	}
}

// job returns a free job, or nil.
func (l *slowLane) job() *slowJob {
	select {
	case j := <-l.free:
		return j
	default:
		return nil
	}
}

// put queues a job that came from job; there is room for all of them.
func (l *slowLane) put(j *slowJob) { l.jobs <- j }

// stop waits until all that was put is answered. Nothing may be put any more.
func (l *slowLane) stop() {
	close(l.jobs)
	l.wait.Wait()
}

func (l *slowLane) work(x *exchange) {
	for j := range l.jobs {
		x.begin()
		x.port = j.back.port()
		reply, later := x.serve(j.packet, j.from, x.out[:0])
		if later {
			l.pass(x, j)
		}
		if len(reply) > 0 {
			if j.back.send(reply) {
				x.observe(otherLane, j.since, 1)
			} else {
				x.count.drop(dropSend)
			}
		}
		x.flush()
		l.free <- j
	}
}

// pass copies a query to the next lane.
func (l *slowLane) pass(x *exchange, j *slowJob) {
	to := l.next.job()
	if to == nil {
		x.count.drop(dropSlowFull)
		return
	}
	to.packet, to.from, to.since, to.back = append(to.packet[:0], j.packet...), j.from, j.since, j.back
	l.next.put(to)
}

// serveSlow answers what is no ordinary question, or signed.
func (x *exchange) serveSlow(packet []byte, from netip.Addr, dst []byte) (reply []byte, later bool) {
	x.caller = caller{from: from}
	if x.query.TSIG != 0 {
		return x.serveSigned(packet, from, dst)
	}
	return x.serveRare(packet, from, dst), false
}

// serveRare answers NOTIFY, UPDATE, AXFR and IXFR. Who asks is in x.caller.
func (x *exchange) serveRare(packet []byte, from netip.Addr, dst []byte) []byte {
	switch x.query.Opcode {
	case wire.OpNotify:
		return x.serveNotify(packet, from, dst)
	case wire.OpUpdate:
		return x.serveUpdate(packet, from, dst)
	}
	return x.serveTransfer(packet, from, dst)
}
