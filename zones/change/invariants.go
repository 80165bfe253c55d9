package change

import (
	"bytes"
	"fmt"

	"balefire/zones"
)

// What a valid zone is, said once. Sequence asks these rules of whole zones, Apply of the names that a
// change set touched. Rules about one RRset are in checkRRset, about one owner name in nodeRules, about
// what is below a DNAME in Sequence and overlay, who walk the zone differently.

// reject makes a Rejection about s; whoever knows the operation sets Op.
func reject(rule zones.Rule, s zones.RRset, format string, args ...any) *zones.Rejection {
	return &zones.Rejection{Rule: rule, Owner: s.Owner, Type: s.Type, Op: -1, Detail: fmt.Sprintf(format, args...)}
}

// typeKept says whether a zone can hold RRsets of type t. SIG and KEY are refused: nothing needs them since
// RFC 3755, and verifying them has taken servers down (CVE-2024-1975).
func typeKept(t zones.Type) bool { return !t.IsMeta() && t != zones.TypeSIG && t != zones.TypeKEY }

// typeSigning says whether RRsets of type t are a signer's work, of one piece with the rest of the zone.
func typeSigning(t zones.Type) bool {
	switch t {
	case zones.TypeRRSIG, zones.TypeNSEC, zones.TypeNSEC3, zones.TypeNSEC3PARAM, zones.TypeDNSKEY:
		return true
	}
	return false
}

// checkName refuses names that are not in the zone.
func checkName(owner, apex zones.Name, t zones.Type) *zones.Rejection {
	if owner == "" {
		return &zones.Rejection{Rule: zones.RuleMalformed, Type: t, Op: -1, Detail: "no owner name"}
	}
	if !owner.IsAtOrBelow(apex) {
		return &zones.Rejection{Rule: zones.RuleOutOfZone, Owner: owner, Type: t, Op: -1, Detail: "not in the zone " + apex.String()}
	}
	return nil
}

// checkValues says whether s, whether it is to be in the zone or to be looked for, is an RRset in canonical form.
func checkValues(s zones.RRset, apex zones.Name) *zones.Rejection {
	if rej := checkName(s.Owner, apex, s.Type); rej != nil {
		return rej
	}
	if !typeKept(s.Type) {
		return reject(zones.RuleMetaType, s, "no zone here holds this type")
	}
	if s.IsZero() {
		return reject(zones.RuleMalformed, s, "an RRset needs at least one RDATA")
	}
	if s.TTL > zones.MaxTTL {
		return reject(zones.RuleMalformed, s, "TTL %d is greater than %d (RFC 2181 §8)", s.TTL, zones.MaxTTL)
	}
	var scratch, before []byte
	for rdata := range s.RDatas() {
		scratch = append(scratch[:0], rdata...)
		if err := zones.CanonicalRData(s.Type, scratch); err != nil || !shapely(s.Type, rdata) {
			return reject(zones.RuleMalformed, s, "malformed RDATA")
		}
		if !bytes.Equal(scratch, rdata) || before != nil && bytes.Compare(before, rdata) >= 0 {
			return reject(zones.RuleMalformed, s, "RDATA are not in canonical form and order (RFC 4034 §6)")
		}
		before = rdata
		var covered zones.Type
		if s.Type == zones.TypeRRSIG {
			covered = zones.CoveredType(rdata)
			// RFC 4034 §2.2: an RRSIG is not itself signed.
			if !typeKept(covered) || covered == zones.TypeRRSIG {
				return reject(zones.RuleMalformed, s, "a signature of type %s", covered)
			}
		}
		if covered != s.Covered {
			return reject(zones.RuleMalformed, s, "signatures of %s kept under %s", covered, s.Covered)
		}
	}
	return nil
}

// checkRRset says whether s may be in a zone, as far as it depends on s, the apex and where it comes from alone.
func checkRRset(s zones.RRset, apex zones.Name, source zones.Source) *zones.Rejection {
	if rej := checkValues(s, apex); rej != nil {
		return rej
	}
	if replies := len(s.Owner) + s.Size() + 10*s.Len(); replies > MaxRRsetInReply {
		return reject(zones.RuleRRsetSize, s, "%d octets in a message; at most %d can be served", replies, MaxRRsetInReply)
	}
	atApex := s.Owner == apex
	switch s.Type {
	case zones.TypeSOA, zones.TypeCNAME, zones.TypeDNAME:
		if s.Len() > 1 {
			return reject(zones.RuleSingleton, s, "%d records where one is allowed", s.Len())
		}
	case zones.TypeNSEC3, zones.TypeNSEC3PARAM:
		return checkNSEC3(s, apex, source)
	}
	switch s.Type {
	case zones.TypeSOA:
		if !atApex {
			return reject(zones.RuleApexSOA, s, "a SOA is at the apex, and nowhere else (RFC 1035 §5.2)")
		}
	case zones.TypeDS, zones.TypeCNAME:
		if atApex {
			return reject(zones.RuleApexType, s, "not at the apex (RFC 4035 §2.4, RFC 1912 §2.4)")
		}
	}
	switch s.Type {
	case zones.TypeNS, zones.TypeDNAME:
		if s.Owner.IsWildcard() {
			return reject(zones.RuleWildcardType, s, "not at a wildcard (RFC 4592 §4.2, §4.4)")
		}
	}
	return nil
}

// checkNSEC3 refuses what would make every denial expensive, or what the chain could not be searched by: hashes other
// than SHA-1 (the only one there is, RFC 5155 §11), iterations and salt (RFC 9276 §3.1), and odd owner names. Who sends a zone as a
// primary can't be told how to sign it: its iterations and salt are taken, and what is too much is not answered with.
func checkNSEC3(s zones.RRset, apex zones.Name, source zones.Source) *zones.Rejection {
	for rdata := range s.RDatas() {
		if len(rdata) < 5 || rdata[0] != 1 {
			return reject(zones.RuleNSEC3, s, "the hash algorithm must be 1, SHA-1")
		}
		if source != zones.SourceClient {
			continue
		}
		if rdata[2] != 0 || rdata[3] != 0 || rdata[4] != 0 {
			return reject(zones.RuleNSEC3, s, "iterations must be 0 and the salt empty (RFC 9276 §3.1)")
		}
	}
	if s.Type == zones.TypeNSEC3PARAM {
		if s.Owner != apex {
			return reject(zones.RuleNSEC3, s, "NSEC3PARAM is at the apex (RFC 5155 §4)")
		}
		return nil
	}
	return checkHashedOwner(s, apex)
}

// checkHashedOwner demands an owner name of the NSEC3 chain: a SHA-1 in base32hex, just below the apex (RFC 5155 §3.3).
func checkHashedOwner(s zones.RRset, apex zones.Name) *zones.Rejection {
	const base32hexSHA1 = 32
	if s.Owner == apex || s.Owner.Parent() != apex || len(s.Owner.Label()) != base32hexSHA1 {
		return reject(zones.RuleNSEC3, s, "the owner is not a hash below the apex (RFC 5155 §3.3)")
	}
	for _, c := range []byte(s.Owner.Label()) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'v') {
			return reject(zones.RuleNSEC3, s, "the owner is not in base32hex (RFC 5155 §3.3)")
		}
	}
	return nil
}

// owns says which types an owner name has, as far as rules ask.
type owns uint8

const (
	ownsSOA owns = 1 << iota
	ownsNS
	ownsCNAME
	ownsDNAME
	ownsDS
	ownsOther // what may not be beside a CNAME, the ones above included
)

// nodeRules gathers what an owner name has, RRset by RRset in the order of their keys, and applies
// the rules about what may be together.
type nodeRules struct {
	owns   owns
	rrsets uint16
	octets uint32
}

// add takes the next RRset of the owner, which checkRRset has passed.
func (n *nodeRules) add(s zones.RRset, apex zones.Name) *zones.Rejection {
	n.rrsets++
	n.octets += uint32(zones.PackedHeader + s.Size())
	if n.rrsets > MaxNodeRRsets || n.octets > MaxNode {
		return reject(zones.RuleTooLarge, s, "a name owns at most %d RRsets of together %d octets", MaxNodeRRsets, MaxNode)
	}
	switch s.Type {
	case zones.TypeCNAME:
		n.owns |= ownsCNAME
	case zones.TypeRRSIG, zones.TypeNSEC: // RFC 4035 §2.5: these may be beside a CNAME
	case zones.TypeSOA:
		n.owns |= ownsSOA | ownsOther
	case zones.TypeNS:
		n.owns |= ownsNS | ownsOther
	case zones.TypeDNAME:
		n.owns |= ownsDNAME | ownsOther
	case zones.TypeDS:
		n.owns |= ownsDS | ownsOther
	default:
		n.owns |= ownsOther
	}
	switch {
	case n.owns&ownsCNAME != 0 && n.owns&ownsOther != 0:
		return reject(zones.RuleCNAMEAndOther, s, "a CNAME allows no other data beside it (RFC 2181 §10.1)")
	case s.Owner != apex && n.owns&ownsDNAME != 0 && n.owns&ownsNS != 0:
		return reject(zones.RuleDNAMEAndNS, s, "a delegation can't be a DNAME too (RFC 6672 §2.3)")
	case n.owns&ownsDS != 0 && n.owns&ownsNS == 0: // NS sorts before DS
		return reject(zones.RuleDSWithoutNS, s, "DS only belongs to a delegation (RFC 4035 §2.4)")
	}
	return nil
}

// finish says whether the owner may be left with what it has.
func (n *nodeRules) finish(owner, apex zones.Name) *zones.Rejection {
	if owner != apex {
		return nil
	}
	if n.owns&ownsSOA == 0 {
		return &zones.Rejection{Rule: zones.RuleApexSOA, Owner: apex, Type: zones.TypeSOA, Op: -1, Detail: "a zone needs a SOA at its apex"}
	}
	if n.owns&ownsNS == 0 {
		return &zones.Rejection{Rule: zones.RuleApexNS, Owner: apex, Type: zones.TypeNS, Op: -1, Detail: "a zone needs NS at its apex"}
	}
	return nil
}

func belowDNAME(s zones.RRset, dname zones.Name) *zones.Rejection {
	return reject(zones.RuleBelowDNAME, s, "there is a DNAME at %s, and no data below it (RFC 6672 §2.4)", dname)
}

// shapely says whether rdata has the outer form of its type, for the types whose form is simple and whose damage
// would reach clients. zones.CanonicalRData looks at names and addresses.
func shapely(t zones.Type, rdata []byte) bool {
	const (
		hinfo, x25, isdn, sshfp, tlsa, smimea, spf, csync = 13, 19, 20, 44, 52, 53, 99, 62
	)
	switch t {
	case zones.TypeTXT, spf:
		n, ok := charStrings(rdata)
		return ok && n >= 1
	case hinfo:
		n, ok := charStrings(rdata)
		return ok && n == 2
	case x25:
		n, ok := charStrings(rdata)
		return ok && n == 1
	case isdn:
		n, ok := charStrings(rdata)
		return ok && (n == 1 || n == 2)
	case zones.TypeDS, zones.TypeCDS, zones.TypeDNSKEY, zones.TypeCDNSKEY:
		return len(rdata) >= 5 // RFC 8078 §4: deletion is four octets and one of zero
	case zones.TypeCAA:
		return len(rdata) >= 2 && rdata[1] >= 1 && len(rdata) >= 2+int(rdata[1])
	case sshfp:
		return len(rdata) >= 3
	case tlsa, smimea:
		return len(rdata) >= 4
	case csync:
		return len(rdata) >= 6
	case zones.TypeZONEMD:
		return len(rdata) >= 6+12 // RFC 8976 §2.2.4
	case zones.TypeNSEC:
		spans, _, err := zones.EmbeddedNames(t, rdata)
		return err == nil && typeBitmap(rdata[spans[0].End:])
	case zones.TypeNSEC3PARAM:
		return len(rdata) >= 5 && len(rdata) == 5+int(rdata[4])
	case zones.TypeNSEC3:
		if len(rdata) < 5 || len(rdata) < 6+int(rdata[4]) {
			return false
		}
		hash := rdata[5+int(rdata[4]):]
		return hash[0] >= 1 && len(hash) >= 1+int(hash[0]) && typeBitmap(hash[1+int(hash[0]):])
	case zones.TypeSVCB, zones.TypeHTTPS:
		spans, _, err := zones.EmbeddedNames(t, rdata)
		return err == nil && serviceParams(rdata[spans[0].End:])
	}
	return true
}

// charStrings counts the character-strings (RFC 1035 §3.3) that rdata is made of.
func charStrings(rdata []byte) (n int, ok bool) {
	for ; len(rdata) > 0; n++ {
		if len(rdata) < 1+int(rdata[0]) {
			return n, false
		}
		rdata = rdata[1+int(rdata[0]):]
	}
	return n, true
}

// typeBitmap says whether b is a Type Bit Maps field (RFC 4034 §4.1.2).
func typeBitmap(b []byte) bool {
	for window := -1; len(b) > 0; {
		if len(b) < 3 || int(b[0]) <= window || b[1] < 1 || b[1] > 32 || len(b) < 2+int(b[1]) {
			return false
		}
		window = int(b[0])
		b = b[2+int(b[1]):]
	}
	return true
}

// serviceParams says whether b is the SvcParams field (RFC 9460 §2.2): keys strictly increasing.
func serviceParams(b []byte) bool {
	for key := -1; len(b) > 0; {
		if len(b) < 4 {
			return false
		}
		next, size := int(b[0])<<8|int(b[1]), int(b[2])<<8|int(b[3])
		if next <= key || len(b) < 4+size {
			return false
		}
		key, b = next, b[4+size:]
	}
	return true
}
