package update

import (
	"slices"

	"balefire/zones"
)

// oracle does what the pseudocode of RFC 2136 §3.2.5, §3.4.1.3 and §3.4.2.7 says, on a list of records, one after the other: what Evaluate and
// applying together are measured against. Beyond the RFC it knows the TTL of an RRset, which is that of the last record added, and that DS
// goes with the delegation. It says what the zone is afterwards; the serial is not stepped.
func oracle(z zone, m *Message) (zone, RCode) {
	has := func(z zone, owner zones.Name, t zones.Type) bool {
		return slices.ContainsFunc(z, func(r record) bool { return r.owner == owner && (t == zones.TypeANY || r.t == t) })
	}
	type set struct {
		owner zones.Name
		t     zones.Type
	}
	temp := map[set][]string{}
	var sets []set
	for _, r := range m.Prerequisites {
		switch {
		case r.TTL != 0:
			return z, FormErr
		case !r.Owner.IsAtOrBelow(m.Zone):
			return z, NotZone
		}
		switch r.Class {
		case ClassANY:
			switch {
			case len(r.RData) != 0:
				return z, FormErr
			case r.Type == zones.TypeANY && !has(z, r.Owner, zones.TypeANY):
				return z, NXDomain
			case r.Type != zones.TypeANY && !has(z, r.Owner, r.Type):
				return z, NXRRSet
			}
		case ClassNONE:
			switch {
			case len(r.RData) != 0:
				return z, FormErr
			case r.Type == zones.TypeANY && has(z, r.Owner, zones.TypeANY):
				return z, YXDomain
			case r.Type != zones.TypeANY && has(z, r.Owner, r.Type):
				return z, YXRRSet
			}
		case ClassIN:
			s := set{r.Owner, r.Type}
			if temp[s] == nil {
				sets = append(sets, s)
			}
			if !slices.Contains(temp[s], string(r.RData)) {
				temp[s] = append(temp[s], string(r.RData))
			}
		default:
			return z, FormErr
		}
	}
	for _, s := range sets {
		var present []string
		for _, r := range z {
			if r.owner == s.owner && r.t == s.t {
				present = append(present, r.rdata)
			}
		}
		slices.Sort(present)
		slices.Sort(temp[s])
		if !slices.Equal(present, temp[s]) {
			return z, NXRRSet
		}
	}
	for _, r := range m.Updates {
		any := r.Type == zones.TypeANY
		meta := r.Type.IsMeta() && !any
		switch {
		case !r.Owner.IsAtOrBelow(m.Zone):
			return z, NotZone
		case r.Class == ClassIN && (meta || any):
			return z, FormErr
		case r.Class == ClassANY && (r.TTL != 0 || len(r.RData) != 0 || meta):
			return z, FormErr
		case r.Class == ClassNONE && (r.TTL != 0 || meta || any):
			return z, FormErr
		case r.Class != ClassIN && r.Class != ClassANY && r.Class != ClassNONE:
			return z, FormErr
		}
	}
	next := slices.Clone(z)
	touched := map[zones.Name]bool{}
	remove := func(which func(r record) bool) { next = slices.DeleteFunc(next, which) }
	for _, r := range m.Updates {
		atApex := r.Owner == m.Zone
		touched[r.Owner] = true
		switch r.Class {
		case ClassIN:
			next = oracleAdd(next, r)
		case ClassANY:
			remove(func(x record) bool {
				return x.owner == r.Owner && (r.Type == zones.TypeANY || x.t == r.Type) && !(atApex && (x.t == zones.TypeSOA || x.t == zones.TypeNS))
			})
		case ClassNONE:
			if r.Type == zones.TypeSOA {
				continue
			}
			if atApex && r.Type == zones.TypeNS {
				left := 0
				for _, x := range next {
					if x.owner == m.Zone && x.t == zones.TypeNS && x.rdata != string(r.RData) {
						left++
					}
				}
				if left == 0 {
					continue
				}
			}
			remove(func(x record) bool { return x.owner == r.Owner && x.t == r.Type && x.rdata == string(r.RData) })
		}
	}
	for owner := range touched {
		if owner != m.Zone && !has(next, owner, zones.TypeNS) {
			remove(func(x record) bool { return x.owner == owner && x.t == zones.TypeDS })
		}
	}
	return next, NoError
}

// oracleAdd is RFC 2136 §3.4.2.7, the part for records that are added.
func oracleAdd(z zone, r Record) zone {
	ttl := r.TTL
	if ttl > zones.MaxTTL {
		ttl = 0
	}
	added := record{r.Owner, r.Type, ttl, string(r.RData)}
	single := r.Type == zones.TypeCNAME || r.Type == zones.TypeDNAME
	for _, x := range z {
		if x.owner == r.Owner && (r.Type == zones.TypeCNAME) != (x.t == zones.TypeCNAME) {
			return z
		}
	}
	if r.Type == zones.TypeSOA {
		for i, x := range z {
			if x.owner == r.Owner && x.t == zones.TypeSOA {
				next := slices.Clone(z)
				next[i] = added
				if next.serial().IsAfter(z.serial()) {
					return next
				}
			}
		}
		return z
	}
	next := slices.DeleteFunc(slices.Clone(z), func(x record) bool {
		if x.owner != r.Owner || x.t != r.Type {
			return false
		}
		sameWKS := r.Type == typeWKS && len(x.rdata) >= 5 && len(r.RData) >= 5 && x.rdata[:5] == string(r.RData[:5])
		return single || sameWKS || x.rdata == added.rdata
	})
	for i := range next {
		if next[i].owner == r.Owner && next[i].t == r.Type {
			next[i].ttl = ttl // an RRset has one (RFC 2181 §5.2)
		}
	}
	return append(next, added)
}
