package dnsserver

import (
	"encoding/binary"

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

// questionOf returns what the query's own answer is kept by.
func questionOf(q *wire.Query) answercache.Question {
	return answercache.Question{Name: q.Name, Type: q.Type, DNSSEC: q.DO}
}

// answerKept appends the answer to the query that was kept, if there is one that is right still.
func (x *exchange) answerKept(dst []byte) (reply []byte, ok bool) {
	question := questionOf(x.query)
	kept, ok := x.cache.Find(x.hash, &question)
	if !ok || !x.server.opts.Zones.Current(kept.Stamp) {
		return nil, false
	}
	x.sections.Shift = 0
	if reply, ok = x.answerWith(dst, &kept); ok {
		x.count.kept++
	}
	return reply, ok
}

// answerWith appends an answer that was kept.
func (x *exchange) answerWith(dst []byte, kept *answercache.Answer) (reply []byte, ok bool) {
	r, s := &x.reply, &x.sections
	r.RCode, r.Authoritative, r.ExtendedError = wire.RCode(kept.RCode), kept.Authoritative, wire.ExtendedError(kept.ExtendedError)
	s.Octets, s.Counts = kept.Body, kept.Counts
	if reply, ok = wire.Recompose(dst, x.query, s, r); ok {
		x.count.reply(r.RCode, false)
	}
	return reply, ok
}

// answerShared appends the answer that was kept for the family of the query, whose name x.answer has located.
func (x *exchange) answerShared(dst []byte, f answer.Family) (reply []byte, ok bool) {
	q := x.query
	x.family = answercache.Question{Name: x.answer.Encloser, Type: f.Type(q.Type), DNSSEC: q.DO, Family: uint8(f)}
	x.familyHash = x.cache.Hash(&x.family)
	kept, ok := x.cache.Find(x.familyHash, &x.family)
	if !ok || kept.Stamp != x.holding.Stamp {
		return nil, false
	}
	labels, at := kept.Extra[:8], kept.Extra[8:]
	if wire.Labels(binary.NativeEndian.Uint64(labels)).Has(q.Name, x.family.Name) {
		return nil, false
	}
	s := &x.sections
	s.Pointers = len(at) / 2
	for i := range s.Pointers {
		s.At[i] = binary.NativeEndian.Uint16(at[2*i:])
	}
	s.Shift = len(q.Name) - len(x.family.Name)
	if reply, ok = x.answerWith(dst, &kept); !ok {
		return nil, false
	}
	x.count.shared++
	if x.cache.Again(x.hash) { // who asks for this very name a third time needs no name looked up
		begin := len(dst) + wire.HeaderLen + len(q.Name) + 4
		kept.Body, kept.Extra = reply[begin:begin+len(kept.Body)], nil
		x.put(x.hash, questionOf(q), &kept)
	}
	return reply, true
}

// keep keeps the answer that was just made.
func (x *exchange) keep() {
	q, s := x.query, &x.sections
	if x.holding.Stamp == (store.Stamp{}) {
		return
	}
	a := answercache.Answer{
		Stamp: x.holding.Stamp, Counts: s.Counts, RCode: uint8(x.reply.RCode), Authoritative: x.reply.Authoritative,
		ExtendedError: int16(x.reply.ExtendedError), Body: s.Octets,
	}
	if x.family.Name != "" && x.answer.Shared() && s.Pointers < len(s.At) {
		if labels := wire.KinLabels(&x.answer, q.Name); !labels.Has(q.Name, x.family.Name) {
			x.keepShared(a, labels)
			return
		}
	}
	// Names that exist are few; those that don't, or only by a wildcard or a delegation, are as many as somebody likes. And when there
	// are more than there is room for, those that are asked for most are to be kept.
	few := x.answer.Kind <= answer.NoData && x.answer.Encloser == q.Name
	if few && x.cache.Room() || x.cache.Again(x.hash) {
		x.put(x.hash, questionOf(q), &a)
	}
}

// keepShared keeps an answer for all of its family: with pointers as if the name that they have in common had been asked for.
func (x *exchange) keepShared(a answercache.Answer, labels wire.Labels) {
	s := &x.sections
	if len(a.Body) > answercache.MaxBody || !x.cache.Room() && !x.cache.Again(x.familyHash) {
		return
	}
	at := s.At[:s.Pointers]
	x.shared = append(x.shared[:0], a.Body...)
	wire.ShiftPointers(x.shared, at, len(x.family.Name)-len(x.query.Name))
	x.shared = binary.NativeEndian.AppendUint64(x.shared, uint64(labels))
	for _, i := range at {
		x.shared = binary.NativeEndian.AppendUint16(x.shared, i)
	}
	a.Body, a.Extra = x.shared[:len(a.Body)], x.shared[len(a.Body):]
	x.put(x.familyHash, x.family, &a)
}

// put keeps an answer, if nothing has changed while it was made.
func (x *exchange) put(hash uint64, question answercache.Question, a *answercache.Answer) {
	if again, ok := x.server.opts.Zones.FindHot(x.query.Name, x.query.Type); ok && again.Stamp == a.Stamp { // see store.Stamp
		x.cache.Put(hash, &question, a)
	}
}
