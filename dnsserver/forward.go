package dnsserver

import (
	"context"
	"errors"
	"net/netip"

	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/update"
)

// Forward is how a message that changes something gets to a node that has its zone. The one that the client sent it to has found out who that
// is, and answers; the other one decides. Its method may be used by many goroutines at once.
type Forward interface {
	// Forward has a node that holds the partition serve a message, and returns the answer. When that was from a position, this node answers
	// from none before it from then on. An error says that no node has answered; what became of the message is then not known.
	Forward(ctx context.Context, partition int32, m Message) (Result, error)
}

// Message is an UPDATE, or another message that asks a zone's holder for something, from a client that is known.
type Message struct {
	// Packet is the message as it came. If it had a TSIG, that was verified, and is not looked at again.
	Packet []byte
	// Key is the name of the key that it was signed with; "" when it was not.
	Key zones.Name
	// From is the client's address.
	From netip.Addr
}

// Result is what a Message is answered with.
type Result struct {
	RCode wire.RCode
	Why   wire.ExtendedError // wire.NoExtendedError: none
	Text  string             // of the extended error, for people
	// At is the position that it was decided at, when Seen.
	At   store.Position
	Seen bool
}

// ErrNotHeld means that this node does not have the zone that a message is about, and did nothing.
var ErrNotHeld = errors.New("the zone is not on this node")

// forward has another node serve a message.
func (s *Server) forward(ctx context.Context, partition int32, m Message) Result {
	if s.opts.Forward == nil {
		return unready("the zone is on another node")
	}
	r, err := s.opts.Forward.Forward(ctx, partition, m)
	if err != nil {
		s.updates.unforwarded.Add(1)
		s.updates.logger.Warn().Err(err).Int32("partition", partition).Msg("a message for another node was answered with SERVFAIL")
		return unready("no node with the zone has answered")
	}
	s.updates.forwarded.Add(1)
	return r
}

// ServeForwarded serves a message for another node of the region, which vouches for who sent it. It is never passed on again: ErrNotHeld says
// that the zone is not here, and that nothing was done.
func (s *Server) ServeForwarded(ctx context.Context, m Message) (Result, error) {
	var q wire.Query
	wire.Parse(m.Packet, &q)
	switch {
	case q.Verdict != wire.Slow:
		return Result{RCode: wire.FormErr, Why: wire.NoExtendedError}, nil
	case q.Opcode == wire.OpUpdate && s.opts.Updates != nil:
		return s.updateForwarded(ctx, m)
	}
	return Result{RCode: wire.NotImp, Why: wire.NoExtendedError}, nil
}

func (s *Server) updateForwarded(ctx context.Context, m Message) (Result, error) {
	asked, err := update.Parse(m.Packet)
	if err != nil {
		return Result{RCode: wire.FormErr, Why: wire.NoExtendedError}, nil
	}
	h := s.opts.Zones.Find(asked.Zone, zones.TypeSOA)
	h.Release()
	if h.Status != store.Here || h.Apex != asked.Zone {
		return Result{}, ErrNotHeld
	}
	select {
	case s.updating <- struct{}{}:
		defer func() { <-s.updating }()
	default:
		s.updates.crowded.Add(1)
		return unready("too many updates at once"), nil
	}
	ctx, cancel := context.WithTimeout(ctx, updatePatience)
	defer cancel()
	r, err := s.update(ctx, asked, m.Key, m.From)
	if errors.Is(err, store.ErrNotOpen) {
		return Result{}, ErrNotHeld
	}
	return r, err
}
