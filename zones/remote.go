package zones

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Errors of Remote.Check. It wraps them with the address.
var (
	ErrRemoteAddress   = errors.New("not the address of a server: want an IP address and a port")
	ErrRemoteForbidden = errors.New("an address that other servers don't have")
	ErrRemoteTLSName   = errors.New("not a host name to find in a certificate")
)

// Check says why nothing may be sent to a remote; nil when something may. An address of this machine or link, of a group, or of none, is
// no server's, but one that somebody would have this machine reach in their place; networks in allowed are excepted. Both who takes settings
// and who acts on them ask: they may be another's settings.
func (r Remote) Check(allowed []netip.Prefix) error {
	addr := r.Addr.Addr()
	if !addr.IsValid() || r.Addr.Port() == 0 || addr.Zone() != "" {
		return fmt.Errorf("%s: %w", r.Addr, ErrRemoteAddress)
	}
	if why := forbidden(addr.Unmap()); why != "" && !slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) }) {
		return fmt.Errorf("%s is %s: %w", addr, why, ErrRemoteForbidden)
	}
	if r.TLSName != "" && (!r.TLS || !isHostName(r.TLSName)) {
		return fmt.Errorf("%q: %w", r.TLSName, ErrRemoteTLSName)
	}
	return nil
}

// special are networks that netip has no word for.
var special = []struct {
	network netip.Prefix
	why     string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an address of this network"},            // RFC 1122 §3.2.1.3
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or the broadcast address"}, // RFC 1112 §4, RFC 919
	{netip.MustParsePrefix("::/96"), "an IPv4-compatible address"},                // RFC 4291 §2.5.5.1
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"},                  // RFC 3879
}

// forbidden says what an address is that is no server's; "" for one that may be.
func forbidden(addr netip.Addr) string {
	switch {
	case addr.IsUnspecified():
		return "the unspecified address"
	case addr.IsLoopback():
		return "a loopback address"
	case addr.IsLinkLocalUnicast():
		return "a link-local address"
	case addr.IsMulticast():
		return "a multicast address"
	}
	for _, s := range special {
		if s.network.Contains(addr) {
			return s.why
		}
	}
	return ""
}

// isHostName reports whether s is a name as certificates have them: letters, digits, hyphens and underscores between dots.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > MaxLabelLen || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
