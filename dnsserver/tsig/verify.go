package tsig

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Response codes of faults.
const (
	rcodeFormErr = 1
	rcodeNotAuth = 9
)

// Fault is why a request is not taken for signed: the answer's RCODE, and what its TSIG record says. The zero Fault is none.
type Fault struct {
	RCode uint16
	Error Error
}

// Verify verifies a request that ends with a TSIG record at at, in the order of RFC 8945 §5.2: the key, the MAC, the time, the truncation. The
// packet is not changed or kept. With a fault the Session is only good for signing the answer that tells of it; it is nil when the record is malformed,
// and the answer has none.
func Verify(packet []byte, at int, ring Ring, now time.Time) (*Session, Fault) {
	r, ok := read(packet, at)
	if !ok || len(packet) < headerLen || binary.BigEndian.Uint16(packet[10:]) == 0 {
		return nil, Fault{RCode: rcodeFormErr}
	}
	s := &Session{role: server, asked: r}
	s.asked.mac, s.asked.other = bytes.Clone(r.mac), nil
	var known bool
	if ring != nil {
		s.key, known = ring.Key(r.name)
	}
	if !known || s.key.Algorithm != r.algorithm {
		return s.fault(BadKey)
	}
	h := newMAC(&s.key)
	if h == nil {
		return s.fault(BadKey)
	}
	s.size = h.Size()
	digestMessage(h, packet, at, r.id)
	h.Write(r.variables())
	fault, malformed := compare(r.mac, h.Sum(nil))
	if malformed {
		return nil, Fault{RCode: rcodeFormErr}
	}
	if fault == BadSig {
		return s.fault(BadSig)
	}
	s.prior = s.asked.mac
	if !timely(r.signed, r.fudge, now) {
		return s.fault(BadTime)
	}
	if fault != 0 {
		return s.fault(fault)
	}
	s.Key = s.key.Name
	return s, Fault{}
}

// fault returns what Verify does.
func (s *Session) fault(e Error) (*Session, Fault) {
	s.refused = e
	return s, Fault{RCode: rcodeNotAuth, Error: e}
}

// AppendStripped appends the request that Verify verified as it was before it was signed: without the record, and with the ID that it had then.
func AppendStripped(dst, packet []byte, at int) []byte {
	base := len(dst)
	dst = append(dst, packet[:at]...)
	m := dst[base:]
	binary.BigEndian.PutUint16(m[10:], binary.BigEndian.Uint16(m[10:])-1)
	if r, ok := read(packet, at); ok {
		binary.BigEndian.PutUint16(m, r.id)
	}
	return dst
}
