package zones

import "errors"

// ErrRData means that RDATA is too short for its type, or that a name in it is malformed.
var ErrRData = errors.New("malformed RDATA")

// layout says where the domain names of a type's RDATA are: after skip octets and strings
// character-strings come names names, and then any octets, at least tail of them.
type layout struct {
	skip, strings, names, tail uint8
	lower                      bool // RFC 4034 §6.2 item 3 as amended by RFC 6840 §5.1
	compress                   bool // RFC 3597 §4: only types of RFC 1035 may be compressed
	exact                      bool // nothing may follow the tail
}

var layouts = [...]layout{
	TypeNS:    {names: 1, lower: true, compress: true, exact: true},
	3:         {names: 1, lower: true, exact: true}, // MD
	4:         {names: 1, lower: true, exact: true}, // MF
	TypeCNAME: {names: 1, lower: true, compress: true, exact: true},
	TypeSOA:   {names: 2, tail: 20, lower: true, compress: true, exact: true},
	7:         {names: 1, lower: true, exact: true}, // MB
	8:         {names: 1, lower: true, exact: true}, // MG
	9:         {names: 1, lower: true, exact: true}, // MR
	TypePTR:   {names: 1, lower: true, compress: true, exact: true},
	14:        {names: 2, lower: true, exact: true}, // MINFO
	TypeMX:    {skip: 2, names: 1, lower: true, compress: true, exact: true},
	17:        {names: 2, lower: true, exact: true},          // RP
	18:        {skip: 2, names: 1, lower: true, exact: true}, // AFSDB
	21:        {skip: 2, names: 1, lower: true, exact: true}, // RT
	TypeSIG:   {skip: 18, names: 1, lower: true},
	26:        {skip: 2, names: 2, lower: true, exact: true}, // PX
	TypeNXT:   {names: 1, lower: true},
	TypeSRV:   {skip: 6, names: 1, lower: true, exact: true},
	TypeNAPTR: {skip: 4, strings: 3, names: 1, lower: true, exact: true},
	36:        {skip: 2, names: 1, lower: true, exact: true}, // KX
	TypeDNAME: {names: 1, lower: true, exact: true},
	TypeRRSIG: {skip: 18, names: 1, lower: true},
	TypeNSEC:  {names: 1},
	TypeSVCB:  {skip: 2, names: 1},
	TypeHTTPS: {skip: 2, names: 1},
	107:       {skip: 2, names: 1, exact: true}, // LP
}

// Span is a part of RDATA, from Start to before End.
type Span struct{ Start, End int }

// EmbeddedNames returns where the domain names (at most two) in the RDATA of type t are. Types whose
// names nothing in the server looks at count as having none.
func EmbeddedNames(t Type, rdata []byte) (spans [2]Span, n int, err error) {
	if int(t) >= len(layouts) || layouts[t].names == 0 {
		return spans, 0, nil
	}
	l := layouts[t]
	at := int(l.skip)
	for range l.strings {
		if at >= len(rdata) {
			return spans, 0, ErrRData
		}
		at += 1 + int(rdata[at])
	}
	for ; n < int(l.names); n++ {
		if at > len(rdata) {
			return spans, 0, ErrRData
		}
		size, err := wireLen(rdata[at:])
		if err != nil {
			return spans, 0, ErrRData
		}
		spans[n] = Span{at, at + size}
		at += size
	}
	if rest := len(rdata) - at; rest < int(l.tail) || l.exact && rest != int(l.tail) {
		return spans, 0, ErrRData
	}
	return spans, n, nil
}

// MayCompress reports whether names in the RDATA of type t may be compressed in messages (RFC 3597 §4).
func MayCompress(t Type) bool { return int(t) < len(layouts) && layouts[t].compress }

// CanonicalRData puts rdata into canonical form in place (RFC 4034 §6.2): it lower-cases embedded names
// of the types listed there. It returns ErrRData, and may have changed nothing, when a name is malformed
// or an address has the wrong length.
func CanonicalRData(t Type, rdata []byte) error {
	if t == TypeA && len(rdata) != 4 || t == TypeAAAA && len(rdata) != 16 {
		return ErrRData
	}
	spans, n, err := EmbeddedNames(t, rdata)
	if err != nil || n == 0 || !layouts[t].lower {
		return err
	}
	for _, s := range spans[:n] {
		for i := s.Start; i < s.End; i++ {
			rdata[i] = lower[rdata[i]]
		}
	}
	return nil
}

// CheckCanonicalRData returns ErrRData unless rdata is well-formed and in canonical form already, as far as
// CanonicalRData would see to it. It changes nothing.
func CheckCanonicalRData(t Type, rdata []byte) error {
	if t == TypeA && len(rdata) != 4 || t == TypeAAAA && len(rdata) != 16 {
		return ErrRData
	}
	spans, n, err := EmbeddedNames(t, rdata)
	if err != nil || n == 0 || !layouts[t].lower {
		return err
	}
	for _, s := range spans[:n] {
		if !isLower(rdata[s.Start:s.End]) {
			return ErrRData
		}
	}
	return nil
}

// Target returns the domain name in the RDATA of type t that the server follows, or gives addresses
// for: of NS, CNAME, DNAME, PTR, MX, SRV, SVCB and HTTPS. It shares rdata's memory, save where letters have to
// be lower-cased.
func Target(t Type, rdata []byte) (Name, bool) {
	switch t {
	case TypeNS, TypeCNAME, TypeDNAME, TypePTR, TypeMX, TypeSRV, TypeSVCB, TypeHTTPS:
	default:
		return "", false
	}
	spans, n, err := EmbeddedNames(t, rdata)
	if err != nil || n == 0 {
		return "", false
	}
	name := rdata[spans[0].Start:spans[0].End]
	if !layouts[t].lower {
		for _, c := range name {
			if c != lower[c] {
				n, _, err := NameFromWire(name)
				return n, err == nil
			}
		}
	}
	return NameView(name), true
}

// CoveredType returns the "Type Covered" field of the RDATA of an RRSIG (RFC 4034 §3.1.1).
func CoveredType(rdata []byte) Type {
	if len(rdata) < 18 {
		return 0
	}
	return Type(rdata[0])<<8 | Type(rdata[1])
}
