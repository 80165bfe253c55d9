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
}

// Notification is a NOTIFY that was allowed.
type Notification struct {
	Apex zones.Name // for the receiver to keep
	From netip.Addr
	// Serial is what the zone has at the sender, as a hint that nobody vouches for; HasSerial is false when it did not say.
	Serial    zones.Serial
	HasSerial bool
}

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
	zone, err := s.opts.Notifies.Zone(q.Name)
	switch {
	case errors.Is(err, store.ErrNoZone):
		return x.refuse(dst, wire.NotAuth, wire.EDENotAuthoritative) // RFC 1996 §3.10
	case errors.Is(err, store.ErrNotOpen):
		return x.notifyElsewhere(packet, from, dst)
	case err != nil:
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	case !zone.Settings.IsSecondary():
		return x.refuse(dst, wire.NotAuth, wire.NoExtendedError)
	}
	if !isPrimary(zone.Settings, from) && !s.allows(zones.DeedNotify, q.Name, zone.Settings, x.signer(), from) {
		return x.refuse(dst, wire.Refused, wire.EDEProhibited)
	}
	n := Notification{Apex: zones.Name(strings.Clone(string(q.Name))), From: from}
	n.Serial, n.HasSerial = notifiedSerial(packet, q)
	s.opts.Notifies.Notified(n)
	x.reply.RCode, x.reply.Authoritative = wire.NoError, true
	return x.append(dst, nil)
}

// notifyElsewhere answers a NOTIFY of a zone that another node holds.
func (x *exchange) notifyElsewhere(_ []byte, _ netip.Addr, dst []byte) []byte {
	return x.refuse(dst, wire.ServFail, wire.EDENotReady)
}

// signer is the key that signed the message; "" for none.
func (x *exchange) signer() zones.Name { return "" }

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
