package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Errors of Ask, told apart with errors.Is.
var (
	ErrNoPeer      = errors.New("relay: there is no peer to ask")
	ErrDeclined    = errors.New("relay: every peer declined") // wrapped by a DeclinedError
	ErrUnreachable = errors.New("relay: no peer answered in time")
	ErrTooLong     = errors.New("relay: the request is too long")
	ErrClosed      = errors.New("relay: it is closed")
)

// DeclinedError says how the peer that was asked last declined.
type DeclinedError struct {
	Status Status
	Peer   string
}

func (e *DeclinedError) Error() string {
	return fmt.Sprintf("%s, the last, %s: %s", ErrDeclined, e.Peer, e.Status)
}

// Unwrap makes it an ErrDeclined.
func (e *DeclinedError) Unwrap() error { return ErrDeclined }

const (
	// maxCandidates is how many of the peers given are considered.
	maxCandidates = 16
	// maxPrepared is how many of them are dialed without having been chosen.
	maxPrepared = 3
	// explore: one in so many questions goes first to a peer that isn't the fastest.
	explore = 32

	minHedge = 2 * time.Millisecond
	maxHedge = 200 * time.Millisecond
)

// Ask sends the request to one of the peers, which are in the caller's order of preference, and appends the
// answer to reply. It prefers the peer that has been the fastest; another is asked as well when that one
// takes longer than usual, and at once when it declines or fails. No peer is asked twice. It ends with
// ctx at the latest. from is the ID of the peer that answered.
//
// Both slices are the caller's again when Ask returns.
func (r *Relay) Ask(ctx context.Context, peers []Peer, request, reply []byte) (out []byte, from string, err error) {
	if len(request) > MaxRequest {
		return reply, "", fmt.Errorf("%w: %d octets, and %d is the most", ErrTooLong, len(request), MaxRequest)
	}
	a := r.asks.Get().(*ask)
	if err := a.choose(peers); err != nil {
		r.asks.Put(a)
		return reply, "", err
	}
	a.begin(ctx, request, reply)
	err = a.run(ctx)
	out, from, err = a.end(ctx, err)
	r.metrics.ask(err)
	return out, from, err
}

// Prepare opens connections to the peers in the background, where there are none.
func (r *Relay) Prepare(peers []Peer) {
	for i := range peers {
		if p, err := r.peer(&peers[i]); err == nil { // otherwise Ask will say so
			p.prepare()
		}
	}
}

// ask is one question on its way: candidates in the order in which they are tried, and what came of each.
// Once used it is used again, unless a connection may still deliver to it.
type ask struct {
	relay *Relay
	timer *time.Timer
	wake  chan struct{} // one token: something was delivered

	candidates [maxCandidates]candidate
	count      int
	next       int // the first of candidates that hasn't been tried
	hedge      time.Duration

	mu       sync.Mutex
	settled  bool // what is delivered now is too late
	request  []byte
	deadline time.Time // zero: none
	reply    []byte
	winner   *attempt
	last     *attempt // the last that declined
	waiting  int
	failed   int // attempts that got no answer

	attempts [maxCandidates]attempt
}

// candidate is a peer as it was when the ask began.
type candidate struct {
	peer  *peer
	class class
	score float64
}

// attempt is one peer's part in an ask. Its fields are guarded by the ask's mutex.
type attempt struct {
	ask    *ask
	peer   *peer
	link   *link // nil while it waits for a connection
	id     uint32
	began  time.Time
	state  attemptState
	status Status // when answered
}

type attemptState uint8

const (
	attemptNone    attemptState = iota
	attemptWaiting              // for a connection, or for the answer
	attemptAnswered
	attemptFailed // no connection, or it broke
)

func newAsk(r *Relay) *ask {
	a := &ask{relay: r, timer: time.NewTimer(time.Hour), wake: make(chan struct{}, 1)}
	a.timer.Stop()
	for i := range a.attempts {
		a.attempts[i].ask = a
	}
	return a
}

// choose takes the candidates from peers, and orders them: those with a connection first, and among them
// the fastest; those that failed a moment ago last.
func (a *ask) choose(peers []Peer) error {
	if len(peers) == 0 {
		return ErrNoPeer
	}
	a.count, a.next, a.hedge = 0, 0, maxHedge
	linked := 0
	var failure error
	for i := range peers[:min(len(peers), maxCandidates)] {
		p, err := a.relay.peer(&peers[i])
		if err != nil {
			failure = err
			continue
		}
		c := candidate{peer: p}
		var usual time.Duration
		c.class, c.score, usual = p.standing()
		switch c.class {
		case classLinked:
			linked++
			a.hedge = min(a.hedge, usual)
		case classUnlinked:
			if i < maxPrepared {
				p.prepare()
			}
		}
		at := a.count
		for ; at > 0 && c.before(&a.candidates[at-1]); at-- {
			a.candidates[at] = a.candidates[at-1]
		}
		a.candidates[at] = c
		a.count++
	}
	if a.count == 0 {
		return failure
	}
	a.hedge = max(a.hedge, minHedge)
	if linked > 1 && a.relay.asked.Add(1)%explore == 0 {
		other := 1 + rand.IntN(linked-1)
		a.candidates[0], a.candidates[other] = a.candidates[other], a.candidates[0]
	}
	return nil
}

// before reports whether c is to be tried before other, which the caller prefers.
func (c *candidate) before(other *candidate) bool {
	return c.class < other.class || c.class == other.class && c.score < other.score
}

func (a *ask) begin(ctx context.Context, request, reply []byte) {
	select {
	case <-a.wake:
	default:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settled, a.request, a.reply, a.winner, a.last, a.waiting, a.failed = false, request, reply, nil, nil, 0, 0
	a.deadline, _ = ctx.Deadline()
}

// run tries candidates until one has answered, none is left, or ctx ends, whose error it then returns.
func (a *ask) run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.timer.Reset(a.hedge)
	defer a.timer.Stop()
	wanted := 1 // peers that are to work on it at once
	for {
		waiting, won := a.progress()
		for !won && waiting < wanted && a.next < a.count {
			a.try()
			waiting, won = a.progress()
		}
		switch {
		case won:
			return nil
		case waiting == 0 && a.relay.ctx.Err() != nil: // its connections went before it said why
			return ErrClosed
		case waiting == 0:
			return nil
		}
		select {
		case <-a.wake:
		case <-a.timer.C:
			if wanted = 2; a.next < a.count {
				a.relay.metrics.hedges.Inc()
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-a.relay.ctx.Done():
			return ErrClosed
		}
	}
}

func (a *ask) progress() (waiting int, won bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting, a.winner != nil
}

// try asks the next candidate.
func (a *ask) try() {
	at := &a.attempts[a.next]
	p := a.candidates[a.next].peer
	a.next++
	a.mu.Lock()
	at.peer, at.link, at.state = p, nil, attemptWaiting
	a.waiting++
	a.mu.Unlock()
	p.take(at)
}

// send sends the request of an attempt, unless it is too late for that.
func (at *attempt) send(l *link) {
	a := at.ask
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled {
		return
	}
	at.began = time.Now()
	var left time.Duration
	if !a.deadline.IsZero() {
		left = max(a.deadline.Sub(at.began), time.Millisecond)
	}
	if !l.send(at, left, a.request) {
		at.failLocked()
	}
}

// answered takes an answer from the peer.
func (at *attempt) answered(s Status, payload []byte) {
	a := at.ask
	a.mu.Lock()
	defer a.mu.Unlock()
	at.peer.answered(time.Since(at.began), s)
	if a.settled || at.state != attemptWaiting {
		return
	}
	at.state, at.status = attemptAnswered, s
	a.waiting--
	if s == OK {
		a.reply = append(a.reply, payload...)
		a.winner, a.settled = at, true
	} else {
		a.last = at
	}
	a.notify()
}

// fail notes that the peer can't be asked, or that no answer will come from it.
func (at *attempt) fail() {
	a := at.ask
	a.mu.Lock()
	defer a.mu.Unlock()
	at.failLocked()
}

func (at *attempt) failLocked() {
	a := at.ask
	if a.settled || at.state != attemptWaiting {
		return
	}
	at.state = attemptFailed
	a.waiting--
	a.failed++
	a.notify()
}

func (a *ask) notify() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// end withdraws what nobody waits for any more, and says what the ask came to.
func (a *ask) end(ctx context.Context, err error) (out []byte, from string, _ error) {
	a.mu.Lock()
	a.settled = true
	out, a.reply, a.request = a.reply, nil, nil
	winner, last, failed := a.winner, a.last, a.failed
	a.mu.Unlock()

	late := false // a connection may still come to deliver
	timedOut := ctx.Err() != nil
	for i := range a.attempts[:a.next] {
		at := &a.attempts[i]
		if at.state != attemptWaiting { // nobody else changes it: the ask is settled
			continue
		}
		if !at.withdraw(timedOut) {
			late = true
		}
	}
	switch {
	case winner != nil:
		from = winner.peer.to.ID
		err = nil
	case errors.Is(err, ErrClosed):
	case err != nil && last != nil:
		err = fmt.Errorf("%w: %w; %s: %s", ErrUnreachable, err, last.peer.to.ID, last.status)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	case failed > 0 || last == nil:
		err = ErrUnreachable
	default:
		err = &DeclinedError{Status: last.status, Peer: last.peer.to.ID}
	}
	if !late {
		a.relay.asks.Put(a)
	}
	return out, from, err
}

// withdraw takes the attempt back, and reports whether nobody knows of it any more.
func (at *attempt) withdraw(timedOut bool) bool {
	if at.link == nil {
		return at.peer.forget(at)
	}
	if !at.link.forget(at.id) {
		return false
	}
	at.peer.unanswered(time.Since(at.began), timedOut)
	if at.link.unanswered() {
		at.link.shut(errSilent)
	}
	return true
}
