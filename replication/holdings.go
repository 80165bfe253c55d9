package replication

import (
	"errors"
	"fmt"

	"balefire/store"
	"balefire/zones"
)

// What a node says of a zone depends on what it holds, and on what it knows of the rest:
//
//	zone in a partition that is held          ──► here: answered from the copy
//	in another one, or one not caught up yet  ──► elsewhere: asked of a node that holds it
//	no zone, and the index is whole           ──► not hosted
//	no zone, and it is not                    ──► unavailable: there may be one

// Find returns the view of the zone with the longest hosted apex at or above qname, or says that it is elsewhere. For a DS
// at an apex it prefers a hosted parent (RFC 4035 §3.1.4.1).
func (n *Node) Find(qname zones.Name, qtype zones.Type) store.Holding {
	all := n.HoldsAll() // before: what is found now may be from before a copy caught up
	found := n.store.Find(qname, qtype)
	if all {
		return found
	}
	if err := n.unknown(found, qname, qtype); err != nil {
		found.Release()
		return store.Holding{Status: store.Unavailable, Err: err}
	}
	return n.placed(found)
}

// FindHot is Find for those who must not wait: ok is false when Find would have to read the disk, or to think.
func (n *Node) FindHot(qname zones.Name, qtype zones.Type) (found store.Holding, ok bool) {
	all := n.HoldsAll()
	if !all && !n.indexWhole() {
		return store.Holding{}, false
	}
	found, ok = n.store.FindHot(qname, qtype)
	// Asked again: a stamp that was given after a partition went says nothing about that.
	if all && n.HoldsAll() {
		return found, ok
	}
	if !ok || all && !n.indexWhole() || found.Status == store.Unavailable || found.Status == store.Here && !n.Holds(found.Partition) {
		return store.Holding{}, false // hot zones need no release
	}
	return found, true
}

// Zone returns what is known of the zone with an apex. store.ErrNoZone says that none is hosted; store.ErrNotOpen, that one is, in a
// partition that this node does not hold. Any other error is that it is not known.
func (n *Node) Zone(apex zones.Name) (store.ZoneInfo, error) {
	p, ok := n.PartitionOf(apex)
	if !ok {
		return store.ZoneInfo{}, fmt.Errorf("zone %s: %w", apex, errNotKnown)
	}
	held, whole := n.Holds(p), n.indexWhole() // before: what is found now may be from before that was so
	info, err := n.store.Zone(apex)
	switch {
	case errors.Is(err, store.ErrNoZone) && !held && !whole:
		return store.ZoneInfo{}, fmt.Errorf("zone %s: %w", apex, errNotKnown)
	case err == nil && !held:
		return store.ZoneInfo{}, fmt.Errorf("zone %s: %w", apex, store.ErrNotOpen)
	}
	return info, err
}

// Current reports whether FindHot would find the same as when it gave the stamp.
func (n *Node) Current(at store.Stamp) bool { return n.store.Current(at) }

// placed gives up what was found in a partition that is not held: its copy has not caught up, or can't be read, and others may
// have it whole.
func (n *Node) placed(found store.Holding) store.Holding {
	switch found.Status {
	case store.Here:
		if n.Holds(found.Partition) {
			return found
		}
	case store.Unavailable:
		if store.Withheld(found.Err) && n.Holds(found.Partition) {
			return found // and so would the others
		}
		partition, ok := n.PartitionOf(found.Apex)
		if found.Apex == "" || !ok || len(n.holders(partition)) == 0 {
			return found
		}
		found.Partition = partition
	default:
		return found
	}
	elsewhere := store.Holding{Status: store.Elsewhere, Apex: found.Apex, Partition: found.Partition}
	found.Release()
	return elsewhere
}

// errNotKnown says that there may be a zone that this node has not heard of.
var errNotKnown = errors.New("the namespace is not known yet")

// unknown says why what was found may not be what is hosted; nil when it is.
func (n *Node) unknown(found store.Holding, qname zones.Name, qtype zones.Type) error {
	if n.indexWhole() {
		return nil
	}
	return unheard(found, qname, qtype, n)
}

// holder is what unheard asks a node.
type holder interface {
	PartitionOf(apex zones.Name) (partition int32, ok bool)
	Holds(partition int32) bool
}

// unheard says why there may be a zone that decides otherwise, in a partition that is not held.
func unheard(found store.Holding, qname zones.Name, qtype zones.Type, n holder) error {
	// A DS at an apex is its parent's, which is shorter than what was found.
	shortest := len(found.Apex)
	if qtype == zones.TypeDS {
		shortest = 0
	}
	for apex := qname; len(apex) >= shortest; apex = apex.Parent() {
		p, ok := n.PartitionOf(apex)
		if !ok {
			return fmt.Errorf("zone of %s: %w", qname, errNotKnown)
		}
		if !n.Holds(p) {
			return fmt.Errorf("zone of %s: partition %d is not held, and the catalog not read", qname, p)
		}
		if apex == zones.Root {
			break
		}
	}
	return nil
}
