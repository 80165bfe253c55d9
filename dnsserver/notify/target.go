package notify

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"

	"balefire/zones"
)

// target is a server that is told of a zone. There are as many as all zones have servers, so what is only of messages under way is apart.
//
//	idle ──► queued ──► under way ──► idle: answered
//	  │        ▲            ├──► under way: once more
//	  └► held ─┘            └──► lost: not answered ──► queued: when the server answers something else
//
// held waits until a pause has passed since the last NOTIFY.
type target struct {
	zone *zone
	peer *peer

	state      targetState
	fresh      bool // in the peer's queue of what has just changed
	done       bool // was told of doneSerial, or that was given up
	doneSerial zones.Serial
	told       zones.Serial // the last serial that it has answered, at toldAt
	toldAt     time.Time
	sent       time.Time // last
	fault      string    // constant texts, but for rare ones

	next, prev *target   // in a queue of the peer's
	due        time.Time // when held or under way
	index      int       // in the deadlines; -1 when not there
	flight     *flight
}

type targetState uint8

const (
	idle targetState = iota
	held
	queued
	underWay
	lost
)

// pending are the states of a target that is yet to be told.
func (s targetState) pending() bool { return s == held || s == queued || s == underWay }

// become changes the state, and counts.
func (t *target) become(s targetState) {
	if was, is := t.state.pending(), s.pending(); is && !was {
		t.peer.waiting++
	} else if was && !is {
		t.peer.waiting--
	}
	t.state = s
}

// flight is a message that an answer is awaited to.
type flight struct {
	key     flightKey
	serial  zones.Serial
	attempt int     // how many there were before
	session Session // nil when the message is not signed
	fault   string  // of an answer that doesn't count
}

type flightKey struct {
	addr netip.AddrPort
	id   uint16
}

// peer is a server, for all zones that it is told of.
type peer struct {
	remote  zones.Remote
	refused string // why nothing is sent to it; "" when something may be
	targets int
	waiting int // of these, those that are yet to be told
	// What is to be sent: changes first, then what was to be told anyway. Those that did not get an answer are in missed.
	changes, others, missed queue

	window int // how many messages may be under way; it grows with answers, and is one when there are none
	flying int
	listed bool // in Notifier.ready
	silent bool // it was given up, and has not answered since
}

const noAnswer = "no answer"

func (n *Notifier) newTarget(z *zone, r zones.Remote) *target {
	p := n.peers[r]
	if p == nil {
		p = &peer{remote: r, window: 4}
		if err := r.Check(n.opts.Allowed); err != nil {
			p.refused = err.Error()
		}
		n.peers[r] = p
	}
	p.targets++
	return &target{zone: z, peer: p, fault: p.refused, index: -1}
}

// want has a target told of its zone's serial, as soon as it may be.
func (n *Notifier) want(t *target, fresh bool) {
	if t.peer.refused != "" {
		return
	}
	switch t.state {
	case held, underWay:
		return // the serial is looked at when it is sent, and when it is answered
	case queued:
		if fresh && !t.fresh {
			t.peer.others.remove(t)
			n.enqueue(t, true)
		}
		return
	case lost:
		t.peer.missed.remove(t)
		t.become(idle)
	}
	if at := t.sent.Add(pause); at.After(time.Now()) {
		t.become(held)
		t.due = at
		heap.Push(&n.due, t)
		return
	}
	n.enqueue(t, fresh)
}

func (n *Notifier) enqueue(t *target, fresh bool) {
	t.become(queued)
	t.fresh = fresh
	if fresh {
		t.peer.changes.add(t)
	} else {
		t.peer.others.add(t)
	}
	n.offer(t.peer)
}

// offer lists a peer that has something to be sent, and may be sent something.
func (n *Notifier) offer(p *peer) {
	if !p.listed && p.mayBeSent() {
		p.listed = true
		n.ready = append(n.ready, p)
	}
}

func (p *peer) mayBeSent() bool {
	return p.flying < p.window && (p.changes.first != nil || p.others.first != nil)
}

// take returns the next target to be told of all that are queued; nil when there is none. Peers take turns.
func (n *Notifier) take() *target {
	for len(n.ready) > 0 {
		p := n.ready[0]
		n.ready[0] = nil
		n.ready = n.ready[1:]
		p.listed = false
		if !p.mayBeSent() {
			continue
		}
		t := p.changes.first
		if t != nil {
			p.changes.remove(t)
		} else {
			t = p.others.first
			p.others.remove(t)
		}
		t.become(idle)
		p.flying++ // before offer
		n.offer(p)
		return t
	}
	return nil
}

// launch prepares a message to a target that was taken, or, with the flight of the last attempt, that has not answered.
func (n *Notifier) launch(t *target, before *flight, now time.Time) {
	f := &flight{key: flightKey{addr: t.peer.remote.Addr, id: uint16(rand.Uint32())}, serial: t.zone.serial}
	if before != nil {
		f.attempt, f.fault = before.attempt+1, before.fault
		if before.serial == f.serial {
			f.key = before.key // an answer to that one will do
		}
	}
	for n.flying[f.key] != nil {
		f.key.id++ // there are not that many under way to one address
	}
	patience := firstPatience << f.attempt
	if t.peer.remote.TLS {
		patience = max(patience, n.patience+firstPatience)
	}
	t.flight, n.flying[f.key] = f, t
	t.become(underWay)
	t.sent, t.due = now, now.Add(jitter(patience))
	heap.Push(&n.due, t)
}

// land ends what is under way to a target, but for the deadline when that has passed.
func (n *Notifier) land(t *target) {
	delete(n.flying, t.flight.key)
	t.flight = nil
	t.become(idle)
	if t.index >= 0 {
		heap.Remove(&n.due, t.index)
	}
}

// answered takes an answer to a message under way: its code, or what was wrong with it.
func (n *Notifier) answered(t *target, rcode uint8, now time.Time) {
	p, serial := t.peer, t.flight.serial
	n.land(t)
	p.flying--
	p.window = min(2*p.window, maxWindow)
	if p.silent {
		p.silent = false
		n.opts.Logger.Info().Stringer("server", p.remote.Addr).Msg("a server answers to NOTIFY again")
	}
	t.done, t.doneSerial = true, serial
	if rcode == 0 {
		t.told, t.toldAt, t.fault = serial, now, ""
		n.metrics.count(resultAnswered)
	} else {
		t.fault = rcodeFault(rcode)
		n.metrics.count(resultRefused)
	}
	// What it has missed while it was away it can be told now.
	for missed := p.missed.first; missed != nil; missed = p.missed.first {
		p.missed.remove(missed)
		n.enqueue(missed, false)
	}
	if t.zone.serial != serial {
		n.want(t, true)
	}
	n.offer(p)
}

// expired is called when a deadline has passed. It reports whether the target is to be sent another message now.
func (n *Notifier) expired(t *target, now time.Time) (again bool) {
	if t.state == held {
		n.enqueue(t, true)
		return false
	}
	f, p := t.flight, t.peer
	n.land(t)
	p.window = 1
	n.metrics.count(resultNoAnswer)
	if f.attempt+1 < maxAttempts {
		n.launch(t, f, now)
		return true
	}
	p.flying--
	t.done, t.doneSerial = true, f.serial
	if t.fault = f.fault; t.fault == "" {
		t.fault = noAnswer
	}
	n.metrics.count(resultGivenUp)
	if !p.silent {
		p.silent = true
		n.opts.Logger.Warn().Stringer("server", p.remote.Addr).Stringer("zone", zoneName{t.zone.apex}).Str("fault", t.fault).
			Msg("a server does not answer to NOTIFY; this is said once until it does")
	}
	if t.zone.serial != f.serial {
		n.want(t, true)
	} else {
		t.become(lost)
		p.missed.add(t)
	}
	n.offer(p)
	return false
}

// forget takes a target out of everything.
func (n *Notifier) forget(t *target) {
	p := t.peer
	switch t.state {
	case held:
		heap.Remove(&n.due, t.index)
	case queued:
		if t.fresh {
			p.changes.remove(t)
		} else {
			p.others.remove(t)
		}
	case lost:
		p.missed.remove(t)
	case underWay:
		n.land(t)
		p.flying--
		n.offer(p)
	}
	t.become(idle)
	if p.targets--; p.targets == 0 {
		delete(n.peers, p.remote)
	}
}

// zoneName prints a name when it is printed.
type zoneName struct{ name zones.Name }

func (z zoneName) String() string { return z.name.String() }

// queue is targets of one peer, in order. Each is in one at most.
type queue struct{ first, last *target }

func (q *queue) add(t *target) {
	if t.prev = q.last; t.prev == nil {
		q.first = t
	} else {
		t.prev.next = t
	}
	q.last = t
}

func (q *queue) remove(t *target) {
	if t.prev == nil {
		q.first = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		q.last = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.next, t.prev = nil, nil
}

// deadlines are the targets that something is due for, the next one first.
type deadlines []*target

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due.Before(d[j].due) }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push is for container/heap.
func (d *deadlines) Push(x any) {
	t := x.(*target)
	t.index = len(*d)
	*d = append(*d, t)
}

// Pop is for container/heap.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	t := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	t.index = -1
	return t
}
