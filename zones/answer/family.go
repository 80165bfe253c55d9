package answer

import "balefire/zones"

// Family is a set of questions to a zone whose answers are the same, but for the name that was asked for: it is in the question, and
// before the records that a wildcard made. So many names can share what was made for one of them.
type Family uint8

const (
	// Single: the answer is that of its question alone.
	Single Family = iota
	// BelowCut: names at or below one zone cut, of all types that the child would be asked for.
	BelowCut
	// FromWildcard: names that one wildcard stands for, and one type.
	FromWildcard
	// NoSuchName: names that don't exist and have one closest encloser, of all types.
	NoSuchName
)

// Family returns the family of the question that a was begun with; a.Encloser tells it from others of the kind. Whether the answer is
// really shared is known when it is finished: see Shared.
func (a *Answer) Family() Family {
	switch {
	case a.place == delegated:
		return BelowCut
	case a.place == missing:
		return NoSuchName
	case a.expanded():
		return FromWildcard
	}
	return Single
}

// Type returns the type that a question of the family has to share with the others; 0 when all have the same answer.
func (f Family) Type(t zones.Type) zones.Type {
	if f == FromWildcard {
		return t
	}
	return 0
}

// Shared reports whether a, which was begun and finished, is the answer of all questions of its Family with the same DNSSEC.
func (a *Answer) Shared() bool {
	switch {
	case a.aliases > 0: // what they lead to is another name's
		return false
	case a.Kind == Referral:
		return true
	}
	// Proofs are of the name that was asked for.
	return a.Family() != Single && (!a.q.DNSSEC || a.denial == denialNone)
}
