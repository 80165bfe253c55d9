package answer

import "balefire/zones"

// denial is how the zone proves that something is absent.
type denial uint8

const (
	denialUnknown denial = iota
	denialNone           // the zone is not signed
	denialNSEC           // RFC 4034 §4
	denialNSEC3          // RFC 5155
)

// expansion is a wildcard's expansion in the answer section: that no closer match exists has to be proven.
type expansion struct{ name, encloser zones.Name }

// putProofs puts what a validator needs to believe the answer (RFC 4035 §3.1.3, RFC 5155 §7.2).
func (a *Answer) putProofs() error {
	if !a.q.DNSSEC {
		return nil
	}
	if a.Kind == Referral {
		// RFC 4035 §3.1.4: the DS, or the proof that there is none. A zone that is not signed keeps its DS
		// to itself: nobody could believe them.
		ds, ok := a.at.Cut.RRset(zones.TypeDS)
		if e := a.entry(SectionAuthority, a.at.Cut, ds); ok && !e.Signatures.IsZero() {
			a.add(e)
			return a.proveExpansions()
		}
	}
	if a.Kind == Positive && len(a.expansions) == 0 {
		return nil
	}
	if err := a.findDenial(); err != nil || a.denial == denialNone {
		return err
	}
	if err := a.proveOutcome(); err != nil {
		return err
	}
	return a.proveExpansions()
}

// findDenial finds out how the zone proves absence.
func (a *Answer) findDenial() error {
	if a.denial != denialUnknown {
		return nil
	}
	a.denial = denialNone
	switch params, ok := a.apex.RRset(zones.TypeNSEC3PARAM); {
	case ok:
		return a.useNSEC3(params)
	case a.apex.Has(zones.TypeNSEC):
		a.denial = denialNSEC
	}
	return nil
}

// proveOutcome proves what the chain of aliases ended in.
func (a *Answer) proveOutcome() error {
	nsec3 := a.denial == denialNSEC3
	switch {
	case a.Kind == Referral && nsec3:
		return a.matchNSEC3(a.at.Cut.Owner)
	case a.Kind == Referral:
		return a.proveNSEC(a.at.Cut.Owner)
	case a.Kind == NameError && nsec3:
		return a.denyNSEC3()
	case a.Kind == NameError:
		return a.denyNSEC()
	case a.Kind == NoData && a.expanded() && nsec3:
		return a.denyNSEC3() // RFC 5155 §7.2.5: here the wildcard's NSEC3 matches, and shows its types
	case a.Kind == NoData && a.expanded():
		return a.denyNSEC() // RFC 4035 §3.1.3.4: likewise
	case a.Kind == NoData && nsec3:
		return a.matchNSEC3(a.name)
	case a.Kind == NoData:
		return a.proveNSEC(a.name)
	}
	return nil
}

// proveExpansions proves for each wildcard expansion that nothing matches more closely.
func (a *Answer) proveExpansions() error {
	if len(a.expansions) == 0 {
		return nil
	}
	if err := a.findDenial(); err != nil || a.denial == denialNone {
		return err
	}
	for _, x := range a.expansions {
		var err error
		if a.denial == denialNSEC3 {
			// RFC 5155 §7.2.6: the RRSIG's label count tells the closest encloser, so the next closer name is enough.
			err = a.proveNSEC3(nextCloser(x.name, x.encloser))
		} else {
			err = a.proveNSEC(x.name) // RFC 4035 §3.1.3.3
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// denyNSEC proves that a.name has no closer match than the wildcard of its closest encloser, and what
// that is (RFC 4035 §3.1.3.2).
func (a *Answer) denyNSEC() error {
	if err := a.proveNSEC(a.name); err != nil {
		return err
	}
	return a.proveNSEC(a.wildcardOf(a.at.Encloser.Owner))
}

// proveNSEC puts the NSEC that matches name, or covers it.
func (a *Answer) proveNSEC(name zones.Name) error {
	node, err := a.view.FindNSEC(name)
	if err != nil || node.IsZero() {
		return err
	}
	if set, ok := node.RRset(zones.TypeNSEC); ok {
		a.addDenial(node, set)
	}
	return nil
}

// wildcardOf returns *.encloser, in memory that the next call uses again. It fits: encloser is
// shorter than the name looked up, by a label at least.
func (a *Answer) wildcardOf(encloser zones.Name) zones.Name {
	return zones.NameView(append(append(a.wildcard[:0], 1, '*'), encloser...))
}

// nextCloser returns the name that is one label longer than encloser on the way to name (RFC 5155 §1.3).
func nextCloser(name, encloser zones.Name) zones.Name {
	next := name
	for len(name) > len(encloser) {
		next, name = name, name.Parent()
	}
	return next
}
