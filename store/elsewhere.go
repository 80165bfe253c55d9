package store

import (
	"iter"
	"strings"

	"balefire/store/apexes"
	"balefire/zones"
)

// The index also has zones of partitions that are not open here, as others say that there are: it tells where to ask. What a
// partition that is open has, it says itself.

// PutElsewhere says that a zone is hosted in a partition. It means nothing when the partition is open and has caught up.
func (s *Store) PutElsewhere(apex zones.Name, partition int32) {
	if p := s.Partition(partition); p != nil && p.reached.Load() {
		return
	}
	s.hot.putElsewhere(apex, partition)
}

// RemoveElsewhere says that a zone is not hosted any more. It means nothing for a zone that an open partition has.
func (s *Store) RemoveElsewhere(apex zones.Name) { s.hot.removeElsewhere(apex) }

// ReplaceElsewhere says which zones a partition has that was closed for good. It goes through the whole index, while others use
// it. The caller sees to it that nothing else is said of the partition meanwhile.
func (s *Store) ReplaceElsewhere(partition int32, hosted iter.Seq[zones.Name]) {
	if s.Partition(partition) != nil {
		return
	}
	keep := make(map[zones.Name]bool)
	for apex := range hosted {
		keep[zones.Name(strings.Clone(string(apex)))] = true
	}
	s.hot.replaceElsewhere(partition, keep)
}

func (h *hotSet) putElsewhere(apex zones.Name, partition int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.index.Get(apex); ok && v.Slot != noSlot {
		return // its partition is being opened, or was closed and is yet to be given up
	}
	h.index.Put(apex, apexes.Value{Partition: partition, Slot: noSlot})
}

func (h *hotSet) removeElsewhere(apex zones.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.index.Get(apex); ok && v.Slot == noSlot {
		h.index.Delete(apex)
	}
}

// replaceElsewhere makes keep, which it uses up, what the index has of a partition.
func (h *hotSet) replaceElsewhere(partition int32, keep map[zones.Name]bool) {
	var changed []zones.Name
	for apex, v := range h.index.All() {
		switch {
		case v.Partition != partition:
		case v.Slot == noSlot && keep[apex]:
			delete(keep, apex)
		default:
			changed = append(changed, zones.Name(strings.Clone(string(apex))))
		}
	}
	for _, apex := range changed {
		h.replace(apex, partition, keep[apex])
		delete(keep, apex)
	}
	for apex := range keep {
		h.putElsewhere(apex, partition)
	}
}

// replace takes a zone's slot away, if it is the partition's, and leaves it in the index when it is hosted.
func (h *hotSet) replace(apex zones.Name, partition int32, hosted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.index.Get(apex)
	if !ok || v.Partition != partition {
		return
	}
	h.giveBack(v)
	if hosted {
		h.index.Put(apex, apexes.Value{Partition: partition, Slot: noSlot})
	} else {
		h.index.Delete(apex)
	}
}
