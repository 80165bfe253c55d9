package main

import (
	"fmt"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
)

// hosting is the node's zones as DNS sees them. The store answers for the partitions that the node holds; until
// it holds all, a zone may be in one of the others, and what the store does not find is not absent, but unknown.
type hosting struct {
	*store.Store
	namespace holdings
}

// holdings is what hosting asks the node.
type holdings interface {
	PartitionOf(apex zones.Name) (partition int32, ok bool)
	Holds(partition int32) bool
	HoldsAll() bool
}

var _ holdings = (*replication.Node)(nil)

// Find is store.Find, or Unavailable when what was found, or a longer apex, is in a partition that is not held.
func (h *hosting) Find(qname zones.Name, qtype zones.Type) store.Holding {
	found := h.Store.Find(qname, qtype)
	if h.namespace.HoldsAll() {
		return found
	}
	if err := h.unknown(found, qname, qtype); err != nil {
		found.Release()
		return store.Holding{Status: store.Unavailable, Err: err}
	}
	return found
}

// FindHot is store.FindHot; what it can't know is left to Find.
func (h *hosting) FindHot(qname zones.Name, qtype zones.Type) (found store.Holding, ok bool) {
	if !h.namespace.HoldsAll() {
		return store.Holding{}, false
	}
	return h.Store.FindHot(qname, qtype)
}

// unknown says why what was found may not be what is hosted; nil when it is.
func (h *hosting) unknown(found store.Holding, qname zones.Name, qtype zones.Type) error {
	// A DS at an apex is its parent's, which is shorter than what was found.
	shortest := len(found.Apex)
	if qtype == zones.TypeDS {
		shortest = 0
	}
	for apex := qname; len(apex) >= shortest; apex = apex.Parent() {
		p, ok := h.namespace.PartitionOf(apex)
		if !ok {
			return fmt.Errorf("zone of %s: the namespace is not known yet", qname)
		}
		if !h.namespace.Holds(p) {
			return fmt.Errorf("zone of %s: partition %d is not held", qname, p)
		}
		if apex == zones.Root {
			break
		}
	}
	return nil
}
