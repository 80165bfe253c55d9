package change

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"balefire/zones"
)

// TestRandomChangeSets applies random change sets, good and bad. After each: the zone is valid from end to end and its
// state is right (model.check), the delta leads from what was to what is (model.take), what is is what a plain reading of the
// operations makes, and the serial went forward exactly when something changed.
func TestRandomChangeSets(t *testing.T) {
	apex := name("example.")
	soa := rrset(t, "example. 3600 SOA ns.example. host.example. 10 7200 900 86400 300")
	start := append(rrsets(t, "example. 3600 NS ns.example.", "www.example. 300 A 192.0.2.1"), soa)
	owners := []zones.Name{
		apex, name("www.example."), name("a.example."), name("b.a.example."), name("c.b.a.example."), name("*.a.example."), name("d.example."),
	}
	bodies := map[zones.Type][]string{
		zones.TypeA:     {"192.0.2.1", "192.0.2.2", "192.0.2.3"},
		zones.TypeTXT:   {"one", "two"},
		zones.TypeCNAME: {"x.example.", "y.example."},
		zones.TypeNS:    {"ns.example.", "ns2.example."},
		zones.TypeDS:    {"1 8 2 00000000000000000000000000000000000000000000000000000000000000AA"},
		zones.TypeDNAME: {"z.example."},
	}
	types := []zones.Type{zones.TypeA, zones.TypeTXT, zones.TypeCNAME, zones.TypeNS, zones.TypeDS, zones.TypeDNAME}
	accepted, rejected := map[Kind]int{}, map[zones.Rule]int{}

	rapid.Check(t, func(rt *rapid.T) {
		drawSet := func() zones.RRset {
			owner := rapid.SampledFrom(owners).Draw(rt, "owner")
			ty := rapid.SampledFrom(types).Draw(rt, "type")
			ttl := rapid.SampledFrom([]int{60, 300}).Draw(rt, "ttl")
			var records []string
			for _, body := range bodies[ty] {
				if len(records) == 0 || rapid.Bool().Draw(rt, "more") {
					records = append(records, fmt.Sprintf("%s %d %s %s", owner, ttl, ty, body))
				}
			}
			return rrset(t, records...)
		}
		drawOp := func() zones.Op {
			set := drawSet()
			switch rapid.IntRange(0, 9).Draw(rt, "op") {
			case 0, 1, 2:
				return zones.OpPutRRset{RRset: set}
			case 3, 4:
				return zones.OpAddRecords{RRset: set}
			case 5:
				return zones.OpDeleteRecords{RRset: set}
			case 6, 7:
				return zones.OpDeleteRRset{Owner: set.Owner, Type: set.Type}
			case 8:
				return zones.OpDeleteName{Owner: set.Owner}
			}
			serial := zones.Serial(rapid.Uint32Range(8, 20).Draw(rt, "serial"))
			return zones.OpPutRRset{RRset: soa.WithSOASerial(serial)}
		}
		m := newModel(apex)
		if _, rej := m.apply(t, &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: apex, Ops: []zones.Op{zones.OpCreateZone{RRsets: start}}}, time.Unix(0, 0)); rej != nil {
			rt.Fatal(rej)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "change sets") {
			cs := &zones.ChangeSet{ID: zones.ChangeID{2}, Zone: apex}
			for range rapid.IntRange(1, 4).Draw(rt, "operations") {
				cs.Ops = append(cs.Ops, drawOp())
			}
			before, serial := maps.Clone(m.sets), m.zone.Serial
			want := plainly(before, cs.Ops, apex)
			r, rej := m.apply(t, cs, time.Unix(0, 0))
			if rej != nil {
				rejected[rej.Rule]++
				if !maps.EqualFunc(before, m.sets, zones.RRset.Equal) {
					rt.Fatalf("rejected (%v), and changed", rej)
				}
				continue
			}
			accepted[r.Kind]++
			changed := !maps.EqualFunc(before, want, zones.RRset.Equal)
			at := position{apex, zones.Key{Type: zones.TypeSOA}}
			if got := m.sets[at].SOASerial(); got != m.zone.Serial || changed != got.IsAfter(serial) || changed != (r.Kind == Patch) {
				rt.Fatalf("kind %d: the SOA has serial %d, the state %d, before it was %d; changed: %t", r.Kind, got, m.zone.Serial, serial, changed)
			}
			want[at] = want[at].WithSOASerial(m.zone.Serial)
			if !maps.EqualFunc(want, m.sets, zones.RRset.Equal) {
				rt.Fatalf("%+v made\n%v, want\n%v", cs.Ops, m.sets, want)
			}
		}
	})
	if accepted[Patch] == 0 || accepted[Unchanged] == 0 || len(rejected) < 6 {
		t.Errorf("too little was tried: accepted %v, rejected %v", accepted, rejected)
	}
}

// plainly applies operations to a map, as their documentation reads.
func plainly(sets map[position]zones.RRset, ops []zones.Op, apex zones.Name) map[position]zones.RRset {
	sets = maps.Clone(sets)
	for _, op := range ops {
		switch op := op.(type) {
		case zones.OpPutRRset:
			sets[position{op.RRset.Owner, op.RRset.Key}] = op.RRset
		case zones.OpAddRecords:
			at := position{op.RRset.Owner, op.RRset.Key}
			old, ok := sets[at]
			switch op.RRset.Type {
			case zones.TypeCNAME, zones.TypeDNAME, zones.TypeSOA:
				ok = false
			}
			if !ok {
				sets[at] = op.RRset
				continue
			}
			var rdatas [][]byte
			for rd := range old.RDatas() {
				rdatas = append(rdatas, rd)
			}
			for rd := range op.RRset.RDatas() {
				rdatas = append(rdatas, rd)
			}
			sets[at], _ = zones.NewRRset(at.owner, at.key.Type, op.RRset.TTL, rdatas...)
		case zones.OpDeleteRecords:
			at := position{op.RRset.Owner, op.RRset.Key}
			old, ok := sets[at]
			if !ok {
				continue
			}
			var rdatas [][]byte
			for rd := range old.RDatas() {
				if !op.RRset.Contains(rd) {
					rdatas = append(rdatas, rd)
				}
			}
			delete(sets, at)
			if len(rdatas) > 0 {
				sets[at], _ = zones.NewRRset(at.owner, at.key.Type, old.TTL, rdatas...)
			}
		case zones.OpDeleteRRset:
			delete(sets, position{op.Owner, zones.Key{Type: op.Type}})
		case zones.OpDeleteName:
			maps.DeleteFunc(sets, func(at position, _ zones.RRset) bool {
				stays := op.Owner == apex && (at.key.Type == zones.TypeSOA || at.key.Type == zones.TypeNS)
				return at.owner == op.Owner && !stays
			})
		}
	}
	return sets
}

// hostedModel is a zone with SOA, NS and what else is given.
func hostedModel(t testing.TB, records ...string) *model {
	t.Helper()
	m := newModel(name("example."))
	sets := rrsets(t, append([]string{
		"example. 3600 SOA ns.example. host.example. 10 7200 900 86400 300", "example. 3600 NS ns.example.",
	}, records...)...)
	if _, rej := m.apply(t, &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: m.apex, Ops: []zones.Op{zones.OpCreateZone{RRsets: sets}}}, time.Unix(0, 0)); rej != nil {
		t.Fatal(rej)
	}
	return m
}

func TestCaps(t *testing.T) {
	octetsOf := func(n int) string { return fmt.Sprintf("\\# %d %s", n, strings.Repeat("00", n)) }
	put := func(lines ...string) (ops []zones.Op) {
		for _, s := range rrsets(t, lines...) {
			ops = append(ops, zones.OpPutRRset{RRset: s})
		}
		return ops
	}
	manyTypes := func(owner string, n, size int) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("%s 1 TYPE%d %s", owner, 65280+i-n, octetsOf(size)))
		}
		return lines
	}
	m := hostedModel(t)
	apply := func(ops []zones.Op) *zones.Rejection {
		_, rej, err := Apply(m, &zones.ChangeSet{ID: zones.ChangeID{2}, Zone: m.apex, Ops: ops}, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		return rej
	}
	// In a message: www.example. takes 13, and each RR a pointer, ten octets and its RDATA.
	fits := MaxRRsetInReply - 13 - 12
	tests := []struct {
		name string
		ops  []zones.Op
		want zones.Rule
	}{
		{"the largest RRset", put("www.example. 1 TYPE65280 " + octetsOf(fits)), ""},
		{"one octet more", put("www.example. 1 TYPE65280 " + octetsOf(fits+1)), zones.RuleRRsetSize},
		{"the most RRsets of a name", put(manyTypes("www.example.", MaxNodeRRsets, 1)...), ""},
		{"one more", put(manyTypes("www.example.", MaxNodeRRsets+1, 1)...), zones.RuleTooLarge},
		{"a large name", put(manyTypes("www.example.", 5, 50000)...), ""},
		{"too large a name", put(manyTypes("www.example.", 6, 50000)...), zones.RuleTooLarge},
		{"many names at once", put(append(manyTypes("a.example.", 5, 50000), manyTypes("b.example.", 5, 50000)...)...), zones.RuleTooLarge},
		{"too many operations", put(manyTypes("www.example.", MaxOps+1, 1)...), zones.RuleTooLarge},
	}
	for _, test := range tests {
		rej := apply(test.ops)
		switch {
		case rej == nil && test.want != "":
			t.Errorf("%s: accepted", test.name)
		case rej != nil && rej.Rule != test.want:
			t.Errorf("%s: %v, want %q", test.name, rej, test.want)
		}
	}
}

// A thousand operations on one large RRset take no time that grows with both.
func TestManyAdditions(t *testing.T) {
	m := hostedModel(t)
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("www.example. 1 A 10.0.%d.%d", i/256, i%256))
	}
	ops := []zones.Op{zones.OpPutRRset{RRset: rrset(t, lines...)}}
	for i := range MaxOps - 1 {
		ops = append(ops, zones.OpAddRecords{RRset: rrset(t, fmt.Sprintf("www.example. 1 A 10.1.%d.%d", i/256, i%256))})
	}
	began := time.Now()
	r, rej := m.apply(t, &zones.ChangeSet{ID: zones.ChangeID{2}, Zone: m.apex, Ops: ops}, time.Unix(0, 0))
	if rej != nil || r.Zone.Records != 2+3999 {
		t.Fatalf("%v, %d records", rej, r.Zone.Records)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCheck(t *testing.T) {
	good := func() *zones.ChangeSet {
		return &zones.ChangeSet{
			ID: zones.ChangeID{1}, Zone: name("example."),
			Ops: []zones.Op{zones.OpPutRRset{RRset: rrset(t, "www.example. 1 A 192.0.2.1")}},
		}
	}
	if rej := Check(good()); rej != nil {
		t.Fatal(rej)
	}
	packed := func(s zones.RRset, change func(b []byte)) zones.RRset {
		b := s.AppendPacked(nil)
		change(b)
		bad, _, err := zones.ReadPacked(s.Owner, b)
		if err != nil {
			t.Fatal(err)
		}
		return bad
	}
	whole := rrsets(t, "example. 1 NS ns.example.", "example. 1 SOA a. b. 1 2 3 4 5")
	one := func(op zones.Op) func(cs *zones.ChangeSet) {
		return func(cs *zones.ChangeSet) { cs.Ops = []zones.Op{op} }
	}
	putRR := func(line string) func(cs *zones.ChangeSet) { return one(zones.OpPutRRset{RRset: rrset(t, line)}) }
	tests := []struct {
		name  string
		spoil func(cs *zones.ChangeSet)
		want  zones.Rule
	}{
		{"no ID", func(cs *zones.ChangeSet) { cs.ID = zones.ChangeID{} }, zones.RuleMalformed},
		{"no zone", func(cs *zones.ChangeSet) { cs.Zone = "" }, zones.RuleMalformed},
		{"nothing to do", func(cs *zones.ChangeSet) { cs.Ops = nil }, zones.RuleMalformed},
		{"long author", func(cs *zones.ChangeSet) { cs.Author = strings.Repeat("x", 256) }, zones.RuleTooLarge},
		{"long reason", func(cs *zones.ChangeSet) { cs.Reason = strings.Repeat("x", 1025) }, zones.RuleTooLarge},
		{"reason not UTF-8", func(cs *zones.ChangeSet) { cs.Reason = "\xff" }, zones.RuleMalformed},
		{"kept for ever", func(cs *zones.ChangeSet) { cs.Keep = MaxKeep + 1 }, zones.RuleTooLarge},
		{"zero RRset", one(zones.OpPutRRset{}), zones.RuleMalformed},
		{"zero owner", one(zones.OpDeleteName{}), zones.RuleMalformed},
		{"pointer operation", one(&zones.OpDeleteZone{}), zones.RuleMalformed},
		{"out of zone", one(zones.OpDeleteName{Owner: name("net.")}), zones.RuleOutOfZone},
		{"ANY", one(zones.OpDeleteRRset{Owner: name("example."), Type: zones.TypeANY}), zones.RuleMetaType},
		{"type 0", one(zones.OpDeleteRRset{Owner: name("example.")}), zones.RuleMetaType},
		{"SIG", putRR("a.example. 1 SIG A 8 1 1 20300101000000 20260101000000 1 example. AAAA"), zones.RuleMetaType},
		{"NSEC", putRR("a.example. 1 NSEC b.example. A"), zones.RuleSigned},
		{"policy", one(zones.OpSetSettings{Settings: zones.ZoneSettings{SerialPolicy: 9}}), zones.RuleMalformed},
		{"unsorted RDATA", one(zones.OpPutRRset{RRset: packed(
			rrset(t, "www.example. 1 A 192.0.2.1", "www.example. 1 A 192.0.2.2"), func(b []byte) { b[len(b)-1] = 0 })}), zones.RuleMalformed},
		{"capitals in RDATA", one(zones.OpPutRRset{RRset: packed(
			rrset(t, "www.example. 1 NS a."), func(b []byte) { b[len(b)-2] = 'A' })}), zones.RuleMalformed},
		{"covered type on an A", one(zones.OpPutRRset{RRset: packed(
			rrset(t, "www.example. 1 A 192.0.2.1"), func(b []byte) { b[3] = 1 })}), zones.RuleMalformed},
		{"TTL", one(zones.OpPutRRset{RRset: packed(
			rrset(t, "www.example. 1 A 192.0.2.1"), func(b []byte) { b[4] = 0x80 })}), zones.RuleMalformed},
		{"empty TXT", putRR(`www.example. 1 TYPE16 \# 0`), zones.RuleMalformed},
		{"empty chunk", one(zones.OpStageChunk{}), zones.RuleMalformed},
		{"chunk out of order", one(zones.OpStageChunk{Index: 1, RRsets: rrsets(t, "b.example. 1 A 192.0.2.1", "a.example. 1 A 192.0.2.1")}), zones.RuleOrder},
		{"first chunk without the apex", one(zones.OpStageChunk{RRsets: rrsets(t, "b.example. 1 A 192.0.2.1")}), zones.RuleApexSOA},
		{"zone without NS", one(zones.OpCreateZone{RRsets: whole[1:]}), zones.RuleApexNS},
		{"zone without anything", one(zones.OpReplaceZone{}), zones.RuleApexSOA},
		{"level", one(zones.OpRaiseFormatLevel{Level: 2}), zones.RuleFormatLevel},
		{"condition", func(cs *zones.ChangeSet) {
			cs.Preconditions = []zones.Precondition{zones.IfExpression{Owner: cs.Zone, Type: 1, Expression: "now()"}}
		}, zones.RuleBadCondition},
		{"pointer precondition", func(cs *zones.ChangeSet) { cs.Preconditions = []zones.Precondition{&zones.IfZoneAbsent{}} }, zones.RuleMalformed},
		{"two whole operations", func(cs *zones.ChangeSet) { cs.Ops = append(cs.Ops, zones.OpDeleteZone{}) }, zones.RuleMalformed},
	}
	for _, test := range tests {
		cs := good()
		test.spoil(cs)
		rej := Check(cs)
		if rej == nil || rej.Rule != test.want {
			t.Errorf("%s: %v, want %s", test.name, rej, test.want)
		}
		if test.name == "level" {
			continue // Apply knows the partition's level: TestRaiseLevel
		}
		// Apply refuses what Check does, hosted or not where it can't depend on that.
		if _, rej, err := Apply(newModel(cs.Zone), cs, time.Unix(0, 0)); rej == nil || err != nil {
			t.Errorf("%s: applied", test.name)
		}
	}
	if rej := Check(&zones.ChangeSet{ID: zones.ChangeID{1}, Zone: name("example."), Ops: []zones.Op{zones.OpCreateZone{RRsets: whole}}}); rej != nil {
		t.Errorf("a whole zone: %v", rej)
	}
}

// A level that this version does not know stops the partition; to reject it would part the replica from the others.
func TestRaiseLevel(t *testing.T) {
	m := hostedModel(t)
	raise := func(level uint32) error {
		_, rej, err := Apply(m, &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: m.apex, Ops: []zones.Op{zones.OpRaiseFormatLevel{Level: level}}}, time.Unix(0, 0))
		if rej != nil {
			return rej
		}
		return err
	}
	var rej *zones.Rejection
	for _, level := range []uint32{0, 1, 3} {
		if err := raise(level); !errors.As(err, &rej) || rej.Rule != zones.RuleFormatLevel {
			t.Errorf("to %d: %v, want a rejection", level, err)
		}
	}
	if err := raise(2); !errors.Is(err, ErrUnknownLevel) {
		t.Errorf("to 2: %v, want %v", err, ErrUnknownLevel)
	}
	m.level = 2
	if err := raise(1); !errors.Is(err, ErrUnknownLevel) {
		t.Errorf("at level 2: %v, want %v", err, ErrUnknownLevel)
	}
}

type broken struct{ *model }

var errDisk = errors.New("disk")

func (broken) Node(zones.Name) (zones.Node, error) { return zones.Node{}, errDisk }

type brokenSOA struct{ *model }

func (brokenSOA) SOA() (zones.RRset, error) { return zones.RRset{}, errDisk }

// What could not be read is an error, and no rejection.
func TestUnreadable(t *testing.T) {
	m := broken{hostedModel(t)}
	a, err := zones.NewRRset(name("new.example."), zones.TypeA, 300, []byte{192, 0, 2, 1})
	if err != nil {
		t.Fatal(err)
	}
	put := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: m.apex, Ops: []zones.Op{zones.OpPutRRset{RRset: a}}}
	if _, rej, err := Apply(brokenSOA(m), put, time.Unix(0, 0)); rej != nil || !errors.Is(err, errDisk) {
		t.Errorf("the SOA can't be read: %v, %v", rej, err)
	}
	for _, cs := range []*zones.ChangeSet{
		{Ops: []zones.Op{zones.OpDeleteName{Owner: name("www.example.")}}},
		{Preconditions: []zones.Precondition{zones.IfNameInUse{Owner: name("www.example.")}}},
	} {
		cs.ID, cs.Zone = zones.ChangeID{1}, m.apex
		if _, rej, err := Apply(m, cs, time.Unix(0, 0)); rej != nil || !errors.Is(err, errDisk) {
			t.Errorf("%v, %v", rej, err)
		}
	}
}

func TestShapes(t *testing.T) {
	tests := []struct {
		record string // in RFC 3597 form
		want   bool
	}{
		{`TYPE16 \# 1 00`, true},
		{`TYPE16 \# 3 0161 00`, true},
		{`TYPE16 \# 2 0261`, false},
		{`TYPE13 \# 2 0000`, true},
		{`TYPE13 \# 1 00`, false},
		{`TYPE43 \# 4 00010802`, false},
		{`TYPE59 \# 5 0000000000`, true},
		{`TYPE257 \# 3 000161`, true},
		{`TYPE257 \# 3 000261`, false},
		{`TYPE257 \# 2 0000`, false},
		{`TYPE47 \# 1 00`, true},
		{`TYPE47 \# 4 00000140`, true},
		{`TYPE47 \# 4 00000240`, false},
		{`TYPE47 \# 7 00 000140 000140`, false},
		{`TYPE50 \# 9 0100000000 0101 0000`, false},
		{`TYPE50 \# 10 0100000000 0101 000140`, true},
		{`TYPE51 \# 5 0100000000`, true},
		{`TYPE51 \# 5 0100000001`, false},
		{`TYPE64 \# 3 000100`, true},
		{`TYPE64 \# 7 000100 00030000`, true},
		{`TYPE64 \# 11 000100 00030000 00030000`, false},
		{`TYPE64 \# 7 000100 00030001`, false},
	}
	for _, test := range tests {
		fields := strings.Fields(test.record)
		ty, err := zones.ParseType(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		var rdata []byte
		if _, err := fmt.Sscanf(strings.Join(fields[3:], ""), "%x", &rdata); err != nil {
			t.Fatal(err)
		}
		if got := shapely(ty, rdata); got != test.want {
			t.Errorf("%s: %t, want %t", test.record, got, test.want)
		}
	}
}
