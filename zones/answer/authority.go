package answer

import (
	"encoding/binary"

	"balefire/zones"
)

// putAuthority puts the SOA of a denial, or the NS of a referral. Positive answers need neither.
func (a *Answer) putAuthority() {
	switch a.Kind {
	case NoData, NameError:
		if soa, ok := a.apex.RRset(zones.TypeSOA); ok {
			a.addDenial(a.apex, soa)
		}
	case Referral:
		// No signatures: the delegation's NS belong to the child (RFC 4035 §3.1.4).
		if ns, ok := a.at.Cut.RRset(zones.TypeNS); ok {
			a.add(Entry{Section: SectionAuthority, RRset: ns})
		}
	}
}

// addDenial puts an RRset whose TTL says for how long an absence may be believed (RFC 2308 §3, and for
// NSEC and NSEC3 RFC 9077 §3).
func (a *Answer) addDenial(node zones.Node, set zones.RRset) {
	e := a.entry(SectionAuthority, node, set)
	soa, _ := a.apex.RRset(zones.TypeSOA)
	negative := negativeTTL(soa)
	e.RRset.TTL = min(e.RRset.TTL, negative)
	e.Signatures.TTL = min(e.Signatures.TTL, negative)
	a.add(e)
}

// negativeTTL returns the lesser of the SOA's TTL and its MINIMUM field, which is the last of its RDATA.
func negativeTTL(soa zones.RRset) uint32 {
	rdata := soa.First()
	if len(rdata) < 4 {
		return soa.TTL
	}
	return min(soa.TTL, binary.BigEndian.Uint32(rdata[len(rdata)-4:]))
}
