package notify

import (
	"container/heap"
	"context"
	"fmt"
	"net/netip"
	"time"

	"balefire/zones"
)

// network carries messages. Answers come by Notifier.receive, or finish.
type network interface {
	open() error
	// send sends a message over UDP. What is wrong with it is for people: an answer is waited for all the same.
	send(msg []byte, to netip.AddrPort) error
	// ask sends a message over TLS, without waiting for its answer.
	ask(msg []byte, to zones.Remote, key flightKey) error
	close() error
}

// order is a message to be sent: what of its target matters, since that may change or go meanwhile.
type order struct {
	key    flightKey
	apex   zones.Name
	remote zones.Remote
}

// send sends what is due until ctx ends.
func (n *Notifier) send(ctx context.Context) {
	var orders []order
	var msg []byte
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n.mu.Lock()
		var wait time.Duration
		orders, wait = n.orders(orders[:0], time.Now())
		n.mu.Unlock()
		for _, o := range orders {
			msg = n.sendOne(msg[:0], o)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		case <-ctx.Done():
			return
		}
	}
}

// orders appends what is to be sent now, and says when there will be more.
func (n *Notifier) orders(all []order, now time.Time) ([]order, time.Duration) {
	rate := float64(n.opts.PerSecond)
	n.credit = min(n.credit+now.Sub(n.filled).Seconds()*rate, max(batch, rate/10))
	n.filled = now
	add := func(t *target) {
		all = append(all, order{t.flight.key, t.zone.apex, t.peer.remote})
		n.credit--
	}
	for len(all) < batch && len(n.due) > 0 && !n.due[0].due.After(now) {
		if t := heap.Pop(&n.due).(*target); n.expired(t, now) {
			add(t) // repetitions are few: they are not held back
		}
	}
	for len(all) < batch && n.credit >= 1 {
		t := n.take()
		if t == nil {
			break
		}
		n.launch(t, nil, now)
		add(t)
	}
	wait := time.Hour
	if len(n.due) > 0 {
		wait = n.due[0].due.Sub(now)
	}
	if len(n.ready) > 0 {
		wait = min(wait, time.Duration(max(0, 1-n.credit)/rate*float64(time.Second))+time.Microsecond) // what is cut off must not be waited for in vain
	}
	return all, max(wait, 0)
}

// sendOne makes a message and sends it. It returns the message's memory.
func (n *Notifier) sendOne(msg []byte, o order) []byte {
	var soa zones.RRset
	if n.opts.SOA != nil {
		soa, _ = n.opts.SOA(o.apex)
	}
	msg = appendRequest(msg, o.key.id, o.apex, soa)
	packet := msg
	var err error
	if o.remote.Key != "" {
		packet, err = n.sign(msg, o)
	}
	switch {
	case err != nil:
	case o.remote.TLS:
		err = n.net.ask(packet, o.remote, o.key)
	default:
		err = n.net.send(packet, o.remote.Addr)
	}
	if err != nil {
		n.mu.Lock()
		n.note(o.key, err.Error())
		n.mu.Unlock()
	} else {
		n.metrics.count(resultSent)
	}
	return msg
}

// sign signs a message, and keeps what its answer is checked with.
func (n *Notifier) sign(msg []byte, o order) ([]byte, error) {
	if n.opts.Session == nil {
		return nil, fmt.Errorf("there is no key %s", o.remote.Key)
	}
	session, err := n.opts.Session(o.remote.Key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", o.remote.Key, err)
	}
	packet := session.SignRequest(msg, time.Now())
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.flying[o.key]; t != nil {
		t.flight.session = session
	}
	return packet, nil
}

// note keeps what is wrong with a message under way, or an answer that doesn't count; n.mu is held.
func (n *Notifier) note(key flightKey, fault string) {
	if t := n.flying[key]; t != nil {
		t.flight.fault = fault
	}
}

// receive takes what has come from an address. Only what answers a message that is under way to it counts; of a signed one, what is signed.
func (n *Notifier) receive(msg []byte, from netip.AddrPort) {
	id, ok := answerID(msg)
	if !ok {
		n.metrics.count(resultNoMatch)
		return
	}
	n.finish(msg, flightKey{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), id})
}

// finish takes an answer to the message under a key.
func (n *Notifier) finish(msg []byte, key flightKey) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.flying[key]
	if t == nil {
		n.metrics.count(resultNoMatch)
		return
	}
	rcode, err := readAnswer(msg, t.zone.apex)
	if err == nil && t.peer.remote.Key != "" {
		if t.flight.session == nil {
			return // it was not sent yet
		}
		if _, err = t.flight.session.VerifyAnswer(msg, now); err != nil && rcode != 0 {
			err = fmt.Errorf("%s: %w", rcodeFault(rcode), err) // some servers don't sign what they refuse
		}
	}
	if err != nil {
		// Anybody may have sent it: the right one may come yet.
		n.metrics.count(resultNoMatch)
		n.note(key, err.Error())
		return
	}
	n.answered(t, rcode, now)
	n.stir()
}
