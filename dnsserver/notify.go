package dnsserver

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"

	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones"
)

// Notifies is who is told that a secondary zone may have changed at its primaries. It is called by many goroutines at once.
type Notifies interface {
	// Zone returns what is known of the zone with exactly this apex. store.ErrNoZone: it is not hosted. store.ErrNotOpen: another node has it.
	// It may wait for a disk.
	Zone(apex zones.Name) (store.ZoneInfo, error)
	// Notified says that somebody who may has sent a NOTIFY. It must not wait.
	Notified(n Notification)
	// Pass has a node that has the zone decide, which calls AnswerNotify. It may wait, but not for long.
	Pass(n Notification) (Verdict, error)
}

// Notification is a NOTIFY.
type Notification struct {
	Apex zones.Name
	From netip.Addr // who sent it
	Key  zones.Name // that it was signed with, verified; "" for none
	// Serial is what the zone has at the sender, as a hint that nobody vouches for; HasSerial is false when it did not say.
	Serial    zones.Serial
	HasSerial bool
}

// Verdict is an answer without records.
type Verdict struct {
	RCode         uint16
	ExtendedError int32 // an INFO-CODE of RFC 8914; −1 for none
}

func verdict(rcode wire.RCode, why wire.ExtendedError) Verdict {
	return Verdict{uint16(rcode), int32(why)}
}

// passingNotifies is how many NOTIFYs may wait for other nodes at once: a node that hangs must not take all that wait for the disk.
const passingNotifies = 16

// noticeRate is how many NOTIFYs of one zone are taken from one address. An honest primary sends fewer, and when one is dropped, another.
var noticeRate = newRate(RateLimit{PerSecond: 1, Burst: 5})

// serveNotify answers a NOTIFY (RFC 1996): it is taken for zones that come from primaries, from these and from who is granted it.
func (x *exchange) serveNotify(packet []byte, from netip.Addr, dst []byte) []byte {
	q, s := x.query, x.server
	from = from.Unmap()
	switch {
	case s.opts.Notifies == nil:
		return x.refuse(dst, wire.Refused, wire.EDEProhibited)
	case q.Type != zones.TypeSOA: // RFC 1996 §3.7 leaves others for later; there are none
		return x.refuse(dst, wire.FormErr, wire.NoExtendedError)
	case q.Class != wire.ClassIN:
		return x.refuse(dst, wire.NotAuth, wire.NoExtendedError)
	}
	// First of all, since what follows reads the disk: a flood, whoever it says to be from.
	if !s.notices.allowWord(&noticeRate, s.noticeHash(q.Name, from), x.nanos) {
		x.count.drop(dropRateLimited)
		if x.via == overUDP {
			return nil
		}
		return x.refuse(dst, wire.ServFail, wire.NoExtendedError)
	}
	n := Notification{Apex: zones.Name(strings.Clone(string(q.Name))), From: from, Key: x.caller.key}
	n.Serial, n.HasSerial = notifiedSerial(packet, q)
	v, elsewhere := s.decideNotify(n)
	if elsewhere {
		v = s.passNotify(n)
	}
	x.reply.RCode, x.reply.ExtendedError = wire.RCode(v.RCode), wire.ExtendedError(v.ExtendedError)
	x.reply.Authoritative = x.reply.RCode == wire.NoError
	return x.append(dst, nil)
}

// decideNotify decides about a NOTIFY, unless another node has its zone, and passes on what is allowed.
func (s *Server) decideNotify(n Notification) (v Verdict, elsewhere bool) {
	zone, err := s.opts.Notifies.Zone(n.Apex)
	switch {
	case errors.Is(err, store.ErrNotOpen):
		return Verdict{}, true
	case errors.Is(err, store.ErrNoZone):
		return verdict(wire.NotAuth, wire.EDENotAuthoritative), false // RFC 1996 §3.10
	case err != nil:
		return verdict(wire.ServFail, wire.EDENotReady), false
	case !zone.Settings.IsSecondary():
		return verdict(wire.NotAuth, wire.NoExtendedError), false
	case !isPrimary(zone.Settings, n.From) && !s.allows(zones.DeedNotify, n.Apex, zone.Settings, n.Key, n.From):
		return verdict(wire.Refused, wire.EDEProhibited), false
	}
	s.opts.Notifies.Notified(n)
	return verdict(wire.NoError, wire.NoExtendedError), false
}

// passNotify has another node decide.
func (s *Server) passNotify(n Notification) Verdict {
	unknown := verdict(wire.ServFail, wire.EDENotReady)
	select {
	case s.passing <- struct{}{}:
		defer func() { <-s.passing }()
	default:
		return unknown
	}
	v, err := s.opts.Notifies.Pass(n)
	if err != nil {
		return unknown
	}
	return v
}

// AnswerNotify decides about a NOTIFY that another node passes on. It is never passed on twice.
func (s *Server) AnswerNotify(n Notification) Verdict {
	if s.opts.Notifies == nil {
		return verdict(wire.Refused, wire.EDEProhibited)
	}
	v, elsewhere := s.decideNotify(n)
	if elsewhere {
		return verdict(wire.ServFail, wire.EDENotReady)
	}
	return v
}

// isPrimary reports whether an address is one that the zone is fetched from. Somebody may have forged it: all that comes of it is that
// the primaries are asked.
func isPrimary(settings zones.ZoneSettings, from netip.Addr) bool {
	return slices.ContainsFunc(settings.Primaries, func(r zones.Remote) bool { return r.Addr.Addr().Unmap() == from })
}

// notifiedSerial returns the serial of the SOA that a NOTIFY may bring along (RFC 1996 §3.7). The message was found to be well-formed.
func notifiedSerial(packet []byte, q *wire.Query) (serial zones.Serial, ok bool) {
	if binary.BigEndian.Uint16(packet[6:]) == 0 {
		return 0, false
	}
	question := q.Question()
	at := wire.HeaderLen + len(question)
	owner := len(question) - 4
	switch {
	case binary.BigEndian.Uint16(packet[at:]) == 0xc000|wire.HeaderLen:
		at += 2
	case len(packet) >= at+owner:
		name, n, err := zones.NameFromWire(packet[at:])
		if err != nil || name != q.Name {
			return 0, false
		}
		at += n
	default:
		return 0, false
	}
	const fixed, least = 10, 22 // of a record, of a SOA's RDATA
	if len(packet) < at+fixed || zones.Type(binary.BigEndian.Uint16(packet[at:])) != zones.TypeSOA ||
		wire.Class(binary.BigEndian.Uint16(packet[at+2:])) != wire.ClassIN {
		return 0, false
	}
	size := int(binary.BigEndian.Uint16(packet[at+8:]))
	end := at + fixed + size
	if size < least || len(packet) < end {
		return 0, false
	}
	return zones.Serial(binary.BigEndian.Uint32(packet[end-20:])), true // the numbers end it
}

// noticeHash is what NOTIFYs of a zone from an address have in common.
func (s *Server) noticeHash(apex zones.Name, from netip.Addr) uint64 {
	var h maphash.Hash
	h.SetSeed(s.noticeSeed)
	_, _ = h.WriteString(string(apex))
	a := from.As16()
	_, _ = h.Write(a[:])
	return h.Sum64()
}
