package update

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

var (
	apex    = zones.MustParseName("example.")
	all     = Policy{Grants: []zones.Grant{{Deeds: zones.DeedUpdate, Key: "key"}}}
	logTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

// record is one record of a zone, in presentation form: the plainest a zone can be made of.
type record struct {
	owner zones.Name
	t     zones.Type
	ttl   uint32
	rdata string // octets
}

// zone is records in no order.
type zone []record

// parseZone reads lines of OWNER TTL TYPE RDATA, owners relative to the apex.
func parseZone(t testing.TB, text string) (z zone) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		z = append(z, parseRecord(t, f[0], f[1], f[2], f[3:]))
	}
	return z
}

func parseRecord(t testing.TB, owner, ttl, typeName string, rdata []string) record {
	t.Helper()
	name, err := zones.ParseNameIn(owner, apex)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(ttl, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	ty, err := zones.ParseType(typeName)
	if err != nil {
		t.Fatal(err)
	}
	r := record{owner: name, t: ty, ttl: uint32(n)}
	if len(rdata) > 0 {
		octets, err := zonefile.ParseRData(ty, strings.Join(rdata, " "), apex)
		if err != nil {
			t.Fatalf("%s %v: %v", typeName, rdata, err)
		}
		if err := zones.CanonicalRData(ty, octets); err != nil {
			t.Fatal(err)
		}
		r.rdata = string(octets)
	}
	return r
}

// sets returns the RRsets of a name, in the order of their keys.
func (z zone) sets(owner zones.Name) (sets []zones.RRset) {
	byKey := map[zones.Key][]record{}
	for _, r := range z {
		if r.owner == owner {
			k := zones.Key{Type: r.t}
			if r.t == zones.TypeRRSIG {
				k.Covered = zones.CoveredType([]byte(r.rdata))
			}
			byKey[k] = append(byKey[k], r)
		}
	}
	for k, records := range byKey {
		var values [][]byte
		for _, r := range records {
			values = append(values, []byte(r.rdata))
		}
		s, err := zones.NewRRset(owner, k.Type, records[len(records)-1].ttl, values...)
		if err != nil {
			panic(err)
		}
		sets = append(sets, s)
	}
	slices.SortFunc(sets, func(a, b zones.RRset) int { return a.Key.Compare(b.Key) })
	return sets
}

// Node implements Zone.
func (z zone) Node(owner zones.Name) ([]zones.RRset, error) { return z.sets(owner), nil }

func (z zone) owners() (all []zones.Name) {
	for _, r := range z {
		all = append(all, r.owner)
	}
	slices.SortFunc(all, zones.Compare)
	return slices.Compact(all)
}

func (z zone) serial() zones.Serial {
	for _, s := range z.sets(apex) {
		if s.Type == zones.TypeSOA {
			return s.SOASerial()
		}
	}
	return 0
}

// lines says what is in the zone.
func (z zone) lines() (all []string) {
	for _, owner := range z.owners() {
		for _, s := range z.sets(owner) {
			for rdata := range s.RDatas() {
				all = append(all, fmt.Sprintf("%s %d %s %s", s.Owner.Relative(apex), s.TTL, s.Type, zonefile.FormatRData(s.Type, rdata)))
			}
		}
	}
	slices.Sort(all)
	return all
}

// base makes a zone what applying reads.
type base struct{ zone }

var errNotAsked = errors.New("not asked for in these tests")

func (base) Level() uint32 { return 1 }
func (b base) Zone() (change.Zone, bool, error) {
	z := change.Zone{Serial: b.serial()}
	for _, r := range b.zone {
		if r.t == zones.TypeDNAME {
			z.DNAMEs++
		}
	}
	return z, true, nil
}

func (b base) Node(owner zones.Name) (zones.Node, error) {
	return zones.NewNode(owner, b.sets(owner)), nil
}

func (b base) SOA() (zones.RRset, error) { return get(b.sets(apex), zones.TypeSOA), nil }

func (b base) Next(after zones.Name) (zones.Name, error) {
	for _, owner := range b.owners() {
		if zones.Compare(owner, after) > 0 {
			return owner, nil
		}
	}
	return "", nil
}

func (base) Hashed(zones.Name) (zones.Node, error) { return zones.Node{}, errNotAsked }

func (base) Stage() (change.Stage, bool, error) { return change.Stage{}, false, errNotAsked }

// apply applies a plan to the zone as the log does.
func (z zone) apply(t testing.TB, p Plan) (zone, *zones.Rejection) {
	t.Helper()
	cs := &zones.ChangeSet{ID: zones.ChangeID{1}, Zone: apex, Preconditions: p.Preconditions, Ops: p.Ops}
	if rej := change.Check(cs); rej != nil {
		return z, rej
	}
	if _, err := change.Encode(cs); err != nil {
		var rej *zones.Rejection
		if errors.As(err, &rej) {
			return z, rej
		}
		t.Fatal(err)
	}
	r, rej, err := change.Apply(base{z}, cs, logTime)
	if err != nil {
		t.Fatal(err)
	}
	if rej != nil {
		return z, rej
	}
	next := slices.Clone(z)
	for _, c := range r.Delta.Changes {
		next = slices.DeleteFunc(next, func(r record) bool { return r.owner == c.Owner && r.t == c.Key.Type })
		for rdata := range c.After.RDatas() {
			next = append(next, record{c.Owner, c.Key.Type, c.After.TTL, string(bytes.Clone(rdata))})
		}
	}
	return next, nil
}

// message makes a message of lines: pre or upd, and OWNER TTL CLASS TYPE RDATA.
func message(t testing.TB, text string) *Message {
	t.Helper()
	m := &Message{Zone: apex, Class: ClassIN}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		class, ok := map[string]Class{"IN": ClassIN, "ANY": ClassANY, "NONE": ClassNONE, "CH": 3}[f[3]]
		if !ok {
			t.Fatalf("class %s", f[3])
		}
		r := parseRecord(t, f[1], f[2], f[4], f[5:])
		asked := Record{Owner: r.owner, Type: r.t, Class: class, TTL: r.ttl, RData: []byte(r.rdata)}
		switch f[0] {
		case "pre":
			m.Prerequisites = append(m.Prerequisites, asked)
		case "upd":
			m.Updates = append(m.Updates, asked)
		default:
			t.Fatalf("section %s", f[0])
		}
	}
	return m
}
