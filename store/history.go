package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"balefire/zones"
)

// History is what each change set did to its zone. It is kept for a number of change sets and for a time that
// each node chooses, so it is outside of the digest, and applying never reads it but to trim it.

// HistoryEntry is a change set that was applied to a zone.
type HistoryEntry struct {
	Position
	ID             zones.ChangeID
	Time           time.Time // the partition's
	Author, Reason string
	From, To       zones.Serial
	Action         Action
	// Changes are what it removed and added, in canonical order. There are none unless Action is
	// ActionChanged: what is made, replaced or deleted whole is not kept RRset by RRset.
	Changes []zones.RRsetChange
}

// Action is what a change set did to its zone. The values are part of the disk format.
type Action uint8

const (
	ActionChanged  Action = 1 // RRset by RRset
	ActionCreated  Action = 2
	ActionReplaced Action = 3 // by a new generation
	ActionDeleted  Action = 4
	ActionSettings Action = 5 // its settings only
	ActionStanding Action = 6 // it expired, or is back as it was
)

func (a Action) String() string {
	switch a {
	case ActionChanged:
		return "changed"
	case ActionCreated:
		return "created"
	case ActionReplaced:
		return "replaced"
	case ActionDeleted:
		return "deleted"
	case ActionSettings:
		return "settings"
	case ActionStanding:
		return "standing"
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

func (h *HistoryEntry) pack(dst []byte, apex zones.Name) []byte {
	v := packer(dst)
	v.i64(h.Offset)
	v.i64(millis(h.Time))
	v.u8(uint8(h.Action))
	v.raw(h.ID[:])
	v.u32(uint32(h.From))
	v.u32(uint32(h.To))
	v.text(h.Author)
	v.text(h.Reason)
	v.u32(uint32(len(h.Changes)))
	for _, c := range h.Changes {
		v.text(string(c.Owner[:len(c.Owner)-len(apex)])) // below the apex, wire form without an end
		v.u32(uint32(c.Key.Type)<<16 | uint32(c.Key.Covered))
		v.rrset(c.Before)
		v.rrset(c.After)
	}
	return v
}

func parseHistory(value []byte, partition int32, apex zones.Name) (h HistoryEntry, err error) {
	u := unpacker{rest: value}
	h.Position = Position{partition, u.i64()}
	h.Time = fromMillis(u.i64())
	h.Action = Action(u.u8())
	copy(h.ID[:], u.take(len(h.ID)))
	h.From, h.To = zones.Serial(u.u32()), zones.Serial(u.u32())
	h.Author, h.Reason = u.text(), u.text()
	for n := u.u32(); n > 0 && !u.bad; n-- {
		owner, used, err := zones.NameFromWire([]byte(u.text() + string(apex)))
		if err != nil || used != len(owner) {
			u.bad = true
			break
		}
		key := u.u32()
		c := zones.RRsetChange{Owner: owner, Key: zones.Key{Type: zones.Type(key >> 16), Covered: zones.Type(key)}}
		c.Before = u.rrset(owner)
		c.After = u.rrset(owner)
		h.Changes = append(h.Changes, c)
	}
	if !u.whole() {
		return h, fmt.Errorf("history of %s: %w", apex, ErrCorrupt)
	}
	return h, nil
}

// historyAt is the value under a historyAtKey.
type historyAt struct {
	time     int64 // milliseconds
	sequence int64
	apex     zones.Name
}

func (h historyAt) pack(dst []byte) []byte {
	v := packer(dst)
	v.i64(h.time)
	v.i64(h.sequence)
	v.text(string(h.apex))
	return v
}

func parseHistoryAt(value []byte) (h historyAt, err error) {
	u := unpacker{rest: value}
	h = historyAt{time: u.i64(), sequence: u.i64(), apex: u.name()}
	if !u.whole() || h.apex == "" {
		return h, fmt.Errorf("history index: %w", ErrCorrupt)
	}
	return h, nil
}

// keepHistory writes a history entry, and removes the one that is now too many for its zone.
func (b *batch) keepHistory(apex zones.Name, sequence int64, h HistoryEntry) error {
	keep := int64(b.p.store.opts.HistoryChanges)
	if keep <= 0 {
		return nil
	}
	b.key, b.value = historyKey(b.key[:0], apex, sequence), h.pack(b.value[:0], apex)
	b.over.set(b.key, b.value)
	b.key, b.value = historyAtKey(b.key[:0], h.Offset), historyAt{b.now.time, sequence, apex}.pack(b.value[:0])
	b.over.set(b.key, b.value)
	// Sequence numbers have no gaps but where the zone was made anew; what is before such a gap goes by age.
	if sequence < keep {
		return nil
	}
	old := historyKey(nil, apex, sequence-keep)
	value, ok, err := b.get(old)
	if err != nil || !ok {
		return err
	}
	b.over.remove(old)
	if len(value) >= 8 {
		b.over.remove(historyAtKey(nil, int64(binary.BigEndian.Uint64(value))))
	}
	return nil
}

// trimCursor remembers where the oldest outcome and history entry may be, so that not every record has to look.
type trimCursor struct {
	outcome, history           int64 // offsets before which there is none
	outcomeFrom, historyFrom   int64 // partition time before which there is nothing to trim
	outcomeKnown, historyKnown bool
}

// trimStep is how many outcomes, and how many history entries, each record removes at most.
const trimStep = 4

// trimHistory removes outcomes and history entries that are over age, a few with each record.
func (b *batch) trimHistory() error {
	o := &b.p.store.opts
	c := &b.trim
	if !c.outcomeKnown || b.now.time >= c.outcomeFrom {
		c.outcomeKnown, c.outcomeFrom = true, b.now.time+1
		err := b.trimAged(kindOutcome, &c.outcome, &c.outcomeFrom, o.OutcomeAge, func(value []byte) (int64, error) {
			out, err := parseOutcome(value, Position{})
			return millis(out.Time), err
		})
		if err != nil {
			return err
		}
	}
	if !c.historyKnown || b.now.time >= c.historyFrom {
		c.historyKnown, c.historyFrom = true, b.now.time+1
		return b.trimAged(kindHistoryAt, &c.history, &c.historyFrom, o.HistoryAge, func(value []byte) (int64, error) {
			h, err := parseHistoryAt(value)
			if err == nil && h.time+o.HistoryAge.Milliseconds() <= b.now.time {
				b.over.remove(historyKey(nil, h.apex, h.sequence))
			}
			return h.time, err
		})
	}
	return nil
}

// trimAged removes the oldest entries of a kind that is keyed by offset. It moves the cursor behind them, and sets
// when to look next.
func (b *batch) trimAged(kind byte, cursor, from *int64, age time.Duration, timeOf func(value []byte) (int64, error)) error {
	var old [][]byte
	err := b.scan(numberKey(nil, kind, *cursor), []byte{kind + 1}, func(e entry) (bool, error) {
		offset, err := parseNumberKey(e.key, kind)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		*cursor = offset
		value, err := e.value()
		if err != nil {
			return false, err
		}
		at, err := timeOf(value)
		if err != nil {
			return false, err
		}
		if due := at + age.Milliseconds(); due > b.now.time {
			*from = due
			return false, nil
		}
		if old = append(old, bytes.Clone(e.key)); len(old) == trimStep {
			*from = b.now.time // there may be more, for the next record
			return false, nil
		}
		return true, nil
	})
	for _, key := range old {
		b.over.remove(key)
	}
	return err
}

// History returns the last change sets of a zone, newest first: at most limit, those at offsets below before (0 =
// from the newest). It also knows zones that were deleted, for as long as history is kept.
func (s *Store) History(apex zones.Name, before int64, limit int) ([]HistoryEntry, error) {
	p, err := s.partitionOf(apex)
	if err != nil {
		return nil, err
	}
	if p == nil { // deleted, or never there: one partition may know
		for _, p := range s.Partitions() {
			if found, err := p.history(apex, before, limit); err != nil || len(found) > 0 {
				return found, err
			}
		}
		return nil, nil
	}
	return p.history(apex, before, limit)
}

func (p *Partition) history(apex zones.Name, before int64, limit int) (found []HistoryEntry, err error) {
	if limit <= 0 {
		return nil, nil
	}
	err = p.eachHistory(apex, func(h HistoryEntry) (bool, error) {
		if before <= 0 || h.Offset < before {
			found = append(found, h)
		}
		return len(found) < limit, nil
	})
	return found, err
}

// eachHistory calls fn for each history entry of a zone, newest first.
func (p *Partition) eachHistory(apex zones.Name, fn func(h HistoryEntry) (more bool, err error)) error {
	r, err := p.begin()
	if err != nil {
		return err
	}
	defer r.end()
	return r.eachHistory(apex, fn)
}

// eachHistory calls fn for each history entry of a zone up to the position that is read, newest first.
func (r session) eachHistory(apex zones.Name, fn func(h HistoryEntry) (more bool, err error)) error {
	start := historyPrefix(nil, apex)
	from := binary.BigEndian.AppendUint64(bytes.Clone(start), 1<<63-1)
	err := r.scanBack(from, start, func(e entry) (bool, error) {
		value, err := e.value()
		if err != nil {
			return false, err
		}
		h, err := parseHistory(value, r.p.number, apex)
		if err != nil {
			return false, err
		}
		return fn(h)
	})
	return r.p.suspect(apex, err)
}

// Since calls fn with what each change set has changed in the zone since it had a serial, up to the reading's position, newest first, until
// fn returns false. whole says that these are all there were: that the history reaches back to the serial, from which the zone has been changed
// RRset by RRset ever since. For the zone's present serial that is nothing.
func (r *Reading) Since(serial zones.Serial, fn func(changes []zones.RRsetChange) (more bool)) (whole bool, err error) {
	next := r.Info.Serial
	if next == serial {
		return true, nil
	}
	err = r.eachHistory(r.Info.Apex, func(h HistoryEntry) (bool, error) {
		if r.p.isClosing() {
			return false, ErrClosed
		}
		if (h.Action == ActionSettings || h.Action == ActionStanding) && h.From == h.To {
			return true, nil // the content stayed
		}
		if h.Action != ActionChanged || h.To != next || h.From == h.To {
			return false, nil // made anew; or an entry is missing
		}
		if !fn(h.Changes) {
			return false, nil
		}
		next = h.From
		whole = next == serial
		return !whole, nil
	})
	return whole && err == nil, err
}

// HistoryAt returns the history entry of the change set at a position, and its zone; ErrNoOutcome when
// there is none: it changed nothing, or is too long ago.
func (s *Store) HistoryAt(pos Position) (apex zones.Name, h HistoryEntry, err error) {
	p := s.Partition(pos.Partition)
	if p == nil {
		return "", h, ErrNotOpen
	}
	r, err := p.begin()
	if err != nil {
		return "", h, err
	}
	defer r.end()
	value, ok, err := r.get(historyAtKey(nil, pos.Offset))
	if err != nil || !ok {
		return "", h, p.suspect("", errors.Join(err, ErrNoOutcome))
	}
	at, err := parseHistoryAt(value)
	if err != nil {
		return "", h, p.suspect("", err)
	}
	value, ok, err = r.get(historyKey(nil, at.apex, at.sequence))
	if err != nil || !ok {
		return "", h, p.suspect(at.apex, errors.Join(err, ErrNoOutcome))
	}
	h, err = parseHistory(value, p.number, at.apex)
	return at.apex, h, p.suspect(at.apex, err)
}
