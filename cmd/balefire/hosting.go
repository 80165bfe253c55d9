package main

import (
	"fmt"
	"sync/atomic"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
)

// hosting is the node's zones as DNS sees them. The store answers for the partitions that are open; until all are,
// a zone may be in one of the others, and what the store does not find is not absent, but unknown.
type hosting struct {
	*store.Store
	namespace interface { // *replication.Node
		PartitionOf(apex zones.Name) (partition int32, ok bool)
	}
	partitions func() int32               // of the namespace; 0 while that is not known
	isOpen     func(partition int32) bool // on this node
	all        atomic.Bool                // every partition was open once; from then on the store knows all zones
}

func newHosting(node *replication.Node) *hosting {
	return &hosting{
		Store: node.Store(), namespace: node, partitions: node.Log().Partitions,
		isOpen: func(n int32) bool { return node.Store().Partition(n) != nil },
	}
}

// Find is store.Find, or Unavailable when a longer apex may be in a partition that is not open yet.
func (h *hosting) Find(qname zones.Name, qtype zones.Type) store.Holding {
	found := h.Store.Find(qname, qtype)
	if h.all.Load() {
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
	if !h.all.Load() {
		return store.Holding{}, false
	}
	return h.Store.FindHot(qname, qtype)
}

// unknown says why what was found may not be what is hosted; nil when it is.
func (h *hosting) unknown(found store.Holding, qname zones.Name, qtype zones.Type) error {
	count := h.partitions()
	if count == 0 {
		return fmt.Errorf("zone of %s: the namespace is not known yet", qname)
	}
	open := int32(0)
	for open < count && h.isOpen(open) {
		open++
	}
	if open == count {
		h.all.Store(true)
		return nil
	}
	// A DS at an apex is its parent's, which is shorter than what was found.
	shortest := len(found.Apex)
	if qtype == zones.TypeDS {
		shortest = 0
	}
	for apex := qname; len(apex) > shortest; apex = apex.Parent() {
		if p, ok := h.namespace.PartitionOf(apex); !ok || !h.isOpen(p) {
			return fmt.Errorf("zone of %s: partition %d is not open", qname, p)
		}
		if apex == zones.Root {
			break
		}
	}
	return nil
}
