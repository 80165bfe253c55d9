package tsig

import (
	"encoding/binary"
	"hash"
	"time"

	"balefire/zones"
)

type role uint8

const (
	server role = iota
	client
)

// Session is one request and its answer, which may be several messages, for one side. It is for one goroutine at a time.
type Session struct {
	// Key is the name of the key that the request was verified with; "" when it was not.
	Key zones.Name

	role    role
	key     Key
	size    int    // octets of a whole MAC
	asked   record // the request's
	refused Error  // what is wrong with the request
	prior   []byte // the MAC that the next one is made with: the request's, then each answer's
	count   int    // messages of the answer that were signed, or verified

	// A client's.
	running  hash.Hash // since the last signed message of the answer
	unsigned int       // messages since then
	failed   error     // of a stream, in which nothing can be verified any more
}

// bare reports whether the answer must not be signed, but say why (RFC 8945 §5.3.2).
func (s *Session) bare() bool { return s.refused == BadKey || s.refused == BadSig }

// Len returns how many octets Sign appends to the next message.
func (s *Session) Len() int {
	n := len(s.asked.name) + fixedLen + len(s.asked.algorithm)
	if !s.bare() {
		n += s.size
	}
	if s.refused == BadTime {
		n += otherLen
	}
	return n
}

// Sign appends a TSIG record to msg, which is a whole message, and counts it in the header: the answer, or when that is several messages, the
// next of them. They must be signed in their order. The answer to a request with a fault gets the record that tells of it, signed or not, as the
// fault is.
func (s *Session) Sign(msg []byte, now time.Time) []byte {
	return s.SignAt(msg, 0, now)
}

// SignAt is Sign for a message that begins at msg[base:].
func (s *Session) SignAt(msg []byte, base int, now time.Time) []byte {
	m := msg[base:]
	r := record{
		name: s.asked.name, algorithm: s.asked.algorithm, signed: uint64(now.Unix()), fudge: Fudge,
		id: binary.BigEndian.Uint16(m), err: s.refused,
	}
	switch {
	case s.bare():
		r.signed, r.fudge = s.asked.signed, s.asked.fudge
	case s.refused == BadTime: // RFC 8945 §5.2.3: so that the client can verify it by its own clock
		r.signed, r.fudge = s.asked.signed, s.asked.fudge
		r.other = appendTime(nil, uint64(now.Unix()))
	}
	if !s.bare() {
		h := newMAC(&s.key)
		if s.role == server {
			digestMAC(h, s.prior)
		}
		h.Write(m)
		if s.count == 0 {
			h.Write(r.variables())
		} else {
			h.Write(r.appendTimers(nil)) // RFC 8945 §5.3.1
		}
		r.mac = h.Sum(nil)
		s.prior = r.mac
	}
	s.count++
	binary.BigEndian.PutUint16(m[10:], binary.BigEndian.Uint16(m[10:])+1)
	return r.append(msg)
}
