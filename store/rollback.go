package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"balefire/zones"
)

// Rollback returns the operations that bring a zone's content back to what it was at an earlier serial, to
// be published as one change set with the precondition that the serial is still current. Without operations
// the content is already the same. ErrNoRollback when history does not reach back so far, or when the zone
// was made, replaced or deleted whole in between, as such a step can't be taken back RRset by RRset.
func (s *Store) Rollback(apex zones.Name, to zones.Serial) (ops []zones.Op, current zones.Serial, err error) {
	r, err := s.Read(apex)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	current = r.Info.Serial

	// What each RRset that was touched since was at the serial, as the oldest change after it knows.
	type place struct {
		owner zones.Name
		key   zones.Key
	}
	then := make(map[place]zones.RRset)
	reached := current == to
	err = r.p.eachHistory(apex, func(h HistoryEntry) (bool, error) {
		switch {
		case reached:
			return false, nil
		case h.Offset > r.Info.Changed.Offset:
			return true, nil // newer than what is read here
		case h.Action == ActionSettings, h.Action == ActionStanding:
			return true, nil
		case h.Action != ActionChanged:
			return false, fmt.Errorf("zone %s was %s whole at %s (serial %d): %w", apex, h.Action, h.Position, h.To, ErrNoRollback)
		}
		for _, c := range h.Changes {
			then[place{c.Owner, c.Key}] = c.Before
		}
		reached = h.From == to
		return true, nil
	})
	if err != nil {
		return nil, 0, err
	}
	if !reached {
		return nil, 0, fmt.Errorf("zone %s, serial %d: %w", apex, to, ErrNoRollback)
	}

	var remove, put []zones.RRset
	for at, was := range then {
		now, ok, err := r.RRset(at.owner, at.key)
		if err != nil {
			return nil, 0, err
		}
		switch {
		case was.IsZero() && ok:
			remove = append(remove, now)
		case was.IsZero() || ok && was.Equal(now):
		case at.key.Type == zones.TypeSOA:
			if soa, differs := soaWithSerial(was, now); differs {
				put = append(put, soa)
			}
		default:
			put = append(put, was)
		}
	}
	slices.SortFunc(remove, zones.CompareRRsets)
	slices.SortFunc(put, zones.CompareRRsets)
	for _, s := range remove {
		ops = append(ops, zones.OpDeleteRRset{Owner: s.Owner, Type: s.Type})
	}
	for _, s := range put {
		ops = append(ops, zones.OpPutRRset{RRset: s})
	}
	return ops, current, nil
}

// soaWithSerial returns the SOA was with the serial of now, since serials only go forward, and whether
// that differs from now.
func soaWithSerial(was, now zones.RRset) (soa zones.RRset, differs bool) {
	from, to := now.First(), slices.Clone(was.First())
	const tail = 20 // serial, refresh, retry, expire, minimum
	if len(from) < tail || len(to) < tail {
		return was, true
	}
	copy(to[len(to)-tail:len(to)-tail+4], binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(from[len(from)-tail:])))
	soa, err := zones.NewRRset(was.Owner, was.Type, was.TTL, to)
	if err != nil {
		return was, true
	}
	return soa, !soa.Equal(now)
}
