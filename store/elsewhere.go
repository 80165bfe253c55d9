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

// ReplaceElsewhere says what has become of the zones of a partition that was closed for good: of each apex, whether it is hosted. What
// isn't mentioned is as the partition had it. It goes through the whole index, while others use it. The caller sees to it that nothing
// else is said of the partition meanwhile.
func (s *Store) ReplaceElsewhere(partition int32, said iter.Seq2[zones.Name, bool]) {
	if s.Partition(partition) != nil {
		return
	}
	hosted := make(map[zones.Name]bool)
	for apex, is := range said {
		hosted[zones.Name(strings.Clone(string(apex)))] = is
	}
	s.hot.replaceElsewhere(partition, hosted)
}

func (h *hotSet) putElsewhere(apex zones.Name, partition int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.index.Get(apex)
	switch {
	case ok && v.Slot != noSlot: // its partition is being opened, or was closed and is yet to be given up
	case ok:
		h.index.Put(apex, apexes.Value{Partition: partition, Slot: noSlot}) // no name passes to another zone
	default:
		h.put(apex, apexes.Value{Partition: partition, Slot: noSlot})
	}
}

func (h *hotSet) removeElsewhere(apex zones.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.index.Get(apex); ok && v.Slot == noSlot {
		h.index.Delete(apex)
	}
}

// replaceElsewhere takes the slots of a partition's zones away, and makes said, which it uses up, what the index has of it.
func (h *hotSet) replaceElsewhere(partition int32, said map[zones.Name]bool) {
	var had []zones.Name
	for apex, v := range h.index.All() {
		if v.Partition == partition && v.Slot != noSlot {
			had = append(had, zones.Name(strings.Clone(string(apex))))
		}
	}
	for _, apex := range had {
		hosted, ok := said[apex]
		h.replace(apex, partition, hosted || !ok)
		delete(said, apex)
	}
	for apex, hosted := range said {
		if hosted {
			h.putElsewhere(apex, partition)
		} else {
			h.removeElsewhere(apex)
		}
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
