package store

import (
	"time"

	"balefire/zones"
)

// A large zone takes seconds to be read, where most take less than a millisecond, and nobody can be told how many of its names will be
// asked for. So large zones, those that take a sixteenth of the budget or more, are not put out for small ones while they are in use:
// the hand may come around twice in an instant, and then all zones look unused. In turn they leave a quarter of the budget to
// the small ones. A large zone that would need more waits until one of the others has not been used for a while, and is
// answered from disk meanwhile, without being read in vain.

// A zone is large from a part of the budget on, but none that is read in a few milliseconds.
const (
	largePart = 16
	largeMin  = 1 << 20
)

// largeGrace is how long a large zone stays in memory after it was last seen to be used.
const largeGrace = 10 * time.Second

// largest is what large zones may take of a budget, together.
func largest(limit int64) int64 { return limit / 4 * 3 }

// largeZones are those in memory; by hotSet.mu. There are few.
type largeZones struct {
	used     map[uint32]time.Time // when a slot's zone was last seen to be used
	declined map[uint32]time.Time // when one was read, and turned out not to fit
	bytes    int64
}

func newLargeZones() largeZones {
	return largeZones{used: make(map[uint32]time.Time), declined: make(map[uint32]time.Time)}
}

func (h *hotSet) isLarge(size int64) bool { return size >= max(h.limit/largePart, largeMin) }

// came and left keep the account of large zones: a slot has got a zone of that many octets, or lost it. The caller holds mu.
func (h *hotSet) came(slot uint32, size int64) {
	if h.isLarge(size) {
		h.large.used[slot] = time.Now()
		h.large.bytes += size
	}
}

func (h *hotSet) left(slot uint32, size int64) {
	if h.isLarge(size) {
		delete(h.large.used, slot)
		h.large.bytes -= size
	}
}

// grew keeps the account of a zone that has changed, which says nothing of its use.
func (h *hotSet) grew(slot uint32, before, after int64) {
	last, large := h.large.used[slot]
	h.left(slot, before)
	h.came(slot, after)
	if _, still := h.large.used[slot]; still && large {
		h.large.used[slot] = last
	}
}

// stays reports whether a zone is not to be put out now, and forgets that it was used: CLOCK's second chance. The caller holds mu.
func (h *hotSet) stays(slot uint32, at place) bool {
	used := at.version.And(^uint64(usedBit))&usedBit != 0
	last, large := h.large.used[slot]
	if !large {
		return used
	}
	if used {
		h.large.used[slot] = time.Now()
		return true
	}
	return time.Since(last) < largeGrace
}

// makeLargeRoom puts large zones that are not in use out of memory until one more of that many octets may come in, and reports
// whether it may. A small zone always may. The caller holds mu.
func (h *hotSet) makeLargeRoom(size int64) bool {
	if !h.isLarge(size) {
		return true
	}
	for slot := range h.large.used {
		if h.large.bytes+size <= largest(h.limit) {
			break
		}
		if at, _ := h.slot(slot); !h.stays(slot, at) {
			h.clear(slot)
			h.evictions.Add(1)
		}
	}
	return h.large.bytes+size <= largest(h.limit)
}

// declinedFor is how long a zone that was read in vain is not read again.
const declinedFor = time.Minute

// worthReading reports whether the zone of a slot, of about that many octets, may come into memory when it has been read, and makes room
// if it is large.
func (h *hotSet) worthReading(slot uint32, size int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, ok := h.large.declined[slot]; ok {
		if time.Since(at) < declinedFor {
			return false
		}
		delete(h.large.declined, slot)
	}
	return h.makeLargeRoom(size)
}

// sayTooLarge tells the operator, once for each zone, that a zone is answered from disk, and what would change that.
func (p *Partition) sayTooLarge(apex zones.Name, slot uint32, z zoneState) {
	if _, said := p.store.tooLarge.LoadOrStore(slot, true); said {
		return
	}
	const unit = 1 << 20
	p.log.Warn().Str("zone", apex.String()).Int64("zone_mib", memoryOf(z)/unit).Int64("enough_mib", (memoryOf(z)/3*4)/unit+1).
		Msg("a zone is too large for store.hot-zones, and is answered from disk")
}
