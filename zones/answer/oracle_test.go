package answer_test

import (
	"github.com/miekg/dns"

	"balefire/zones"
)

// asRR turns an NSEC3 RRset into miekg/dns's, whose reading of RFC 5155 is independent of ours.
func asRR(set zones.RRset) *dns.NSEC3 {
	rdata := set.First()
	wire := append([]byte(set.Owner), 0, byte(set.Type), 0, 1, 0, 0, 0, 0, byte(len(rdata)>>8), byte(len(rdata)))
	rr, _, err := dns.UnpackRR(append(wire, rdata...), 0)
	if err != nil {
		panic(err)
	}
	return rr.(*dns.NSEC3)
}

// typesOf returns the types of an NSEC3's bitmap.
func typesOf(rr *dns.NSEC3) string {
	text := ""
	for _, t := range rr.TypeBitMap {
		text += " " + dns.TypeToString[t]
	}
	if text == "" {
		return " no types"
	}
	return text
}
