package update

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"balefire/zones"
)

// randomMessage makes a message about few names, so that all of it meets.
func randomMessage(t testing.TB, rng *rand.Rand, prerequisites int) *Message {
	t.Helper()
	owner := func() string { return []string{"@", "a", "b", "x.b", "y.x.b", "*.a", "sub"}[rng.IntN(7)] }
	value := func() (string, string) {
		switch n := rng.IntN(3); rng.IntN(9) {
		case 0, 1:
			return "A", fmt.Sprintf("192.0.2.%d", n)
		case 2:
			return "TXT", fmt.Sprintf("%d", n)
		case 3, 4:
			return "CNAME", owner()
		case 5:
			return "NS", fmt.Sprintf("ns%d", n)
		case 6:
			return "DS", fmt.Sprintf("%d 8 2 %064d", n, 0)
		case 7:
			return "TYPE11", fmt.Sprintf(`\# 6 c00002%02d06%02d`, rng.IntN(2), n)
		default:
			if rng.IntN(2) == 0 {
				return "DNAME", owner()
			}
			return "SOA", fmt.Sprintf("ns%d hostmaster %d 1 2 3 4", n, 10+rng.IntN(6))
		}
	}
	lines := ""
	for range rng.IntN(prerequisites + 1) {
		t, v := value()
		switch rng.IntN(5) {
		case 0:
			lines += fmt.Sprintf("pre %s 0 ANY ANY\n", owner())
		case 1:
			lines += fmt.Sprintf("pre %s 0 NONE ANY\n", owner())
		case 2:
			lines += fmt.Sprintf("pre %s 0 ANY %s\n", owner(), t)
		case 3:
			lines += fmt.Sprintf("pre %s 0 NONE %s\n", owner(), t)
		default:
			lines += fmt.Sprintf("pre %s 0 IN %s %s\n", owner(), t, v)
		}
	}
	name := owner()
	for range 1 + rng.IntN(5) {
		if rng.IntN(3) == 0 {
			name = owner()
		}
		t, v := value()
		switch rng.IntN(6) {
		case 0:
			lines += fmt.Sprintf("upd %s 0 ANY %s\n", name, t)
		case 1:
			lines += fmt.Sprintf("upd %s 0 NONE %s %s\n", name, t, v)
		case 2:
			if rng.IntN(2) == 0 {
				lines += fmt.Sprintf("upd %s 0 ANY ANY\n", name)
			}
		default:
			lines += fmt.Sprintf("upd %s %d IN %s %s\n", name, 60*(1+rng.IntN(2)), t, v)
		}
	}
	return message(t, lines)
}

// after returns the zone after some random messages that could be applied.
func after(t testing.TB, rng *rand.Rand, z zone, n int) zone {
	t.Helper()
	for range n {
		plan, err := randomMessage(t, rng, 0).Evaluate(z, all)
		if err != nil {
			t.Fatal(err)
		}
		if plan.Changes {
			z, _ = z.apply(t, plan)
		}
	}
	return z
}

var seedZone = `
@   3600 SOA ns1 hostmaster 10 7200 900 1209600 300
@   3600 NS  ns1
`

// TestRandom evaluates random messages over random zones and applies what comes of it to the same zone, and to one that others have changed since.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	rules := map[zones.Rule]int{}
	applied, conflicts := 0, 0
	for range 2000 {
		seen := after(t, rng, parseZone(t, seedZone), rng.IntN(12))
		m := randomMessage(t, rng, 2)
		if rej := compareWithOracle(t, seen, m, seen); rej != nil {
			rules[rej.Rule]++
			if rej.Rule == zones.RulePrecondition || rej.Rule == zones.RuleCNAMEAndOther || rej.Rule == zones.RuleDSWithoutNS || rej.Rule == zones.RuleApexNS || rej.Rule == zones.RuleSerial {
				t.Fatalf("nothing has changed, and %s\nis rejected: %v\n%s", m, rej, text(seen))
			}
			continue
		}
		if rej := compareWithOracle(t, seen, m, after(t, rng, seen, 1+rng.IntN(3))); rej != nil {
			conflicts++
		} else {
			applied++
		}
	}
	if applied < 100 || conflicts < 100 {
		t.Errorf("%d were applied to a zone that had changed, and %d rejected", applied, conflicts)
	}
	t.Logf("%d applied, %d conflicts, and %v", applied, conflicts, rules)
}

// packet makes the octets of a message, without compression.
func (m *Message) packet() []byte {
	b := binary.BigEndian.AppendUint16(nil, 1)
	b = append(b, 5<<3, 0)
	for _, n := range []int{1, len(m.Prerequisites), len(m.Updates), 0} {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	b = append(b, m.Zone...)
	b = binary.BigEndian.AppendUint16(b, uint16(zones.TypeSOA))
	b = binary.BigEndian.AppendUint16(b, uint16(m.Class))
	for _, section := range [][]Record{m.Prerequisites, m.Updates} {
		for _, r := range section {
			b = append(b, r.Owner...)
			b = binary.BigEndian.AppendUint16(b, uint16(r.Type))
			b = binary.BigEndian.AppendUint16(b, uint16(r.Class))
			b = binary.BigEndian.AppendUint32(b, r.TTL)
			b = binary.BigEndian.AppendUint16(b, uint16(len(r.RData)))
			b = append(b, r.RData...)
		}
	}
	return b
}

// FuzzUpdate: whatever the octets, nothing panics, and what is evaluated and applied is what the RFC says.
func FuzzUpdate(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		f.Add(randomMessage(f, rng, 3).packet())
	}
	f.Add([]byte{})
	z := parseZone(f, fixture)
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := Parse(packet)
		if err != nil || m.Zone != apex || m.Class != ClassIN {
			return
		}
		for _, r := range m.Updates {
			switch r.Type {
			case zones.TypeRRSIG, zones.TypeNSEC, zones.TypeSIG, zones.TypeKEY, zones.TypeDNSKEY, zones.TypeNSEC3, zones.TypeNSEC3PARAM:
				if _, err := m.Evaluate(z, all); err != nil { // refused, or no change: the oracle does not know them
					t.Fatal(err)
				}
				return
			}
		}
		compareWithOracle(t, z, m, z)
	})
}
