package dnsserver

import (
	"errors"
	"net/netip"
	"runtime/debug"

	"balefire/dnsserver/answercache"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones/answer"
)

// transport is how a query came.
type transport uint8

const (
	overUDP transport = iota
	overTCP
	overTLS
	transports
)

// exchange is the working memory of one query and its answer, used again and again by one goroutine at a time.
type exchange struct {
	server   *Server
	settings *settings // as of the batch or query
	nanos    int64     // time of the batch or query, Unix nanoseconds
	via      transport
	// mayWait says that this exchange may wait for a disk: it does not belong to a receiving loop.
	mayWait bool
	// mayAsk says that it may also wait for another node.
	mayAsk bool
	// again says that the query was admitted before, and put off to the slow lane.
	again bool
	// distant says that the query that was put off is one for another node.
	distant bool
	// port is the client's, of what came over UDP and was put off.
	port uint16

	query  *wire.Query        // of the query being served
	parsed wire.Query         // for those who serve one query at a time
	cache  *answercache.Cache // nil for those who have none
	hash   uint64             // of the question, in the cache
	// The family of answers that the query's belongs to, and the hash of that; no name when there is none.
	family     answercache.Question
	familyHash uint64
	sections   wire.Sections
	shared     []byte // memory for an answer that is kept for a family
	answer     answer.Answer
	reply      wire.Reply
	holding    store.Holding
	held       bool
	caller     caller // of what the slow lane serves
	cookie     [wire.CookieLen]byte
	slips      uint32

	// transfer is the answer to the query that was served, when that is more than one message: whoever has the connection runs it.
	transfer *transferJob

	far    []byte // memory of answers from other nodes
	packet []byte // of queries over TCP and in the slow lane
	out    []byte

	count    tally
	timed    bool // there is something in its latencies
	counters counters
}

// lane returns the lane for a query over UDP that was put off.
func (x *exchange) lane() *slowLane {
	switch {
	case x.distant:
		return x.server.distant
	case x.query.Opcode == wire.OpUpdate:
		return x.server.changing
	}
	return x.server.slow
}

// begin sets the time and the settings for the queries that follow.
func (x *exchange) begin() {
	x.settings = x.server.settings.Load()
	x.nanos = x.server.opts.Now().UnixNano()
}

// serve is the life of a query: it appends the answer to dst. No reply means that nothing is to be sent; later, that
// the query is for a slower lane, and nothing was done but to admit it. It never panics.
func (x *exchange) serve(packet []byte, from netip.Addr, dst []byte) (reply []byte, later bool) {
	x.parse(packet, &x.parsed)
	return x.serveParsed(&x.parsed, packet, from, dst)
}

// parse reads a packet into q.
func (x *exchange) parse(packet []byte, q *wire.Query) {
	defer func() {
		if v := recover(); v != nil {
			x.server.logPanic(v)
			q.Verdict = wire.Drop
		}
	}()
	wire.Parse(packet, q)
}

// serveParsed is serve for a packet that was parsed into q. Of one that has a question, x.hash is the cache's, if there is one.
func (x *exchange) serveParsed(q *wire.Query, packet []byte, from netip.Addr, dst []byte) (reply []byte, later bool) {
	reply, later = x.answerParsed(q, packet, from, dst)
	if x.via == overTLS && q.Padding && len(reply) > 0 && q.TSIG == 0 { // what is signed was padded before
		reply = wire.Pad(reply, len(dst), q, &x.reply)
	}
	return reply, later
}

// answerParsed is serveParsed without padding.
func (x *exchange) answerParsed(q *wire.Query, packet []byte, from netip.Addr, dst []byte) (reply []byte, later bool) {
	defer func() {
		if v := recover(); v != nil {
			reply, later = x.recovered(v, dst), false
		}
		x.release()
	}()
	x.query = q
	x.reply, x.distant = wire.Reply{ExtendedError: wire.NoExtendedError}, false
	if x.query.Verdict == wire.Drop {
		x.count.drop(dropNoQuery)
		return nil, false
	}
	if !x.again {
		x.count.query(x.via, x.query)
	}
	x.reply.UDPSize = uint16(x.settings.UDPSize)
	x.reply.NSID = x.settings.nsid
	x.reply.Limit = wire.MaxSize
	if x.via == overUDP {
		x.reply.Limit = x.query.Limit(x.settings.UDPSize)
	}
	switch x.admit(from) {
	case dropped:
		return nil, false
	case slipped:
		x.reply.Truncated = true
		return x.append(dst, nil), false
	case badCookie:
		return x.refuse(dst, wire.BadCookie, wire.NoExtendedError), false
	}
	switch x.query.Verdict {
	case wire.Fail:
		return x.refuse(dst, x.query.RCode, x.query.ExtendedError), false
	case wire.Cookie:
		return x.append(dst, nil), false
	case wire.Chaos:
		return x.chaos(dst), false
	case wire.Slow:
		if !x.mayWait {
			return nil, true
		}
		reply, later = x.serveSlow(packet, from, dst)
		return reply, later || x.distant && len(reply) == 0
	}
	return x.ask(dst, from)
}

// ask answers an ordinary question from the zones.
func (x *exchange) ask(dst []byte, from netip.Addr) (reply []byte, later bool) {
	q := x.query
	if x.cache != nil {
		if reply, ok := x.answerKept(dst); ok {
			return reply, false
		}
	}
	if x.mayWait {
		x.holding = x.server.opts.Zones.Find(q.Name, q.Type)
	} else {
		var hot bool
		if x.holding, hot = x.server.opts.Zones.FindHot(q.Name, q.Type); !hot {
			return nil, true
		}
	}
	x.held = true
	switch x.holding.Status {
	case store.NotHosted:
		return x.refuse(dst, wire.Refused, wire.EDENotAuthoritative), false
	case store.Here:
	case store.Elsewhere:
		if !x.mayAsk {
			x.distant = true
			return nil, true
		}
		return x.elsewhere(dst, from), false
	default:
		return x.unavailable(dst, x.holding.Err), false
	}
	err := answer.Begin(x.holding.View, answer.Question{Name: q.Name, Type: q.Type, DNSSEC: q.DO}, &x.answer)
	if err == nil {
		x.family.Name = ""
		if f := x.answer.Family(); f != answer.Single && x.cache != nil {
			if reply, ok := x.answerShared(dst, f); ok {
				return reply, false
			}
		}
		err = x.answer.Finish()
	}
	if err != nil {
		x.count.unreadable++
		if errors.Is(err, store.ErrClosed) {
			return x.refuse(dst, wire.ServFail, wire.EDENotReady), false
		}
		return x.refuse(dst, wire.ServFail, wire.EDEOther), false
	}
	x.reply.FromAnswer(&x.answer)
	out, truncated := wire.Compose(dst, q, &x.answer, &x.reply, &x.sections)
	x.count.reply(x.reply.RCode, truncated)
	if x.cache != nil && x.sections.Whole {
		x.keep()
	}
	return out, false
}

// refuse appends an answer without records.
func (x *exchange) refuse(dst []byte, rcode wire.RCode, why wire.ExtendedError) []byte {
	x.reply.RCode, x.reply.ExtendedError, x.reply.Authoritative = rcode, why, false
	return x.append(dst, nil)
}

// unavailable answers for a zone that is hosted and can't be answered from.
func (x *exchange) unavailable(dst []byte, why error) []byte {
	if errors.Is(why, store.ErrExpired) {
		return x.refuse(dst, wire.ServFail, wire.EDEInvalidData)
	}
	return x.refuse(dst, wire.ServFail, wire.EDENotReady)
}

// append appends the answer as x.reply says, with the records of a, if any.
func (x *exchange) append(dst []byte, a *answer.Answer) []byte {
	out, truncated := wire.Append(dst, x.query, a, &x.reply)
	x.count.reply(x.reply.RCode, truncated)
	return out
}

// recovered answers SERVFAIL after a panic. What is needed for that can't panic again: there are no records.
func (x *exchange) recovered(v any, dst []byte) []byte {
	x.server.logPanic(v)
	if x.query.Verdict == wire.Drop {
		return nil
	}
	x.reply = wire.Reply{ExtendedError: wire.NoExtendedError, Limit: wire.MinUDPSize, UDPSize: wire.DefaultUDPSize}
	return x.refuse(dst, wire.ServFail, wire.NoExtendedError)
}

func (x *exchange) release() {
	if x.held {
		x.held = false
		x.holding.Release()
		x.holding = store.Holding{}
	}
}

// panicLogSeconds is the time between two panics in the log. All are counted.
const panicLogSeconds = 10

func (s *Server) logPanic(v any) {
	s.panics.Add(1)
	now := s.opts.Now().Unix()
	if last := s.lastPanic.Load(); now-last < panicLogSeconds || !s.lastPanic.CompareAndSwap(last, now) {
		return
	}
	s.opts.Logger.Error().Interface("panic", v).Bytes("stack", debug.Stack()).Msg("what a client sent made the server panic; a query is answered with SERVFAIL")
}
