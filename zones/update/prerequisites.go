package update

import (
	"bytes"
	"errors"
	"slices"

	"balefire/zones"
)

// prerequisites looks at the prerequisites in their order (RFC 2136 §3.2): the first that is malformed, or does not hold, is the answer. RRsets
// with values come last, when all of their records are known.
func (e *evaluation) prerequisites(m *Message) (RCode, string, error) {
	var valued []fact
	values := map[fact][][]byte{}
	for _, r := range m.Prerequisites {
		if r.TTL != 0 {
			return FormErr, "a prerequisite with a TTL", nil
		}
		if !r.Owner.IsAtOrBelow(e.apex) {
			return NotZone, r.Owner.String() + " is not in the zone", nil
		}
		switch r.Class {
		case ClassANY, ClassNONE:
			if len(r.RData) > 0 {
				return FormErr, "a prerequisite with RDATA in class ANY or NONE", nil
			}
			if rcode, err := e.prerequisite(r); err != nil || rcode != NoError {
				return failure(rcode, r.Owner, err)
			}
		case m.Class:
			f := fact{'=', r.Owner, r.Type}
			if values[f] == nil {
				valued = append(valued, f)
			}
			values[f] = append(values[f], r.RData)
		default:
			return FormErr, "a prerequisite in another class", nil
		}
	}
	for _, f := range valued {
		equal, err := e.hasValues(f, values[f])
		if err != nil || !equal {
			return failure(NXRRSet, f.owner, err)
		}
	}
	return NoError, "", nil
}

// failure is what a step returns that failed.
func failure(rcode RCode, owner zones.Name, err error) (RCode, string, error) {
	if errors.Is(err, errTooLarge) {
		return Refused, err.Error(), nil
	}
	return rcode, "at " + owner.String(), err
}

// askable reports whether a change set's precondition can be about a type. The zone has none of the others, or came signed.
func askable(t zones.Type) bool {
	switch t {
	case zones.TypeSIG, zones.TypeKEY, zones.TypeRRSIG, zones.TypeNSEC3:
		return false
	}
	return !t.IsMeta()
}

// prerequisite says whether a prerequisite without values holds (RFC 2136 §2.4.1, §2.4.3 to §2.4.5).
func (e *evaluation) prerequisite(r Record) (RCode, error) {
	n, err := e.name(r.Owner)
	if err != nil {
		return NoError, err
	}
	wanted := r.Class == ClassANY
	if r.Type == zones.TypeANY {
		switch inUse := len(n.before) > 0; {
		case wanted && !inUse:
			return NXDomain, nil
		case !wanted && inUse:
			return YXDomain, nil
		case wanted:
			e.require('n', r.Owner, 0, zones.IfNameInUse{Owner: r.Owner})
		default:
			e.require('N', r.Owner, 0, zones.IfNameNotInUse{Owner: r.Owner})
		}
		return NoError, nil
	}
	switch exists := n.owned(r.Type); {
	case wanted && !exists:
		return NXRRSet, nil
	case !wanted && exists:
		return YXRRSet, nil
	case !askable(r.Type):
	case wanted:
		e.require('+', r.Owner, r.Type, zones.IfRRsetExists{Owner: r.Owner, Type: r.Type})
	default:
		e.require('-', r.Owner, r.Type, zones.IfRRsetAbsent{Owner: r.Owner, Type: r.Type})
	}
	return NoError, nil
}

// hasValues says whether an RRset has exactly these values (RFC 2136 §2.4.2). TTLs are not compared.
func (e *evaluation) hasValues(f fact, values [][]byte) (bool, error) {
	n, err := e.name(f.owner)
	if err != nil {
		return false, err
	}
	var present [][]byte
	for _, s := range n.before {
		if s.Type == f.t {
			present = slices.AppendSeq(present, s.RDatas())
		}
	}
	slices.SortFunc(present, bytes.Compare)
	slices.SortFunc(values, bytes.Compare)
	values = slices.CompactFunc(values, bytes.Equal)
	if !slices.EqualFunc(present, values, bytes.Equal) {
		return false, nil
	}
	if askable(f.t) {
		e.requireAsBefore(n, f.t)
	}
	return true, nil
}
