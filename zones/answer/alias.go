package answer

import "balefire/zones"

// MaxAliases is the number of CNAMEs, synthesised ones among them, that an answer holds at most. A chain
// that goes on after them ends there with NOERROR, and a resolver asks for the rest by itself (RFC 1034
// §4.3.2 leaves the number open; resolvers give up at 8 to 16).
const MaxAliases = 16

// extendedOther is the INFO-CODE "Other" (RFC 8914 §4.1), given when a chain is cut at MaxAliases.
const extendedOther = 0

// followsAliases reports whether an alias stands in for type t. It does not for the alias itself, nor for
// RRSIG and NSEC, which may stand beside a CNAME and are its own (RFC 4035 §2.5).
func followsAliases(t zones.Type) bool {
	switch t {
	case zones.TypeCNAME, zones.TypeRRSIG, zones.TypeNSEC:
		return false
	}
	return true
}

// putCNAME puts the CNAME of a.found, and goes on at its target (RFC 1034 §4.3.2 step 3a).
func (a *Answer) putCNAME(set zones.RRset) (more bool) {
	if !a.putPositive(set) {
		return false // a loop: each alias is in the answer once
	}
	a.aliases++
	target, ok := zones.Target(zones.TypeCNAME, set.First())
	return ok && a.goOn(target)
}

// putDNAME puts the DNAME that a.name is below, and the CNAME that it makes (RFC 6672 §3.2).
func (a *Answer) putDNAME() (more bool) {
	set, _ := a.found.RRset(zones.TypeDNAME)
	a.Kind = Positive
	a.add(a.entry(SectionAnswer, a.found, set)) // already there when the chain passes it again
	to, ok := zones.Target(zones.TypeDNAME, set.First())
	if !ok {
		return false
	}
	prefix := a.name[:len(a.name)-len(set.Owner)]
	if len(prefix)+len(to) > zones.MaxNameLen {
		a.RCode = YXDomain // RFC 6672 §2.2
		return false
	}
	alias, target := a.synthesise(set.TTL, prefix, to)
	if !a.add(Entry{Section: SectionAnswer, RRset: alias}) { // unsigned: RFC 6672 §5.3.1
		return false // a loop
	}
	a.aliases++
	if a.q.Type == zones.TypeCNAME {
		return false // that is what was asked for
	}
	// RRSIG, NSEC and ANY go on, unlike at a CNAME of the zone: here nothing of the zone's own is at this name.
	return a.goOn(target)
}

// goOn continues the chain at target, and reports whether it does: not outside the zone, even if another
// zone of this server has the name, so that answers don't depend on which zones are together on a node.
func (a *Answer) goOn(target zones.Name) bool {
	if !target.IsAtOrBelow(a.apex.Owner) {
		return false
	}
	if a.aliases == MaxAliases {
		a.ExtendedError = extendedOther
		return false
	}
	a.name = target
	return true
}

// synthesise makes the CNAME from a.name to prefix.to in a's own memory.
func (a *Answer) synthesise(ttl uint32, prefix, to zones.Name) (alias zones.RRset, target zones.Name) {
	size := len(prefix) + len(to)
	start := len(a.names)
	a.names = append(a.names, 0, byte(zones.TypeCNAME), 0, 0,
		byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl),
		0, 1, // one RDATA
		0, 0, byte((2+size)>>8), byte(2+size),
		byte(size>>8), byte(size))
	name := len(a.names)
	a.names = append(a.names, prefix...)
	a.names = append(a.names, to...)
	// When a.names grows it moves; names that were made before stay where they were, unharmed.
	alias, _, err := zones.ReadPacked(a.name, a.names[start:])
	if err != nil {
		panic("answer: a synthesised CNAME is malformed") // the octets above are fixed
	}
	return alias, zones.NameView(a.names[name:len(a.names):len(a.names)])
}
