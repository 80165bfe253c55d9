package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/zonefile"
)

var apex = zones.MustParseName("catalog.example.")

func name(s string) zones.Name {
	if s == "" {
		return ""
	}
	return zones.MustParseName(s)
}

// read reads records in presentation form, relative to the catalog.
func read(t testing.TB, text string) []zones.RRset {
	t.Helper()
	head := "$ORIGIN catalog.example.\n$TTL 0\n@ SOA invalid. invalid. 1 2 3 4 5\n@ NS invalid.\n"
	c, err := zonefile.Read(strings.NewReader(head+text), zonefile.Options{File: "test", Origin: zones.Root})
	if err != nil {
		t.Fatal(err)
	}
	return c.RRsets
}

func TestParse(t *testing.T) {
	const version = "version TXT \"2\"\n"
	for _, c := range []struct {
		what, text string
		want       []Member
		broken     string // the owner of what breaks it, relative to the catalog
	}{
		{"empty", version, nil, ""},
		{"the RFC's example", version + "a.zones PTR example.com.\nb.zones PTR example.net.\nc.zones PTR EXAMPLE.org.\n", []Member{
			{Zone: name("example.com."), Label: "a"}, {Zone: name("example.net."), Label: "b"}, {Zone: name("example.org."), Label: "c"},
		}, ""},
		{"groups", version + "a.zones PTR x.\ngroup.a.zones TXT two\ngroup.a.zones TXT one\ngroup.a.zones TXT one\n", []Member{{Zone: name("x."), Label: "a", Groups: []string{"one", "two"}}}, ""},
		{"a group of several strings", version + "a.zones PTR x.\ngroup.a.zones TXT o ne\n", []Member{{Zone: name("x."), Label: "a", Groups: []string{"one"}}}, ""},
		{"an empty group", version + "a.zones PTR x.\ngroup.a.zones TXT \"\"\n", []Member{{Zone: name("x."), Label: "a"}}, ""},
		{"a new owner", version + "a.zones PTR x.\ncoo.a.zones PTR new.catalog.\n", []Member{{Zone: name("x."), Label: "a", NewOwner: name("new.catalog.")}}, ""},
		{"the root", version + "a.zones PTR .\n", []Member{{Zone: zones.Root, Label: "a"}}, ""},
		{"letters of labels are of no account", version + "A.ZONES PTR x.\nGROUP.A.Zones TXT g\n", []Member{{Zone: name("x."), Label: "a", Groups: []string{"g"}}}, ""},
		{
			"what is not of the schema", version + "a.zones PTR x.\na.zones TXT t\ngroup.a.zones PTR y.\ncoo.a.zones TXT z\nother.a.zones TXT t\n" +
				"p.ext.a.zones TXT t\np.ext TXT t\nzones PTR y.\nversion PTR y.\nb.zones TXT no\ngroup.b.zones TXT g\na.b.c.zones PTR y.\nwww A 192.0.2.1\n" +
				"group.group.a.zones TXT u\nversion.version TXT 3\nzoness PTR y.\nxzones PTR y.\n",
			[]Member{{Zone: name("x."), Label: "a"}},
			"",
		},
		{"labels like those of properties", version + "group.zones PTR x.\ngroup.group.zones TXT g\ncoo.zones PTR y.\nzones.zones PTR z.\n", []Member{
			{Zone: name("x."), Label: "group", Groups: []string{"g"}}, {Zone: name("y."), Label: "coo"}, {Zone: name("z."), Label: "zones"},
		}, ""},

		{"no version", "a.zones PTR x.\n", nil, "version"},
		{"an older version", "version TXT 1\n", nil, "version"},
		{"a newer version", "version TXT 3\n", nil, "version"},
		{"two versions", version + "version TXT 1\n", nil, "version"},
		{"two versions, the first of which is known", version + "version TXT 3\n", nil, "version"},
		{"a version of another type", "version CNAME x.\n", nil, "version"},
		{"two records of a member", version + "a.zones PTR x.\na.zones PTR y.\n", nil, "a.zones"},
		{"a member twice", version + "a.zones PTR x.\nb.zones PTR X.\n", nil, "b.zones"},
		{"two new owners", version + "a.zones PTR x.\ncoo.a.zones PTR one.\ncoo.a.zones PTR two.\n", nil, "coo.a.zones"},
	} {
		got, err := Parse(apex, slices.Values(read(t, c.text)))
		if c.broken != "" {
			var broken *Broken
			if !errors.As(err, &broken) || broken.Owner != name(c.broken+".catalog.example.") || broken.Reason == "" {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		want := slices.SortedFunc(slices.Values(c.want), func(a, b Member) int { return zones.Compare(a.Zone, b.Zone) })
		if members := got.Members(); got.Apex != apex || got.Len() != len(want) || len(want) > 0 && !slices.EqualFunc(members, want, Member.Equal) {
			t.Errorf("%s: got %+v", c.what, members)
		}
	}
	if _, err := Parse(name(strings.Repeat(strings.Repeat("a", 61)+".", 4)), slices.Values([]zones.RRset{})); err == nil {
		t.Error("a catalog whose members have no names")
	}
}

func TestNewRefuses(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("%0100d", i)
	}
	for what, c := range map[string]struct {
		members []Member
		want    error
	}{
		"a zone twice":       {[]Member{{Zone: name("x."), Label: "a"}, {Zone: name("x."), Label: "b"}}, ErrTwice},
		"a label twice":      {[]Member{{Zone: name("x."), Label: "a"}, {Zone: name("y."), Label: "a"}}, ErrTwice},
		"no label":           {[]Member{{Zone: name("x.")}}, ErrLabel},
		"a long label":       {[]Member{{Zone: name("x."), Label: strings.Repeat("a", 64)}}, ErrLabel},
		"capital letters":    {[]Member{{Zone: name("x."), Label: "A"}}, ErrLabel},
		"a group of nothing": {[]Member{{Zone: name("x."), Label: "a", Groups: []string{""}}}, ErrGroup},
		"a long group":       {[]Member{{Zone: name("x."), Label: "a", Groups: []string{strings.Repeat("g", 256)}}}, ErrGroup},
		"too many groups":    {[]Member{{Zone: name("x."), Label: "a", Groups: many}}, ErrGroups},
	} {
		if _, err := New(apex, c.members); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := New(apex, []Member{{Label: "a"}}); err == nil {
		t.Error("a member without a zone")
	}
	long := name(strings.Repeat(strings.Repeat("a", 58)+".", 4))
	if _, err := New(long, []Member{{Zone: name("x."), Label: "abcdefgh"}}); err == nil {
		t.Error("a label whose properties have no names")
	}
}

// randomCatalog makes a catalog of up to n members.
func randomCatalog(t testing.TB, rng *rand.Rand, n int) *Catalog {
	var members []Member
	for i := range n {
		if rng.IntN(3) == 0 {
			continue
		}
		m := Member{Zone: name(fmt.Sprintf("z%d.example.", i)), Label: fmt.Sprintf("l%d-%d", i, rng.IntN(2))}
		if rng.IntN(20) == 0 {
			m.Label = fmt.Sprintf("l%d-%d", (i+1)%n, 2) // of another's kind
		}
		for g := range rng.IntN(3) {
			m.Groups = append(m.Groups, fmt.Sprintf("g%d", g+rng.IntN(2)))
		}
		if rng.IntN(4) == 0 {
			m.NewOwner = name(fmt.Sprintf("c%d.", rng.IntN(2)))
		}
		members = append(members, m)
	}
	c, err := New(apex, members)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is built is read as the same, and operations lead from one catalog to another.
func TestBuildParseAndOps(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		from, to := randomCatalog(t, rng, 12), randomCatalog(t, rng, 12)
		sets, err := from.RRsets(7, DefaultTiming)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(sets, zones.CompareRRsets) {
			t.Fatalf("seed %d: not in order", seed)
		}
		back, err := Parse(apex, slices.Values(sets))
		if err != nil || !reflect.DeepEqual(back.Members(), from.Members()) {
			t.Fatalf("seed %d: %v, %+v is read as %+v", seed, err, from.Members(), back)
		}
		back, err = Parse(apex, slices.Values(performed(t, sets, to)))
		if err != nil || !reflect.DeepEqual(back.Members(), to.Members()) {
			t.Fatalf("seed %d: %v; operations lead to %+v, not %+v", seed, err, back, to.Members())
		}
	}
}

func TestMemberLabel(t *testing.T) {
	seen := map[string]bool{}
	for _, zone := range []string{"example.com.", "example.net.", "."} {
		for _, born := range []string{"", "3@17", "3@18"} {
			l := MemberLabel(name(zone), born)
			if seen[l] || l != MemberLabel(name(zone), born) || len(l) > 63 || l != strings.ToLower(l) {
				t.Errorf("%s born at %q: %q", zone, born, l)
			}
			seen[l] = true
		}
	}
	// The labels are in catalogs that others have: they must stay what they are.
	if got := MemberLabel(name("example.com."), "3@17"); got != "q9a0pcsdft4gebvmdutf4sh6d8" {
		t.Errorf("the label is now %q", got)
	}
}

// hosted is a Hosted of a map.
type hosted map[zones.Name]zones.ZoneSettings

func (h hosted) Settings(zone zones.Name) (zones.ZoneSettings, bool) {
	s, ok := h[zone]
	return s, ok
}

func (h hosted) Members(catalog zones.Name) (all []zones.Name) {
	for zone, s := range h {
		if s.Member.Catalog == catalog {
			all = append(all, zone)
		}
	}
	return all
}

func remotes(addresses ...string) (all []zones.Remote) {
	for _, a := range addresses {
		all = append(all, zones.Remote{Addr: netip.MustParseAddrPort(a)})
	}
	return all
}

func TestDecide(t *testing.T) {
	other := name("other.catalog.")
	z := name("z.example.")
	from := remotes("192.0.2.1:53")
	is := func(catalog zones.Name, label string, groups ...string) zones.ZoneSettings {
		return zones.ZoneSettings{Primaries: from, Member: zones.Membership{Catalog: catalog, Label: label}, Groups: groups}
	}
	offered := func(s zones.ZoneSettings, to zones.Name) zones.ZoneSettings {
		s.NewOwner = to
		return s
	}
	elsewhere := is(apex, "l")
	elsewhere.Primaries = remotes("192.0.2.2:53")
	extras := is(apex, "l")
	extras.Notify, extras.Frozen = from, true
	for _, c := range []struct {
		what    string
		members []Member
		hosted  hosted
		want    []string
	}{
		{"a new member", []Member{{Zone: z, Label: "l"}}, nil, []string{"create z.example."}},
		{"a member that is there", []Member{{Zone: z, Label: "l"}}, hosted{z: is(apex, "l")}, nil},
		{"a member with settings of the operator's", []Member{{Zone: z, Label: "l"}}, hosted{z: extras}, nil},
		{"another label", []Member{{Zone: z, Label: "m"}}, hosted{z: is(apex, "l")}, []string{"recreate z.example."}},
		{"other groups", []Member{{Zone: z, Label: "l", Groups: []string{"g"}}}, hosted{z: is(apex, "l")}, []string{"update z.example."}},
		{"the same groups", []Member{{Zone: z, Label: "l", Groups: []string{"h", "g"}}}, hosted{z: is(apex, "l", "g", "h")}, nil},
		{"groups that can't be", []Member{{Zone: z, Label: "l", Groups: []string{"\xff", "g"}}}, hosted{z: is(apex, "l", "g")}, nil},
		{"other primaries", []Member{{Zone: z, Label: "l"}}, hosted{z: elsewhere}, []string{"update z.example."}},
		{"a member that is offered", []Member{{Zone: z, Label: "l", NewOwner: other}}, hosted{z: is(apex, "l")}, []string{"update z.example."}},
		{"a member that is offered still", []Member{{Zone: z, Label: "l", NewOwner: other}}, hosted{z: offered(is(apex, "l"), other)}, nil},
		{"a member that is not offered any more", []Member{{Zone: z, Label: "l"}}, hosted{z: offered(is(apex, "l"), other)}, []string{"update z.example."}},
		{"a member that is offered to itself", []Member{{Zone: z, Label: "l", NewOwner: z}}, hosted{z: is(apex, "l")}, nil},
		{"a member that is offered to its catalog", []Member{{Zone: z, Label: "l", NewOwner: apex}}, hosted{z: is(apex, "l")}, nil},
		{"a member that goes", nil, hosted{z: is(apex, "l")}, []string{"delete z.example."}},
		{"a zone of the operator's", nil, hosted{z: {}}, nil},
		{"a zone of another catalog", nil, hosted{z: is(other, "l")}, nil},
		{"a clash with the operator's", []Member{{Zone: z, Label: "l"}}, hosted{z: {}}, []string{"clash z.example."}},
		{"a clash with what the operator would give away", []Member{{Zone: z, Label: "l"}}, hosted{z: {NewOwner: apex}}, []string{"clash z.example."}},
		{"a clash with another catalog", []Member{{Zone: z, Label: "l"}}, hosted{z: is(other, "l")}, []string{"clash z.example."}},
		{"one that is given away, to somebody else", []Member{{Zone: z, Label: "l"}}, hosted{z: offered(is(other, "l"), name("third."))}, []string{"clash z.example."}},
		{"one that is given away", []Member{{Zone: z, Label: "l"}}, hosted{z: offered(is(other, "l"), apex)}, []string{"take-over z.example."}},
		{"one that was given away", []Member{{Zone: z, Label: "l", NewOwner: other}}, hosted{z: is(other, "l")}, nil},
		{"one that is given away, and not wanted", nil, hosted{z: offered(is(other, "l"), apex)}, nil},
		{"one that is given away, under another label", []Member{{Zone: z, Label: "m"}}, hosted{z: offered(is(other, "l"), apex)}, []string{"take-over z.example. reset"}},
		{"the catalog itself", []Member{{Zone: apex, Label: "l"}}, nil, []string{"clash catalog.example."}},
		{"what goes comes first", []Member{{Zone: name("a."), Label: "l"}}, hosted{z: is(apex, "l")}, []string{"delete z.example.", "create a."}},
	} {
		k, err := New(apex, c.members)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range Decide(k, from, c.hosted) {
			text := s.Action.String() + " " + s.Zone.String()
			if s.Reset {
				text += " reset"
			}
			got = append(got, text)
			if is := c.hosted[s.Zone]; s.Before != is.Member {
				t.Errorf("%s: done to what is %+v", c.what, s.Before)
			}
			// What is done is enough: afterwards there is nothing to do.
			switch s.Action {
			case Delete:
				delete(c.hosted, s.Zone)
			case Create, Recreate, Update, TakeOver:
				if c.hosted == nil {
					c.hosted = hosted{}
				}
				c.hosted[s.Zone] = c.hosted[s.Zone].With(MemberParts, s.Want)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		for _, s := range Decide(k, from, c.hosted) {
			if s.Action != Clash {
				t.Errorf("%s: and then %s", c.what, s.Action)
			}
		}
	}
}

// lateHosted says of zones that they are a catalog's which are not any more.
type lateHosted struct{ hosted }

func (h lateHosted) Members(zones.Name) (all []zones.Name) {
	for zone := range h.hosted {
		all = append(all, zone)
	}
	return append(all, name("gone.example."))
}

func TestDecideDeletesOnlyWhatIsItsOwn(t *testing.T) {
	c, err := New(apex, nil)
	if err != nil {
		t.Fatal(err)
	}
	have := hosted{name("a."): {}, name("b."): {Member: zones.Membership{Catalog: name("other.catalog."), Label: "l"}}}
	if steps := Decide(c, nil, lateHosted{have}); len(steps) != 0 {
		t.Errorf("%+v", steps)
	}
}

func TestLists(t *testing.T) {
	all, some := zones.Catalog{Role: zones.CatalogProduced}, zones.Catalog{Role: zones.CatalogProduced, Groups: []string{"a", "b"}}
	for _, c := range []struct {
		what      string
		s         zones.ZoneSettings
		all, some bool
	}{
		{"a zone", zones.ZoneSettings{}, true, false},
		{"one of a group", zones.ZoneSettings{Groups: []string{"b", "c"}}, true, true},
		{"one of another", zones.ZoneSettings{Groups: []string{"c"}}, true, false},
		{"one that is to come", zones.ZoneSettings{NewOwner: apex}, true, true},
		{"one that is to go elsewhere", zones.ZoneSettings{NewOwner: name("other.")}, true, false},
		{"a secondary zone", zones.ZoneSettings{Primaries: remotes("192.0.2.1:53"), Groups: []string{"a"}}, false, false},
		{"a catalog", zones.ZoneSettings{Catalog: all, Groups: []string{"a"}}, false, false},
	} {
		if got := all.Lists(apex, c.s); got != c.all {
			t.Errorf("%s among all: %t", c.what, got)
		}
		if got := some.Lists(apex, c.s); got != c.some {
			t.Errorf("%s among some: %t", c.what, got)
		}
	}
	if (zones.Catalog{Role: zones.CatalogConsumed}).Lists(apex, zones.ZoneSettings{}) {
		t.Error("a catalog that is consumed lists zones of ours")
	}
}

// A catalog whose zone was spoilt is put right, and what is called somehow in it stays so.
func TestDifferencesRepair(t *testing.T) {
	spoilt := read(t, `version TXT "1"
a.zones PTR x.
b.zones PTR y.
b.zones PTR z.
group.a.zones TXT g
deep.er.a.zones TXT t
*.zones A 192.0.2.1
`)
	want := map[zones.Name]string{name("x."): "a"}
	if got := Labels(apex, slices.Values(spoilt)); !reflect.DeepEqual(got, want) {
		t.Errorf("labels %v", got)
	}
	c, err := New(apex, []Member{{Zone: name("x."), Label: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(apex, slices.Values(performed(t, spoilt, c)))
	if err != nil || !reflect.DeepEqual(back.Members(), c.Members()) {
		t.Fatalf("%v: %+v", err, back)
	}
}

// performed is a zone after what makes it the catalog's.
func performed(t testing.TB, have []zones.RRset, c *Catalog) (after []zones.RRset) {
	t.Helper()
	ops, err := c.Differences(slices.Values(have))
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]zones.RRset{}
	for _, s := range have {
		content[s.Owner.String()+s.Type.String()] = s
	}
	put := false
	for _, op := range ops {
		switch op := op.(type) {
		case zones.OpPutRRset:
			put = true
			at := op.RRset.Owner.String() + op.RRset.Type.String()
			if old, ok := content[at]; ok && old.Equal(op.RRset) {
				t.Errorf("%s is put as it is", at)
			}
			content[at] = op.RRset
		case zones.OpDeleteRRset:
			at := op.Owner.String() + op.Type.String()
			if _, ok := content[at]; !ok || put {
				t.Errorf("%s is deleted, and not there, or something was put before", at)
			}
			delete(content, at)
		}
	}
	for _, s := range content {
		after = append(after, s)
	}
	if again, err := c.Differences(slices.Values(after)); err != nil || len(again) != 0 {
		t.Errorf("from a catalog to itself: %v, %v", again, err)
	}
	return after
}

// FuzzParse: whatever a zone holds, it is read or found to be broken; what is read is built and read again as the same.
func FuzzParse(f *testing.F) {
	f.Add("version TXT 2\na.zones PTR x.\ngroup.a.zones TXT g h\ncoo.a.zones PTR y.\n")
	f.Add("version TXT 2\na.zones PTR x.\nb.zones PTR x.\n")
	f.Add("version TXT 2\n\\000\\255.zones PTR x.\n*.zones PTR *.\n")
	f.Fuzz(func(t *testing.T, text string) {
		head := "$ORIGIN catalog.example.\n$TTL 0\n@ SOA invalid. invalid. 1 2 3 4 5\n@ NS invalid.\n"
		content, err := zonefile.Read(strings.NewReader(head+text), zonefile.Options{File: "fuzz", Origin: zones.Root})
		if err != nil || content.Apex != apex {
			return
		}
		c, err := Parse(apex, slices.Values(content.RRsets))
		if err != nil {
			var broken *Broken
			if !errors.As(err, &broken) {
				t.Fatal(err)
			}
			return
		}
		again, err := New(apex, c.Members())
		if err != nil {
			return // groups that others have, and we make none of
		}
		sets, err := again.RRsets(1, DefaultTiming)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(apex, slices.Values(sets))
		if err != nil || !slices.EqualFunc(back.Members(), c.Members(), Member.Equal) {
			t.Fatalf("%v: %+v became %+v", err, c.Members(), back)
		}
	})
}
