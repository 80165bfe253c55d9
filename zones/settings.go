package zones

import (
	"net/netip"
	"slices"
)

// ZoneSettings are the zone's own settings, which travel in the log with it. Their slices are shared, and not to be changed.
type ZoneSettings struct {
	SerialPolicy SerialPolicy
	// Frozen: the content stays as it is, whoever wants to change it, until the zone is thawed.
	Frozen bool
	// Primaries are where the zone comes from, in the order in which they are asked. A zone that has any is a secondary zone: only
	// what they send changes it.
	Primaries []Remote
	// Notify are who is told of each change (RFC 1996).
	Notify []Remote
	// Grants allow others to transfer or update the zone, or to notify of its changes. Beside them there are those of the namespace.
	Grants []Grant
}

// IsSecondary reports whether the zone comes from primaries.
func (s ZoneSettings) IsSecondary() bool { return len(s.Primaries) > 0 }

// Equal reports whether both say the same, in the same order.
func (s ZoneSettings) Equal(other ZoneSettings) bool {
	return s.SerialPolicy == other.SerialPolicy && s.Frozen == other.Frozen &&
		slices.Equal(s.Primaries, other.Primaries) && slices.Equal(s.Notify, other.Notify) && slices.EqualFunc(s.Grants, other.Grants, Grant.Equal)
}

// IsZero reports whether all is as it is for a zone of which nothing was said.
func (s ZoneSettings) IsZero() bool { return s.Equal(ZoneSettings{}) }

// Remote is a server that zones are fetched from, or that is told of changes.
type Remote struct {
	Addr netip.AddrPort
	// Key is the name of the TSIG key that messages to it are signed with; "" for none.
	Key Name
	// TLS says that it is spoken to over TLS (RFC 9103). TLSName is then the name that its certificate must be for; "" when any will do.
	TLS     bool
	TLSName string
}
