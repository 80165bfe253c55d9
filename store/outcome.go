package store

import (
	"errors"
	"fmt"
	"time"

	"balefire/zones"
)

// ChangeStatus is what became of a change set. The values are part of the disk format.
type ChangeStatus uint8

const (
	// StatusApplied: it took effect.
	StatusApplied ChangeStatus = 1
	// StatusRejected: it changed nothing; Outcome.Rejection says why.
	StatusRejected ChangeStatus = 2
)

func (s ChangeStatus) String() string {
	switch s {
	case StatusApplied:
		return "applied"
	case StatusRejected:
		return "rejected"
	}
	return fmt.Sprintf("status-%d", uint8(s))
}

// Outcome is what became of the record at a position.
type Outcome struct {
	Position
	ID        zones.ChangeID // zero when the record could not be decoded
	Zone      zones.Name     // "" when the record could not be decoded
	Status    ChangeStatus
	Rejection *zones.Rejection // when StatusRejected
	Serial    zones.Serial     // the zone's serial after it; 0 when there is no zone
	Time      time.Time        // the partition's time when it was applied
	// Duplicate says that the record is the same change set again, and changed nothing: Status, Rejection
	// and Serial are those of the first, which is at offset First. Otherwise First is the record's own.
	Duplicate bool
	First     int64
	// Changed says that the record changed the zone; Created and Deleted, that it made it hosted, or ended that. Peering is how
	// the zone is afterwards, if it comes from primaries or servers are notified of it, or that was so before; nil for others. These are
	// not kept: only what Apply returns has them.
	Changed, Created, Deleted bool
	Peering                   *Peering
	// Resettled says that the record changed settings of the zone. Generation is that of the zone when it was Created: what makes
	// it another than a zone of the same name before. Not kept, either.
	Resettled  bool
	Generation int64
}

// Peering is what a zone has to do with other servers, and how it stands with them.
type Peering struct {
	Settings zones.ZoneSettings
	Standing zones.Standing
}

// maxDetail bounds what is kept of a rejection's free text.
const maxDetail = 1024

// pack writes an outcome without its position. The detail of a rejection, which is for people and may differ
// between versions of the program, is left out of what the digest covers.
func (o Outcome) pack(v *packer, detail bool) {
	v.u8(uint8(o.Status))
	var duplicate uint8
	if o.Duplicate {
		duplicate = 1
	}
	v.u8(duplicate)
	v.i64(o.First)
	v.i64(millis(o.Time))
	v.u32(uint32(o.Serial))
	v.raw(o.ID[:])
	v.text(string(o.Zone))
	if o.Status != StatusRejected {
		return
	}
	v.text(string(o.Rejection.Rule))
	v.text(string(o.Rejection.Owner))
	v.u32(uint32(o.Rejection.Type))
	v.u32(uint32(int32(o.Rejection.Op)))
	if detail {
		v.text(o.Rejection.Detail[:min(len(o.Rejection.Detail), maxDetail)])
	}
}

func unpackOutcome(u *unpacker, detail bool) Outcome {
	o := Outcome{Status: ChangeStatus(u.u8()), Duplicate: u.u8() == 1, First: u.i64(), Time: fromMillis(u.i64())}
	o.Serial = zones.Serial(u.u32())
	copy(o.ID[:], u.take(len(o.ID)))
	o.Zone = u.name()
	if o.Status == StatusRejected {
		o.Rejection = &zones.Rejection{
			Rule: zones.Rule(u.text()), Owner: u.name(), Type: zones.Type(u.u32()), Op: int(int32(u.u32())),
		}
		if detail {
			o.Rejection.Detail = u.text()
		}
	}
	return o
}

// parseOutcome reads the value under an outcomeKey.
func parseOutcome(value []byte, at Position) (Outcome, error) {
	u := unpacker{rest: value}
	o := unpackOutcome(&u, true)
	o.Position = at
	if !u.whole() {
		return Outcome{}, fmt.Errorf("outcome of %s: %w", at, ErrCorrupt)
	}
	return o, nil
}

// remembered is the value under an idKey: the first change set with that ID.
type remembered struct {
	expires int64    // milliseconds of partition time
	hash    [32]byte // HashRecord of its record
	first   Outcome  // without its rejection's detail
}

func (m remembered) pack(dst []byte) []byte {
	v := packer(dst)
	v.i64(m.expires)
	v.raw(m.hash[:])
	m.first.pack(&v, false)
	return v
}

func parseRemembered(value []byte, partition int32) (m remembered, err error) {
	u := unpacker{rest: value}
	m.expires = u.i64()
	copy(m.hash[:], u.take(len(m.hash)))
	m.first = unpackOutcome(&u, false)
	m.first.Position = Position{partition, m.first.First}
	if !u.whole() {
		return m, fmt.Errorf("remembered change: %w", ErrCorrupt)
	}
	return m, nil
}

// readOutcome reads a kept outcome.
func readOutcome(r *reader, at Position) (Outcome, bool, error) {
	value, ok, err := r.get(outcomeKey(nil, at.Offset))
	if err != nil || !ok {
		return Outcome{}, false, err
	}
	o, err := parseOutcome(value, at)
	return o, err == nil, err
}

// Outcome returns the outcome of the record at the offset; ErrNoOutcome when it is not kept (any more), or
// the offset is past the applied one. Once it is returned, every Find sees what the record did.
func (p *Partition) Outcome(offset int64) (Outcome, error) {
	r, err := p.beginSettled()
	if err != nil {
		return Outcome{}, err
	}
	defer r.end()
	o, ok, err := readOutcome(r.reader, Position{p.number, offset})
	if err != nil {
		return Outcome{}, p.suspect("", err)
	}
	if !ok {
		return Outcome{}, ErrNoOutcome
	}
	return o, nil
}

// LookupID returns the outcome of the first change set with that ID, while the partition remembers the
// ID; ErrNoOutcome when it does not. As with Outcome, every Find sees what it did.
func (p *Partition) LookupID(id zones.ChangeID) (Outcome, error) {
	r, err := p.beginSettled()
	if err != nil {
		return Outcome{}, err
	}
	defer r.end()
	value, ok, err := r.get(idKey(nil, id))
	if err != nil {
		return Outcome{}, p.suspect("", err)
	}
	if !ok {
		return Outcome{}, ErrNoOutcome
	}
	m, err := parseRemembered(value, p.number)
	if err != nil {
		return Outcome{}, p.suspect("", err)
	}
	// The kept outcome has the detail, too, while there is one.
	if o, ok, err := readOutcome(r.reader, m.first.Position); err == nil && ok {
		return o, nil
	}
	return m.first, nil
}

// beginSettled is begin at a position that the zones in memory have reached, too. The position is published before they are
// patched, one by one.
func (p *Partition) beginSettled() (session, error) {
	r, err := p.begin()
	if err == nil {
		p.settle()
	}
	return r, err
}

// Outcome returns the outcome of the record at a position; ErrNotOpen, ErrNoOutcome.
func (s *Store) Outcome(pos Position) (Outcome, error) {
	p := s.Partition(pos.Partition)
	if p == nil {
		return Outcome{}, ErrNotOpen
	}
	return p.Outcome(pos.Offset)
}

// LookupID is Partition.LookupID over all open partitions.
func (s *Store) LookupID(id zones.ChangeID) (Outcome, error) {
	for _, p := range s.Partitions() {
		o, err := p.LookupID(id)
		if !errors.Is(err, ErrNoOutcome) {
			return o, err
		}
	}
	return Outcome{}, ErrNoOutcome
}
