package dnsserver

import (
	"errors"
	"net/netip"

	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones/answer"
)

// Elsewhere is how questions about zones are answered that another node has. *replication.Node satisfies it.
type Elsewhere interface {
	// Ask has a node that holds the zone of h answer a question, and fills a. It may wait, but not for long. buf is memory
	// that a may share; it is returned, perhaps grown, to be used again. store.ErrNoZone says that the zone is not hosted
	// any more, store.ErrAwaiting and store.ErrExpired that it is, and not answered from; any other error, that there is no answer.
	Ask(h store.Holding, q answer.Question, client netip.Addr, buf []byte, a *answer.Answer) ([]byte, error)
}

// Questions for other nodes have lanes of their own: a node that hangs must not take the places of those who only wait
// for this node's disk.
const (
	// askingUDP is how many questions that came over UDP may be under way to other nodes at once.
	askingUDP = 256
	// askingTCP is how many of the exchanges over TCP may be.
	askingTCP = 256
)

// elsewhere answers from another node's copy.
func (x *exchange) elsewhere(dst []byte, from netip.Addr) []byte {
	s := x.server
	if s.opts.Elsewhere == nil {
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	}
	if x.via != overUDP {
		select {
		case s.asking <- struct{}{}:
			defer func() { <-s.asking }()
		default:
			x.count.unasked++
			return x.refuse(dst, wire.ServFail, wire.EDENotReady)
		}
	}
	q := x.query
	var err error
	x.far, err = s.opts.Elsewhere.Ask(x.holding, answer.Question{Name: q.Name, Type: q.Type, DNSSEC: q.DO}, from, x.far, &x.answer)
	switch {
	case errors.Is(err, store.ErrNoZone):
		return x.refuse(dst, wire.Refused, wire.EDENotAuthoritative)
	case store.Withheld(err):
		x.count.asked++
		return x.unavailable(dst, err)
	case err != nil:
		x.count.unasked++
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	}
	x.count.asked++
	x.reply.FromAnswer(&x.answer)
	return x.append(dst, &x.answer)
}
