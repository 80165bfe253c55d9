package dnsserver

import (
	"net/netip"
	"time"

	"balefire/dnsserver/tsig"
	"balefire/dnsserver/wire"
	"balefire/zones"
)

// caller is who sent a message that the slow lane serves.
type caller struct {
	from netip.Addr
	// key is the key that the message was verified with; "" when it was not signed.
	key zones.Name
	// session signs the answer; nil when the message was not signed. What serving returns is signed there, so only who sends answers by
	// itself, because they are several, signs.
	session *tsig.Session
}

// signature is what became of a message with TSIG.
type signature uint8

const (
	signatureValid signature = iota
	signatureMalformed
	signatureBadKey
	signatureBad
	signatureBadTime
	signatureTruncated
	signatures
)

var signatureNames = [signatures]string{"valid", "malformed", "BADKEY", "BADSIG", "BADTIME", "BADTRUNC"}

func signatureOf(fault tsig.Fault) signature {
	switch fault.Error {
	case tsig.BadKey:
		return signatureBadKey
	case tsig.BadSig:
		return signatureBad
	case tsig.BadTime:
		return signatureBadTime
	case tsig.BadTrunc:
		return signatureTruncated
	}
	if fault.RCode != 0 {
		return signatureMalformed
	}
	return signatureValid
}

// serveSigned serves a message with TSIG: it is verified first, then served as if it had none, and the answer signed, whatever it
// is (RFC 8945 §5.3).
func (x *exchange) serveSigned(packet []byte, from netip.Addr, dst []byte) (reply []byte, later bool) {
	q := x.query
	now := time.Unix(0, x.nanos)
	session, fault := tsig.Verify(packet, q.TSIG, x.server.opts.Keys, now)
	valid := signatureOf(fault)
	x.count.signatures[valid]++
	if session == nil {
		return x.refuse(dst, wire.RCode(fault.RCode), wire.NoExtendedError), false
	}
	limit := x.reply.Limit
	x.reply.Limit -= session.Len()
	if valid != signatureValid {
		reply = x.refuse(dst, wire.RCode(fault.RCode), wire.NoExtendedError)
	} else {
		x.caller.key, x.caller.session = session.Key, session
		q.JudgeVerified()
		if reply, later = x.serveVerified(packet, from, dst); later || len(reply) == 0 {
			return nil, later
		}
	}
	if x.via == overTLS && q.Padding {
		reply = wire.Pad(reply, len(dst), q, &x.reply) // inside of what is signed
	}
	if valid == signatureValid && x.via == overUDP && wire.IsTruncated(reply[len(dst):]) {
		// RFC 8945 §5.3: the question alone, TC and no error, so that the client comes again over TCP.
		x.reply.Truncated, x.reply.RCode = true, wire.NoError
		reply, _ = wire.Append(dst, q, nil, &x.reply)
	}
	if len(reply)-len(dst)+session.Len() > limit { // beside a key with a long name there is not even room for the question
		x.reply.Truncated, q.Echo = true, wire.EchoHeader
		reply, _ = wire.Append(dst, q, nil, &x.reply)
	}
	if len(reply)-len(dst)+session.Len() > limit {
		return reply, false // only what is not signed anyway, since the key is not known, can be as long as that
	}
	return session.SignAt(reply, len(dst), now), false
}

// serveVerified serves a message as its verdict is without TSIG.
func (x *exchange) serveVerified(packet []byte, from netip.Addr, dst []byte) (reply []byte, later bool) {
	switch q := x.query; q.Verdict {
	case wire.Fail:
		return x.refuse(dst, q.RCode, q.ExtendedError), false
	case wire.Cookie:
		return x.append(dst, nil), false
	case wire.Chaos:
		return x.chaos(dst), false
	case wire.Slow:
		return x.serveRare(packet, from, dst), false
	}
	return x.ask(dst, from)
}
