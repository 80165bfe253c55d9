package wire

import (
	"encoding/binary"

	"balefire/zones"
)

// Verdict says what is to be done with a query.
type Verdict uint8

const (
	// Drop: not a query, or too short for one. Nothing is sent.
	Drop Verdict = iota
	// Fail: to be answered with Query.RCode and Query.ExtendedError, and no records.
	Fail
	// Ask: an ordinary question in class IN.
	Ask
	// Chaos: a question in class CH.
	Chaos
	// Cookie: no question, but a cookie to be answered (RFC 7873 §5.4).
	Cookie
	// Slow: NOTIFY, UPDATE, AXFR, IXFR, or anything with TSIG: well-formed, but not for the fast lane.
	// For what has TSIG, JudgeVerified says what it is besides.
	Slow
)

func (v Verdict) String() string {
	return [...]string{"drop", "fail", "ask", "chaos", "cookie", "slow"}[v]
}

// Echo says how much of the query an answer repeats.
type Echo uint8

const (
	// EchoHeader: nothing but the header.
	EchoHeader Echo = iota
	// EchoQuestion: the question, without OPT.
	EchoQuestion
	// EchoAll: the question, if there was one, and OPT, if there was one.
	EchoAll
)

// Query is a query as Parse found it. It shares memory with the packet, holds views of its own memory (so it
// must not be copied), and is used again and again by one goroutine.
type Query struct {
	Verdict       Verdict
	Echo          Echo
	RCode         RCode         // when Fail
	ExtendedError ExtendedError // when Fail

	ID     uint16
	Opcode Opcode
	RD     bool
	// Name is the question's name in lower case, in the query's own memory; "" when there is no readable question.
	Name  zones.Name
	Type  zones.Type
	Class Class

	// EDNS says that there was an OPT record (RFC 6891); the fields after it are its content.
	EDNS    bool
	Version uint8
	UDPSize uint16 // as offered, at least MinUDPSize
	DO      bool
	NSID    bool // asked for
	// Padding says that the query was padded, so that the answer may be.
	Padding bool
	// CookieOption is the first COOKIE option's content, of a valid length; nil when there was none. It shares
	// the packet's memory.
	CookieOption []byte
	// TSIG is the offset in the packet of a TSIG record that ends it; 0 when there is none.
	TSIG int

	question []byte // as it came, letters' case included; shares the packet's memory
	name     [zones.MaxNameLen]byte
}

// Parse reads a packet into q, which keeps no trace of what it held before. What was malformed, or is not
// implemented, is in q.Verdict and q.RCode.
func Parse(packet []byte, q *Query) {
	q.Verdict, q.Echo, q.RCode, q.ExtendedError = Drop, EchoHeader, NoError, NoExtendedError
	q.Name, q.Type, q.Class, q.question = "", 0, 0, nil
	q.EDNS, q.Version, q.UDPSize, q.DO, q.NSID, q.Padding, q.CookieOption, q.TSIG = false, 0, MinUDPSize, false, false, false, nil, 0
	if len(packet) < HeaderLen || packet[2]&flagQR != 0 {
		return
	}
	q.ID = binary.BigEndian.Uint16(packet)
	q.Opcode = Opcode(packet[2] >> 3 & 0xf)
	q.RD = packet[2]&flagRD != 0
	q.judge(q.read(packet), binary.BigEndian.Uint16(packet[4:]))
}

// read reads all of the message, and reports whether it is well-formed. Echo becomes what could be read.
func (q *Query) read(packet []byte) bool {
	at := HeaderLen
	switch binary.BigEndian.Uint16(packet[4:]) {
	case 0:
	case 1:
		if at = q.readQuestion(packet); at < 0 {
			return false
		}
		q.Echo = EchoQuestion
	default:
		return false // RFC 9619 §4
	}
	answers := int(binary.BigEndian.Uint16(packet[6:]))
	authorities := int(binary.BigEndian.Uint16(packet[8:]))
	additionals := int(binary.BigEndian.Uint16(packet[10:]))
	if q.Opcode == OpQuery && (answers > 0 || authorities > 0 && q.Type != zones.TypeIXFR) {
		return false // only IXFR brings a record along: its SOA (RFC 1995 §3)
	}
	for range answers + authorities {
		kind, next := readRecord(packet, at)
		if next < 0 || kind == zones.TypeOPT || kind == zones.TypeTSIG {
			return false // both belong to the additional section (RFC 6891 §6.1.1, RFC 8945 §5.1)
		}
		at = next
	}
	for range additionals {
		kind, next := readRecord(packet, at)
		if next < 0 || q.TSIG != 0 {
			return false // nothing follows TSIG (RFC 8945 §5.1)
		}
		switch kind {
		case zones.TypeOPT:
			if q.EDNS || !q.readEDNS(packet[at:next]) {
				return false
			}
		case zones.TypeTSIG:
			q.TSIG = at
		}
		at = next
	}
	if at != len(packet) {
		return false
	}
	q.Echo = EchoAll
	return true
}

// JudgeVerified sets the verdict of a query with TSIG to what it would be without. It is for once the TSIG was verified: every answer
// to it, errors included, is to be signed then (RFC 8945 §5.3).
func (q *Query) JudgeVerified() {
	questions := uint16(0)
	if q.question != nil {
		questions = 1
	}
	q.judgeRest(true, questions)
}

// judge decides what becomes of the query.
func (q *Query) judge(wellFormed bool, questions uint16) {
	if wellFormed && q.TSIG != 0 {
		q.Verdict = Slow
		return
	}
	q.judgeRest(wellFormed, questions)
}

// judgeRest judges what has no TSIG, or as if it had none. The order is that of ANSWERS.md, "Algorithm" (1).
func (q *Query) judgeRest(wellFormed bool, questions uint16) {
	switch q.Opcode {
	case OpQuery, OpNotify, OpUpdate:
	default:
		q.fail(NotImp)
		return
	}
	switch {
	case !wellFormed:
		q.fail(FormErr)
		return
	case q.Version != 0:
		q.fail(BadVers)
		return
	case q.Opcode == OpQuery && questions == 0 && q.CookieOption != nil:
		q.Verdict = Cookie
		return
	case questions == 0:
		q.fail(FormErr)
		return
	case q.Opcode != OpQuery:
		q.Verdict = Slow
		return
	}
	switch q.Class {
	case ClassIN:
		q.judgeType()
	case ClassCH:
		q.Verdict = Chaos
	default: // HS, NONE, ANY and all that have no zones here
		q.fail(Refused)
	}
}

// judgeType tells the types that can be asked for from those that can't.
func (q *Query) judgeType() {
	if q.Type < zones.TypeNXNAME && q.Type != 0 && q.Type != zones.TypeOPT {
		q.Verdict = Ask
		return
	}
	switch q.Type {
	case 0, zones.TypeMAILA, zones.TypeMAILB:
		q.fail(NotImp)
	case zones.TypeOPT, zones.TypeTSIG, zones.TypeTKEY:
		q.fail(FormErr)
	case zones.TypeNXNAME: // RFC 9824 §3.3
		q.fail(FormErr)
		q.ExtendedError = EDEInvalidQueryType
	case zones.TypeAXFR, zones.TypeIXFR:
		q.Verdict = Slow
	default:
		q.Verdict = Ask
	}
}

func (q *Query) fail(rcode RCode) { q.Verdict, q.RCode = Fail, rcode }

// readQuestion reads the one question, and returns where it ends; −1 when it is malformed. There is
// nothing before it that a compression pointer could point to.
func (q *Query) readQuestion(packet []byte) int {
	at, n := HeaderLen, 0
	for {
		if at >= len(packet) {
			return -1
		}
		l := int(packet[at])
		if l == 0 {
			break
		}
		end := at + 1 + l
		if l > zones.MaxLabelLen || n+1+l >= zones.MaxNameLen || end > len(packet) {
			return -1
		}
		q.name[n] = byte(l)
		for i, c := range packet[at+1 : end] {
			q.name[n+1+i] = lower[c]
		}
		n += 1 + l
		at = end
	}
	q.name[n] = 0
	end := at + 5
	if end > len(packet) {
		return -1
	}
	q.Name = zones.NameView(q.name[:n+1])
	q.Type = zones.Type(binary.BigEndian.Uint16(packet[at+1:]))
	q.Class = Class(binary.BigEndian.Uint16(packet[at+3:]))
	q.question = packet[HeaderLen:end]
	return end
}

// readRecord reads the record at packet[at:] and returns its type and where it ends; −1 when it is malformed. Its
// owner is walked, its RDATA passed over.
func readRecord(packet []byte, at int) (zones.Type, int) {
	start, expanded := at, 0
	for {
		if at >= len(packet) {
			return 0, -1
		}
		l := int(packet[at])
		if l == 0 {
			at++
			break
		}
		if l >= 0xc0 {
			// Where it leads does not matter, only that it can't lead here again.
			if at+2 > len(packet) || int(binary.BigEndian.Uint16(packet[at:])&0x3fff) >= start {
				return 0, -1
			}
			at += 2
			break
		}
		expanded += 1 + l
		if l > zones.MaxLabelLen || expanded >= zones.MaxNameLen {
			return 0, -1
		}
		at += 1 + l
	}
	if at+10 > len(packet) {
		return 0, -1
	}
	kind := zones.Type(binary.BigEndian.Uint16(packet[at:]))
	at += 10 + int(binary.BigEndian.Uint16(packet[at+8:]))
	if at > len(packet) {
		return 0, -1
	}
	return kind, at
}

// readEDNS reads an OPT record, and reports whether its owner is the root (RFC 6891 §6.1.2) and its
// options are well-formed.
func (q *Query) readEDNS(opt []byte) bool {
	if opt[0] != 0 {
		return false
	}
	q.EDNS = true
	q.UDPSize = max(MinUDPSize, binary.BigEndian.Uint16(opt[3:]))
	q.Version = opt[6]
	q.DO = opt[7]&0x80 != 0
	if q.Version != 0 {
		return true // another version's options may look otherwise
	}
	for rest := opt[11:]; len(rest) > 0; {
		if len(rest) < 4 {
			return false
		}
		code := binary.BigEndian.Uint16(rest)
		end := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if end > len(rest) {
			return false
		}
		switch code {
		case optionNSID:
			q.NSID = true
		case optionPadding:
			q.Padding = true
		case optionCookie:
			if q.CookieOption != nil {
				break // RFC 7873 §5.2: all but the first are ignored
			}
			q.CookieOption = rest[4:end:end]
			// RFC 7873 §5.2.2: 8 octets of the client's, and none or 8 to 32 of the server's.
			if n := len(q.CookieOption); n != ClientCookieLen && (n < 16 || n > 40) {
				return false
			}
		}
		rest = rest[end:]
	}
	return true
}

// Limit returns how long an answer over UDP may be, when the server itself sends at most size octets.
func (q *Query) Limit(size int) int {
	if !q.EDNS {
		return MinUDPSize
	}
	return min(int(q.UDPSize), size)
}

// Question returns the question as it came; nil when there is none. It shares the packet's memory.
func (q *Query) Question() []byte { return q.question }
