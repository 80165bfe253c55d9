package dnsserver

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"time"

	"balefire/dnsserver/transfer"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones"
)

// Contents is what transfers need of a node: zones whole, at one position each. *store.Store satisfies it. It is called by many
// goroutines at once, and may wait for a disk.
type Contents interface {
	// Read opens a zone; store.ErrNoZone when it is not hosted in a partition that is open here. The reading must be closed.
	Read(apex zones.Name) (*store.Reading, error)
}

var _ Contents = (*store.Store)(nil)

// signer signs the messages of an answer, one after another (RFC 8945 §5.3.1).
type signer interface {
	// Len returns how many octets SignAt appends to the next message.
	Len() int
	// SignAt signs the message that begins at message[base:].
	SignAt(message []byte, base int, now time.Time) []byte
}

// asker returns the key that the message which is served was signed with, and what signs its answer; none when it was not signed.
func (x *exchange) asker() (zones.Name, signer) {
	if x.caller.session == nil {
		return "", nil
	}
	return x.caller.key, x.caller.session
}

// transferQuery is a query for a transfer. It has memory of its own.
type transferQuery struct {
	id       uint16
	rd       bool
	question []byte
	apex     zones.Name
	kind     zones.Type   // AXFR or IXFR
	since    zones.Serial // of IXFR
	key      zones.Name
	from     netip.Addr
}

// serveTransfer answers AXFR (RFC 5936) and IXFR (RFC 1995). What takes more than one message is put into x.transfer instead.
func (x *exchange) serveTransfer(packet []byte, from netip.Addr, dst []byte) []byte {
	q, s := x.query, x.server
	if q.Type == zones.TypeAXFR && x.via == overUDP { // RFC 5936 §4.2
		return x.refuse(dst, wire.NotImp, wire.NoExtendedError)
	}
	if s.opts.Contents == nil || s.opts.Access == nil {
		return x.refuse(dst, wire.Refused, wire.EDEProhibited)
	}
	key, sign := x.asker()
	t, ok := newTransferQuery(q, packet, key, from)
	if !ok {
		return x.refuse(dst, wire.FormErr, wire.NoExtendedError)
	}
	h := s.opts.Zones.Find(q.Name, zones.TypeSOA)
	defer h.Release()
	switch {
	case h.Status == store.Unavailable:
		return x.unavailable(dst, h.Err)
	case h.Status == store.NotHosted || h.Apex != q.Name:
		return x.refuse(dst, wire.NotAuth, wire.EDENotAuthoritative)
	case h.Status == store.Elsewhere:
		return x.transferElsewhere(h, packet, t, sign, dst)
	}
	reading, refusal := s.readFor(&t)
	if refusal != nil {
		return x.refuse(dst, refusal.rcode, refusal.why)
	}
	defer reading.Close()
	if x.via == overUDP {
		return x.transferUDP(reading, &t, dst)
	}
	opt := wire.AppendOPT(nil, q, &x.reply)
	x.transfer = &transferJob{server: s, query: t, opt: opt, padded: x.pads(opt), sign: sign, via: x.via}
	x.count.reply(wire.NoError, false)
	return nil
}

// pads reports whether the messages of a transfer are padded: over TLS, when the query was (RFC 9103).
func (x *exchange) pads(opt []byte) bool { return x.via == overTLS && x.query.Padding && len(opt) > 0 }

func newTransferQuery(q *wire.Query, packet []byte, key zones.Name, from netip.Addr) (t transferQuery, ok bool) {
	t = transferQuery{
		id: q.ID, rd: q.RD, question: bytes.Clone(q.Question()), kind: q.Type,
		apex: zones.Name(strings.Clone(string(q.Name))), key: zones.Name(strings.Clone(string(key))), from: from,
	}
	if t.kind == zones.TypeIXFR {
		if t.since, ok = transfer.Since(packet, wire.HeaderLen+len(t.question)); !ok {
			return t, false
		}
	}
	return t, true
}

// refusal is why there is no transfer.
type refusal struct {
	rcode wire.RCode
	why   wire.ExtendedError
}

// readFor opens the zone, if who asks may have it.
func (s *Server) readFor(t *transferQuery) (*store.Reading, *refusal) {
	reading, err := s.opts.Contents.Read(t.apex)
	switch {
	case errors.Is(err, store.ErrNoZone):
		return nil, &refusal{wire.NotAuth, wire.EDENotAuthoritative}
	case err != nil:
		return nil, &refusal{wire.ServFail, wire.EDENotReady}
	case !reading.Info.Standing.Served(): // since it was found, or since the transfer was granted
		reading.Close()
		return nil, &refusal{wire.ServFail, wire.EDENotReady}
	}
	if !s.allows(zones.DeedTransfer, t.apex, reading.Info.Settings, t.key, t.from) {
		reading.Close()
		s.out.counters.refused.Add(1)
		return nil, &refusal{wire.Refused, wire.EDEProhibited}
	}
	return reading, nil
}

// transferUDP answers IXFR over UDP: with what has changed, if that fits, else with the SOA alone (RFC 1995 §2).
func (x *exchange) transferUDP(reading *store.Reading, t *transferQuery, dst []byte) []byte {
	opt := wire.AppendOPT(nil, x.query, &x.reply)
	start := len(dst)
	w := transferWriters.Get().(*transfer.Writer)
	defer transferWriters.Put(w)
	began := x.server.opts.Now()
	q := t.writerQuery(len(opt), func(framed []byte) error {
		dst = append(dst, framed[2:]...)
		dst = appendCounted(dst, start, opt)
		return nil
	})
	q.Only = x.reply.Limit
	form, err := t.write(x.server.out.ctx, reading, w, q)
	if errors.Is(err, transfer.ErrTooLarge) { // a SOA with very long names
		x.reply.Truncated = true
		return x.append(dst[:start], nil)
	}
	if err != nil {
		return x.refuse(dst[:start], wire.ServFail, wire.EDEOther)
	}
	x.count.reply(wire.NoError, false)
	messages, records := w.Sent()
	x.server.transferred(t, overUDP, form, reading.Info.Serial, messages, records, len(dst)-start, began, nil)
	return dst
}

// appendCounted appends the OPT record to the message that begins at message[base:], and counts it.
func appendCounted(message []byte, base int, opt []byte) []byte {
	if len(opt) > 0 {
		message[base+11]++ // nothing else is in the additional section
	}
	return append(message, opt...)
}
