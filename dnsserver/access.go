package dnsserver

import (
	"net/netip"

	"balefire/zones"
)

// Access decides who may do what to a zone. It is asked for each message that wants to, by many goroutines at once, and
// must not wait. What it does not allow is refused.
type Access interface {
	// Allows reports whether somebody may do a deed to the zone with an apex, by the zone's own grants, which are in settings, or by
	// those of the namespace. key is the name of the TSIG key that signed the message, which was verified, and "" when none did;
	// from is the address that it came from.
	Allows(d zones.Deed, apex zones.Name, settings zones.ZoneSettings, key zones.Name, from netip.Addr) bool
	// Grants returns all grants that there are for the zone, whoever they are for. They are not to be changed.
	Grants(apex zones.Name, settings zones.ZoneSettings) []zones.Grant
}

// Grants is the Access of who knows no grants but those of the zones themselves.
type Grants struct{}

var _ Access = Grants{}

// Allows implements Access.
func (Grants) Allows(d zones.Deed, _ zones.Name, settings zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	for i := range settings.Grants {
		if settings.Grants[i].AllowsFrom(d, key, from) {
			return true
		}
	}
	return false
}

// Grants implements Access.
func (Grants) Grants(_ zones.Name, settings zones.ZoneSettings) []zones.Grant { return settings.Grants }

// allows reports whether somebody may do a deed to a zone: nobody may without an Access.
func (s *Server) allows(d zones.Deed, apex zones.Name, settings zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	return s.opts.Access != nil && s.opts.Access.Allows(d, apex, settings, key, from)
}
