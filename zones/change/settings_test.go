package change

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"balefire/zones"
)

// peered are settings with all that there is.
func peered() zones.ZoneSettings {
	return zones.ZoneSettings{
		SerialPolicy: zones.SerialDate, Frozen: true,
		Primaries: []zones.Remote{
			{Addr: netip.MustParseAddrPort("192.0.2.53:53"), Key: name("key.example.")},
			{Addr: netip.MustParseAddrPort("[2001:db8::53]:853"), TLS: true, TLSName: "ns1.Example.net"},
		},
		Notify: []zones.Remote{{Addr: netip.MustParseAddrPort("198.51.100.5:53")}},
		Grants: []zones.Grant{
			{Deeds: zones.DeedTransfer | zones.DeedNotify, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0")}},
			{
				Deeds: zones.DeedUpdate, Key: name("dhcp."),
				Names: []zones.NamePattern{{Name: name("example."), Below: true}, {Name: name("www.example."), Self: true, Below: true}},
				Types: []zones.Type{zones.TypeA, zones.TypeAAAA, 65280},
			},
		},
	}
}

// fromPrimary is a change set with what there is only for zones with peers, which no door would let pass.
func fromPrimary(t testing.TB) *zones.ChangeSet {
	return &zones.ChangeSet{
		ID: zones.ChangeID{1, 2, 3}, Zone: name("example."), Author: "192.0.2.53", Source: zones.SourceRetransfer,
		Ops: []zones.Op{
			zones.OpCreateZone{Settings: peered()},
			zones.OpSetSettings{Settings: zones.ZoneSettings{Frozen: true}},
			zones.OpSetSettings{Parts: zones.PartNotify | zones.PartNotifyGrants},
			zones.OpSetStanding{Expired: true, Since: time.UnixMilli(1772600767123).UTC()},
			zones.OpSetStanding{},
			zones.OpPutRRset{RRset: rrset(t, "www.example. 300 RRSIG A 8 2 300 20300101000000 20260101000000 1 example. BBBB")},
		},
	}
}

// peeredState is a zone's state with all that there is.
func peeredState(t testing.TB) Zone {
	stage := stageOf(t)
	zone := stage.Sequence.Zone()
	zone.Settings = peered()
	zone.Standing = zones.Standing{Expired: true, Confirmed: time.UnixMilli(1772600767123).UTC()}
	return zone
}

// awaitingState is that of a zone without content.
func awaitingState() Zone {
	return Zone{
		Settings: zones.ZoneSettings{Primaries: []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.53:53")}}},
		Standing: zones.Standing{Awaiting: true},
	}
}

// What zones with peers have is in records of level 1, and in the second version of a zone's state, for ever.
func TestGoldenPeered(t *testing.T) {
	value, err := Encode(fromPrimary(t))
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "mutation-peered.bin")
	if !bytes.Equal(value, want) {
		t.Errorf("a change set is encoded as\n%x, and was\n%x", value, want)
	}
	cs, rej := Decode(want, 1)
	if rej != nil {
		t.Fatal(rej)
	}
	if !reflect.DeepEqual(cs, fromPrimary(t)) {
		t.Errorf("the record is decoded as\n%+v, and was\n%+v", cs, fromPrimary(t))
	}
	for file, zone := range map[string]Zone{"mutation-zone-state-peered.bin": peeredState(t), "mutation-zone-state-awaiting.bin": awaitingState()} {
		want := golden(t, file)
		if got := zone.AppendState(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: a zone's state is stored as\n%x, and was\n%x", file, got, want)
		}
		if back, err := ParseZone(want); err != nil || !reflect.DeepEqual(back, zone) {
			t.Errorf("%s: the zone's state is read as\n%+v, %v, and was\n%+v", file, back, err, zone)
		}
	}
}

func TestCheckSettings(t *testing.T) {
	remote := func(addr string) zones.Remote { return zones.Remote{Addr: netip.MustParseAddrPort(addr)} }
	grant := func(g zones.Grant) func(*zones.ZoneSettings) {
		return func(s *zones.ZoneSettings) { s.Grants = append(s.Grants, g) }
	}
	network := func(prefix string) zones.Grant {
		return zones.Grant{Deeds: zones.DeedTransfer, Networks: []netip.Prefix{netip.MustParsePrefix(prefix)}}
	}
	update := func(g zones.Grant) func(*zones.ZoneSettings) {
		g.Deeds, g.Key = zones.DeedUpdate, name("key.")
		return grant(g)
	}
	primary := func(r zones.Remote) func(*zones.ZoneSettings) {
		return func(s *zones.ZoneSettings) { s.Primaries = append(s.Primaries, r) }
	}
	longKey := zones.Name(strings.Repeat("\x3f"+strings.Repeat("k", 63), 3) + "\x3d" + strings.Repeat("k", 61) + "\x00")
	tests := []struct {
		name  string
		spoil func(*zones.ZoneSettings)
		want  zones.Rule
	}{
		{"all is well", func(*zones.ZoneSettings) {}, ""},
		{"a policy that is none", func(s *zones.ZoneSettings) { s.SerialPolicy = 9 }, zones.RuleMalformed},
		{"no address", primary(zones.Remote{}), zones.RuleMalformed},
		{"no port", primary(remote("192.0.2.1:0")), zones.RuleMalformed},
		{"an address with a zone", primary(remote("[fe80::1%eth0]:53")), zones.RuleMalformed},
		{"an address in another form", primary(remote("[::ffff:192.0.2.1]:53")), zones.RuleMalformed},
		{"the unspecified address", primary(remote("0.0.0.0:53")), zones.RuleMalformed},
		{"many at once", primary(remote("[ff02::1]:53")), zones.RuleMalformed},
		{"a loopback is for the door to refuse", primary(remote("127.0.0.1:53")), ""},
		{"a name for TLS without TLS", primary(zones.Remote{Addr: remote("192.0.2.1:53").Addr, TLSName: "ns"}), zones.RuleMalformed},
		{"a name that is none", primary(zones.Remote{Addr: remote("192.0.2.1:53").Addr, TLS: true, TLSName: "n s"}), zones.RuleMalformed},
		{"a primary twice", func(s *zones.ZoneSettings) { s.Primaries = append(s.Primaries, s.Primaries[0]) }, zones.RuleMalformed},
		{"one notified twice", func(s *zones.ZoneSettings) { s.Notify = append(s.Notify, s.Notify[0]) }, zones.RuleMalformed},
		{"one address with two keys", primary(zones.Remote{Addr: remote("192.0.2.53:53").Addr, Key: name("other.")}), ""},
		{"no deeds", grant(zones.Grant{Key: name("key.")}), zones.RuleMalformed},
		{"deeds of tomorrow", grant(zones.Grant{Deeds: 1 << 7, Key: name("key.")}), zones.RuleMalformed},
		{"a grant for all", grant(zones.Grant{Deeds: zones.DeedTransfer}), zones.RuleMalformed},
		{"a network with bits too many", grant(network("192.0.2.1/24")), zones.RuleMalformed},
		{"a network in another form", grant(network("::ffff:192.0.2.0/120")), zones.RuleMalformed},
		{"no network", grant(zones.Grant{Deeds: zones.DeedTransfer, Networks: make([]netip.Prefix, 1)}), zones.RuleMalformed},
		{"names for a transfer", grant(zones.Grant{Deeds: zones.DeedTransfer, Key: name("key."), Types: []zones.Type{1}}), zones.RuleMalformed},
		{"a name elsewhere", update(zones.Grant{Names: []zones.NamePattern{{Name: name("net."), Self: true}}}), zones.RuleMalformed},
		{"a pattern of nothing", update(zones.Grant{Names: []zones.NamePattern{{Name: name("example.")}}}), zones.RuleMalformed},
		{"a pattern without a name", update(zones.Grant{Names: []zones.NamePattern{{Below: true}}}), zones.RuleMalformed},
		{"ANY", update(zones.Grant{Types: []zones.Type{zones.TypeANY}}), zones.RuleMalformed},
		{"too many primaries", func(s *zones.ZoneSettings) {
			for i := range MaxPrimaries {
				s.Primaries = append(s.Primaries, remote(fmt.Sprintf("192.0.2.%d:53", i+100)))
			}
		}, zones.RuleTooLarge},
		{"too many to notify", func(s *zones.ZoneSettings) {
			for i := range MaxNotify {
				s.Notify = append(s.Notify, remote(fmt.Sprintf("192.0.2.%d:53", i+100)))
			}
		}, zones.RuleTooLarge},
		{"too many grants", func(s *zones.ZoneSettings) { s.Grants = append(s.Grants, make([]zones.Grant, MaxGrants)...) }, zones.RuleTooLarge},
		{"too many networks", update(zones.Grant{Networks: make([]netip.Prefix, MaxGrantTerms+1)}), zones.RuleTooLarge},
		{"too many names", update(zones.Grant{Names: make([]zones.NamePattern, MaxGrantTerms+1)}), zones.RuleTooLarge},
		{"too many types", update(zones.Grant{Types: make([]zones.Type, MaxGrantTerms+1)}), zones.RuleTooLarge},
		{"too large", func(s *zones.ZoneSettings) {
			for range MaxGrants - 2 {
				g := zones.Grant{Deeds: zones.DeedUpdate, Key: longKey}
				for range 5 {
					g.Names = append(g.Names, zones.NamePattern{Name: zones.Name("\x3f"+strings.Repeat("n", 63)+"\x3f"+strings.Repeat("n", 63)+"\x3f"+strings.Repeat("n", 63)) + name("example."), Self: true})
				}
				s.Grants = append(s.Grants, g)
			}
		}, zones.RuleTooLarge},
	}
	for _, test := range tests {
		s := peered()
		test.spoil(&s)
		cs := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: name("example."), Ops: []zones.Op{zones.OpSetSettings{Settings: s}}}
		rej := Check(cs)
		switch {
		case rej == nil && test.want != "":
			t.Errorf("%s: accepted", test.name)
		case rej != nil && rej.Rule != test.want:
			t.Errorf("%s: %v, want %q", test.name, rej, test.want)
		}
		if rej == nil {
			continue
		}
		if _, rej, err := Apply(newModel(cs.Zone), cs, time.Unix(0, 0)); rej == nil || err != nil || rej.Rule != test.want {
			t.Errorf("%s: applied: %v, %v", test.name, rej, err)
		}
	}
}

func TestDecodeSettingsRefuses(t *testing.T) {
	settings := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	remote := func(parts ...[]byte) []byte { return appendMessage(nil, 3, bytes.Join(parts, nil)) }
	grant := func(parts ...[]byte) []byte { return appendMessage(nil, 5, bytes.Join(parts, nil)) }
	network := func(parts ...[]byte) []byte { return grant(appendMessage(nil, 3, bytes.Join(parts, nil))) }
	v4 := appendOctets(nil, 1, []byte{192, 0, 2, 0})
	tests := []struct {
		name  string
		value []byte
		want  zones.Rule
	}{
		{"unknown field", settings(appendNumber(nil, 10, 1)), zones.RuleUndecodable},
		{"frozen is 2", settings(appendNumber(nil, 2, 2)), zones.RuleUndecodable},
		{"frozen twice", settings(bytes.Repeat(appendNumber(nil, 2, 1), 2)), zones.RuleUndecodable},
		{"short address", remote(appendOctets(nil, 1, make([]byte, 5))), zones.RuleUndecodable},
		{"port over 16 bits", remote(appendNumber(nil, 2, 1<<16)), zones.RuleUndecodable},
		{"bad key", remote(appendText(nil, 3, "key")), zones.RuleUndecodable},
		{"TLS is 2", remote(appendNumber(nil, 4, 2)), zones.RuleUndecodable},
		{"unknown field of a remote", remote(appendNumber(nil, 6, 2)), zones.RuleUndecodable},
		{"deeds over 8 bits", grant(appendNumber(nil, 1, 256)), zones.RuleUndecodable},
		{"half a type", grant(appendOctets(nil, 5, []byte{1})), zones.RuleUndecodable},
		{"network without an address", network(appendNumber(nil, 2, 8)), zones.RuleUndecodable},
		{"long prefix", network(v4, appendNumber(nil, 2, 33)), zones.RuleUndecodable},
		{"very long prefix", network(v4, appendNumber(nil, 2, 1<<63)), zones.RuleUndecodable},
		{"unknown field of a network", network(v4, appendNumber(nil, 3, 1)), zones.RuleUndecodable},
		{"unknown field of a pattern", grant(appendMessage(nil, 4, appendNumber(nil, 4, 1))), zones.RuleUndecodable},
		{"many primaries", bytes.Repeat(remote(), MaxPrimaries+1), zones.RuleTooLarge},
		{"many to notify", bytes.Repeat(appendMessage(nil, 4, nil), MaxNotify+1), zones.RuleTooLarge},
		{"many grants", bytes.Repeat(grant(), MaxGrants+1), zones.RuleTooLarge},
		{"many networks", grant(bytes.Repeat(appendMessage(nil, 3, v4), MaxGrantTerms+1)), zones.RuleTooLarge},
		{"many names", grant(bytes.Repeat(appendMessage(nil, 4, nil), MaxGrantTerms+1)), zones.RuleTooLarge},
		{"many types", grant(appendOctets(nil, 5, make([]byte, 2*MaxGrantTerms+2))), zones.RuleTooLarge},
	}
	level := appendNumber(nil, fieldLevel, 1)
	record := func(member protowire.Number, body []byte) []byte {
		return append(bytes.Clone(level), appendMessage(nil, fieldOps, appendMessage(nil, member, body))...)
	}
	for _, test := range tests {
		if _, rej := Decode(record(opSetSettings, appendMessage(nil, 1, test.value)), 1); rej == nil || rej.Rule != test.want {
			t.Errorf("%s: %v, want %s", test.name, rej, test.want)
		}
		state := awaitingState().AppendState(nil)
		state = append(state[:len(state)-1-len(encodeSettings(awaitingState().Settings))], protowire.AppendVarint(nil, uint64(len(test.value)))...)
		if z, err := ParseZone(append(state, test.value...)); err == nil {
			t.Errorf("%s: read as state %+v", test.name, z)
		}
	}
	state := awaitingState().AppendState(nil)
	state[2] |= 1 << 5 // a flag of a later version: what it says can't be passed over
	if z, err := ParseZone(state); err == nil {
		t.Errorf("with an unknown flag: read as %+v", z)
	}
	for _, body := range [][]byte{appendNumber(nil, 1, 2), appendNumber(nil, 2, maxMillis+1), appendNumber(nil, 3, 1)} {
		if _, rej := Decode(record(opSetStanding, body), 1); rej == nil || rej.Rule != zones.RuleUndecodable {
			t.Errorf("standing %x: %v", body, rej)
		}
	}
	if _, rej := Decode(append(bytes.Clone(level), appendNumber(nil, fieldSource, 256)...), 1); rej == nil || rej.Rule != zones.RuleUndecodable {
		t.Errorf("source 256: %v", rej)
	}
}

// What passes the check comes back from a record and from a zone's state as it was.
func TestSettingsRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := peered()
		s := zones.ZoneSettings{
			SerialPolicy: zones.SerialPolicy(rapid.IntRange(0, 3).Draw(rt, "policy")),
			Frozen:       rapid.Bool().Draw(rt, "frozen"),
			Primaries:    some(rt, all.Primaries),
			Notify:       some(rt, append(all.Notify, all.Primaries...)),
			Grants:       some(rt, all.Grants),
			Groups:       some(rt, listed().Groups),
			NewOwner:     rapid.SampledFrom([]zones.Name{"", name("other.catalog.")}).Draw(rt, "new owner"),
		}
		if s.IsSecondary() && rapid.Bool().Draw(rt, "member") {
			s.Member = listed().Member
		}
		if rapid.Bool().Draw(rt, "catalog") {
			s.Catalog.Role = zones.CatalogProduced
			if s.IsSecondary() {
				s.Catalog.Role = zones.CatalogRole(rapid.IntRange(2, 4).Draw(rt, "role"))
			} else {
				s.Catalog.Groups = some(rt, listed().Groups)
			}
		}
		cs := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: name("example."), Ops: []zones.Op{zones.OpSetSettings{Settings: s}}}
		if rej := Check(cs); rej != nil {
			rt.Fatal(rej)
		}
		value, err := Encode(cs)
		if err != nil {
			rt.Fatal(err)
		}
		back, rej := Decode(value, 1)
		if rej != nil || !reflect.DeepEqual(back, cs) {
			rt.Fatalf("%+v came back as %+v, %v", cs, back, rej)
		}
		z := Zone{Settings: s, Serial: 7, RRsets: rapid.Uint64().Draw(rt, "RRsets")}
		if s.IsSecondary() {
			z.Standing = zones.Standing{
				Expired: rapid.Bool().Draw(rt, "expired"), Confirmed: time.UnixMilli(rapid.Int64Range(0, maxMillis).Draw(rt, "confirmed")).UTC(),
			}
		}
		state := z.AppendState(nil)
		got, err := ParseZone(state)
		if err != nil || !reflect.DeepEqual(got, z) {
			rt.Fatalf("%+v came back as %+v, %v", z, got, err)
		}
		plain := s
		plain.SerialPolicy = 0
		if (state[0] == zoneStateVersion) != plain.IsZero() {
			rt.Fatalf("version %d for %+v", state[0], z)
		}
	})
}

// some returns some of a list, in order; nil for none.
func some[T any](rt *rapid.T, list []T) (some []T) {
	for _, one := range list {
		if rapid.Bool().Draw(rt, "there") {
			some = append(some, one)
		}
	}
	return some
}

// FuzzState: no octets make reading a zone's state panic, and a state that can be read is what is written of it.
func FuzzState(f *testing.F) {
	f.Add(awaitingState().AppendState(nil))
	f.Add(Zone{Settings: peered(), Serial: 7, Standing: zones.Standing{Expired: true, Confirmed: time.UnixMilli(1).UTC()}}.AppendState(nil))
	f.Add(Zone{Signed: true}.AppendState(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := ParseZone(b)
		if err != nil {
			return
		}
		back, err := ParseZone(z.AppendState(nil))
		if err != nil || !reflect.DeepEqual(back, z) {
			t.Fatalf("%+v came back as %+v, %v", z, back, err)
		}
	})
}
