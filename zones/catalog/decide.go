package catalog

import (
	"fmt"
	"slices"

	"balefire/zones"
)

// Owned is what a zone is to catalogs: the one that it was made for, and what that said of it then.
type Owned struct {
	// Catalog is "" for a zone that was made otherwise. Catalogs do nothing to it.
	Catalog zones.Name
	Label   string
	Groups  []string
}

// Action is what is to be done for a catalog.
type Action uint8

const (
	// Create: make the zone, with nothing in it yet.
	Create Action = iota + 1
	// Delete: remove the zone, which the catalog no longer lists, and all that is known of it.
	Delete
	// Recreate: remove the zone and all that is known of it, and make it anew: its label has changed (RFC 9432 §5.4).
	Recreate
	// Regroup: treat the zone as its other groups say.
	Regroup
	// TakeOver: the zone belongs to this catalog from now on, with all that is in it (RFC 9432 §4.3.1).
	TakeOver
	// Clash: leave the zone alone, and tell people: it belongs to something else (RFC 9432 §5.2).
	Clash
)

var actionNames = [...]string{"", "create", "delete", "recreate", "regroup", "take-over", "clash"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

// Step is an action for a zone.
type Step struct {
	Action Action
	Member Member // of Delete, the zone alone
	// Before is what the zone was, but for Create.
	Before Owned
	// Reset says, of TakeOver, that all that is known of the zone begins anew: it has another label (RFC 9432 §4.3.1).
	Reset bool
}

// Consumer is what deciding needs to know.
type Consumer interface {
	// Owned returns what a hosted zone is to catalogs; ok is false when it is not hosted.
	Owned(zone zones.Name) (owned Owned, ok bool)
	// OwnedBy returns the hosted zones that were made for a catalog.
	OwnedBy(catalog zones.Name) []zones.Name
	// Catalog returns what a catalog said when it was last whole; nil for none, and for one that has expired.
	Catalog(apex zones.Name) *Catalog
}

// Decide says what is to be done so that the hosted zones are as a catalog says, which was just found to be whole: what goes first, then by
// zone. A catalog that is broken, or has expired, is not to be decided about: its members stay as they are (RFC 9432 §5.1).
func Decide(c *Catalog, have Consumer) []Step {
	var steps []Step
	for _, m := range c.Members() {
		if s, ok := decideMember(c, m, have); ok {
			steps = append(steps, s)
		}
	}
	for _, zone := range have.OwnedBy(c.Apex) {
		// RFC 9432 §5.3: only what was made for this catalog. Others are not among these, but the answer may be older than this look.
		before, hosted := have.Owned(zone)
		if _, listed := c.Member(zone); !listed && hosted && before.Catalog == c.Apex {
			steps = append(steps, Step{Action: Delete, Member: Member{Zone: zone}, Before: before})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int {
		if ga, gb := a.Action == Delete, b.Action == Delete; ga != gb {
			if ga {
				return -1
			}
			return 1
		}
		return zones.Compare(a.Member.Zone, b.Member.Zone)
	})
	return steps
}

func decideMember(c *Catalog, m Member, have Consumer) (s Step, ok bool) {
	before, hosted := have.Owned(m.Zone)
	s = Step{Member: m, Before: before}
	switch {
	case m.Zone == c.Apex: // a catalog is a zone that is there already
		s.Action = Clash
	case !hosted:
		s.Action = Create
	case before.Catalog == c.Apex && before.Label != m.Label:
		s.Action = Recreate
	case before.Catalog == c.Apex:
		if slices.Equal(sorted(before.Groups), m.Groups) {
			return s, false
		}
		s.Action = Regroup
	case before.Catalog != "" && offers(have.Catalog(before.Catalog), m.Zone, c.Apex):
		s.Action, s.Reset = TakeOver, before.Label != m.Label
	default:
		s.Action = Clash
	}
	return s, true
}

// offers reports whether a catalog lets another take a zone over.
func offers(c *Catalog, zone, to zones.Name) bool {
	if c == nil {
		return false
	}
	m, ok := c.Member(zone)
	return ok && m.NewOwner == to
}

// Changed are the members that differ between two catalogs, for people and metrics.
type Changed struct{ Added, Removed, Relabelled, Regrouped, Offered []zones.Name }

// Compare returns what has changed from one catalog to the next. A member may be under several heads.
func Compare(from, to *Catalog) (c Changed) {
	for _, m := range to.Members() {
		old, ok := from.Member(m.Zone)
		if !ok {
			c.Added = append(c.Added, m.Zone)
			continue
		}
		if old.Label != m.Label {
			c.Relabelled = append(c.Relabelled, m.Zone)
		}
		if !slices.Equal(old.Groups, m.Groups) {
			c.Regrouped = append(c.Regrouped, m.Zone)
		}
		if old.NewOwner != m.NewOwner {
			c.Offered = append(c.Offered, m.Zone)
		}
	}
	for _, m := range from.Members() {
		if _, ok := to.Member(m.Zone); !ok {
			c.Removed = append(c.Removed, m.Zone)
		}
	}
	return c
}
