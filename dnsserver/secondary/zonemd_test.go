package secondary

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// simpleZone is the zone of RFC 8976 appendix A.1.
const simpleZone = `$ORIGIN example.
@ 86400 IN SOA ns1 admin 2018031900 1800 900 604800 86400
@ 86400 IN NS ns1
@ 86400 IN NS ns2
@ 86400 IN ZONEMD 2018031900 1 1 c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3a1ddc0b9a87153b9a9713b3c9ae5cc27777f98b8e730044c
ns1 3600 IN A 203.0.113.63
ns2 3600 IN AAAA 2001:db8::63
`

func check(t *testing.T, text string) error {
	t.Helper()
	file, err := zonefile.Read(strings.NewReader(text), zonefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var soa, zonemd zones.RRset
	for _, s := range file.RRsets {
		switch s.Type {
		case zones.TypeSOA:
			soa = s
		case zones.TypeZONEMD:
			zonemd = s
		}
	}
	all := func(yield func(zones.RRset, error) bool) {
		for _, s := range file.RRsets {
			if !yield(s, nil) {
				return
			}
		}
	}
	return checkZONEMD(apex, zonemd, soa, all, all)
}

func TestZONEMD(t *testing.T) {
	if err := check(t, simpleZone); err != nil {
		t.Error(err)
	}
	digest := "c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3a1ddc0b9a87153b9a9713b3c9ae5cc27777f98b8e730044c"
	for name, edit := range map[string][2]string{
		"a record":   {"203.0.113.63", "203.0.113.64"},
		"a TTL":      {"ns1 3600", "ns1 3601"},
		"an owner":   {"ns2 3600", "ns3 3600"},
		"the serial": {"ZONEMD 2018031900", "ZONEMD 2018031901"},
		"the digest": {digest[:8], "00000000"},
		"two":        {"ns1 3600", "@ 86400 ZONEMD 2018031900 1 1 " + strings.Repeat("00", 48) + "\nns1 3600"},
	} {
		if err := check(t, strings.Replace(simpleZone, edit[0], edit[1], 1)); !errors.Is(err, ErrZONEMD) {
			t.Errorf("with another %s: %v", name, err)
		}
	}
	// Those of schemes and algorithms that are not known say nothing.
	if err := check(t, strings.Replace(simpleZone, " 1 1 "+digest, " 240 1 "+strings.Repeat("00", 48), 1)); err != nil {
		t.Error(err)
	}
}

// TestCanonicalOrder: the NSEC3 chain, which is apart in a zone's own order, stands among the names in that of RFC 4034.
func TestCanonicalOrder(t *testing.T) {
	const text = `$ORIGIN example.
@ 60 SOA a. b. 1 1 1 1 1
@ 60 NS a.
@ 60 RRSIG SOA 8 2 60 20300101000000 20200101000000 1 example. AAAA
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 NSEC3 1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 RRSIG NSEC3 8 2 60 20300101000000 20200101000000 1 example. AAAA
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 RRSIG A 8 2 60 20300101000000 20200101000000 1 example. AAAA
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 A 192.0.2.1
2t7b4g4vsa5smi47k61mv5bv1a22bojr 60 NSEC3 1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A
1 60 A 192.0.2.1
zzz 60 A 192.0.2.1
`
	file, err := zonefile.Read(strings.NewReader(text), zonefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := func(yield func(zones.RRset, error) bool) {
		for _, s := range file.RRsets {
			if !yield(s, nil) {
				return
			}
		}
	}
	var got []zones.RRset
	for s, err := range canonical(all, all) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	if !slices.IsSortedFunc(got, compareCanonical) || len(got) != len(file.RRsets) {
		t.Errorf("%d of %d RRsets:\n%s", len(got), len(file.RRsets), textOf(got))
	}
}
