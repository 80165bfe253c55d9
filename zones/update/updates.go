package update

import (
	"bytes"
	"slices"

	"balefire/zones"
)

// prescan looks at all updates before the first is made (RFC 2136 §3.4.1), and at who may make them.
func (e *evaluation) prescan(m *Message) (RCode, string, error) {
	for i, r := range m.Updates {
		if !r.Owner.IsAtOrBelow(e.apex) {
			return NotZone, r.Owner.String() + " is not in the zone", nil
		}
		meta := r.Type.IsMeta()
		switch r.Class {
		case m.Class:
		case ClassANY:
			if r.TTL != 0 || len(r.RData) > 0 {
				return FormErr, "a removal with a TTL, or of all with RDATA", nil
			}
			meta = meta && r.Type != zones.TypeANY
		case ClassNONE:
			if r.TTL != 0 {
				return FormErr, "a removal with a TTL", nil
			}
		default:
			return FormErr, "an update in another class", nil
		}
		if meta {
			return FormErr, "an update of type " + r.Type.String(), nil
		}
		if allowed, err := e.allowed(i, r); err != nil || !allowed {
			rcode, reason, err := failure(Refused, r.Owner, err)
			return rcode, "not allowed " + reason, err
		}
	}
	return NoError, "", nil
}

// allowed reports whether an update is allowed by the policy. To remove a name, all that is there must be.
func (e *evaluation) allowed(i int, r Record) (bool, error) {
	if e.policy.may(r.Owner, r.Type) {
		return true, nil
	}
	if r.Class != ClassANY || r.Type != zones.TypeANY || !e.policy.maySome(r.Owner) {
		return false, nil
	}
	n, err := e.name(r.Owner)
	if err != nil {
		return false, err
	}
	for _, s := range n.before {
		if !e.stays(n, s.Type) && !e.policy.may(r.Owner, s.Type) {
			return false, nil
		}
	}
	if e.byType == nil {
		e.byType = map[int]bool{}
	}
	e.byType[i] = true
	return true, nil
}

// stays reports whether removals leave RRsets of a type alone: SOA and NS at the apex (RFC 2136 §3.4.2.3).
func (e *evaluation) stays(n *name, t zones.Type) bool {
	return n.owner == e.apex && (t == zones.TypeSOA || t == zones.TypeNS)
}

// updates makes the updates in their order (RFC 2136 §3.4.2).
func (e *evaluation) updates(m *Message) (RCode, string, error) {
	for i := 0; i < len(m.Updates); {
		first := m.Updates[i]
		n, err := e.name(first.Owner)
		if err != nil {
			return failure(ServFail, first.Owner, err)
		}
		end := i + 1
		for end < len(m.Updates) && sameSet(first, m.Updates[end]) {
			end++
		}
		run := m.Updates[i:end]
		switch {
		case first.Class == m.Class:
			if rcode, reason := e.add(n, run); rcode != NoError {
				return rcode, reason, nil
			}
		case first.Class == ClassNONE:
			e.removeRecords(n, run)
		case first.Type == zones.TypeANY:
			e.removeName(n, e.byType[i])
		case !e.stays(n, first.Type):
			e.removeRRset(n, first.Type)
		}
		i = end
	}
	return NoError, "", nil
}

// sameSet reports whether b, which follows a, can be made together with it: more values of the same RRset, where each of them is looked at
// in the same way.
func sameSet(a, b Record) bool {
	switch a.Type {
	case zones.TypeSOA, zones.TypeCNAME, zones.TypeDNAME, typeWKS, zones.TypeNS, zones.TypeRRSIG:
		return false
	}
	return a.Class == b.Class && a.Class != ClassANY && a.Type == b.Type && a.TTL == b.TTL && a.Owner == b.Owner
}

const typeWKS zones.Type = 11

// besideCNAME reports whether a type may be beside a CNAME (RFC 4035 §2.5).
func besideCNAME(t zones.Type) bool {
	return t == zones.TypeCNAME || t == zones.TypeRRSIG || t == zones.TypeNSEC
}

// add adds records of one RRset (RFC 2136 §3.4.2.2).
func (e *evaluation) add(n *name, run []Record) (RCode, string) {
	t, ttl := run[0].Type, run[0].TTL
	if ttl > zones.MaxTTL {
		ttl = 0 // RFC 2181 §8
	}
	if t == zones.TypeRRSIG {
		return Refused, "signatures come with a whole signed zone"
	}
	// A CNAME and other data: what is there stays, and what would be added is ignored (RFC 2136 §3.4.2.2, RFC 6672 §5.2).
	if at := slices.IndexFunc(n.now, func(s zones.RRset) bool { return !besideCNAME(s.Type) }); t == zones.TypeCNAME && at >= 0 {
		e.ignored(n, n.now[at].Type)
		return NoError, ""
	}
	if !besideCNAME(t) && n.has(zones.TypeCNAME) {
		e.ignored(n, zones.TypeCNAME)
		return NoError, ""
	}
	values := make([][]byte, len(run))
	for i, r := range run {
		values[i] = r.RData
	}
	set, err := zones.NewRRset(n.owner, t, ttl, values...)
	if err != nil {
		return FormErr, err.Error() // Parse made canonical RDATA: not to be expected
	}
	present := get(n.now, t)
	switch t {
	case zones.TypeSOA:
		// RFC 2136 §3.4.2.2: only in place of one, and only forward.
		if present.IsZero() || !set.SOASerial().IsAfter(present.SOASerial()) {
			return NoError, ""
		}
		e.exact = true // RFC 1982: whether it is forward still depends on the serial that is met
		n.put(set)
		n.ops = append(n.ops, zones.OpPutRRset{RRset: set})
		return NoError, ""
	case zones.TypeCNAME, zones.TypeDNAME:
		n.put(set) // there is only ever one
	case typeWKS:
		e.replaceWKS(n, set.First())
		present = get(n.now, t)
		fallthrough
	default:
		if present.IsZero() {
			n.put(set)
			break
		}
		union, err := present.Union(set)
		if err != nil {
			return Refused, err.Error()
		}
		n.put(union.WithTTL(ttl))
	}
	n.addOp(set)
	return NoError, ""
}

// ignored notes that an update is ignored because of an RRset at the name. That it is there may depend on its values: removals of
// some may have come before.
func (e *evaluation) ignored(n *name, because zones.Type) {
	if n.owned(because) {
		e.requireAsBefore(n, because)
	}
}

// addOp has a set's records added, together with those of an operation that adds to the same RRset, when nothing of it is removed in between.
func (n *name) addOp(set zones.RRset) {
	if at := n.lastAddition(set.Type); at >= 0 {
		together, single := set, set.Type == zones.TypeCNAME || set.Type == zones.TypeDNAME
		var err error
		if !single {
			together, err = n.ops[at].(zones.OpAddRecords).RRset.Union(set)
		}
		if err == nil {
			n.ops[at] = zones.OpAddRecords{RRset: together.WithTTL(set.TTL)}
			return
		}
	}
	n.ops = append(n.ops, zones.OpAddRecords{RRset: set})
	n.added = append(n.added, set.Type)
}

// lastAddition returns the index of the operation that added to an RRset; −1 when there is none, or something was removed after it.
func (n *name) lastAddition(t zones.Type) int {
	for i := len(n.ops) - 1; i >= 0; i-- {
		switch op := n.ops[i].(type) {
		case zones.OpAddRecords:
			if op.RRset.Type == t {
				return i
			}
		case zones.OpDeleteRecords:
			if op.RRset.Type == t {
				return -1
			}
		case zones.OpDeleteRRset:
			if op.Type == t {
				return -1
			}
		case zones.OpDeleteName:
			return -1
		}
	}
	return -1
}

// replaceWKS removes the WKS with the address and protocol of another one: they count as the same record (RFC 2136 §1.1.5, §3.4.2.2).
func (e *evaluation) replaceWKS(n *name, by []byte) {
	const same = 4 + 1
	if len(by) < same {
		return
	}
	var replaced [][]byte
	for rdata := range get(n.now, typeWKS).RDatas() {
		if len(rdata) >= same && bytes.Equal(rdata[:same], by[:same]) && !bytes.Equal(rdata, by) {
			replaced = append(replaced, rdata)
		}
	}
	e.exact = true // another one may be there meanwhile
	if replaced != nil {
		if set, err := zones.NewRRset(n.owner, typeWKS, 0, replaced...); err == nil {
			e.minus(n, set)
		}
	}
}

// removing notes that records are removed at a name that additions were made to. Whether these were ignored, where the change set is
// applied, may be because of what is then gone: a CNAME, or what a CNAME can't be beside. No precondition says that.
func (e *evaluation) removing(n *name, t zones.Type) {
	for _, added := range n.added {
		if (added == zones.TypeCNAME) != (t == zones.TypeCNAME) {
			e.exact = true
		}
	}
}

// removeRRset removes all records of a type (RFC 2136 §3.4.2.3).
func (e *evaluation) removeRRset(n *name, t zones.Type) {
	if !n.removable(t) {
		return
	}
	e.removing(n, t)
	n.remove(t)
	n.ops = append(n.ops, zones.OpDeleteRRset{Owner: n.owner, Type: t})
}

// removable reports whether there can be anything of a type to remove: of those that no precondition or operation can be about,
// only when it is there, and then the removal is refused.
func (n *name) removable(t zones.Type) bool {
	switch t {
	case zones.TypeSIG, zones.TypeKEY:
		return false
	case zones.TypeRRSIG, zones.TypeNSEC, zones.TypeNSEC3, zones.TypeNSEC3PARAM, zones.TypeDNSKEY:
		return n.owned(t)
	}
	return true
}

// removeName removes all RRsets of a name but those that stay (RFC 2136 §3.4.2.3); type by type, when not all types may be removed.
func (e *evaluation) removeName(n *name, byType bool) {
	gone := slices.DeleteFunc(slices.Clone(n.now), func(s zones.RRset) bool { return e.stays(n, s.Type) })
	if byType {
		e.exact = true
		for _, s := range gone {
			e.removeRRset(n, s.Type)
		}
		return
	}
	n.now = slices.DeleteFunc(n.now, func(s zones.RRset) bool { return !e.stays(n, s.Type) })
	n.ops = append(n.ops, zones.OpDeleteName{Owner: n.owner})
}

// removeRecords removes records of one RRset (RFC 2136 §3.4.2.4).
func (e *evaluation) removeRecords(n *name, run []Record) {
	t := run[0].Type
	if t == zones.TypeSOA || !n.removable(t) {
		return
	}
	values := make([][]byte, len(run))
	for i, r := range run {
		values[i] = r.RData
	}
	set, err := zones.NewRRset(n.owner, t, 0, values...)
	if err != nil {
		return // Parse made canonical RDATA: not to be expected
	}
	if e.stays(n, t) {
		// The last NS of the zone stays. Which is the last depends on all of them.
		e.requireAsBefore(n, t)
		if get(n.now, t).Minus(set).IsZero() {
			return
		}
	}
	e.removing(n, t)
	e.minus(n, set)
}

// minus removes records.
func (e *evaluation) minus(n *name, set zones.RRset) {
	if rest := get(n.now, set.Type).Minus(set); rest.IsZero() {
		n.remove(set.Type)
	} else {
		n.put(rest)
	}
	n.ops = append(n.ops, zones.OpDeleteRecords{RRset: set})
}
