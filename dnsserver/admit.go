package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"balefire/dnsserver/wire"
)

// admission is what is to become of a query because of who asks, and how often.
type admission uint8

const (
	admitted  admission = iota
	dropped             // over the rate limit: nothing is sent
	slipped             // over the rate limit: TC is sent
	badCookie           // a client that knows cookies has to show a valid one
)

// admit checks the cookie, prepares the one that goes back, and asks the rate limit.
func (x *exchange) admit(from netip.Addr) admission {
	q := x.query
	knowsCookies, valid := false, false
	if len(x.settings.CookieSecrets) > 0 && q.CookieOption != nil && q.Echo == wire.EchoAll {
		knowsCookies = true
		valid = x.checkCookie(from)
		x.reply.Cookie = x.cookie[:]
		if !x.again {
			x.count.cookie(valid)
		}
	}
	if valid || x.again {
		return admitted
	}
	if q.Verdict == wire.Cookie && len(q.CookieOption) > wire.ClientCookieLen && knowsCookies {
		return badCookie // RFC 7873 §5.4: a server cookie that is not valid
	}
	if x.via != overUDP {
		return admitted
	}
	if r := &x.settings.rate; r.interval > 0 && !r.exempts(from) && !x.server.limiter.allow(r, from, x.nanos) {
		x.count.limited++
		x.slips++
		switch {
		case r.slip <= 0 || x.slips%uint32(r.slip) != 0:
			x.count.drop(dropRateLimited)
			return dropped
		case knowsCookies:
			return badCookie
		}
		x.count.slipped++
		return slipped
	}
	if knowsCookies && x.settings.RequireCookies && q.TSIG == 0 {
		return badCookie // a signature says more than a cookie would, and its answer must be signed
	}
	return admitted
}

// Server cookies (RFC 9018 §4). With the client's 8 octets before it:
//
//	8         9           12          16       24
//	| version | reserved  | timestamp | hash   |
const (
	cookieVersion  = 1
	cookieVersionA = 8
	cookieTime     = 12
	cookieHash     = 16
	cookieMaxAge   = 3600 // seconds, RFC 9018 §4.3
	cookieMaxAhead = 300  // seconds in the future
	cookieRenewAge = 1800 // older ones are answered with a fresh one
)

// checkCookie reports whether the query's cookie has a valid server part, and sets x.cookie to what goes
// back: the same while it is young, else a fresh one.
func (x *exchange) checkCookie(from netip.Addr) (valid bool) {
	secrets := x.settings.CookieSecrets
	now := uint32(x.nanos / 1e9)
	got := x.query.CookieOption
	if len(got) == wire.CookieLen && got[cookieVersionA] == cookieVersion {
		age := int32(now - binary.BigEndian.Uint32(got[cookieTime:])) // RFC 1982 arithmetic
		if age <= cookieMaxAge && age >= -cookieMaxAhead {
			hash := binary.LittleEndian.Uint64(got[cookieHash:])
			for i := range secrets {
				if cookieMAC(&secrets[i], got[:cookieHash], from) != hash {
					continue
				}
				if i == 0 && age <= cookieRenewAge {
					copy(x.cookie[:], got)
					return true
				}
				valid = true
				break
			}
		}
	}
	copy(x.cookie[:], got[:wire.ClientCookieLen])
	x.cookie[cookieVersionA] = cookieVersion
	x.cookie[9], x.cookie[10], x.cookie[11] = 0, 0, 0
	binary.BigEndian.PutUint32(x.cookie[cookieTime:], now)
	binary.LittleEndian.PutUint64(x.cookie[cookieHash:], cookieMAC(&secrets[0], x.cookie[:cookieHash], from))
	return valid
}

// cookieMAC is the hash of RFC 9018 §4.4: SipHash-2-4 of client cookie, version, reserved, timestamp and
// client address.
func cookieMAC(secret *CookieSecret, head []byte, from netip.Addr) uint64 {
	var b [cookieHash + 16]byte
	n := copy(b[:], head)
	if from.Is4() {
		a := from.As4()
		n += copy(b[n:], a[:])
	} else {
		a := from.As16()
		n += copy(b[n:], a[:])
	}
	return sipHash(secret, b[:n])
}
