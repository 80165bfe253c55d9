package zones

import (
	"fmt"
	"slices"
	"strings"
)

// CatalogRole is what a catalog zone (RFC 9432) is here. The values are part of the record format.
type CatalogRole uint8

const (
	// NoCatalog: the zone is a zone like any other.
	NoCatalog CatalogRole = 0
	// CatalogProduced: the zone's content is made here: a list of zones that are hosted here, for other servers.
	CatalogProduced CatalogRole = 1
	// CatalogConsumed: it comes from primaries, and the zones that it lists are hosted here as secondary zones.
	CatalogConsumed CatalogRole = 2
	// CatalogDissolved: it was consumed; its members are being deleted, and then the catalog is.
	CatalogDissolved CatalogRole = 3
	// CatalogReleased: it was consumed; its members become zones of nobody's, and then the catalog is deleted.
	CatalogReleased CatalogRole = 4
)

var catalogRoleNames = [...]string{"none", "produced", "consumed", "dissolved", "released"}

// Valid reports whether r is a role that this version knows.
func (r CatalogRole) Valid() bool { return int(r) < len(catalogRoleNames) }

func (r CatalogRole) String() string {
	if r.Valid() {
		return catalogRoleNames[r]
	}
	return fmt.Sprintf("role-%d", uint8(r))
}

// TakesPrimaries reports whether a catalog of the role comes from primaries.
func (r CatalogRole) TakesPrimaries() bool {
	return r == CatalogConsumed || r == CatalogDissolved || r == CatalogReleased
}

// Catalog is what a zone is as a catalog.
type Catalog struct {
	Role CatalogRole
	// Groups are those whose zones a produced catalog lists, in order, each once; none: it lists all that are hosted here and don't
	// come from other servers.
	Groups []string
}

// Equal reports whether both say the same.
func (c Catalog) Equal(other Catalog) bool {
	return c.Role == other.Role && slices.Equal(c.Groups, other.Groups)
}

// Lists reports whether a produced catalog lists a zone that has these settings. The zone is not the catalog itself.
func (c Catalog) Lists(catalog Name, s ZoneSettings) bool {
	if c.Role != CatalogProduced || s.IsSecondary() || s.Catalog.Role != NoCatalog {
		return false
	}
	return len(c.Groups) == 0 || s.NewOwner == catalog || slices.ContainsFunc(s.Groups, func(g string) bool { return slices.Contains(c.Groups, g) })
}

// Membership is the catalog that a zone was made for, and what that calls it.
type Membership struct {
	// Catalog is "" for a zone that was made otherwise. Catalogs do nothing to it.
	Catalog Name
	// Label tags the zone within the catalog (RFC 9432 §4.1): any octets, in lower case.
	Label string
}

// MaxGroups bounds the groups of a zone, and those that a catalog lists.
const MaxGroups = 32

// maxGroupName bounds a group's name, in octets: one character-string, since not all consumers join several.
const maxGroupName = 255

// CheckGroup says what is wrong with the name of a group; "" when nothing is.
func CheckGroup(group string) string {
	switch {
	case group == "" || len(group) > maxGroupName:
		return fmt.Sprintf("a group's name has 1 to %d octets", maxGroupName)
	case strings.ToValidUTF8(group, "") != group || strings.ContainsFunc(group, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "a group's name is text"
	}
	return ""
}

// SortGroups puts the names of groups into the form that settings have them in: in order, each once; nil for none.
func SortGroups(groups []string) []string {
	if len(groups) == 0 {
		return nil
	}
	groups = slices.Clone(groups)
	slices.Sort(groups)
	return slices.Compact(groups)
}
