package catalog

import (
	"fmt"
	"slices"

	"balefire/zones"
)

// Action is what is to be done for a catalog.
type Action uint8

const (
	// Create: make the zone, with nothing in it yet.
	Create Action = iota + 1
	// Delete: remove the zone, which the catalog no longer lists, and all that is known of it.
	Delete
	// Recreate: remove the zone and all that is known of it, and make it anew: its label has changed (RFC 9432 §5.4).
	Recreate
	// Update: its settings are not what the catalog asks for: groups, the new owner, where it comes from.
	Update
	// TakeOver: the zone belongs to this catalog from now on, with all that is in it (RFC 9432 §4.3.1).
	TakeOver
	// Clash: leave the zone alone, and tell people: it belongs to something else (RFC 9432 §5.2).
	Clash
)

var actionNames = [...]string{"", "create", "delete", "recreate", "update", "take-over", "clash"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

// Step is an action for a zone.
type Step struct {
	Action Action
	Zone   zones.Name
	// Want is what the settings are to be, those that catalogs are about. Zero of Delete and Clash.
	Want zones.ZoneSettings
	// Before is whose member the zone was, but for Create.
	Before zones.Membership
	// Reset says, of TakeOver, that all that is known of the zone begins anew: it has another label (RFC 9432 §4.3.1).
	Reset bool
}

// MemberParts are the settings that a catalog's consumer decides about.
const MemberParts = zones.PartPrimaries | zones.PartGroups | zones.PartNewOwner | zones.PartMember

// Settings are what a zone is to have that was made for a member of a catalog that comes from these primaries. Of the groups those are left out
// that no zone can have here.
func (c *Catalog) Settings(m Member, primaries []zones.Remote) zones.ZoneSettings {
	s := zones.ZoneSettings{Primaries: primaries, Member: zones.Membership{Catalog: c.Apex, Label: m.Label}}
	for _, g := range m.Groups {
		if zones.CheckGroup(g) == "" && len(s.Groups) < zones.MaxGroups {
			s.Groups = append(s.Groups, g)
		}
	}
	if m.NewOwner != m.Zone && m.NewOwner != c.Apex {
		s.NewOwner = m.NewOwner
	}
	return s
}

// Hosted is what deciding needs to know of the zones that are hosted. What it says may be a little old: whoever does what was decided makes
// sure that it is still so.
type Hosted interface {
	// Settings returns those of a hosted zone; ok is false when it is not hosted.
	Settings(zone zones.Name) (s zones.ZoneSettings, ok bool)
	// Members returns the hosted zones that were made for a catalog.
	Members(catalog zones.Name) []zones.Name
}

// Decide says what is to be done so that the hosted zones are as a catalog says, which was just found to be whole, and comes from
// these primaries: what goes first, then by zone. A catalog that is broken, or has expired, is not to be decided about: its members stay as
// they are (RFC 9432 §5.1).
//
// That a catalog gives a zone to another is in the zone's settings since that was decided about (NewOwner). So a zone changes hands only
// when both catalogs say so.
func Decide(c *Catalog, primaries []zones.Remote, have Hosted) []Step {
	var steps []Step
	for _, m := range c.Members() {
		if s, ok := decideMember(c, m, primaries, have); ok {
			steps = append(steps, s)
		}
	}
	for _, zone := range have.Members(c.Apex) {
		// RFC 9432 §5.3: only what was made for this catalog.
		s, hosted := have.Settings(zone)
		if _, listed := c.Member(zone); !listed && hosted && s.Member.Catalog == c.Apex {
			steps = append(steps, Step{Action: Delete, Zone: zone, Before: s.Member})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int {
		if ga, gb := a.Action == Delete, b.Action == Delete; ga != gb {
			if ga {
				return -1
			}
			return 1
		}
		return zones.Compare(a.Zone, b.Zone)
	})
	return steps
}

func decideMember(c *Catalog, m Member, primaries []zones.Remote, have Hosted) (s Step, ok bool) {
	is, hosted := have.Settings(m.Zone)
	s = Step{Zone: m.Zone, Before: is.Member, Want: c.Settings(m, primaries)}
	switch {
	case m.Zone == c.Apex: // a catalog is a zone that is there already
		s.Action = Clash
	case !hosted:
		s.Action = Create
	case is.Member.Catalog == c.Apex && is.Member.Label != m.Label:
		s.Action = Recreate
	case is.Member.Catalog == c.Apex:
		if is.With(MemberParts, s.Want).Equal(is) {
			return s, false
		}
		s.Action = Update
	case is.Member.Catalog != "" && is.Member.Catalog == m.NewOwner: // as this catalog wants it
		return s, false
	case is.Member.Catalog != "" && is.NewOwner == c.Apex:
		s.Action, s.Reset = TakeOver, is.Member.Label != m.Label
	default:
		s.Action, s.Want = Clash, zones.ZoneSettings{}
	}
	return s, true
}
