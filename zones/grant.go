package zones

import (
	"net/netip"
	"slices"
)

// Deed is something that others may be allowed to do to a zone. The values are bits, and part of the record and disk formats.
type Deed uint8

const (
	DeedTransfer Deed = 1 << iota // fetch the zone (RFC 5936, RFC 1995)
	DeedUpdate                    // change it (RFC 2136)
	DeedNotify                    // tell of its changes (RFC 1996)
	deeds        = DeedTransfer | DeedUpdate | DeedNotify
)

// Valid reports whether d is one or more deeds that this version knows.
func (d Deed) Valid() bool { return d != 0 && d&^deeds == 0 }

// Grant allows deeds to who has a key, comes from a network, or both. What no grant allows is forbidden.
type Grant struct {
	Deeds Deed
	// Key is the name of the TSIG key that the message must be signed with; "" when it need not be signed.
	Key Name
	// Networks are where it must come from; none: from anywhere, which takes a Key.
	Networks []netip.Prefix
	// Names are whose records may be updated; none: of the whole zone. Types are which; none: all. They matter for DeedUpdate only.
	Names []NamePattern
	Types []Type
}

// NamePattern is a set of names: Name, and what is Below it, or one of both.
type NamePattern struct {
	Name  Name
	Self  bool
	Below bool
}

// Matches reports whether n is in the set.
func (p NamePattern) Matches(n Name) bool {
	return p.Self && n == p.Name || p.Below && n.IsBelow(p.Name)
}

// Equal reports whether both allow the same, said in the same order.
func (g Grant) Equal(other Grant) bool {
	return g.Deeds == other.Deeds && g.Key == other.Key && slices.Equal(g.Networks, other.Networks) &&
		slices.Equal(g.Names, other.Names) && slices.Equal(g.Types, other.Types)
}

// appendOf appends the grant as far as it is about some of its deeds; nothing when there are none.
func (g Grant) appendOf(grants []Grant, deeds Deed) []Grant {
	if deeds == 0 {
		return grants
	}
	g.Deeds = deeds
	if deeds&DeedUpdate == 0 {
		g.Names, g.Types = nil, nil
	}
	return append(grants, g)
}

// AllowsFrom reports whether the grant allows a deed to somebody with a key ("" when the message is not signed) at an address.
func (g Grant) AllowsFrom(d Deed, key Name, from netip.Addr) bool {
	if g.Deeds&d == 0 || g.Key == "" && len(g.Networks) == 0 || g.Key != "" && g.Key != key {
		return false
	}
	from = from.Unmap()
	return len(g.Networks) == 0 || slices.ContainsFunc(g.Networks, func(n netip.Prefix) bool { return n.Contains(from) })
}

// AllowsUpdate reports whether records of a type at a name may be updated by who may update under the grant.
func (g Grant) AllowsUpdate(owner Name, t Type) bool {
	return (len(g.Names) == 0 || slices.ContainsFunc(g.Names, func(p NamePattern) bool { return p.Matches(owner) })) &&
		(len(g.Types) == 0 || slices.Contains(g.Types, t))
}
