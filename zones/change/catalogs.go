package change

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"balefire/zones"
)

// What settings say about catalogs: the fields of message Settings from 6 on, and the messages Catalog and Member.

var (
	catalogFields = schema{1: number, 2: repeated}
	memberFields  = schema{1: octetString, 2: octetString}
)

func appendCatalogSettings(b []byte, s zones.ZoneSettings) []byte {
	if s.Catalog.Role != zones.NoCatalog || len(s.Catalog.Groups) > 0 {
		c := appendNumber(nil, 1, uint64(s.Catalog.Role))
		for _, g := range s.Catalog.Groups {
			c = appendMessage(c, 2, []byte(g))
		}
		b = appendMessage(b, 6, c)
	}
	for _, g := range s.Groups {
		b = appendMessage(b, 7, []byte(g))
	}
	b = appendText(b, 8, string(s.NewOwner))
	if (s.Member != zones.Membership{}) {
		b = appendMessage(b, 9, encodeMember(s.Member))
	}
	return b
}

func encodeMember(m zones.Membership) []byte {
	return appendText(appendText(nil, 1, string(m.Catalog)), 2, m.Label)
}

// catalogSettings reads one of these fields.
func (f field) catalogSettings(to *zones.ZoneSettings) (err error) {
	switch f.number {
	case 6:
		to.Catalog, err = decodeCatalog(f.octets)
		if err == nil && to.Catalog.Equal(zones.Catalog{}) {
			err = errors.New("catalog: it says nothing")
		}
	case 7:
		err = appendDecoded(&to.Groups, f.octets, MaxGroups, "groups", decodeText)
	case 8:
		err = f.name(&to.NewOwner)
	case 9:
		to.Member, err = decodeMember(f.octets)
		if err == nil && to.Member == (zones.Membership{}) {
			err = errors.New("member: it says nothing")
		}
	}
	return err
}

func decodeText(b []byte) (string, error) { return string(b), nil }

func decodeCatalog(b []byte) (c zones.Catalog, err error) {
	err = read(b, "catalog", catalogFields, func(f field) error {
		if f.number == 2 {
			return appendDecoded(&c.Groups, f.octets, MaxGroups, "groups of a catalog", decodeText)
		}
		if f.value > math.MaxUint8 {
			return fmt.Errorf("field 1: %d is no role", f.value)
		}
		c.Role = zones.CatalogRole(f.value)
		return nil
	})
	return c, err
}

func decodeMember(b []byte) (m zones.Membership, err error) {
	err = read(b, "member", memberFields, func(f field) error {
		if f.number == 1 {
			return f.name(&m.Catalog)
		}
		m.Label = string(f.octets)
		return nil
	})
	return m, err
}

// checkCatalogSettings says what is wrong with these settings. Whether a zone has primaries is seen in them, so they must be whole, or a part
// by itself.
func checkCatalogSettings(s zones.ZoneSettings, apex zones.Name) *zones.Rejection {
	bad := func(format string, args ...any) *zones.Rejection {
		return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case !s.Catalog.Role.Valid():
		return bad("no such role of a catalog: %s", s.Catalog.Role)
	case s.Catalog.Role != zones.CatalogProduced && len(s.Catalog.Groups) > 0:
		return bad("groups that are listed are about a catalog that is produced")
	case s.NewOwner == apex:
		return bad("the zone can't be listed by itself")
	}
	for _, groups := range [][]string{s.Groups, s.Catalog.Groups} {
		if len(groups) > MaxGroups {
			return tooMany(MaxGroups, "groups")
		}
		for i, g := range groups {
			if why := zones.CheckGroup(g); why != "" {
				return bad("group %q: %s", g, why)
			}
			if i > 0 && groups[i-1] >= g {
				return bad("group %q: groups are in order, each once", g)
			}
		}
	}
	if why := memberFault(s.Member, apex); why != "" {
		return bad("%s", why)
	}
	return nil
}

// checkTogether says what is wrong with settings as the whole of a zone's, of which each part is good.
func checkTogether(s zones.ZoneSettings) *zones.Rejection {
	bad := func(detail string) *zones.Rejection {
		return &zones.Rejection{Rule: zones.RuleMalformed, Detail: detail}
	}
	switch {
	case s.Catalog.Role == zones.CatalogProduced && s.IsSecondary():
		return bad("a catalog that is produced here does not come from primaries")
	case s.Catalog.Role.TakesPrimaries() && !s.IsSecondary():
		return bad("a catalog that is consumed comes from primaries, and would have none")
	case s.Member.Catalog != "" && !s.IsSecondary():
		return bad("the zone was made for catalog " + s.Member.Catalog.String() + ", and comes from primaries as long as it is")
	}
	return nil
}

// memberFault says what is wrong with a membership of a zone; "" when nothing is.
func memberFault(m zones.Membership, apex zones.Name) string {
	switch {
	case m == zones.Membership{}:
		return ""
	case m.Catalog == "" || m.Label == "":
		return "a member has a catalog and a label"
	case m.Catalog == apex:
		return "a zone can't be a member of itself"
	case len(m.Label) > zones.MaxLabelLen || slices.ContainsFunc([]byte(m.Label), func(c byte) bool { return 'A' <= c && c <= 'Z' }):
		return fmt.Sprintf("the label of a member has 1 to %d octets, letters in lower case", zones.MaxLabelLen)
	}
	return ""
}

// ofCatalog says, for people, which catalog's a zone is.
func ofCatalog(m zones.Membership) string {
	if m.Catalog == "" {
		return "belongs to no catalog"
	}
	return "is of catalog " + m.Catalog.String() + " as " + strings.Trim(fmt.Sprintf("%q", m.Label), `"`)
}
