package answer

import (
	"errors"
	"fmt"

	"balefire/zones"
)

// Errors of Resolve. Those of the view come through, wrapped.
var (
	ErrOutside = errors.New("the name asked for is not in the zone")
	ErrNoSOA   = errors.New("the zone has no SOA")
)

// place says where a name stands in the zone: the outcomes of RFC 1034 §4.3.2 step 3.
type place uint8

const (
	delegated  place = iota // 3b: at or below a zone cut
	redirected              // 3c, RFC 6672 §3.2: below a DNAME
	present                 // 3a: it exists, or 3c: a wildcard matches it
	missing                 // 3c: there is no such name
)

// Resolve answers q from v into a, which it resets. An error means that the truth is unknown (the view
// could not be read, or is not a zone), so the client has to be told SERVFAIL; a's content is then of no use.
func Resolve(v zones.View, q Question, a *Answer) error {
	if err := Begin(v, q, a); err != nil {
		return err
	}
	return a.Finish()
}

// Begin is the first part of Resolve: it finds where the name stands, and so a.Encloser and a.Family.
func Begin(v zones.View, q Question, a *Answer) error {
	a.Reset()
	a.view, a.q, a.name, a.apex = v, q, q.Name, v.Apex()
	if !q.Name.IsAtOrBelow(a.apex.Owner) {
		return ErrOutside
	}
	if !a.apex.Has(zones.TypeSOA) {
		return ErrNoSOA
	}
	return a.locate()
}

// Finish is the rest of Resolve.
func (a *Answer) Finish() error {
	for a.putAnswer() { // QNAME, then each alias target inside the zone, to MaxAliases
		if err := a.locate(); err != nil {
			return err
		}
	}
	a.putAuthority()
	if err := a.putProofs(); err != nil {
		return fmt.Errorf("prove the denial of %s: %w", a.name, err)
	}
	if err := a.putAdditional(); err != nil {
		return fmt.Errorf("look additional names up: %w", err)
	}
	return nil
}

// locate finds a.name in the zone.
func (a *Answer) locate() error {
	if err := a.view.Find(a.name, &a.at); err != nil {
		return fmt.Errorf("look %s up: %w", a.name, err)
	}
	cut := a.at.Cut.Owner
	switch {
	// RFC 4035 §3.1.4.1: the DS of a delegation belongs to the parent, which is authoritative for it.
	case !a.at.Cut.IsZero() && (a.q.Type != zones.TypeDS || a.name != cut):
		a.place, a.Encloser = delegated, cut
	case a.at.Exact:
		a.place, a.found, a.Encloser = present, a.at.Node, a.name
	case a.at.Encloser.Has(zones.TypeDNAME): // nothing can be below a DNAME, so it is the closest encloser
		a.place, a.found, a.Encloser = redirected, a.at.Encloser, a.at.Encloser.Owner
	default:
		a.Encloser = a.at.Encloser.Owner
		return a.locateWildcard()
	}
	return nil
}

// locateWildcard looks for the source of synthesis: the asterisk label below the closest encloser, and
// no other (RFC 4592 §3.3.1). It may be an empty non-terminal (§2.2.2).
func (a *Answer) locateWildcard() error {
	if err := a.view.Find(a.wildcardOf(a.at.Encloser.Owner), &a.wild); err != nil {
		return fmt.Errorf("look for a wildcard that matches %s: %w", a.name, err)
	}
	a.place = missing
	if a.wild.Exact {
		a.place, a.found = present, a.wild.Node
	}
	return nil
}

// expanded reports whether a wildcard stands for a.name.
func (a *Answer) expanded() bool { return a.place == present && !a.at.Exact }

// putAnswer puts into the answer section what the zone has for a.name. It reports whether a.name is now
// an alias target that has to be looked up in its turn.
func (a *Answer) putAnswer() (more bool) {
	// RFC 6604 §2.1: AA is about the first owner name of the answer section; the RCODE about the last.
	a.Authoritative = a.Authoritative || a.place != delegated
	switch a.place {
	case delegated:
		a.Kind = Referral
	case redirected:
		return a.putDNAME()
	case present:
		return a.putFound()
	case missing:
		a.Kind, a.RCode = NameError, NXDomain
	}
	return false
}

func (a *Answer) putFound() (more bool) {
	switch a.q.Type {
	case zones.TypeANY:
		return a.putSome(isPlain)
	case zones.TypeRRSIG:
		return a.putSome(isSignature)
	}
	if set, ok := a.found.RRset(a.q.Type); ok {
		a.putPositive(set)
		return false
	}
	if set, ok := a.found.RRset(zones.TypeCNAME); ok && followsAliases(a.q.Type) {
		return a.putCNAME(set)
	}
	a.Kind = NoData
	return false
}

// putSome answers what asks for many types with one RRset (RFC 8482 §4.1): the first that fits, in the
// order of keys, or else the first there is.
func (a *Answer) putSome(fits func(zones.Key) bool) (more bool) {
	var some zones.RRset
	for set := range a.found.RRsets() {
		if some.IsZero() && a.q.Type == zones.TypeANY {
			some = set
		}
		if fits(set.Key) {
			some = set
			break
		}
	}
	if some.IsZero() {
		a.Kind = NoData
		return false
	}
	a.putPositive(some)
	return false
}

func isPlain(k zones.Key) bool     { return k.Type != zones.TypeRRSIG && k.Type != zones.TypeNSEC }
func isSignature(k zones.Key) bool { return k.Type == zones.TypeRRSIG }

// putPositive puts an RRset of a.found into the answer section, under the name that was looked up. It
// reports whether it was new there.
func (a *Answer) putPositive(set zones.RRset) bool {
	e := a.entry(SectionAnswer, a.found, set)
	if a.expanded() {
		e.RRset, e.Signatures = e.RRset.WithOwner(a.name), e.Signatures.WithOwner(a.name)
	}
	if !a.add(e) {
		return false
	}
	a.Kind = Positive
	if a.expanded() && a.q.DNSSEC {
		a.expansions = append(a.expansions, expansion{a.name, a.at.Encloser.Owner})
	}
	return true
}

// entry makes an entry of an RRset of node, with its signatures when they are wanted.
func (a *Answer) entry(s Section, node zones.Node, set zones.RRset) Entry {
	e := Entry{Section: s, RRset: set}
	if a.q.DNSSEC {
		e.Signatures, _ = node.Signatures(set.Type)
	}
	return e
}

// add adds an entry, unless there is one of the same owner and key.
func (a *Answer) add(e Entry) bool {
	for i := range a.Entries {
		if has := &a.Entries[i].RRset; has.Key == e.RRset.Key && has.Owner == e.RRset.Owner {
			return false
		}
	}
	a.Entries = append(a.Entries, e)
	return true
}
