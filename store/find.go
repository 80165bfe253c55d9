package store

import (
	"fmt"

	"balefire/store/apexes"
	"balefire/zones"
)

// Status says what a Find found.
type Status uint8

const (
	// NotHosted: no hosted zone is at or above the name.
	NotHosted Status = iota
	// Unavailable: the zone is hosted, but can't be read; Holding.Err says why.
	Unavailable
	// Here: Holding.View is the zone.
	Here
	// Elsewhere: the zone is hosted in the namespace, in Holding.Partition, which is not open in this store.
	Elsewhere
)

func (s Status) String() string {
	switch s {
	case NotHosted:
		return "not hosted"
	case Unavailable:
		return "unavailable"
	case Here:
		return "here"
	case Elsewhere:
		return "elsewhere"
	}
	return fmt.Sprintf("status-%d", uint8(s))
}

// Holding is what the store holds for a name. Release must be called once, after the last use of the view and
// of what it returned.
type Holding struct {
	Status Status
	Apex   zones.Name // "" when NotHosted; shares the memory of the name that was asked for
	View   zones.View // when Here; for one goroutine
	Err    error      // when Unavailable
	// Partition is the zone's, but when NotHosted.
	Partition int32
	// Stamp says for how long FindHot would find the same; zero when that is not known.
	Stamp Stamp
	cold  *coldView
}

// Stamp is a state of what FindHot found for a question: as long as it is Current, FindHot finds the same view for it, so that what was
// made of it is still right. It has no pointers, and may be kept.
//
// The place of a zone in memory has a version, and the division of names among zones an epoch, which change before and after what
// they are of, and are odd in between. Both are read before it; so nobody who has seen something new finds a stamp of the old
// to be current after that.
type Stamp struct {
	epoch, version uint64
	slot           uint32
}

// Words returns a stamp as numbers; StampOf undoes that.
func (at Stamp) Words() [3]uint64 { return [3]uint64{at.epoch, at.version, uint64(at.slot)} }

// StampOf returns the stamp of which Words made w.
func StampOf(w [3]uint64) Stamp { return Stamp{epoch: w[0], version: w[1], slot: uint32(w[2])} }

// Current reports whether FindHot would find the same still, and counts as a use of the zone.
func (s *Store) Current(at Stamp) bool {
	if s.hot.epoch.Load() != at.epoch {
		return false
	}
	place, ok := s.hot.slot(at.slot)
	return ok && place.use(place.version.Load()) == at.version
}

// Doubt makes all stamps void, before change and after it: what is found may depend on it.
func (s *Store) Doubt(change func()) { s.hot.doubt(change) }

// Release gives the view up.
func (h *Holding) Release() {
	if h.cold != nil {
		h.cold.end()
		h.cold, h.View = nil, nil
	}
}

// Find returns the view of the zone with the longest hosted apex at or above qname. For a DS at an apex
// it prefers a hosted parent (RFC 4035 §3.1.4.1). It neither waits nor allocates when the zone is in memory; when
// it is not, the view reads from Badger, and the zone may be brought into memory in the background.
func (s *Store) Find(qname zones.Name, qtype zones.Type) Holding {
	h, hot := s.FindHot(qname, qtype)
	if hot {
		return h
	}
	return s.findCold(qname, qtype)
}

// FindHot is Find for those who must not wait for the disk: ok is false when Find would have to read it.
func (s *Store) FindHot(qname zones.Name, qtype zones.Type) (h Holding, ok bool) {
	epoch := s.hot.epoch.Load()
	apex, v, hosted := s.apexOf(qname, qtype)
	if !hosted {
		return Holding{}, true
	}
	if e, version := s.hot.get(apex, v.Slot); e != nil {
		h = Holding{Status: Here, Apex: apex, View: &e.zone, Partition: v.Partition}
		// Whose a DS at an apex is also depends on zones above it that come and go.
		if epoch&1 == 0 && version&1 == 0 && (qtype != zones.TypeDS || len(apex) != len(qname)) {
			h.Stamp = Stamp{epoch: epoch, version: version, slot: v.Slot}
		}
		return h, true
	}
	if s.Partition(v.Partition) == nil {
		return Holding{Status: Elsewhere, Apex: apex, Partition: v.Partition}, true
	}
	return Holding{}, false
}

// apexOf returns the apex of the zone that answers a question.
func (s *Store) apexOf(qname zones.Name, qtype zones.Type) (apex zones.Name, v apexes.Value, hosted bool) {
	apex, v, hosted = s.hot.index.Longest(qname)
	if hosted && qtype == zones.TypeDS && len(apex) == len(qname) {
		if parent, pv, ok := s.hot.index.Parent(qname); ok {
			return parent, pv, true
		}
	}
	return apex, v, hosted
}

// settle waits until what is being published is in the index, too.
func (p *Partition) settle() {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
}

// findCold opens a view of Badger.
func (s *Store) findCold(qname zones.Name, qtype zones.Type) Holding {
	// The index may be a moment behind or ahead of the published position: then it is asked again.
	const tries = 3
	for range tries {
		apex, v, hosted := s.apexOf(qname, qtype)
		if !hosted {
			return Holding{}
		}
		p := s.Partition(v.Partition)
		if p == nil {
			return Holding{Status: Elsewhere, Apex: apex, Partition: v.Partition}
		}
		view, err := p.openCold(apex)
		if err != nil {
			return Holding{Status: Unavailable, Apex: apex, Partition: v.Partition, Err: p.suspect(apex, err)}
		}
		if view == nil {
			p.settle()
			if v.Slot == noSlot && p.reached.Load() {
				s.hot.removeElsewhere(apex) // the partition knows better than who said that it has the zone
			}
			continue
		}
		// The view may be of a position that was published since, and the zone in memory since then, and not as far yet: others
		// are given that one.
		if h, hot := s.FindHot(qname, qtype); hot {
			view.end()
			return h
		}
		s.hot.cold.Add(1)
		switch {
		case !s.fitsMemory(view.z):
			p.sayTooLarge(apex, v.Slot, view.z)
		case p.Suspicious() == nil && s.hot.worthLoading(v.Slot) && !p.keepWhole(view):
			s.loader.ask(p, apex)
		}
		return Holding{Status: Here, Apex: apex, View: view, Partition: v.Partition, cold: view}
	}
	apex, v, _ := s.apexOf(qname, qtype)
	return Holding{Status: Unavailable, Apex: apex, Partition: v.Partition, Err: fmt.Errorf("zone of %s: %w", qname, ErrNoZone)}
}
