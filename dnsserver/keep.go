package dnsserver

import (
	"balefire/dnsserver/answercache"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones/answer"
)

// A worker keeps answers that it has made, and gives them again as long as their zone is as it was. What is asked for once only, as
// random names are, is not kept.

// newAnswerCache returns a worker's part of what the options give all of them; nil when that is nothing.
func (s *Server) newAnswerCache() *answercache.Cache {
	if s.opts.AnswerCache < 0 {
		return nil
	}
	return answercache.New(s.opts.AnswerCache / (s.opts.Workers * len(s.opts.Listen)))
}

// answerKept appends the answer to the query that was kept, if there is one that is right still.
func (x *exchange) answerKept(dst []byte) (reply []byte, ok bool) {
	q := x.query
	kept, ok := x.cache.Find(x.hash, q.Name, q.Type, q.DO)
	if !ok || !x.server.opts.Zones.Current(kept.Stamp) {
		return nil, false
	}
	r := &x.reply
	r.RCode, r.Authoritative, r.ExtendedError = wire.RCode(kept.RCode), kept.Authoritative, wire.ExtendedError(kept.ExtendedError)
	sections := wire.Sections{Octets: kept.Body, Counts: kept.Counts}
	if reply, ok = wire.Recompose(dst, q, &sections, r); ok {
		x.count.kept++
		x.count.reply(r.RCode, false)
	}
	return reply, ok
}

// keep keeps the answer that was just made.
func (x *exchange) keep(s *wire.Sections) {
	q, stamp := x.query, x.holding.Stamp
	if stamp == (store.Stamp{}) {
		return
	}
	// Names that exist are few; those that don't, or only by a wildcard or a delegation, are as many as somebody likes. And when there
	// are more than there is room for, those that are asked for most are to be kept.
	if few := x.answer.Kind <= answer.NoData && x.answer.Encloser == q.Name; !(few && x.cache.Room()) && !x.cache.Again(x.hash) {
		return
	}
	if again, ok := x.server.opts.Zones.FindHot(q.Name, q.Type); !ok || again.Stamp != stamp {
		return // see store.Stamp
	}
	x.cache.Put(x.hash, q.Name, q.Type, q.DO, &answercache.Answer{
		Stamp: stamp, Counts: s.Counts, RCode: uint8(x.reply.RCode), Authoritative: x.reply.Authoritative,
		ExtendedError: int16(x.reply.ExtendedError), Body: s.Octets,
	})
}
