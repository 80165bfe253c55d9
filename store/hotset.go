package store

import (
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"balefire/store/apexes"
	"balefire/store/hotzone"
	"balefire/zones"
)

// hotSet is the zones in memory, by slot: a number that each hosted zone has, which the apex index leads to.
// Readers take no lock: index, page and zone are each one atomic load. Writers exclude each other by mu.
//
// What is kept is decided by CLOCK over the zones in memory, and by a small table of recent misses in
// front of it: once the budget is used, a zone is only brought in at its second miss, so that queries for
// many zones, once each, do not turn everything over.
type hotSet struct {
	index *apexes.Index
	limit int64
	pages atomic.Pointer[[]*slotPage]
	bytes atomic.Int64
	count atomic.Int64

	// epoch changes when names may belong to another zone than before; odd while they do. See Stamp.
	epoch  atomic.Uint64
	unsure sync.Mutex // held while it is odd

	cold, loads, evictions atomic.Uint64

	misses [4096]atomic.Uint32 // slot+1 of the last miss that fell here

	mu     sync.Mutex
	free   []uint32 // slots given back
	next   uint32   // first slot never used
	ring   []uint32 // slots that CLOCK goes around; some may be empty by now
	inRing map[uint32]bool
	hand   int
	large  largeZones
	placed map[int32]int          // zones with a slot, by partition
	missed map[zones.Name]*missed // zones that are being loaded
}

// missed is what patched a zone while it was being loaded, so that one that changes all the time comes into memory, too.
type missed struct {
	patches []effect
	changes int // RRsets in patches
}

// maxMissed bounds what is kept for a zone that is being loaded, in RRsets. With more, it is loaded again.
const maxMissed = 10_000

const slotsPerPage = 1024

// noSlot is that of zones that only others say are there: they are never in memory.
const noSlot = 1<<32 - 1

type slotPage struct {
	entries [slotsPerPage]atomic.Pointer[hotEntry]
	// versions change when an entry that there is goes, or another takes its place; odd while it does. The highest bit is usedBit.
	versions [slotsPerPage]atomic.Uint64
}

// usedBit says that a zone was used since CLOCK's hand last came by. It is beside the version, so that who has an answer that is right
// still says so for nothing.
const usedBit = 1 << 63

// hotEntry is a zone in memory at one position. It never changes. The zone is in it, and its name is the zone's: a small zone is two
// objects to the garbage collector, this one and a page without pointers.
type hotEntry struct {
	zone    hotzone.Zone
	p       *Partition
	changed int64 // offset of the zone's last change in zone
}

// apex shares the zone's memory.
func (e *hotEntry) apex() zones.Name { return e.zone.Apex().Owner }

// besideZone is what a zone in memory takes beside its pages, in octets: its entry, slot and place in the ring.
const besideZone = 112

// size is what the zone counts for in the budget.
func (e *hotEntry) size() int64 { return int64(e.zone.Bytes()) + besideZone }

func newHotEntry(zone *hotzone.Zone, p *Partition, changed int64) *hotEntry {
	return &hotEntry{zone: *zone, p: p, changed: changed}
}

func newHotSet(limit int64) *hotSet {
	h := &hotSet{index: apexes.New(), limit: limit, inRing: make(map[uint32]bool), placed: make(map[int32]int), missed: make(map[zones.Name]*missed), large: newLargeZones()}
	h.pages.Store(new([]*slotPage))
	h.epoch.Store(2) // none is 0, which is that of the Stamp that says nothing
	return h
}

// place is where a slot's zone is, and its version.
type place struct {
	*atomic.Pointer[hotEntry]
	version *atomic.Uint64
}

// slot returns the place of a slot's zone. ok is false for a slot that was never used.
func (h *hotSet) slot(n uint32) (at place, ok bool) {
	pages := *h.pages.Load()
	page := int(n / slotsPerPage)
	if page >= len(pages) {
		return place{}, false
	}
	return place{&pages[page].entries[n%slotsPerPage], &pages[page].versions[n%slotsPerPage]}, true
}

// replace puts an entry, or nil, in the place of old. The caller holds mu.
func (at place) replace(e *hotEntry) {
	at.version.Add(1)
	at.Store(e)
	at.version.Add(1)
}

// get returns the zone in memory for an apex and its slot, and notes its use; nil when it is not in memory. A slot
// may have passed to another zone since the index was asked. The version is of the place while the zone is in it.
func (h *hotSet) get(apex zones.Name, slot uint32) (e *hotEntry, version uint64) {
	at, ok := h.slot(slot)
	if !ok {
		return nil, 0
	}
	version = at.version.Load() // before the entry: see Stamp
	e = at.Load()
	if e == nil || e.apex() != apex {
		return nil, 0
	}
	return e, at.use(version)
}

// use notes that the zone is used, and returns the version of a place whose version word was just read.
func (at place) use(word uint64) (version uint64) {
	if word&usedBit == 0 { // a store on every query would pass the line from core to core
		at.version.Or(usedBit)
	}
	return word &^ usedBit
}

// worthLoading reports whether a zone that was asked for, and is not in memory, is to be brought in.
func (h *hotSet) worthLoading(slot uint32) bool {
	if h.bytes.Load() < h.limit/10*9 {
		return true
	}
	return h.misses[slot%uint32(len(h.misses))].Swap(slot+1) == slot+1
}

// create gives a zone a slot, or leaves it the one that it has. The caller holds p.viewMu, or is alone.
func (h *hotSet) create(p *Partition, apex zones.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.index.Get(apex); ok && v.Slot != noSlot {
		h.clear(v.Slot)
		if v.Partition != p.number {
			h.placed[v.Partition]--
			h.placed[p.number]++
			h.index.Put(apex, apexes.Value{Partition: p.number, Slot: v.Slot})
		}
		return
	}
	h.placed[p.number]++
	var slot uint32
	if n := len(h.free); n > 0 {
		slot, h.free = h.free[n-1], h.free[:n-1]
	} else {
		slot = h.next
		h.next++
		if pages := *h.pages.Load(); int(slot/slotsPerPage) == len(pages) {
			more := append(pages[:len(pages):len(pages)], new(slotPage))
			h.pages.Store(&more)
		}
	}
	h.put(apex, apexes.Value{Partition: p.number, Slot: slot})
}

// put puts an apex into the index that may not be there. The caller holds mu.
func (h *hotSet) put(apex zones.Name, v apexes.Value) {
	if _, _, ok := h.index.Parent(apex); !ok {
		h.index.Put(apex, v) // nobody has an answer about names that no zone had
		return
	}
	h.doubt(func() { h.index.Put(apex, v) })
}

// doubt lets names pass from one zone to another.
func (h *hotSet) doubt(change func()) {
	h.unsure.Lock()
	defer h.unsure.Unlock()
	h.epoch.Add(1)
	defer h.epoch.Add(1)
	change()
}

// remove takes a zone out of the index and of memory.
func (h *hotSet) remove(apex zones.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.index.Get(apex)
	if !ok {
		return
	}
	h.giveBack(v) // first: who finds no zone any more does not find a stamp of it current after that
	h.index.Delete(apex)
}

// giveBack frees the slot of a zone that has one. The caller holds mu.
func (h *hotSet) giveBack(v apexes.Value) {
	if v.Slot == noSlot {
		return
	}
	h.clear(v.Slot)
	h.free = append(h.free, v.Slot)
	h.placed[v.Partition]--
}

// drop takes a zone out of memory.
func (h *hotSet) drop(apex zones.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.index.Get(apex); ok {
		h.clear(v.Slot)
	}
}

// clear empties a slot, if it is one. The caller holds mu.
func (h *hotSet) clear(slot uint32) {
	if slot == noSlot {
		return
	}
	at, _ := h.slot(slot)
	if old := at.Load(); old != nil {
		at.replace(nil)
		h.left(slot, old.size())
		h.bytes.Add(-old.size())
		h.count.Add(-1)
	}
}

// install puts a loaded zone into memory. The caller holds p.viewMu, and has seen under it that the zone
// is still as it was loaded.
func (h *hotSet) install(e *hotEntry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.index.Get(e.apex())
	if !ok || v.Partition != e.p.number || v.Slot == noSlot {
		return
	}
	h.clear(v.Slot)
	size := e.size()
	if !h.makeLargeRoom(size) {
		h.large.declined[v.Slot] = time.Now()
		return
	}
	h.makeRoom(size)
	h.set(v.Slot, e)
	h.loads.Add(1)
}

// set fills an empty slot. The caller holds mu.
func (h *hotSet) set(slot uint32, e *hotEntry) {
	at, _ := h.slot(slot)
	at.version.And(^uint64(usedBit))
	at.Store(e)
	h.came(slot, e.size())
	h.bytes.Add(e.size())
	h.count.Add(1)
	if !h.inRing[slot] {
		h.inRing[slot] = true
		h.ring = append(h.ring, slot)
	}
}

// sizeOf returns the octets that a zone takes in memory; 0 when it is not there.
func (h *hotSet) sizeOf(apex zones.Name) int {
	v, ok := h.index.Get(apex)
	if !ok || v.Slot == noSlot {
		return 0
	}
	at, _ := h.slot(v.Slot)
	if e := at.Load(); e != nil && e.apex() == apex {
		return e.zone.Bytes()
	}
	return 0
}

// patch brings a zone in memory forward by a delta. One that can't be is dropped, to be loaded again.
func (h *hotSet) patch(p *Partition, apex zones.Name, d zones.Delta, changed int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.index.Get(apex)
	if !ok || v.Slot == noSlot {
		return
	}
	at, _ := h.slot(v.Slot)
	old := at.Load()
	if old == nil || old.apex() != apex {
		if m := h.missed[apex]; m != nil && m.changes <= maxMissed {
			m.changes += 1 + len(d.Changes)
			m.patches = append(m.patches, effect{apex: apex, delta: d, changed: changed})
		}
		return
	}
	zone := &old.zone
	if len(d.Changes) > 0 {
		var err error
		if zone, err = patched(&old.zone, d); err != nil {
			p.log.Warn().Err(err).Str("zone", apex.String()).Msg("zone in memory is dropped, and loaded again")
			h.clear(v.Slot)
			return
		}
	}
	next := newHotEntry(zone, p, changed)
	at.replace(next)
	h.grew(v.Slot, old.size(), next.size())
	h.bytes.Add(next.size() - old.size())
	h.makeRoom(0)
	if h.bytes.Load() > h.limit || h.large.bytes > largest(h.limit) {
		h.clear(v.Slot) // it has outgrown what there is
	}
}

// expect begins to keep what patches a zone that is about to be read from disk.
func (h *hotSet) expect(apex zones.Name) *missed {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := new(missed)
	h.missed[apex] = m
	return m
}

// expected ends what expect began.
func (h *hotSet) expected(apex zones.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.missed, apex)
}

// catchUp brings a zone that was read as it was after the record at changed forward by what it missed.
func (m *missed) catchUp(zone *hotzone.Zone, changed int64) (*hotzone.Zone, int64, error) {
	for _, e := range m.patches {
		if e.changed <= changed {
			continue
		}
		if len(e.delta.Changes) > 0 {
			var err error
			if zone, err = patched(zone, e.delta); err != nil {
				return nil, changed, err
			}
		}
		changed = e.changed
	}
	return zone, changed, nil
}

// patched is zone.Patch, whose panic would be a bug, but none of the partition's: what is on disk is right.
func patched(zone *hotzone.Zone, d zones.Delta) (next *hotzone.Zone, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("patching panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return zone.Patch(d)
}

// makeRoom puts zones out of memory until so many octets more fit the budget. The caller holds mu.
func (h *hotSet) makeRoom(more int64) {
	for steps := 2 * len(h.ring); h.bytes.Load()+more > h.limit && steps > 0; steps-- {
		if h.hand >= len(h.ring) {
			h.hand = 0
		}
		slot := h.ring[h.hand]
		at, _ := h.slot(slot)
		e := at.Load()
		if e != nil && h.stays(slot, at) {
			h.hand++
			continue
		}
		if e != nil {
			h.clear(slot)
			h.evictions.Add(1)
		}
		last := len(h.ring) - 1
		h.ring[h.hand] = h.ring[last]
		h.ring = h.ring[:last]
		delete(h.inRing, slot)
	}
}

// closePartition takes a partition's zones out of memory; the index keeps them. It goes through what is in memory, not through
// the index, which may have millions of others.
func (h *hotSet) closePartition(p *Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, slot := range h.ring {
		if at, _ := h.slot(slot); at.Load() != nil && at.Load().p == p {
			h.clear(slot)
		}
	}
}

// zonesOf returns the apexes with a slot that the index has of a partition. Without any the index is not gone through: it may
// have millions of others.
func (h *hotSet) zonesOf(p *Partition) (apexesOf []zones.Name) {
	h.mu.Lock()
	none := h.placed[p.number] == 0
	h.mu.Unlock()
	if none {
		return nil
	}
	for apex, v := range h.index.All() {
		if v.Partition == p.number && v.Slot != noSlot {
			apexesOf = append(apexesOf, zones.Name(strings.Clone(string(apex))))
		}
	}
	return apexesOf
}
