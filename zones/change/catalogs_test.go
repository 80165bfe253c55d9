package change

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"balefire/zones"
)

// listed are settings with all that there is about catalogs.
func listed() zones.ZoneSettings {
	return zones.ZoneSettings{
		Primaries: []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.53:53")}},
		Catalog:   zones.Catalog{Role: zones.CatalogConsumed},
		Groups:    []string{"Bäume", "nodnssec"},
		NewOwner:  name("other.catalog."),
		Member:    zones.Membership{Catalog: name("catalog.invalid."), Label: "q9a0\x00\xff"},
	}
}

// ofCatalogs is a change set with what there is only about catalogs.
func ofCatalogs() *zones.ChangeSet {
	return &zones.ChangeSet{
		ID: zones.ChangeID{4, 5, 6}, Zone: name("example."), Author: "catalog catalog.invalid.",
		Preconditions: []zones.Precondition{zones.IfMember{Member: listed().Member}, zones.IfMember{}},
		Ops: []zones.Op{
			zones.OpCreateZone{Settings: listed()},
			zones.OpSetSettings{Parts: zones.PartCatalog, Settings: zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: []string{"a", "b"}}}},
			zones.OpSetSettings{Parts: zones.PartGroups | zones.PartNewOwner | zones.PartMember},
		},
	}
}

// What is said about catalogs is in records of level 1, and in the third version of a zone's state, for ever.
func TestGoldenCatalogs(t *testing.T) {
	value, err := Encode(ofCatalogs())
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "mutation-catalogs.bin")
	if !bytes.Equal(value, want) {
		t.Errorf("a change set is encoded as\n%x, and was\n%x", value, want)
	}
	cs, rej := Decode(want, 1)
	if rej != nil {
		t.Fatal(rej)
	}
	if !reflect.DeepEqual(cs, ofCatalogs()) {
		t.Errorf("the record is decoded as\n%+v, and was\n%+v", cs, ofCatalogs())
	}
	zone := awaitingState()
	zone.Settings = listed()
	want = golden(t, "mutation-zone-state-catalogs.bin")
	if got := zone.AppendState(nil); !bytes.Equal(got, want) {
		t.Errorf("a zone's state is stored as\n%x, and was\n%x", got, want)
	}
	if back, err := ParseZone(want); err != nil || !reflect.DeepEqual(back, zone) {
		t.Errorf("the zone's state is read as\n%+v, %v, and was\n%+v", back, err, zone)
	}
	for _, version := range []byte{zoneStateVersion, zoneStatePeered, zoneStateCatalog + 1} {
		if z, err := ParseZone(append([]byte{version}, want[1:]...)); err == nil {
			t.Errorf("version %d is read as %+v", version, z)
		}
	}
	if peered := awaitingState().AppendState(nil); peered[0] != zoneStatePeered {
		t.Errorf("a zone that has nothing to do with catalogs is stored in version %d", peered[0])
	} else if z, err := ParseZone(append([]byte{zoneStateCatalog}, peered[1:]...)); err == nil {
		t.Errorf("version 3 without catalogs is read as %+v", z)
	}
}

func TestCheckCatalogs(t *testing.T) {
	var many []string
	for i := range MaxGroups + 1 {
		many = append(many, string(rune('A'+i)))
	}
	tests := []struct {
		name  string
		spoil func(*zones.ZoneSettings)
		want  zones.Rule
	}{
		{"all is well", func(*zones.ZoneSettings) {}, ""},
		{"a role that is none", func(s *zones.ZoneSettings) { s.Catalog.Role = 5 }, zones.RuleMalformed},
		{"groups of one that is consumed", func(s *zones.ZoneSettings) { s.Catalog.Groups = []string{"a"} }, zones.RuleMalformed},
		{"produced, with primaries", func(s *zones.ZoneSettings) { s.Catalog.Role = zones.CatalogProduced }, zones.RuleMalformed},
		{"produced", func(s *zones.ZoneSettings) {
			*s = zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: []string{"a", "b"}}}
		}, ""},
		{"consumed, without primaries", func(s *zones.ZoneSettings) { s.Primaries, s.Member = nil, zones.Membership{} }, zones.RuleMalformed},
		{"dissolved, without primaries", func(s *zones.ZoneSettings) {
			*s = zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogDissolved}}
		}, zones.RuleMalformed},
		{"released, without primaries", func(s *zones.ZoneSettings) {
			*s = zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogReleased}}
		}, zones.RuleMalformed},
		{"a member without primaries", func(s *zones.ZoneSettings) { *s = zones.ZoneSettings{Member: s.Member} }, zones.RuleMalformed},
		{"a member without a label", func(s *zones.ZoneSettings) { s.Member.Label = "" }, zones.RuleMalformed},
		{"a label without a catalog", func(s *zones.ZoneSettings) { s.Member.Catalog = "" }, zones.RuleMalformed},
		{"a long label", func(s *zones.ZoneSettings) { s.Member.Label = strings.Repeat("l", 64) }, zones.RuleMalformed},
		{"a label in another form", func(s *zones.ZoneSettings) { s.Member.Label = "L" }, zones.RuleMalformed},
		{"a member of itself", func(s *zones.ZoneSettings) { s.Member.Catalog = name("example.") }, zones.RuleMalformed},
		{"its own new owner", func(s *zones.ZoneSettings) { s.NewOwner = name("example.") }, zones.RuleMalformed},
		{"a group without a name", func(s *zones.ZoneSettings) { s.Groups = []string{""} }, zones.RuleMalformed},
		{"a long group", func(s *zones.ZoneSettings) { s.Groups = []string{strings.Repeat("g", 256)} }, zones.RuleMalformed},
		{"a group that is no text", func(s *zones.ZoneSettings) { s.Groups = []string{"\xff"} }, zones.RuleMalformed},
		{"a group of lines", func(s *zones.ZoneSettings) { s.Groups = []string{"a\nb"} }, zones.RuleMalformed},
		{"groups out of order", func(s *zones.ZoneSettings) { s.Groups = []string{"b", "a"} }, zones.RuleMalformed},
		{"a group twice", func(s *zones.ZoneSettings) { s.Groups = []string{"a", "a"} }, zones.RuleMalformed},
		{"listed groups out of order", func(s *zones.ZoneSettings) {
			*s = zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: []string{"b", "a"}}}
		}, zones.RuleMalformed},
		{"too many groups", func(s *zones.ZoneSettings) { s.Groups = many }, zones.RuleTooLarge},
		{"too many listed groups", func(s *zones.ZoneSettings) {
			*s = zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: many}}
		}, zones.RuleTooLarge},
	}
	for _, test := range tests {
		s := listed()
		test.spoil(&s)
		apply := func(m *model, op zones.Op) (rule zones.Rule) {
			_, rej, err := Apply(m, &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: name("example."), Ops: []zones.Op{op}}, time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if rej != nil {
				rule = rej.Rule
			}
			return rule
		}
		op := zones.OpCreateZone{Settings: s}
		if !s.IsSecondary() {
			op.RRsets = rrsets(t, "example. 0 SOA . . 1 2 3 4 5", "example. 0 NS .")
		}
		if got := apply(newModel(name("example.")), op); got != test.want {
			t.Errorf("%s: created: %q, want %q", test.name, got, test.want)
		}
		// The same of a zone that is there: as a whole, and part by part.
		hosted := func() *model {
			m := newModel(name("example."))
			m.hosted = true
			m.zone = Zone{Settings: zones.ZoneSettings{Primaries: listed().Primaries}}
			return m
		}
		if got := apply(hosted(), zones.OpSetSettings{Settings: s}); got != test.want {
			t.Errorf("%s: set: %q, want %q", test.name, got, test.want)
		}
		if got := apply(hosted(), zones.OpSetSettings{Parts: zones.AllSettings &^ zones.PartSerialPolicy, Settings: s}); got != test.want {
			t.Errorf("%s: set by parts: %q, want %q", test.name, got, test.want)
		}
	}
}

// A zone that was made for a catalog does not lose its primaries as long as it is that catalog's.
func TestMembersKeepPrimaries(t *testing.T) {
	m := newModel(name("example."))
	m.hosted = true
	m.zone = Zone{Settings: zones.ZoneSettings{Primaries: listed().Primaries, Member: listed().Member}}
	for parts, want := range map[zones.SettingsPart]zones.Rule{
		zones.PartPrimaries:                    zones.RuleMalformed,
		zones.PartPrimaries | zones.PartMember: "",
	} {
		cs := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: name("example."), Ops: []zones.Op{zones.OpSetSettings{Parts: parts}}}
		_, rej, err := Apply(m, cs, time.Unix(0, 0))
		if err != nil || (rej == nil) != (want == "") || rej != nil && rej.Rule != want {
			t.Errorf("parts %b: %v, %v, want %q", parts, rej, err, want)
		}
	}
}

func TestIfMember(t *testing.T) {
	other := zones.Membership{Catalog: name("other."), Label: "l"}
	for _, c := range []struct {
		is, asked zones.Membership
		holds     bool
	}{
		{listed().Member, listed().Member, true},
		{listed().Member, other, false},
		{listed().Member, zones.Membership{Catalog: listed().Member.Catalog, Label: "l"}, false},
		{listed().Member, zones.Membership{}, false},
		{zones.Membership{}, zones.Membership{}, true},
		{zones.Membership{}, other, false},
	} {
		m := newModel(name("example."))
		m.hosted = true
		m.zone = Zone{Settings: zones.ZoneSettings{Primaries: listed().Primaries, Member: c.is}}
		cs := &zones.ChangeSet{
			ID: zones.ChangeID{1}, Zone: name("example."), Preconditions: []zones.Precondition{zones.IfMember{Member: c.asked}}, Ops: []zones.Op{zones.OpDeleteZone{}},
		}
		_, rej, err := Apply(m, cs, time.Unix(0, 0))
		if err != nil || (rej == nil) != c.holds || rej != nil && rej.Rule != zones.RulePrecondition {
			t.Errorf("%+v asked of %+v: %v, %v", c.asked, c.is, rej, err)
		}
		m.hosted = false
		if _, rej, err := Apply(m, cs, time.Unix(0, 0)); err != nil || rej == nil || rej.Rule != zones.RuleNoZone {
			t.Errorf("of no zone: %v, %v", rej, err)
		}
		cs.Preconditions = []zones.Precondition{zones.IfMember{Member: zones.Membership{Label: "l"}}}
		if rej := Check(cs); rej == nil || rej.Rule != zones.RuleMalformed {
			t.Errorf("a label without a catalog: %v", rej)
		}
	}
}

func TestDecodeCatalogsRefuses(t *testing.T) {
	catalog := func(parts ...[]byte) []byte { return appendMessage(nil, 6, bytes.Join(parts, nil)) }
	member := func(parts ...[]byte) []byte { return appendMessage(nil, 9, bytes.Join(parts, nil)) }
	tests := []struct {
		name  string
		value []byte
		want  zones.Rule
	}{
		{"unknown field", appendNumber(nil, 10, 1), zones.RuleUndecodable},
		{"a catalog of nothing", catalog(), zones.RuleUndecodable},
		{"a role over 8 bits", catalog(appendNumber(nil, 1, 256)), zones.RuleUndecodable},
		{"unknown field of a catalog", catalog(appendNumber(nil, 1, 1), appendNumber(nil, 3, 1)), zones.RuleUndecodable},
		{"many groups of a catalog", catalog(bytes.Repeat(appendMessage(nil, 2, []byte("g")), MaxGroups+1)), zones.RuleTooLarge},
		{"many groups", bytes.Repeat(appendMessage(nil, 7, []byte("g")), MaxGroups+1), zones.RuleTooLarge},
		{"a new owner that is no name", appendText(nil, 8, "x"), zones.RuleUndecodable},
		{"a catalog twice", bytes.Repeat(catalog(appendNumber(nil, 1, 1)), 2), zones.RuleUndecodable},
		{"a member of nothing", member(), zones.RuleUndecodable},
		{"a member of no name", member(appendText(nil, 1, "x")), zones.RuleUndecodable},
		{"unknown field of a member", member(appendText(nil, 2, "l"), appendNumber(nil, 3, 1)), zones.RuleUndecodable},
	}
	for _, test := range tests {
		body := appendMessage(nil, opSetSettings, appendMessage(nil, 1, test.value))
		record := append(appendNumber(nil, fieldLevel, 1), appendMessage(nil, fieldOps, body)...)
		if _, rej := Decode(record, 1); rej == nil || rej.Rule != test.want {
			t.Errorf("%s: %v, want %s", test.name, rej, test.want)
		}
		state := awaitingState().AppendState(nil)
		state = append(state[:len(state)-1-len(encodeSettings(awaitingState().Settings))], protowire.AppendVarint(nil, uint64(len(test.value)))...)
		state[0] = zoneStateCatalog
		if z, err := ParseZone(append(state, test.value...)); err == nil {
			t.Errorf("%s: read as state %+v", test.name, z)
		}
	}
}
