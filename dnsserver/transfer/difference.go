package transfer

import (
	"bytes"
	"iter"
	"slices"

	"balefire/zones"
)

// Difference is what lies between two versions of a zone, whatever was in between (RFC 1995 §5). The zero value is none.
type Difference struct {
	changes map[place]passage
	octets  int
}

type place struct {
	owner zones.Name
	key   zones.Key
}

type passage struct{ before, after zones.RRset }

// passageOctets is about what a passage takes beside its RRsets.
const passageOctets = 256

// Precede adds what happened before all that was added. It copies the RRsets: their memory may be that of many others.
func (d *Difference) Precede(changes []zones.RRsetChange) {
	if d.changes == nil {
		d.changes = make(map[place]passage)
	}
	for _, c := range changes {
		at := place{c.Owner, c.Key}
		p, known := d.changes[at]
		if known {
			d.octets += c.Before.Size() - p.before.Size()
		} else {
			p.after = clone(c.After)
			d.octets += passageOctets + len(c.Owner) + c.Before.Size() + c.After.Size()
		}
		p.before = clone(c.Before)
		d.changes[at] = p
	}
}

// clone returns the same RRset in memory of its own.
func clone(s zones.RRset) zones.RRset {
	if s.IsZero() {
		return s
	}
	own, _, err := zones.ReadPacked(s.Owner, s.AppendPacked(nil))
	if err != nil {
		return s // this is not reached: it was packed just now
	}
	return own
}

// Octets is about what the difference takes in memory.
func (d *Difference) Octets() int { return d.octets }

// Sent returns how many octets its records take in a transfer, at most, without those of SOAs, and whether it leads to the zone that has a
// SOA, from one with a serial.
func (d *Difference) Sent(soa zones.RRset, since zones.Serial) (octets int, ok bool) {
	was, changes, ok := d.from(soa)
	if !ok || was.SOASerial() != since {
		return 0, false
	}
	const head = 10 // type, class, TTL and length
	for _, c := range changes {
		for rdata := range only(c.Before, c.After) {
			octets += len(c.Owner) + head + len(rdata)
		}
		for rdata := range only(c.After, c.Before) {
			octets += len(c.Owner) + head + len(rdata)
		}
	}
	return octets, true
}

// from returns the SOA that the difference begins from, and the changes that came to something, without the SOA's, in the zone's order. It is
// false unless it ends at soa.
func (d *Difference) from(soa zones.RRset) (was zones.RRset, changes []zones.RRsetChange, ok bool) {
	at := place{soa.Owner, soa.Key}
	p, ok := d.changes[at]
	if !ok || p.before.Len() != 1 || !p.after.Equal(soa) {
		return was, nil, false
	}
	changes = make([]zones.RRsetChange, 0, len(d.changes))
	for other, c := range d.changes {
		if other != at && !same(c.before, c.after) {
			changes = append(changes, zones.RRsetChange{Owner: other.owner, Key: other.key, Before: c.before, After: c.after})
		}
	}
	slices.SortFunc(changes, func(a, b zones.RRsetChange) int {
		return zones.CompareRRsets(zones.RRset{Owner: a.Owner, Key: a.Key}, zones.RRset{Owner: b.Owner, Key: b.Key})
	})
	return p.before, changes, true
}

// same reports whether both are the same RRset, or none.
func same(a, b zones.RRset) bool {
	return a.IsZero() == b.IsZero() && (a.IsZero() || a.Equal(b))
}

// only yields the RDATA of s that are not in other as they are in s: with the same TTL.
func only(s, other zones.RRset) iter.Seq[[]byte] {
	if s.IsZero() || other.IsZero() || s.TTL != other.TTL {
		return s.RDatas()
	}
	return func(yield func([]byte) bool) {
		next, stop := iter.Pull(other.RDatas())
		defer stop()
		theirs, more := next()
		for rdata := range s.RDatas() { // both are in canonical order
			for more && bytes.Compare(theirs, rdata) < 0 {
				theirs, more = next()
			}
			if more && bytes.Equal(theirs, rdata) {
				continue
			}
			if !yield(rdata) {
				return
			}
		}
	}
}
