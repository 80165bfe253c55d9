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
	cold      *coldView
}

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
	apex, v, hosted := s.apexOf(qname, qtype)
	if !hosted {
		return Holding{}, true
	}
	if e := s.hot.get(apex, v.Slot); e != nil {
		return Holding{Status: Here, Apex: apex, View: e.zone, Partition: v.Partition}, true
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
		s.hot.cold.Add(1)
		if s.fitsMemory(view.z) && p.Suspicious() == nil && s.hot.worthLoading(v.Slot) {
			s.loader.ask(p, apex)
		}
		return Holding{Status: Here, Apex: apex, View: view, Partition: v.Partition, cold: view}
	}
	apex, v, _ := s.apexOf(qname, qtype)
	return Holding{Status: Unavailable, Apex: apex, Partition: v.Partition, Err: fmt.Errorf("zone of %s: %w", qname, ErrNoZone)}
}
