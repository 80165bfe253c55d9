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
	// Catalog is what the zone is as a catalog of zones.
	Catalog Catalog
	// Groups say to those who know them how the zone is to be treated (RFC 9432 §4.3.2), in order, each once: the catalogs made here that
	// list the zone say so, and a zone that was made for a catalog has those that that says.
	Groups []string
	// NewOwner is the catalog that is to have the zone (RFC 9432 §4.3.1): the others that list it say so. "" for none.
	NewOwner Name
	// Member says which catalog the zone was made for.
	Member Membership
}

// IsSecondary reports whether the zone comes from primaries.
func (s ZoneSettings) IsSecondary() bool { return len(s.Primaries) > 0 }

// IsPeered reports whether the zone comes from primaries, servers are told of its changes, or it is a catalog.
func (s ZoneSettings) IsPeered() bool {
	return len(s.Primaries) > 0 || len(s.Notify) > 0 || s.Catalog.Role != NoCatalog
}

// Equal reports whether both say the same, in the same order.
func (s ZoneSettings) Equal(other ZoneSettings) bool {
	return s.SerialPolicy == other.SerialPolicy && s.Frozen == other.Frozen &&
		slices.Equal(s.Primaries, other.Primaries) && slices.Equal(s.Notify, other.Notify) && slices.EqualFunc(s.Grants, other.Grants, Grant.Equal) &&
		s.Catalog.Equal(other.Catalog) && slices.Equal(s.Groups, other.Groups) && s.NewOwner == other.NewOwner && s.Member == other.Member
}

// InCatalogs reports whether the settings say anything about catalogs.
func (s ZoneSettings) InCatalogs() bool {
	return s.Catalog.Role != NoCatalog || len(s.Catalog.Groups) > 0 || len(s.Groups) > 0 || s.NewOwner != "" || s.Member != Membership{}
}

// IsZero reports whether all is as it is for a zone of which nothing was said.
func (s ZoneSettings) IsZero() bool { return s.Equal(ZoneSettings{}) }

// SettingsPart is parts of the settings. The values are bits, and part of the record format.
type SettingsPart uint16

const (
	PartSerialPolicy   SettingsPart = 1 << iota
	PartFrozen                      //
	PartPrimaries                   //
	PartNotify                      //
	PartTransferGrants              // who may transfer: Grants, as far as they are about that
	PartUpdateGrants                //
	PartNotifyGrants                //
	PartCatalog                     //
	PartGroups                      //
	PartNewOwner                    //
	PartMember                      //

	AllSettings SettingsPart = 1<<iota - 1
)

// deeds returns the deeds whose grants are among the parts.
func (p SettingsPart) deeds() (d Deed) {
	if p&PartTransferGrants != 0 {
		d |= DeedTransfer
	}
	if p&PartUpdateGrants != 0 {
		d |= DeedUpdate
	}
	if p&PartNotifyGrants != 0 {
		d |= DeedNotify
	}
	return d
}

// With returns s with the given parts as they are in other.
func (s ZoneSettings) With(parts SettingsPart, other ZoneSettings) ZoneSettings {
	if parts&PartSerialPolicy != 0 {
		s.SerialPolicy = other.SerialPolicy
	}
	if parts&PartFrozen != 0 {
		s.Frozen = other.Frozen
	}
	if parts&PartPrimaries != 0 {
		s.Primaries = other.Primaries
	}
	if parts&PartNotify != 0 {
		s.Notify = other.Notify
	}
	if parts&PartCatalog != 0 {
		s.Catalog = other.Catalog
	}
	if parts&PartGroups != 0 {
		s.Groups = other.Groups
	}
	if parts&PartNewOwner != 0 {
		s.NewOwner = other.NewOwner
	}
	if parts&PartMember != 0 {
		s.Member = other.Member
	}
	if deeds := parts.deeds(); deeds != 0 {
		var grants []Grant
		for _, g := range s.Grants {
			grants = g.appendOf(grants, g.Deeds&^deeds)
		}
		for _, g := range other.Grants {
			grants = g.appendOf(grants, g.Deeds&deeds)
		}
		s.Grants = grants
	}
	return s
}

// Remote is a server that zones are fetched from, or that is told of changes.
type Remote struct {
	Addr netip.AddrPort
	// Key is the name of the TSIG key that messages to it are signed with; "" for none.
	Key Name
	// TLS says that it is spoken to over TLS (RFC 9103). TLSName is then the name that its certificate must be for; "" when any will do.
	TLS     bool
	TLSName string
}
