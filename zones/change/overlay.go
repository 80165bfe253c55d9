package change

import (
	"slices"

	"balefire/zones"
)

// maxRead is how many octets of nodes one record may look at: operations on many of the largest names at once are
// rejected, before they cost memory. It is part of the format level.
const maxRead = 16 << 20

// overlay is a zone as the operations of a change set have changed it so far, over what it was.
type overlay struct {
	base    Base
	apex    zones.Name
	source  zones.Source
	nodes   map[site]*touched // every site that was looked at; never ranged over
	changed []site            // sites that an operation named, in the order of the operations
	read    int               // octets of nodes
}

// site is where RRsets are: at an owner name, among the names of the zone or, hashed, in its NSEC3 chain.
type site struct {
	owner  zones.Name
	hashed bool
}

func siteOf(s zones.RRset) site { return site{s.Owner, s.Hashed()} }

// compareSites is the order of zones.CompareRRsets.
func compareSites(a, b site) int {
	if a.hashed != b.hashed {
		if a.hashed {
			return 1
		}
		return -1
	}
	return zones.Compare(a.owner, b.owner)
}

// touched is one owner name, before the change set and now.
type touched struct {
	before, after []zones.RRset // in the order of their keys
	named         bool          // it is in overlay.changed
}

// at returns an owner name of the zone, for reading.
func (o *overlay) at(owner zones.Name) (*touched, *zones.Rejection, error) {
	return o.look(site{owner: owner})
}

// look returns what is at a site, for reading.
func (o *overlay) look(at site) (*touched, *zones.Rejection, error) {
	if t, ok := o.nodes[at]; ok {
		return t, nil, nil
	}
	owner, read := at.owner, o.base.Node
	if at.hashed {
		read = o.base.Hashed
	}
	node, err := read(owner)
	if err != nil {
		return nil, nil, err
	}
	if o.read += len(node.Packed()); o.read > maxRead {
		return nil, &zones.Rejection{Rule: zones.RuleTooLarge, Owner: owner, Op: -1, Detail: "too much data is at the names that it is about"}, nil
	}
	t := &touched{}
	for s := range node.RRsets() {
		s.Owner = owner
		t.before = append(t.before, s)
	}
	t.after = slices.Clone(t.before)
	o.nodes[at] = t
	return t, nil, nil
}

// change returns what is at a site, for an operation to change.
func (o *overlay) change(at site) (*touched, *zones.Rejection, error) {
	t, rej, err := o.look(at)
	if rej != nil || err != nil {
		return nil, rej, err
	}
	if !t.named {
		t.named = true
		o.changed = append(o.changed, at)
	}
	return t, nil, nil
}

// changeSOA is change of the apex, for one who looks at nothing but the SOA: the other RRsets need not be read.
func (o *overlay) changeSOA() (*touched, *zones.Rejection, error) {
	apex := site{owner: o.apex}
	if _, ok := o.nodes[apex]; ok {
		return o.change(apex)
	}
	soa, err := o.base.SOA()
	if err != nil {
		return nil, nil, err
	}
	t := &touched{named: true}
	if !soa.IsZero() {
		t.before, t.after = []zones.RRset{soa}, []zones.RRset{soa}
	}
	o.nodes[apex] = t
	o.changed = append(o.changed, apex)
	return t, nil, nil
}

func find(sets []zones.RRset, k zones.Key) (at int, ok bool) {
	return slices.BinarySearchFunc(sets, k, func(s zones.RRset, k zones.Key) int { return s.Key.Compare(k) })
}

// get returns the RRset as it is now; zero when there is none.
func (t *touched) get(k zones.Key) zones.RRset {
	if at, ok := find(t.after, k); ok {
		return t.after[at]
	}
	return zones.RRset{}
}

func (t *touched) put(s zones.RRset) {
	at, ok := find(t.after, s.Key)
	if ok {
		t.after[at] = s
		return
	}
	t.after = slices.Insert(t.after, at, s)
}

func (t *touched) remove(k zones.Key) {
	if at, ok := find(t.after, k); ok {
		t.after = slices.Delete(t.after, at, at+1)
	}
}

// had and has say whether the name owned, and owns, an RRset of type ty.
func (t *touched) had(ty zones.Type) bool { _, ok := find(t.before, zones.Key{Type: ty}); return ok }
func (t *touched) has(ty zones.Type) bool { _, ok := find(t.after, zones.Key{Type: ty}); return ok }

// differs reports whether anything changed.
func (t *touched) differs() bool {
	return !slices.EqualFunc(t.before, t.after, func(a, b zones.RRset) bool { return a.Equal(b) })
}

// changes appends what changed, in the order of keys.
func (t *touched) changes(dst []zones.RRsetChange, owner zones.Name) []zones.RRsetChange {
	before, after := t.before, t.after
	for len(before) > 0 || len(after) > 0 {
		c := zones.RRsetChange{Owner: owner}
		var order int
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = before[0].Key.Compare(after[0].Key)
		}
		if order <= 0 {
			c.Key, c.Before, before = before[0].Key, before[0], before[1:]
		}
		if order >= 0 {
			c.Key, c.After, after = after[0].Key, after[0], after[1:]
		}
		if !c.Before.Equal(c.After) {
			dst = append(dst, c)
		}
	}
	return dst
}

// checkNodes applies the rules of a valid zone to every site that changed. dnames says whether the zone had any DNAME before.
func (o *overlay) checkNodes(dnames bool) (*zones.Rejection, error) {
	for _, at := range o.changed {
		dnames = dnames || o.nodes[at].has(zones.TypeDNAME)
	}
	for _, at := range o.changed {
		t := o.nodes[at]
		if !t.differs() {
			continue
		}
		if at.hashed {
			if rej := o.checkHashed(t); rej != nil {
				return rej, nil
			}
			continue
		}
		var rules nodeRules
		for _, s := range t.after {
			if rej := checkRRset(s, o.apex, o.source); rej != nil {
				return rej, nil
			}
			if rej := rules.add(s, o.apex); rej != nil {
				return rej, nil
			}
		}
		if rej := rules.finish(at.owner, o.apex); rej != nil {
			return rej, nil
		}
		if !dnames {
			continue
		}
		// Either the name is new, and a DNAME may be above it, or a DNAME is, and names may be below it.
		if len(t.before) == 0 && len(t.after) > 0 {
			if rej, err := o.checkAbove(at.owner, t.after[0]); rej != nil || err != nil {
				return rej, err
			}
		}
		if t.has(zones.TypeDNAME) && !t.had(zones.TypeDNAME) {
			if rej, err := o.checkBelow(at.owner); rej != nil || err != nil {
				return rej, err
			}
		}
	}
	return nil, nil
}

// checkHashed applies the rules to a site in the NSEC3 chain.
func (o *overlay) checkHashed(t *touched) *zones.Rejection {
	for _, s := range t.after {
		if rej := checkRRset(s, o.apex, o.source); rej != nil {
			return rej
		}
		if rej := checkHashedOwner(s, o.apex); rej != nil {
			return rej
		}
	}
	return nil
}

// checkAbove refuses the name of s when an ancestor has a DNAME.
func (o *overlay) checkAbove(owner zones.Name, s zones.RRset) (*zones.Rejection, error) {
	for owner != o.apex {
		owner = owner.Parent()
		t, rej, err := o.at(owner)
		if rej != nil || err != nil {
			return rej, err
		}
		if t.has(zones.TypeDNAME) {
			return belowDNAME(s, owner), nil
		}
	}
	return nil, nil
}

// checkBelow refuses the DNAME at dname when a name below it was there before and still is; checkAbove finds the new
// ones. Names that the change set emptied are passed over, which bounds the walk by its size.
func (o *overlay) checkBelow(dname zones.Name) (*zones.Rejection, error) {
	for owner := dname; ; {
		next, err := o.base.Next(owner)
		if err != nil || next == "" || !next.IsBelow(dname) {
			return nil, err
		}
		if t, ok := o.nodes[site{owner: next}]; !ok || len(t.after) > 0 {
			return &zones.Rejection{
				Rule: zones.RuleBelowDNAME, Owner: dname, Type: zones.TypeDNAME, Op: -1,
				Detail: "there is data below it, at " + next.String() + " (RFC 6672 §2.4)",
			}, nil
		}
		owner = next
	}
}
