package tsig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// maxUnsigned is how many messages of an answer may come between two that are signed (RFC 8945 §5.3.1).
const maxUnsigned = 99

// The errors of VerifyAnswer and Complete.
var (
	ErrMalformed = errors.New("tsig: the answer is malformed")
	ErrUnsigned  = errors.New("tsig: the answer is not signed")
	ErrOtherKey  = errors.New("tsig: the answer is signed with another key")
	ErrSignature = errors.New("tsig: the answer's signature is wrong")
	ErrTime      = errors.New("tsig: the answer was signed too long ago, or our clock is wrong")
)

// RefusedError is what a server found wrong with the signature of a request.
type RefusedError struct {
	Reason Error
	// Signed says that the answer was, so that it is the server's word.
	Signed bool
	// Time is the server's, when it differs by too much from ours.
	Time time.Time
}

func (e *RefusedError) Error() string {
	text := "the server refuses the signature: " + e.Reason.String()
	if !e.Time.IsZero() {
		text += ", its clock says " + e.Time.UTC().Format(time.RFC3339)
	}
	if !e.Signed {
		text += " (not signed)"
	}
	return text
}

// NewClient makes a Session for a request and its answer. The key must be one that Check finds nothing wrong with.
func NewClient(key Key) *Session {
	s := &Session{Key: key.Name, role: client, key: key, asked: record{name: key.Name, algorithm: key.Algorithm}}
	s.size = newMAC(&s.key).Size()
	return s
}

// SignRequest appends a TSIG record to msg, which is a whole request, and counts it in the header. A session signs one request.
func (s *Session) SignRequest(msg []byte, now time.Time) []byte {
	s.asked.id = binary.BigEndian.Uint16(msg)
	out := s.Sign(msg, now)
	s.asked.mac, s.count = s.prior, 0
	return out
}

// VerifyAnswer verifies an answer, or when it is several messages, the next of them, and returns it without its TSIG record. It shares msg's memory, whose
// header is changed. Messages in between may be unsigned; nothing in them is to be believed before a signed one was verified after them, nor the
// answer before Complete.
//
// When the first message can't be verified, the session is as before: what was not the server's is let go, and the next one tried. Later, the
// stream is broken, and every call fails.
func (s *Session) VerifyAnswer(msg []byte, now time.Time) (stripped []byte, err error) {
	if s.failed != nil {
		return nil, s.failed
	}
	stripped, err = s.verifyAnswer(msg, now)
	if err != nil && s.count > 0 {
		s.failed = err
	}
	return stripped, err
}

func (s *Session) verifyAnswer(msg []byte, now time.Time) ([]byte, error) {
	at, err := findRecord(msg)
	if err != nil {
		return nil, err
	}
	if at == 0 {
		if s.count == 0 {
			return nil, ErrUnsigned
		}
		if s.unsigned++; s.unsigned > maxUnsigned {
			return nil, fmt.Errorf("%w: more than %d messages without a signature", ErrUnsigned, maxUnsigned)
		}
		s.running.Write(msg)
		return msg, nil
	}
	r, ok := read(msg, at)
	switch {
	case !ok:
		return nil, ErrMalformed
	case r.name != s.key.Name || r.algorithm != s.key.Algorithm:
		return nil, ErrOtherKey
	case (r.err == BadKey || r.err == BadSig) && len(r.mac) == 0:
		return nil, &RefusedError{Reason: r.err}
	}
	h := s.running
	if s.count == 0 {
		h = newMAC(&s.key)
		digestMAC(h, s.asked.mac)
	}
	digestMessage(h, msg, at, r.id)
	if s.count == 0 {
		h.Write(r.variables())
	} else {
		h.Write(r.appendTimers(nil))
	}
	if fault, malformed := compare(r.mac, h.Sum(nil)); fault != 0 || malformed {
		return nil, ErrSignature
	}
	if !timely(r.signed, r.fudge, now) {
		return nil, ErrTime
	}
	if r.err != 0 {
		e := &RefusedError{Reason: r.err, Signed: true}
		if len(r.other) == otherLen && r.err == BadTime {
			e.Time = time.Unix(int64(binary.BigEndian.Uint16(r.other))<<32|int64(binary.BigEndian.Uint32(r.other[2:])), 0)
		}
		return nil, e
	}
	s.running = newMAC(&s.key)
	digestMAC(s.running, r.mac)
	s.count++
	s.unsigned = 0
	binary.BigEndian.PutUint16(msg, r.id)
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])-1)
	return msg[:at], nil
}

// Complete returns what is missing when the message that was verified last was the answer's last: that one must be signed (RFC 8945 §5.3.1).
func (s *Session) Complete() error {
	if s.failed != nil {
		return s.failed
	}
	if s.count == 0 || s.unsigned > 0 {
		return fmt.Errorf("%w: its end is missing", ErrUnsigned)
	}
	return nil
}

// findRecord returns where the TSIG record begins that ends a message; 0 when there is none.
func findRecord(msg []byte) (at int, err error) {
	if len(msg) < headerLen {
		return 0, ErrMalformed
	}
	next := headerLen
	for range binary.BigEndian.Uint16(msg[4:]) {
		if next = skipName(msg, next) + 4; next < headerLen || next > len(msg) {
			return 0, ErrMalformed
		}
	}
	additionals := int(binary.BigEndian.Uint16(msg[10:]))
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:])) + additionals
	for i := range records {
		start := next
		if next = skipName(msg, next); next < 0 || next+10 > len(msg) {
			return 0, ErrMalformed
		}
		isTSIG := binary.BigEndian.Uint16(msg[next:]) == typeTSIG
		next += 10 + int(binary.BigEndian.Uint16(msg[next+8:]))
		if next > len(msg) || isTSIG && (i != records-1 || additionals == 0) { // RFC 8945 §5.1: it is the last, and the only one
			return 0, ErrMalformed
		}
		if isTSIG {
			at = start
		}
	}
	if next != len(msg) {
		return 0, ErrMalformed
	}
	return at, nil
}

// skipName returns where what follows the name at msg[at:] begins; less than −4 when there is no name.
func skipName(msg []byte, at int) int {
	for at < len(msg) {
		l := int(msg[at])
		switch {
		case l == 0:
			return at + 1
		case l >= 0xc0:
			return at + 2
		case l > 63:
			return -5
		}
		at += 1 + l
	}
	return -5
}
