package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	idleTimeout    = 2 * time.Minute  // for a connection without requests
	requestTimeout = 10 * time.Second // for a request whose asker doesn't say how long it waits
)

// session is one connection on which a node asks this one.
type session struct {
	relay *Relay
	conn  *tls.Conn
	peer  net.Addr
	print [32]byte

	out      *frameWriter
	underWay atomic.Int64
	work     sync.WaitGroup // handlers, and the writer
}

// run answers until the connection ends, and returns when all its handlers have.
func (s *session) run() {
	ctx, cancel := context.WithCancel(s.relay.ctx)
	s.out = newFrameWriter(s.conn)
	s.out.put(0, kindWelcome, 0, nil, false)
	s.work.Go(func() {
		_ = s.out.run()              // why it could not write, the reader learns as well
		_ = s.conn.NetConn().Close() // wakes the reader
	})
	err := s.read(ctx)
	cancel()
	s.out.close()
	_ = s.conn.NetConn().Close() // not a TLS close: that would wait for a writer that is stuck
	s.work.Wait()
	switch {
	case errors.Is(err, errMalformed):
		s.relay.metrics.broken.WithLabelValues("malformed").Inc()
		s.relay.log.Warn().Err(err).Stringer("peer", s.peer).Msg("relay: a node sent a malformed frame")
	case errors.Is(err, errStranger):
		s.relay.metrics.broken.WithLabelValues("stranger").Inc()
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		s.relay.metrics.broken.WithLabelValues("failed").Inc()
	}
}

func (s *session) read(ctx context.Context) error {
	in := newFrameReader(s.conn, true, idleTimeout)
	for {
		f, err := in.next()
		if err != nil {
			return err
		}
		if !s.relay.knows(s.print) {
			return errStranger // it was a node, and is none any more
		}
		if !s.take() {
			// A reply that finds no room closes the connection: who asks too much and reads too little is not waited for.
			if !s.out.put(f.id, kindReply+kind(Overloaded), 0, nil, false) {
				return net.ErrClosed
			}
			s.relay.metrics.answered[Overloaded].Inc()
			continue
		}
		job := jobs.Get().(*job)
		job.id, job.request = f.id, append(job.request[:0], f.payload...)
		if job.left = f.left; job.left == 0 {
			job.left = requestTimeout
		}
		s.work.Go(func() { s.answer(ctx, job) })
	}
}

// take counts a request as under way, unless there are too many.
func (s *session) take() bool {
	l := &s.relay.limits
	if s.underWay.Add(1) <= int64(l.RequestsPerConnection) {
		if s.relay.requests.Add(1) <= int64(l.Requests) {
			return true
		}
		s.relay.requests.Add(-1)
	}
	s.underWay.Add(-1)
	return false
}

// job is a request and the memory of its reply, used again.
type job struct {
	id      uint32
	left    time.Duration
	request []byte
	reply   []byte
}

var jobs = sync.Pool{New: func() any { return new(job) }}

func (s *session) answer(ctx context.Context, j *job) {
	ctx, cancel := context.WithTimeout(ctx, j.left)
	reply, status := s.handle(ctx, j)
	cancel()
	if len(reply) > MaxReply {
		s.relay.log.Warn().Int("octets", len(reply)).Msg("relay: a reply is too long to be sent")
		status = Failed
	}
	if status != OK {
		reply = reply[:0]
	}
	s.relay.metrics.answered[status].Inc()
	s.out.put(j.id, kindReply+kind(status), 0, reply, true) // a closed connection needs no reply
	s.relay.requests.Add(-1)
	s.underWay.Add(-1)
	if j.reply = reply; cap(j.reply) <= keepBuffer && cap(j.request) <= keepBuffer {
		jobs.Put(j)
	}
}

// handle calls the handler. Its panic is a failure of this one request.
func (s *session) handle(ctx context.Context, j *job) (reply []byte, status Status) {
	defer func() {
		if v := recover(); v != nil {
			s.relay.log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Msg("relay: a handler panicked")
			reply, status = nil, Failed
		}
	}()
	reply, status = s.relay.handler(ctx, j.request, j.reply[:0])
	if status >= statuses {
		status = Failed
	}
	return reply, status
}
