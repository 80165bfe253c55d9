package dnsserver

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"time"

	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/update"
)

// Updates is how zones are read to be changed, and changed. Its methods may be used by many goroutines at once.
type Updates interface {
	// Read opens a zone of this node for reading. store.ErrNoZone says that it is not hosted, store.ErrNotOpen that its partition is not here.
	Read(apex zones.Name) (*store.Reading, error)
	// Change publishes a change set and waits until this node has applied or rejected it. After an error it is not known what became
	// of it.
	Change(ctx context.Context, cs *zones.ChangeSet) (store.Outcome, error)
	// CatchUp waits until this node has all of a partition that anybody was told of before the call.
	CatchUp(ctx context.Context, partition int32) error
}

const (
	// updatingUDP is how many UPDATEs that came over UDP may be under way at once, and updatingTCP how many that came over TCP or TLS.
	updatingUDP = 128
	updatingTCP = 256
	// updatePatience is how long an UPDATE may take.
	updatePatience = 5 * time.Second
	// updateAttempts is how often an UPDATE is evaluated, when others change what it is about at the same time.
	updateAttempts = 8
)

// serveUpdate answers an UPDATE (RFC 2136). It runs in a lane of its own, or in an exchange of TCP.
func (x *exchange) serveUpdate(packet []byte, from netip.Addr, dst []byte) []byte {
	s := x.server
	if s.opts.Updates == nil {
		return x.refuse(dst, wire.Refused, wire.EDEProhibited)
	}
	if x.via != overUDP {
		select {
		case s.updating <- struct{}{}:
			defer func() { <-s.updating }()
		default:
			s.updates.crowded.Add(1)
			return x.refuseResult(dst, Result{RCode: wire.ServFail, Why: wire.EDENotReady, Text: "too many updates at once"})
		}
		return x.refuseResult(dst, s.takeUpdate(packet, x.caller.key, from))
	}
	// A client over UDP asks again when an answer is lost, and must not be told that its own update is in the way of itself.
	known, state := s.repeats.begin(netip.AddrPortFrom(from, x.port), packet, x.nanos)
	switch state {
	case repeatAnswered:
		s.updates.repeated.Add(1)
		return x.refuseResult(dst, known.result)
	case repeatUnderWay:
		s.updates.repeated.Add(1)
		return nil // the first one's answer goes to the same place
	}
	result := Result{RCode: wire.ServFail}
	defer func() { s.repeats.end(known, result) }() // also when it panics
	result = s.takeUpdate(packet, x.caller.key, from)
	return x.refuseResult(dst, result)
}

// refuseResult appends the answer to a message that needs no records.
func (x *exchange) refuseResult(dst []byte, r Result) []byte {
	x.reply.ExtraText = r.Text[:min(len(r.Text), wire.MaxExtraText)]
	return x.refuse(dst, r.RCode, r.Why)
}

// takeUpdate does what an UPDATE asks for, here or where its zone is.
func (s *Server) takeUpdate(packet []byte, key zones.Name, from netip.Addr) Result {
	ctx, cancel := context.WithTimeout(context.Background(), updatePatience)
	defer cancel()
	r := s.findUpdated(ctx, Message{Packet: packet, Key: key, From: from})
	s.updates.count(r)
	return r
}

// findUpdated is takeUpdate without counting.
func (s *Server) findUpdated(ctx context.Context, m Message) Result {
	asked, err := update.Parse(m.Packet)
	if err != nil {
		return Result{RCode: wire.FormErr, Why: wire.NoExtendedError}
	}
	// RFC 2136 §3.1.1: the zone must be one of the server's, by its very name.
	h := s.opts.Zones.Find(asked.Zone, zones.TypeSOA)
	h.Release()
	switch {
	case errors.Is(h.Err, store.ErrExpired):
		return Result{RCode: wire.ServFail, Why: wire.EDEInvalidData, Text: "the zone has expired"}
	case h.Status == store.Unavailable:
		return unready("the zone can't be read now")
	case h.Status == store.NotHosted, h.Apex != asked.Zone, asked.Class != update.ClassIN:
		return notHosted()
	case h.Status == store.Here:
		r, err := s.update(ctx, asked, m.Key, m.From)
		if !errors.Is(err, store.ErrNotOpen) {
			return r
		}
	}
	return s.forward(ctx, h.Partition, m)
}

func notHosted() Result { return Result{RCode: wire.NotAuth, Why: wire.EDENotAuthoritative} }

func unready(why string) Result {
	return Result{RCode: wire.ServFail, Why: wire.EDENotReady, Text: why}
}

// update does what an UPDATE asks of a zone that this node has. The error is store.ErrNotOpen when it has it no longer: then nothing was done.
func (s *Server) update(ctx context.Context, m *update.Message, key zones.Name, from netip.Addr) (Result, error) {
	// A copy may be behind what others were told. What is published is decided where it is applied; but an answer by what was read only counts
	// when that was as far as the log when the message came.
	current := false
	var last *zones.Rejection
	for range updateAttempts {
		e, err := s.evaluateUpdate(m, key, from)
		if err != nil || e.final || current && e.done() {
			return e.result, err
		}
		if e.done() {
			if err := s.opts.Updates.CatchUp(ctx, e.at.Partition); err != nil {
				s.sayUpdate(m.Zone, err)
				return unready("the log can't be reached"), nil
			}
			current = true
			continue
		}
		cs := &zones.ChangeSet{Zone: m.Zone, Author: authorOf(key, from), Reason: "UPDATE", Preconditions: e.plan.Preconditions, Ops: e.plan.Ops}
		_, _ = rand.Read(cs.ID[:]) // it never fails
		if rej := change.Check(cs); rej != nil {
			return rejected(rej), nil
		}
		outcome, err := s.opts.Updates.Change(ctx, cs)
		var rej *zones.Rejection
		switch {
		case errors.As(err, &rej):
			return rejected(rej), nil // too large, once encoded
		case err != nil:
			s.sayUpdate(m.Zone, err)
			return unready("not made, or what became of it is not known"), nil
		case outcome.Status == store.StatusApplied:
			return Result{RCode: wire.NoError, Why: wire.NoExtendedError, At: outcome.Position, Seen: true}, nil
		}
		// Either others were faster, and it is looked at again; or the zone can't be like that.
		rej = outcome.Rejection
		if last != nil && rej.Rule != zones.RulePrecondition && rej.Rule == last.Rule && rej.Owner == last.Owner && rej.Type == last.Type {
			r := rejected(rej)
			r.At, r.Seen = outcome.Position, true
			return r, nil
		}
		last, current = rej, true
	}
	s.updates.overtaken.Add(1)
	return unready("others change the same at the same time"), nil
}

// evaluated is what evaluating an UPDATE came to.
type evaluated struct {
	plan   update.Plan
	at     store.Position
	result Result // when nothing is to be published
	final  bool   // whatever is in the zone
}

// done says that nothing is to be published.
func (e *evaluated) done() bool { return e.plan.RCode != update.NoError || !e.plan.Changes }

// evaluateUpdate evaluates an UPDATE over the zone as it is now. The error is store.ErrNotOpen.
func (s *Server) evaluateUpdate(m *update.Message, key zones.Name, from netip.Addr) (e evaluated, err error) {
	e.final = true
	reading, err := s.opts.Updates.Read(m.Zone)
	switch {
	case errors.Is(err, store.ErrNoZone):
		e.result = notHosted()
		return e, nil
	case errors.Is(err, store.ErrNotOpen), errors.Is(err, store.ErrClosed):
		return e, store.ErrNotOpen
	case err != nil:
		s.sayUpdate(m.Zone, err)
		e.result = Result{RCode: wire.ServFail, Why: wire.EDEOther}
		return e, nil
	}
	defer reading.Close()
	e.at = reading.Position()
	settings := reading.Info.Settings
	if !s.allows(zones.DeedUpdate, m.Zone, settings, key, from) {
		e.result = Result{RCode: wire.Refused, Why: wire.EDEProhibited}
		return e, nil
	}
	policy := update.Policy{Refuse: refusesUpdates(reading.Info), Grants: s.updateGrants(m.Zone, settings, key, from)}
	if e.plan, err = m.Evaluate(reading, policy); err != nil {
		s.sayUpdate(m.Zone, err)
		e.result = Result{RCode: wire.ServFail, Why: wire.EDEOther}
		return e, nil
	}
	e.result = Result{RCode: wire.RCode(e.plan.RCode), Why: wire.NoExtendedError, At: e.at, Seen: true}
	switch e.plan.RCode {
	case update.NoError, update.NXDomain, update.YXDomain, update.NXRRSet, update.YXRRSet:
		e.final = false
	case update.Refused:
		e.result.Why, e.result.Text = wire.EDEProhibited, e.plan.Reason
	default:
		e.result.Why, e.result.Text = wire.EDEOther, e.plan.Reason
	}
	return e, nil
}

// refusesUpdates says why a zone takes no updates; "" when it does.
func refusesUpdates(z store.ZoneInfo) string {
	switch {
	case z.Settings.Frozen:
		return "the zone is frozen"
	case z.Settings.IsSecondary():
		return "the zone comes from its primaries"
	case z.Signed:
		return "the zone came signed"
	}
	return ""
}

// updateGrants returns the grants by which somebody may update a zone.
func (s *Server) updateGrants(apex zones.Name, settings zones.ZoneSettings, key zones.Name, from netip.Addr) []zones.Grant {
	grants := slices.Clone(s.opts.Access.Grants(apex, settings))
	return slices.DeleteFunc(grants, func(g zones.Grant) bool { return !g.AllowsFrom(zones.DeedUpdate, key, from) })
}

// authorOf is who made an update, for history: the name of a key, or an address.
func authorOf(key zones.Name, from netip.Addr) string {
	author := from.String()
	if key != "" {
		author = key.String()
	}
	return author[:min(len(author), change.MaxAuthor)]
}

// rejected is the answer to an UPDATE that asks for what can't be (RFC 2136 §2.2: REFUSED is for reasons of policy, which the rules of
// zones here are: the client need not try again).
func rejected(rej *zones.Rejection) Result {
	r := Result{RCode: wire.Refused, Why: wire.EDEOther, Text: string(rej.Rule)}
	switch rej.Rule {
	case zones.RuleMalformed:
		r.RCode = wire.FormErr
	case zones.RuleOutOfZone:
		r.RCode = wire.NotZone
	}
	return r
}

// sayUpdate says now and then why updates can't be made.
func (s *Server) sayUpdate(apex zones.Name, err error) {
	s.updates.logger.Warn().Err(err).Stringer("zone", apex).Msg("an update was answered with SERVFAIL")
}
