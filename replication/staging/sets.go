package staging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"balefire/zones"
)

// Set is an RRset, with the place of its first record.
type Set struct {
	zones.RRset
	Line, Column int
	Mixed        bool // its records had different TTLs: it has the lowest (RFC 2181 §5.2)
}

// A SetError is what is wrong with an RRset, or one of its records, and where that is.
type SetError struct {
	Owner        zones.Name
	Key          zones.Key
	Line, Column int
	Err          error // ErrTooManyRecords, or why zones.NewRRset does not take it
}

func (e *SetError) Error() string { return fmt.Sprintf("%s %s: %v", e.Owner, e.Key, e.Err) }
func (e *SetError) Unwrap() error { return e.Err }

// ErrTooManyRecords says that an RRset has more records than are taken.
var ErrTooManyRecords = errors.New("too many records")

// Sets yields RRsets of at most limit records, in the order of zones.CompareRRsets. It ends after an error: a *SetError, or one marked
// ErrSpill.
func (s *Sorter) Sets(limit int) iter.Seq2[Set, error] {
	return func(yield func(Set, error) bool) {
		var key []byte
		var owner zones.Name
		var ownerKey []byte
		var cur Set
		var rdatas [][]byte
		ttl := uint32(0)
		var typ zones.Type
		// flush makes the RRset of what was collected.
		flush := func() bool {
			if len(rdatas) == 0 {
				return true
			}
			set, err := zones.NewRRset(owner, typ, ttl, rdatas...)
			if err != nil {
				yield(Set{}, &SetError{owner, keyOf(key), cur.Line, cur.Column, err})
				return false
			}
			cur.RRset = set
			return yield(cur, nil)
		}
		for rec, err := range s.all() {
			if err != nil {
				yield(Set{}, err)
				return
			}
			if k := rec.key(); !bytes.Equal(k, key) {
				if !flush() {
					return
				}
				key = append(key[:0], k...)
				end := len(k) - 5
				if owner == "" || !bytes.Equal(k[1:end], ownerKey) {
					ownerKey = append(ownerKey[:0], k[1:end]...)
					if owner, err = zones.NameFromKey(ownerKey, s.apex); err != nil {
						yield(Set{}, fmt.Errorf("%w: %w", ErrSpill, err))
						return
					}
				}
				typ = keyOf(k).Type
				rdatas, ttl = rdatas[:0], rec.ttl()
				cur = Set{Line: rec.line(), Column: rec.column()}
			}
			if rec.ttl() != ttl {
				cur.Mixed, ttl = true, min(ttl, rec.ttl())
			}
			if rec.line() < cur.Line {
				cur.Line, cur.Column = rec.line(), rec.column()
			}
			if slices.ContainsFunc(rdatas, func(rd []byte) bool { return bytes.Equal(rd, rec.rdata()) }) {
				continue
			}
			if len(rdatas) == limit {
				yield(Set{}, &SetError{owner, keyOf(key), rec.line(), rec.column(), ErrTooManyRecords})
				return
			}
			rdatas = append(rdatas, bytes.Clone(rec.rdata()))
		}
		flush()
	}
}

// RRsets yields what all yields, without places.
func RRsets(all iter.Seq2[Set, error]) iter.Seq2[zones.RRset, error] {
	return func(yield func(zones.RRset, error) bool) {
		for set, err := range all {
			if !yield(set.RRset, err) || err != nil {
				return
			}
		}
	}
}

// keyOf reads the type and the covered type from the end of a packed record's key.
func keyOf(key []byte) zones.Key {
	at := key[len(key)-4:]
	return zones.Key{Type: zones.Type(binary.BigEndian.Uint16(at)), Covered: zones.Type(binary.BigEndian.Uint16(at[2:]))}
}
