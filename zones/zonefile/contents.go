package zonefile

import (
	"fmt"
	"io"
	"slices"

	"balefire/zones"
)

// Contents is a whole zone read into memory.
type Contents struct {
	// Apex is the owner of the first SOA; "" when there is none.
	Apex zones.Name
	// RRsets are in the order of zones.CompareRRsets.
	RRsets []zones.RRset
	// Records counts the records read, duplicates included.
	Records int
	// Warnings tell of what was mended: RRsets whose records had different TTLs took the lowest.
	Warnings []string
	places   map[place]Record
}

type place struct {
	owner zones.Name
	key   zones.Key
}

// Place returns the first record, without its RDATA, that the RRset was read from.
func (c *Contents) Place(owner zones.Name, key zones.Key) (Record, bool) {
	rec, ok := c.places[place{owner, key}]
	return rec, ok
}

// Mistake turns a rejection into an error with the place of the RRset that it is about.
func (c *Contents) Mistake(r *zones.Rejection, file string) error {
	best, found := Record{File: file, Line: 1, Column: 1}, false
	for p, rec := range c.places {
		if p.owner != r.Owner || r.Type != 0 && p.key.Type != r.Type {
			continue
		}
		if !found || rec.Line < best.Line {
			best, found = rec, true
		}
	}
	return &Error{File: best.File, Line: best.Line, Column: best.Column, Msg: r.Error()}
}

// Read reads a whole zone file. It keeps everything in memory; for large zones, use a Reader.
func Read(in io.Reader, opts Options) (*Contents, error) {
	r := NewReader(in, opts)
	c := &Contents{places: map[place]Record{}}
	var records []Record
	for {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if rec.Type == zones.TypeSOA && c.Apex == "" {
			c.Apex = rec.Owner
		}
		records = append(records, rec)
	}
	c.Records = len(records)
	sets, err := Group(records, func(rec Record, lowest uint32) {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s:%d:%d: TTLs of %s %s differ: all take the lowest, %d",
			rec.File, rec.Line, rec.Column, rec.Owner, rec.Type, lowest))
	}, func(s zones.RRset, first Record) {
		first.RData = nil
		c.places[place{s.Owner, s.Key}] = first
	})
	c.RRsets = sets
	return c, err
}

// keyOf returns the key of the RRset that a record belongs to.
func keyOf(rec Record) zones.Key {
	k := zones.Key{Type: rec.Type}
	if rec.Type == zones.TypeRRSIG {
		k.Covered = zones.CoveredType(rec.RData)
	}
	return k
}

// Group makes RRsets of records, in the order of zones.CompareRRsets, and sorts records so too. Where TTLs
// in an RRset differ it takes the lowest (RFC 2181 §5.2) and calls mixed; made is told of each RRset's first record.
// Either may be nil.
func Group(records []Record, mixed func(rec Record, lowest uint32), made func(zones.RRset, Record)) ([]zones.RRset, error) {
	slices.SortStableFunc(records, compareRecords)
	var sets []zones.RRset
	var rdatas [][]byte
	for i := 0; i < len(records); {
		first, ttl := records[i], records[i].TTL
		rdatas = rdatas[:0]
		differ := false
		j := i
		for ; j < len(records) && records[j].Owner == first.Owner && keyOf(records[j]) == keyOf(first); j++ {
			rdatas = append(rdatas, records[j].RData)
			differ = differ || records[j].TTL != first.TTL
			ttl = min(ttl, records[j].TTL)
		}
		if differ && mixed != nil {
			mixed(first, ttl)
		}
		s, err := zones.NewRRset(first.Owner, first.Type, ttl, rdatas...)
		if err != nil {
			return nil, &Error{File: first.File, Line: first.Line, Column: first.Column, Msg: err.Error()}
		}
		if made != nil {
			made(s, first)
		}
		sets = append(sets, s)
		i = j
	}
	return sets, nil
}

// compareRecords orders records as zones.CompareRRsets orders their RRsets.
func compareRecords(a, b Record) int {
	ka, kb := keyOf(a), keyOf(b)
	if ha, hb := ka.Hashed(), kb.Hashed(); ha != hb {
		if hb {
			return -1
		}
		return 1
	}
	if c := zones.Compare(a.Owner, b.Owner); c != 0 {
		return c
	}
	return ka.Compare(kb)
}
