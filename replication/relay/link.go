package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// maxPending is how many requests are under way on one connection.
	maxPending = 1024
	// A connection is given up when so many requests in a row, in at least so much time, got no answer.
	maxSilence = 8
	silentFor  = 2 * time.Second
)

// Why this node closes a connection.
var (
	errSilent = errors.New("the peer has stopped answering")
	errStale  = errors.New("it has not been used for long")
)

// link is a connection on which this node asks a peer.
type link struct {
	conn *tls.Conn
	in   *frameReader
	out  *frameWriter

	mu      sync.Mutex
	closed  bool
	why     error // of closed
	id      uint32
	pending map[uint32]*attempt
	silence int       // requests that were given up since the last frame
	since   time.Time // when the first of them was
}

func newLink(conn *tls.Conn, in *frameReader) *link {
	return &link{conn: conn, in: in, out: newFrameWriter(conn), pending: map[uint32]*attempt{}}
}

// run reads answers until the connection ends, and says why it did. Then failAll must be called.
func (l *link) run() error {
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := l.out.run(); err != nil {
			l.shut(fmt.Errorf("write: %w", err))
		}
	})
	l.shut(l.read())
	writer.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

func (l *link) read() error {
	for {
		f, err := l.in.next()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if f.kind == kindWelcome {
			return fmt.Errorf("%w: a second welcome", errMalformed)
		}
		l.mu.Lock()
		at := l.pending[f.id]
		delete(l.pending, f.id)
		l.silence = 0
		l.mu.Unlock()
		if at != nil { // otherwise the answer came too late
			at.answered(Status(f.kind-kindReply), f.payload)
		}
	}
}

// send puts a request on its way, and reports whether it could. The attempt is then told what comes of it.
func (l *link) send(at *attempt, left time.Duration, request []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.pending) >= maxPending {
		return false
	}
	for {
		l.id++
		if _, taken := l.pending[l.id]; !taken {
			break
		}
	}
	if !l.out.put(l.id, kindRequest, left, request, false) {
		return false
	}
	l.pending[l.id] = at
	at.link, at.id = l, l.id
	return true
}

// forget takes a request back, and reports whether its answer had not come yet.
func (l *link) forget(id uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.pending[id]
	delete(l.pending, id)
	return ok
}

// unanswered notes that a request was given up, and reports whether the connection is to be as well: a peer
// that answers nothing at all has lost it, or itself.
func (l *link) unanswered() (silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silence++; l.silence == 1 {
		l.since = time.Now()
	}
	return l.silence >= maxSilence && time.Since(l.since) > silentFor
}

func (l *link) close() { l.shut(ErrClosed) }

// shut closes the connection, for the first reason given.
func (l *link) shut(why error) {
	l.mu.Lock()
	first := !l.closed
	if first {
		l.closed, l.why = true, why
	}
	l.mu.Unlock()
	if first {
		l.out.close()
		_ = l.conn.NetConn().Close() // not a TLS close, which could wait for the peer
	}
}

// failAll fails what is still under way. Nothing can be sent any more.
func (l *link) failAll() {
	l.mu.Lock()
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	for _, at := range pending {
		at.fail()
	}
}
