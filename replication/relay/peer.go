package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// dialTimeout is how long a peer has to take a connection, and to show that it is one. It is a variable for tests, as the other time-outs
// are: a busy machine's pause is not a peer's.
var dialTimeout = time.Second

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	// steady is how long a connection must have been of use for the next one not to be put off.
	steady = time.Second
	// staleAfter is how long a connection that nothing was sent on is taken for good. The server closes it
	// later, and a request must not meet that.
	staleAfter = idleTimeout / 2

	maxQueued = 1024 // attempts that wait for one connection
	maxPeers  = 4096
	// forgetAfter is how long a peer is remembered that nobody asks.
	forgetAfter = 10 * time.Minute
)

// peer is what is known of another node: its connection, and how fast it has been.
type peer struct {
	relay *Relay
	to    Peer
	// config is of connections for frames, webConfig of those for HTTP.
	config, webConfig *tls.Config

	mu      sync.Mutex
	closed  bool
	link    *link // nil: none
	dialing bool
	queue   []*attempt // wait for the connection
	backoff time.Duration
	retry   time.Time // not dialed before
	down    error     // why the last dial failed, which has been said; nil: it did not
	used    time.Time
	sent    time.Time       // when the connection was last sent something, or made
	web     *http.Transport // made at its first use

	latency   time.Duration // smoothed; 0: not known
	deviation time.Duration // smoothed distance from it
	penalty   float64       // 0 to 1: how much of late was no good answer
}

// peer returns what is known of the node with that ID. When its address or certificate is another one, it has been started
// anew, and nothing is known.
func (r *Relay) peer(to *Peer) (*peer, error) {
	r.mu.RLock()
	p := r.peers[to.ID]
	r.mu.RUnlock()
	if p != nil && p.to == *to {
		return p, nil
	}
	return r.meet(to)
}

func (r *Relay) meet(to *Peer) (*peer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers == nil {
		return nil, ErrClosed
	}
	p := r.peers[to.ID]
	if p != nil && p.to == *to {
		return p, nil
	}
	if p == nil && len(r.peers) >= maxPeers && !r.forgetOne() {
		return nil, fmt.Errorf("%w: %d nodes are known, and that is the most", ErrUnreachable, maxPeers)
	}
	if p != nil {
		r.tasks.start(p.close)
	}
	p = &peer{relay: r, to: *to, used: time.Now()}
	p.config, p.webConfig = r.identity.client(to, protocolFrames), r.identity.client(to, protocolHTTP)
	r.peers[to.ID] = p
	return p, nil
}

// forgetOne makes room for a peer, and reports whether it could.
func (r *Relay) forgetOne() bool {
	for id, p := range r.peers {
		p.mu.Lock()
		old := time.Since(p.used) > forgetAfter
		p.mu.Unlock()
		if old {
			delete(r.peers, id)
			r.tasks.start(p.close)
			return true
		}
	}
	return false
}

// class is the first thing by which candidates are ordered.
type class uint8

const (
	classLinked   class = iota // connected
	classUnlinked              // to be connected, or being connected
	classDown                  // can't be connected just now
)

// standing returns what candidates are ordered by, and after which time the peer is slower than usual. Less is better. A
// peer that has not been asked yet comes first: it can't show otherwise that it is good.
func (p *peer) standing() (c class, score float64, usual time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c = classUnlinked
	switch {
	case p.fresh() != nil:
		c = classLinked
	case !p.dialing && time.Now().Before(p.retry):
		c = classDown
	}
	const penaltyWeight = 8
	score = float64(p.latency) * (1 + penaltyWeight*p.penalty)
	if p.latency == 0 {
		return c, p.penalty, maxHedge
	}
	return c, score, p.latency + 4*p.deviation // as TCP waits before it sends again (RFC 6298)
}

// answered takes a sample of how fast the peer is, and how good.
func (p *peer) answered(took time.Duration, s Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sample(took)
	if s == OK {
		p.penalty -= p.penalty / 8
	} else {
		p.penalty += (1 - p.penalty) / 16
	}
}

// unanswered notes that the peer was too slow: another was faster, or nobody was in time.
func (p *peer) unanswered(took time.Duration, timedOut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if took > p.latency {
		p.sample(took)
	}
	if timedOut {
		p.penalty += (1 - p.penalty) / 4
	}
}

func (p *peer) sample(took time.Duration) {
	took = max(took, 1)
	if p.latency == 0 {
		p.latency, p.deviation = took, took/2
		return
	}
	p.deviation += ((took - p.latency).Abs() - p.deviation) / 8
	p.latency += (took - p.latency) / 8
}

// take sends an attempt, at once or when there is a connection; or fails it.
func (p *peer) take(at *attempt) {
	p.mu.Lock()
	l := p.fresh()
	now := time.Now()
	p.used, p.sent = now, now
	if l == nil && len(p.queue) < maxQueued && p.dial() {
		p.queue = append(p.queue, at)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if l == nil {
		at.fail()
		return
	}
	at.send(l)
}

// forget takes an attempt out of the queue, and reports whether it was in it.
func (p *peer) forget(at *attempt) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queue, at)
	if i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	return i >= 0
}

// prepare dials in the background, unless there is a connection or it failed a moment ago.
func (p *peer) prepare() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fresh() == nil {
		p.dial()
	}
}

// fresh returns the connection; nil when there is none that the server is sure to keep open. The mutex is held.
func (p *peer) fresh() *link {
	if p.link != nil && time.Since(p.sent) > staleAfter {
		p.link.shut(errStale)
		p.link = nil
	}
	return p.link
}

// dial begins to connect, and reports whether a connection is under way. The mutex is held.
func (p *peer) dial() bool {
	if p.closed || p.dialing {
		return p.dialing
	}
	if time.Now().Before(p.retry) {
		return false
	}
	p.dialing = true
	p.relay.tasks.start(p.connect)
	return true
}

// connect makes the connection, serves it to its end, and says what became of it to those that wait.
func (p *peer) connect() {
	l, err := p.open()
	p.mu.Lock()
	p.dialing = false
	queue := p.queue
	p.queue = nil
	if err == nil && p.closed {
		err = ErrClosed
		l.close()
	}
	cameBack, wentDown := false, false
	if err == nil {
		p.link, p.sent = l, time.Now()
		cameBack, p.down = p.down != nil, nil
	} else {
		err = explain(err)
		wentDown = p.down == nil && !p.closed
		p.down = err
		p.putOff()
	}
	p.mu.Unlock()

	log := &p.relay.log
	switch {
	case cameBack:
		log.Info().Str("peer", p.to.ID).Str("address", p.to.Address).Msg("relay: a node can be asked again")
	case wentDown:
		log.Warn().Err(err).Str("peer", p.to.ID).Str("address", p.to.Address).Msg("relay: a node can't be asked")
	}
	if err != nil {
		p.relay.metrics.dials.WithLabelValues("failed").Inc()
		for _, at := range queue {
			at.fail()
		}
		return
	}
	p.relay.metrics.dials.WithLabelValues("made").Inc()
	for _, at := range queue {
		at.send(l)
	}
	began := time.Now()
	err = l.run()
	p.mu.Lock()
	if p.link == l { // otherwise it was stale, and there may be another by now
		p.link = nil
	}
	if time.Since(began) < steady && !errors.Is(err, errStale) {
		p.putOff()
	} else {
		p.backoff = 0
	}
	p.mu.Unlock()
	l.failAll()
	log.Debug().Err(err).Str("peer", p.to.ID).Msg("relay: a connection to a node has ended")
}

// putOff makes the next dial wait, longer each time. The mutex is held.
func (p *peer) putOff() {
	p.backoff = min(max(2*p.backoff, minBackoff), maxBackoff)
	// Nodes that lost the same peer don't all come back at once.
	p.retry = time.Now().Add(p.backoff/2 + rand.N(p.backoff/2+1))
}

// open dials, and reads the welcome: only then is it known that the peer takes this node for one.
func (p *peer) open() (*link, error) {
	ctx, cancel := context.WithTimeout(p.relay.ctx, dialTimeout)
	defer cancel()
	conn, err := p.handshake(ctx, protocolFrames)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() }) // the read below then says so
	in := newFrameReader(conn, false, 0)
	f, err := in.next()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && f.kind != kindWelcome {
		err = fmt.Errorf("%w: kind %d instead of a welcome", errMalformed, f.kind)
	}
	if err != nil {
		_ = conn.NetConn().Close()
		return nil, fmt.Errorf("welcome: %w", whole(err))
	}
	return newLink(conn, in), nil
}

// handshake connects to the peer, and makes sure that it is that peer.
func (p *peer) handshake(ctx context.Context, protocol string) (*tls.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", p.to.Address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	config := p.config
	if protocol == protocolHTTP {
		config = p.webConfig
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return conn, nil
}

func (p *peer) transport() *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = time.Now()
	if p.web == nil {
		p.web = newTransport(p)
	}
	return p.web
}

// close ends the connection; nothing is sent to the peer from then on.
func (p *peer) close() {
	p.mu.Lock()
	p.closed = true
	l, web := p.link, p.web
	p.mu.Unlock()
	if l != nil {
		l.close()
	}
	if web != nil {
		web.CloseIdleConnections()
	}
}

var _ io.Closer = (*Relay)(nil)
