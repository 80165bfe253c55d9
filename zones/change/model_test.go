package change

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/zones"
)

// place is where an RRset is in a model.
type position struct {
	owner zones.Name
	key   zones.Key
}

// model is a partition with room for one zone, the plainest that can hold one: what Apply is measured against.
type model struct {
	apex   zones.Name
	level  uint32
	hosted bool
	zone   Zone
	sets   map[position]zones.RRset
	stage  *Stage
	staged []zones.RRset
	came   bool // a primary has had its hands in the content since it last came whole
}

func newModel(apex zones.Name) *model {
	return &model{apex: apex, level: 1, sets: map[position]zones.RRset{}}
}

func (m *model) Level() uint32             { return m.level }
func (m *model) Zone() (Zone, bool, error) { return m.zone, m.hosted, nil }

func (m *model) Node(owner zones.Name) (zones.Node, error) {
	var sets []zones.RRset
	for at, s := range m.sets {
		if at.owner == owner && !at.key.Hashed() {
			sets = append(sets, s)
		}
	}
	return zones.NewNode(owner, sets), nil
}

func (m *model) Hashed(owner zones.Name) (zones.Node, error) {
	var sets []zones.RRset
	for at, s := range m.sets {
		if at.owner == owner && at.key.Hashed() {
			sets = append(sets, s)
		}
	}
	return zones.NewNode(owner, sets), nil
}

func (m *model) SOA() (zones.RRset, error) {
	return m.sets[position{m.apex, zones.Key{Type: zones.TypeSOA}}], nil
}

func (m *model) Next(after zones.Name) (zones.Name, error) {
	var next zones.Name
	for at := range m.sets {
		if !at.key.Hashed() && zones.Compare(at.owner, after) > 0 && (next == "" || zones.Compare(at.owner, next) < 0) {
			next = at.owner
		}
	}
	return next, nil
}

func (m *model) Stage() (Stage, bool, error) {
	if m.stage == nil {
		return Stage{}, false, nil
	}
	// Through its stored form, as a real partition would have it after a restart.
	s, err := ParseStage(m.stage.AppendState(nil), m.apex)
	return s, true, err
}

// take does what a store does with a result.
func (m *model) take(r Result) {
	if r.DropStage {
		m.stage, m.staged = nil, nil
	}
	switch r.Kind {
	case Patch:
		for _, c := range r.Delta.Changes {
			at := position{c.Owner, c.Key}
			if !m.sets[at].Equal(c.Before) {
				panic(fmt.Sprintf("delta says that %v was %v, and it was %v", at, c.Before, m.sets[at]))
			}
			if c.After.IsZero() {
				delete(m.sets, at)
			} else {
				m.sets[at] = c.After
			}
		}
		m.zone = r.Zone
	case Replace:
		m.hosted, m.zone, m.sets = true, r.Zone, index(r.RRsets)
	case Switch:
		m.hosted, m.zone, m.sets = true, r.Zone, index(m.staged)
		m.sets[position{m.apex, zones.Key{Type: zones.TypeSOA}}] = r.SOA
		m.stage, m.staged = nil, nil
	case Delete:
		m.hosted, m.zone, m.sets = false, Zone{}, map[position]zones.RRset{}
	case Chunk:
		m.stage = &r.Stage
		m.staged = append(m.staged, r.RRsets...)
	case RaiseLevel:
		m.level = r.Level
	}
}

func index(sets []zones.RRset) map[position]zones.RRset {
	m := map[position]zones.RRset{}
	for _, s := range sets {
		m[position{s.Owner, s.Key}] = s
	}
	return m
}

// sorted returns the zone's RRsets in canonical order.
func (m *model) sorted() []zones.RRset {
	return slices.SortedFunc(maps.Values(m.sets), zones.CompareRRsets)
}

// check verifies what must always be true: the zone is valid from end to end, and its state is that of its RRsets.
func (m *model) check() error {
	if !m.hosted {
		if len(m.sets) != 0 {
			return fmt.Errorf("no zone, and %d RRsets", len(m.sets))
		}
		return nil
	}
	standing := m.zone.Standing
	if standing.Awaiting && (len(m.sets) != 0 || !m.zone.Settings.IsSecondary() || standing.Expired || !standing.Confirmed.IsZero()) {
		return fmt.Errorf("the zone awaits its content, has %d RRsets, and its state is %+v", len(m.sets), m.zone)
	}
	if !m.zone.Settings.IsSecondary() && !standing.IsZero() {
		return fmt.Errorf("a zone without primaries has standing %+v", standing)
	}
	back, err := ParseZone(m.zone.AppendState(nil))
	if err != nil || !reflect.DeepEqual(back, m.zone) {
		return fmt.Errorf("the state came back as %+v, %w", back, err)
	}
	source := zones.SourceClient
	if m.came { // and stays when the zone has no primaries any more
		source = zones.SourcePrimary
	}
	seq := NewSequenceFrom(m.apex, source)
	for _, s := range m.sorted() {
		if rej := seq.Add(s); rej != nil {
			return fmt.Errorf("the zone has become invalid: %w", rej)
		}
	}
	if rej := seq.Finish(); rej != nil && !standing.Awaiting {
		return fmt.Errorf("the zone has become invalid: %w", rej)
	}
	want := seq.Zone()
	want.Settings, want.Standing = m.zone.Settings, standing
	if source == zones.SourcePrimary { // what came by single records may have gone by them
		want.Signed, want.Hashed = want.Signed || m.zone.Signed, want.Hashed || m.zone.Hashed
	}
	if !reflect.DeepEqual(m.zone, want) {
		return fmt.Errorf("the zone's state is\n%+v, and its RRsets make\n%+v", m.zone, want)
	}
	return nil
}

// apply sends cs through its encoding, applies it, and checks the outcome.
func (m *model) apply(t testing.TB, cs *zones.ChangeSet, at time.Time) (Result, *zones.Rejection) {
	t.Helper()
	value, err := Encode(cs)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	decoded, rej := Decode(value, m.level)
	if rej != nil {
		return Result{}, rej
	}
	r, rej, err := Apply(m, decoded, at)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	if rej != nil {
		return Result{}, rej
	}
	m.take(r)
	switch {
	case decoded.Source != zones.SourceClient:
		m.came = true
	case r.Kind == Replace || r.Kind == Switch || r.Kind == Delete:
		m.came = false
	}
	if err := m.check(); err != nil {
		t.Fatal(err)
	}
	return r, nil
}

// name parses a name of a test.
func name(s string) zones.Name { return zones.MustParseName(s) }

// rrsets makes RRsets of lines of a zone file, of absolute names, in the order of the first line of each.
func rrsets(t testing.TB, lines ...string) []zones.RRset {
	t.Helper()
	type gathered struct {
		position
		ttl    uint32
		rdatas [][]byte
	}
	var all []*gathered
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			t.Fatalf("record %q: %v", line, err)
		}
		wire := make([]byte, 65536+300)
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			t.Fatalf("record %q: %v", line, err)
		}
		owner, used, err := zones.NameFromWire(wire)
		if err != nil {
			t.Fatalf("record %q: %v", line, err)
		}
		rdata := wire[used+10 : n]
		key := zones.Key{Type: zones.Type(rr.Header().Rrtype)}
		if key.Type == zones.TypeRRSIG {
			key.Covered = zones.CoveredType(rdata)
		}
		at := slices.IndexFunc(all, func(g *gathered) bool { return g.position == position{owner, key} })
		if at < 0 {
			at = len(all)
			all = append(all, &gathered{position: position{owner, key}, ttl: rr.Header().Ttl})
		}
		all[at].rdatas = append(all[at].rdatas, rdata)
	}
	var sets []zones.RRset
	for _, g := range all {
		s, err := zones.NewRRset(g.owner, g.key.Type, g.ttl, g.rdatas...)
		if err != nil {
			t.Fatalf("%v: %v", g.position, err)
		}
		sets = append(sets, s)
	}
	return sets
}

// rrset makes one RRset.
func rrset(t testing.TB, lines ...string) zones.RRset {
	t.Helper()
	sets := rrsets(t, lines...)
	if len(sets) != 1 {
		t.Fatalf("%q make %d RRsets, not one", lines, len(sets))
	}
	return sets[0]
}

// lines writes an RRset as a zone file would.
func lines(s zones.RRset) (out []string) {
	for rdata := range s.RDatas() {
		wire := []byte(s.Owner)
		wire = append(wire, byte(s.Type>>8), byte(s.Type), 0, 1, byte(s.TTL>>24), byte(s.TTL>>16), byte(s.TTL>>8), byte(s.TTL),
			byte(len(rdata)>>8), byte(len(rdata)))
		rr, _, err := dns.UnpackRR(append(wire, rdata...), 0)
		if err != nil {
			out = append(out, fmt.Sprintf("%s %d %s %x", s.Owner, s.TTL, s.Type, rdata))
			continue
		}
		out = append(out, rr.String())
	}
	return out
}
