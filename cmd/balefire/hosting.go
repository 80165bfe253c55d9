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
	node *replication.Node
	all  atomic.Bool // every partition was open once; from then on the store knows all zones
}

func newHosting(node *replication.Node) *hosting { return &hosting{Store: node.Store(), node: node} }

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
	count := h.node.Log().Partitions()
	if count == 0 {
		return fmt.Errorf("zone of %s: the namespace is not known yet", qname)
	}
	if len(h.Partitions()) == int(count) {
		h.all.Store(true)
		return nil
	}
	// A DS at an apex is its parent's, which is shorter than what was found.
	shortest := len(found.Apex)
	if qtype == zones.TypeDS {
		shortest = 0
	}
	for apex := qname; len(apex) > shortest; apex = apex.Parent() {
		if p, ok := h.node.PartitionOf(apex); !ok || h.Partition(p) == nil {
			return fmt.Errorf("zone of %s: partition %d is not open", qname, p)
		}
		if apex == zones.Root {
			break
		}
	}
	return nil
}
