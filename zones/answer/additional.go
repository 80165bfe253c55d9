package answer

import "balefire/zones"

// MaxAdditional is the number of names whose addresses an answer gives without being obliged to. A
// message has room for few more, and each costs a look-up.
const MaxAdditional = 13

// putAdditional puts the addresses of names in the RDATA of what is in the other sections, as far as
// the zone itself has them (RFC 1034 §4.3.2 step 6). Wildcards make no addresses here.
func (a *Answer) putAdditional() error {
	for i := range a.Entries {
		e := a.Entries[i] // by value: a.Entries grows below
		switch {
		case e.Section == SectionAuthority && e.RRset.Type == zones.TypeNS:
			return a.putGlue(e.RRset)
		case e.Section == SectionAnswer && hasAddresses(e.RRset.Type):
			if err := a.putAddresses(e.RRset, "", e.RRset.Type == zones.TypeNS); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasAddresses reports whether the names in the RDATA of type t are of hosts that the client will ask for next.
func hasAddresses(t zones.Type) bool {
	switch t {
	case zones.TypeNS, zones.TypeMX, zones.TypeSRV, zones.TypeSVCB, zones.TypeHTTPS:
		return true
	}
	return false
}

// putGlue puts the addresses of a referral's name servers. Those of servers inside the delegation, which
// can't be found otherwise, are no option (RFC 9471 §3.1); those elsewhere in the zone are (§3.2).
func (a *Answer) putGlue(ns zones.RRset) error {
	for rdata := range ns.RDatas() {
		if target, ok := zones.Target(zones.TypeNS, rdata); ok && target.IsAtOrBelow(ns.Owner) {
			if err := a.putHost(target, true, false); err != nil {
				return err
			}
		}
	}
	return a.putAddresses(ns, ns.Owner, true)
}

// putAddresses puts the addresses of the targets of set, except for those at or below done. Names below
// a zone cut count when glue is set.
func (a *Answer) putAddresses(set zones.RRset, done zones.Name, glue bool) error {
	tried := 0
	for rdata := range set.RDatas() {
		target, ok := zones.Target(set.Type, rdata)
		if !ok {
			continue
		}
		if target == zones.Root && (set.Type == zones.TypeSVCB || set.Type == zones.TypeHTTPS) {
			target = set.Owner // RFC 9460 §2.5.2: the owner itself
		}
		if !target.IsAtOrBelow(a.apex.Owner) || done != "" && target.IsAtOrBelow(done) {
			continue
		}
		if tried++; tried > MaxAdditional {
			return nil
		}
		if err := a.putHost(target, glue, true); err != nil {
			return err
		}
	}
	return nil
}

// putHost puts the addresses that the zone has at name itself.
func (a *Answer) putHost(name zones.Name, glue, optional bool) error {
	if err := a.view.Find(name, &a.around); err != nil {
		return err
	}
	occluded := !a.around.Cut.IsZero()
	if occluded && !glue {
		return nil
	}
	for _, t := range [...]zones.Type{zones.TypeA, zones.TypeAAAA} {
		set, ok := a.around.Node.RRset(t)
		if !ok {
			continue
		}
		e := a.entry(SectionAdditional, a.around.Node, set)
		e.Optional = optional
		if occluded {
			e.Signatures = zones.RRset{} // glue is not signed (RFC 4035 §2.2)
		}
		a.add(e)
	}
	return nil
}
