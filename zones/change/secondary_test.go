package change

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"balefire/zones"
)

// TestRandomSources lets clients and primaries do what they like, which must come to this: content changes by clients when the zone
// has no primaries, by these when it has, and never when it is frozen; serials go forward but where a zone comes anew; what is answered
// from has content; and the standing says when the primary was last heard. model.apply checks states, deltas and the zone as a whole.
func TestRandomSources(t *testing.T) {
	apex := name("example.")
	soa := rrset(t, "example. 3600 SOA ns.example. host.example. 10 7200 900 86400 300")
	ns := rrset(t, "example. 3600 NS ns.example.")
	signing := rrsets(t, "example. 3600 DNSKEY 257 3 8 AAAA",
		"example. 3600 RRSIG SOA 8 1 3600 20300101000000 20260101000000 1 example. AAAA",
		"example. 300 NSEC www.example. NS SOA RRSIG NSEC DNSKEY", "www.example. 300 NSEC example. A RRSIG NSEC",
		"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. 300 NSEC3 1 0 5 AABB 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR NS SOA",
		"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. 300 RRSIG NSEC3 8 2 3600 20300101000000 20260101000000 1 example. AAAA",
		"example. 0 NSEC3PARAM 1 0 5 AABB")
	plain := rrsets(t, "www.example. 300 A 192.0.2.1", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. 300 A 192.0.2.7", "sub.example. 300 NS ns.example.", "dn.example. 300 DNAME else.example.", "x.dn.example. 300 A 192.0.2.1")
	others := slices.Concat([]zones.RRset{ns}, plain, signing)
	primaries := []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.53:53")}}
	type tried struct {
		source    zones.Source
		secondary bool
		changed   bool
	}
	seen := map[tried]int{}
	rules := map[zones.Rule]int{}

	rapid.Check(t, func(rt *rapid.T) {
		drawSettings := func() (s zones.ZoneSettings) {
			s.Frozen = rapid.IntRange(0, 4).Draw(rt, "frozen") == 0
			if rapid.IntRange(0, 2).Draw(rt, "secondary") > 0 {
				s.Primaries = primaries
			}
			return s
		}
		drawSOA := func() zones.RRset {
			return soa.WithSOASerial(zones.Serial(rapid.Uint32Range(8, 20).Draw(rt, "serial")))
		}
		drawZone := func() []zones.RRset {
			sets := append(some(rt, plain), ns, drawSOA())
			if rapid.IntRange(0, 2).Draw(rt, "signed") == 0 {
				sets = append(sets, some(rt, signing)...)
			}
			slices.SortFunc(sets, zones.CompareRRsets)
			return sets
		}
		drawOps := func() []zones.Op {
			switch rapid.IntRange(0, 8).Draw(rt, "operation") {
			case 0:
				return []zones.Op{zones.OpSetSettings{Settings: drawSettings()}}
			case 1:
				return []zones.Op{zones.OpReplaceZone{RRsets: drawZone()}}
			case 2:
				return []zones.Op{zones.OpReplaceZone{RRsets: drawZone(), SetSettings: true, Settings: drawSettings()}}
			case 3, 4:
				return []zones.Op{zones.OpSetStanding{Expired: rapid.Bool().Draw(rt, "expired")}}
			case 5:
				if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
					return []zones.Op{zones.OpDeleteZone{}}
				}
			}
			ops := []zones.Op{zones.OpPutRRset{RRset: drawSOA()}}
			for range rapid.IntRange(0, 3).Draw(rt, "records") {
				set := rapid.SampledFrom(others).Draw(rt, "set")
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0:
					ops = append(ops, zones.OpDeleteRecords{RRset: set})
				case 1:
					ops = append(ops, zones.OpAddRecords{RRset: set})
				case 2:
					ops = append(ops, zones.OpDeleteName{Owner: set.Owner})
				default:
					ops = append(ops, zones.OpPutRRset{RRset: set})
				}
			}
			return ops
		}
		m := newModel(apex)
		now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		for i := range rapid.IntRange(1, 25).Draw(rt, "change sets") {
			now = now.Add(time.Second)
			cs := &zones.ChangeSet{ID: zones.ChangeID{1, byte(i)}, Zone: apex, Source: zones.Source(rapid.IntRange(0, 2).Draw(rt, "source"))}
			if !m.hosted {
				cs.Source = zones.SourceClient
				cs.Ops = []zones.Op{zones.OpCreateZone{Settings: drawSettings()}}
				if create := cs.Ops[0].(zones.OpCreateZone); !create.Settings.IsSecondary() {
					create.RRsets = drawZone()
					cs.Ops[0] = create
				}
			} else {
				cs.Ops = drawOps()
			}
			client := cs.Source == zones.SourceClient
			before, hosted, was := maps.Clone(m.sets), m.hosted, m.zone
			_, rej := m.apply(t, cs, now)
			changed := !maps.EqualFunc(before, m.sets, zones.RRset.Equal)
			if rej != nil {
				rules[rej.Rule]++
				if changed || m.hosted != hosted || !was.Settings.Equal(m.zone.Settings) || !was.Standing.Equal(m.zone.Standing) {
					rt.Fatalf("rejected (%v), and changed", rej)
				}
				continue
			}
			seen[tried{cs.Source, was.Settings.IsSecondary(), changed}]++
			if !m.hosted || !hosted {
				if hosted && was.Settings.Frozen || !client {
					rt.Fatalf("%v of a zone with settings %+v", cs, was.Settings)
				}
				continue
			}
			standing := m.zone.Standing
			if _, says := cs.Ops[0].(zones.OpSetStanding); says {
				if changed || client || !was.Settings.IsSecondary() || was.Standing.Awaiting {
					rt.Fatalf("%v of %+v", cs, was)
				}
				if standing.Expired != cs.Ops[0].(zones.OpSetStanding).Expired || standing.Expired == standing.Confirmed.Equal(now) {
					rt.Fatalf("%v came to %+v", cs, standing)
				}
				continue
			}
			if changed && (was.Settings.Frozen || client == was.Settings.IsSecondary()) {
				rt.Fatalf("%s changed a zone with settings %+v", cs.Source, was.Settings)
			}
			if changed && !m.zone.Serial.IsAfter(was.Serial) && cs.Source != zones.SourceRetransfer && was.Standing.Served() {
				rt.Fatalf("serial %d after %d", m.zone.Serial, was.Serial)
			}
			switch {
			case !client:
				if want := (zones.Standing{Confirmed: now}); !standing.Equal(want) {
					rt.Fatalf("%v came to %+v", cs, standing)
				}
			case !m.zone.Settings.IsSecondary():
			case was.Settings.IsSecondary():
				if !standing.Equal(was.Standing) {
					rt.Fatalf("%v made %+v of %+v", cs, standing, was.Standing)
				}
			case !standing.Equal(zones.Standing{Confirmed: now}):
				rt.Fatalf("%v came to %+v", cs, standing)
			}
		}
	})
	for _, want := range []tried{
		{zones.SourceClient, false, true},
		{zones.SourceClient, true, false},
		{zones.SourcePrimary, true, true},
		{zones.SourcePrimary, true, false},
		{zones.SourceRetransfer, true, true},
	} {
		if seen[want] == 0 {
			t.Errorf("never applied: %+v", want)
		}
	}
	for _, want := range []zones.Rule{zones.RuleFrozen, zones.RuleSecondary, zones.RuleNotSecondary, zones.RuleSerial, zones.RuleSigned, zones.RuleApexSOA} {
		if rules[want] == 0 {
			t.Errorf("never broken: %s", want)
		}
	}
}

type brokenChain struct{ *model }

func (brokenChain) Hashed(zones.Name) (zones.Node, error) { return zones.Node{}, errDisk }

// What could not be read of the NSEC3 chain is an error, and no rejection.
func TestUnreadableChain(t *testing.T) {
	m := newModel(name("example."))
	create := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: m.apex, Ops: []zones.Op{zones.OpCreateZone{Settings: awaitingState().Settings}}}
	sets := rrsets(t, "example. 3600 NS ns.example.", "example. 3600 SOA ns.example. host.example. 10 7200 900 86400 300")
	come := &zones.ChangeSet{ID: zones.ChangeID{2}, Zone: m.apex, Source: zones.SourcePrimary, Ops: []zones.Op{zones.OpReplaceZone{RRsets: sets}}}
	for _, cs := range []*zones.ChangeSet{create, come} {
		if _, rej := m.apply(t, cs, time.Unix(1, 0)); rej != nil {
			t.Fatal(rej)
		}
	}
	cs := &zones.ChangeSet{ID: zones.ChangeID{3}, Zone: m.apex, Source: zones.SourcePrimary, Ops: []zones.Op{
		zones.OpDeleteRRset{Owner: name("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example."), Type: zones.TypeNSEC3},
	}}
	if _, rej, err := Apply(brokenChain{m}, cs, time.Unix(2, 0)); rej != nil || err == nil {
		t.Errorf("%v, %v", rej, err)
	}
}
