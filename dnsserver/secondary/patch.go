package secondary

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"

	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// errInexact says that differences are not of the zone that we have: it is fetched whole.
var errInexact = errors.New("the differences are not of the zone that is here")

// present is the zone that we have. *store.Reading satisfies it.
type present interface {
	RRset(owner zones.Name, key zones.Key) (set zones.RRset, ok bool, err error)
}

// patch is what differences come to over the zone that we have.
type patch struct {
	zone present
	sets map[place]*passage
}

// place is where an RRset is in a zone.
type place struct {
	owner zones.Name
	key   zones.Key
}

// passage is an RRset before and after; zero when it is not there.
type passage struct{ before, after zones.RRset }

// newPatch goes through the steps in their order. Each record that is deleted must be there, and each that is added must not. The last SOA is
// closing.
func newPatch(zone present, soa zones.RRset, steps []step, closing zonefile.Record) (*patch, error) {
	p := &patch{zone: zone, sets: map[place]*passage{}}
	if len(steps) == 0 || !bytes.Equal(steps[0].from.RData, soa.First()) {
		return nil, fmt.Errorf("%w: they begin at another SOA of the same serial", errInexact)
	}
	for _, s := range steps {
		for _, group := range [2]struct {
			records []zonefile.Record
			apply   func(*passage, zones.RRset) error
		}{{s.deleted, (*passage).remove}, {s.added, (*passage).add}} {
			for set, err := range neighbours(group.records) {
				if err != nil {
					return nil, err
				}
				t, err := p.at(place{set.Owner, set.Key})
				if err != nil {
					return nil, err
				}
				if err := group.apply(t, set); err != nil {
					return nil, err
				}
			}
		}
	}
	t, err := p.at(place{soa.Owner, zones.Key{Type: zones.TypeSOA}})
	if err != nil {
		return nil, err
	}
	t.after, err = zones.NewRRset(closing.Owner, zones.TypeSOA, closing.TTL, closing.RData)
	if err != nil {
		return nil, malformed("%v", err)
	}
	return p, nil
}

// neighbours yields records as RRsets, those that follow each other under one owner and key as one.
func neighbours(records []zonefile.Record) iter.Seq2[zones.RRset, error] {
	return func(yield func(zones.RRset, error) bool) {
		for len(records) > 0 {
			first, end := records[0], 1
			covered := zones.CoveredType(first.RData)
			rdatas := [][]byte{first.RData}
			for ; end < len(records); end++ {
				r := records[end]
				if r.Owner != first.Owner || r.Type != first.Type || r.TTL != first.TTL ||
					r.Type == zones.TypeRRSIG && zones.CoveredType(r.RData) != covered {
					break
				}
				rdatas = append(rdatas, r.RData)
			}
			records = records[end:]
			set, err := zones.NewRRset(first.Owner, first.Type, first.TTL, rdatas...)
			if err == nil && set.Len() != len(rdatas) {
				err = lying("%s %s: one record twice", set.Owner, set.Key)
			}
			if !yield(set, err) || err != nil {
				return
			}
		}
	}
}

// at returns the RRset at a place as it is by now.
func (p *patch) at(at place) (*passage, error) {
	if t := p.sets[at]; t != nil {
		return t, nil
	}
	before, _, err := p.zone.RRset(at.owner, at.key)
	if err != nil {
		return nil, err
	}
	t := &passage{before: before, after: before}
	p.sets[at] = t
	return t, nil
}

func (t *passage) remove(set zones.RRset) error {
	for rd := range set.RDatas() {
		if !t.after.Contains(rd) {
			return fmt.Errorf("%w: %s %s lacks a record that they delete", errInexact, set.Owner, set.Key)
		}
	}
	t.after = t.after.Minus(set)
	return nil
}

// add takes the lower TTL when the primary has several in one RRset, as it would be taken of the whole zone (RFC 2181 §5.2).
func (t *passage) add(set zones.RRset) error {
	if t.after.IsZero() {
		t.after = set
		return nil
	}
	for rd := range set.RDatas() {
		if t.after.Contains(rd) {
			return fmt.Errorf("%w: %s %s has a record that they add", errInexact, set.Owner, set.Key)
		}
	}
	ttl := min(t.after.TTL, set.TTL)
	merged, err := t.after.Union(set)
	if err != nil {
		return malformed("%s %s: %v", set.Owner, set.Key, err)
	}
	t.after = merged.WithTTL(ttl)
	return nil
}

// changes are what changed, in the order of zones.CompareRRsets.
func (p *patch) changes() []passage {
	var all []passage
	for _, t := range p.sets {
		if t.before.IsZero() && t.after.IsZero() || !t.before.IsZero() && !t.after.IsZero() && t.before.Equal(t.after) {
			continue
		}
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b passage) int { return zones.CompareRRsets(a.either(), b.either()) })
	return all
}

// either is the RRset that says where it is.
func (t passage) either() zones.RRset {
	if t.after.IsZero() {
		return t.before
	}
	return t.after
}

// operations are the changes as operations, those that delete first; false when they are more than one record takes.
func operations(changes []passage) ([]zones.Op, bool) {
	if len(changes) > change.MaxOps || len(changes) > change.MaxRRsetsTouched {
		return nil, false
	}
	var deletions, puts []zones.Op
	size, touched := 0, 0
	for _, c := range changes {
		for _, set := range [2]zones.RRset{c.before, c.after} {
			if !set.IsZero() {
				touched += len(set.Owner) + zones.PackedHeader + set.Size()
			}
		}
		switch {
		case !c.after.IsZero():
			puts = append(puts, zones.OpPutRRset{RRset: c.after})
			size += change.EncodedSize(c.after)
		case c.before.Type == zones.TypeRRSIG: // a type alone would be the signatures of all types
			deletions = append(deletions, zones.OpDeleteRecords{RRset: c.before})
			size += change.EncodedSize(c.before)
		default:
			deletions = append(deletions, zones.OpDeleteRRset{Owner: c.before.Owner, Type: c.before.Type})
			size += len(c.before.Owner) + 24
		}
	}
	return append(deletions, puts...), size <= change.MaxChunk && touched <= change.MaxTouched
}

// merged yields a zone as it is after changes, which are in its order.
func merged(zone sequence, changes []passage) sequence {
	return func(yield func(zones.RRset, error) bool) {
		rest := changes
		for set, err := range zone {
			if err != nil {
				yield(set, err)
				return
			}
			for len(rest) > 0 && zones.CompareRRsets(rest[0].either(), set) < 0 {
				if !rest[0].after.IsZero() && !yield(rest[0].after, nil) {
					return
				}
				rest = rest[1:]
			}
			if len(rest) > 0 && zones.CompareRRsets(rest[0].either(), set) == 0 {
				set, rest = rest[0].after, rest[1:]
				if set.IsZero() {
					continue
				}
			}
			if !yield(set, nil) {
				return
			}
		}
		for _, c := range rest {
			if !c.after.IsZero() && !yield(c.after, nil) {
				return
			}
		}
	}
}
