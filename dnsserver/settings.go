package dnsserver

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"balefire/dnsserver/wire"
	"balefire/zones"
)

// Settings are what can be changed while the server runs. The zero value works: no cookies, no rate
// limit, nothing told about the server.
type Settings struct {
	// UDPSize is the most octets in an answer over UDP to clients with EDNS, 512 to 4096. Default 1232.
	UDPSize int
	// NSID identifies this node to those who ask for it (RFC 5001); at most 64 octets. Empty: not told.
	NSID string
	// Identity answers id.server and hostname.bind (RFC 4892), at most 255 octets; Version version.server and
	// version.bind. Empty: refused.
	Identity, Version string
	// CookieSecrets make and check server cookies (RFC 9018). All nodes of a namespace have the same. The first makes
	// them, all are accepted: a new secret is added at the end, then moved to the front, then the old one removed,
	// with an hour between. None: no cookies. At most 4.
	CookieSecrets []CookieSecret
	// RequireCookies answers queries over UDP that have a COOKIE option, but no valid server cookie, with
	// BADCOOKIE (RFC 7873 §5.2.3).
	RequireCookies bool
	RateLimit      RateLimit
	TCP            TCPSettings
}

// CookieSecret is a secret of 128 bits.
type CookieSecret [16]byte

// RateLimit bounds the answers over UDP to one network (/24 of IPv4, /56 of IPv6). TCP and valid cookies
// are exempt: they can't be forged.
type RateLimit struct {
	PerSecond int // 0: no limit; at most 1,000,000
	Burst     int // answers at once after a pause; default PerSecond
	// Slip answers every Slip-th query over the limit with TC, or BADCOOKIE to clients that know
	// cookies, so that an honest client comes through; the others get nothing. Default 2; negative: never.
	Slip   int
	Exempt []netip.Prefix // networks without a limit
}

// TCPSettings bound TCP.
type TCPSettings struct {
	Connections int           // in all; default 4096
	PerNetwork  int           // from a /24 of IPv4 or /56 of IPv6; default 512
	Pipeline    int           // queries under way on a connection; default 32
	Idle        time.Duration // for a whole query to come; default 10 s
	Write       time.Duration // for a client to take what is written; default 5 s
}

// Limits of settings.
const (
	maxCookieSecrets = 4
	maxRate          = 1_000_000
	maxExempt        = 64
)

// settings are Settings, checked and in the form that serving needs. They are immutable.
type settings struct {
	Settings
	nsid     []byte
	identity zones.RRset // zero: refused
	version  zones.RRset
	rate     rate
}

func (s Settings) compile() (*settings, error) {
	if s.UDPSize == 0 {
		s.UDPSize = wire.DefaultUDPSize
	}
	if s.RateLimit.Burst == 0 {
		s.RateLimit.Burst = s.RateLimit.PerSecond
	}
	if s.RateLimit.Slip == 0 {
		s.RateLimit.Slip = 2
	}
	defaultTo(&s.TCP.Connections, 4096)
	defaultTo(&s.TCP.PerNetwork, 512)
	defaultTo(&s.TCP.Pipeline, 32)
	defaultTo(&s.TCP.Idle, 10*time.Second)
	defaultTo(&s.TCP.Write, 5*time.Second)
	switch {
	case s.UDPSize < wire.MinUDPSize || s.UDPSize > wire.MaxUDPSize:
		return nil, fmt.Errorf("UDP size %d: want %d to %d", s.UDPSize, wire.MinUDPSize, wire.MaxUDPSize)
	case len(s.NSID) > wire.MaxNSID:
		return nil, fmt.Errorf("NSID has %d octets: at most %d", len(s.NSID), wire.MaxNSID)
	case len(s.CookieSecrets) > maxCookieSecrets:
		return nil, fmt.Errorf("%d cookie secrets: at most %d", len(s.CookieSecrets), maxCookieSecrets)
	case s.RateLimit.PerSecond < 0 || s.RateLimit.PerSecond > maxRate || s.RateLimit.Burst < 0 || s.RateLimit.Burst > maxRate:
		return nil, fmt.Errorf("rate limit: want 0 to %d a second, and as burst", maxRate)
	case len(s.RateLimit.Exempt) > maxExempt:
		return nil, fmt.Errorf("%d networks exempt from rate limiting: at most %d", len(s.RateLimit.Exempt), maxExempt)
	case s.TCP.Connections < 0 || s.TCP.PerNetwork < 0 || s.TCP.Pipeline < 0 || s.TCP.Idle < 0 || s.TCP.Write < 0:
		return nil, errors.New("TCP limits must not be negative")
	}
	c := &settings{Settings: s, nsid: []byte(s.NSID), rate: newRate(s.RateLimit)}
	var err error
	if c.identity, err = chaosText(s.Identity); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if c.version, err = chaosText(s.Version); err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	return c, nil
}

func defaultTo[T int | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}
