package replication

import (
	"slices"
	"sync/atomic"

	"balefire/store"
	"balefire/zones"
)

// ZoneChange is what a record of the log did to a zone.
type ZoneChange struct {
	Apex   zones.Name
	At     store.Position
	Serial zones.Serial // afterwards; 0 when the zone was deleted
	// Created and Deleted say that the record made the zone hosted, or ended that.
	Created, Deleted bool
	// Peering is how the zone is afterwards, if it comes from other servers, or others are told of it, or that was so until now. Nil for
	// all others.
	Peering *store.Peering
	// Resettled says that the record changed settings of the zone.
	Resettled bool
	// Generation is that of the zone when it was created: another one for each zone that had the name.
	Generation int64
}

// ChangesFunc is told what records of a partition did to zones, in their order, when all that is asked of this node sees it. No changes at
// all means that the node's copy of the partition is another: it was opened, or restored, and each zone of it may be as it was at any time.
// It must not wait, since nothing more of the partition is applied meanwhile, nor keep the slice. It is called for one partition at a time, for several at once.
type ChangesFunc func(partition int32, changes []ZoneChange)

// listeners are those who want to know of changes. The slice is replaced, never changed.
type listeners struct {
	all atomic.Pointer[[]*ChangesFunc]
}

// Changes has fn told of changes from now on, until stop is called; what is on its way then may still come.
func (n *Node) Changes(fn ChangesFunc) (stop func()) {
	entry := &fn
	n.listeners.replace(func(all []*ChangesFunc) []*ChangesFunc { return append(all, entry) })
	return func() {
		n.listeners.replace(func(all []*ChangesFunc) []*ChangesFunc {
			return slices.DeleteFunc(all, func(e *ChangesFunc) bool { return e == entry })
		})
	}
}

func (l *listeners) replace(change func([]*ChangesFunc) []*ChangesFunc) {
	for {
		old := l.all.Load()
		var all []*ChangesFunc
		if old != nil {
			all = slices.Clone(*old)
		}
		all = change(all)
		if l.all.CompareAndSwap(old, &all) {
			return
		}
	}
}

// tell tells all who listen.
func (l *listeners) tell(partition int32, changes []ZoneChange) {
	if all := l.all.Load(); all != nil {
		for _, fn := range *all {
			(*fn)(partition, changes)
		}
	}
}

// tellOutcomes tells of what outcomes are changes.
func (l *listeners) tellOutcomes(partition int32, outcomes []store.Outcome) {
	if all := l.all.Load(); all == nil || len(*all) == 0 || len(outcomes) == 0 {
		return
	}
	changes := make([]ZoneChange, 0, len(outcomes))
	for i := range outcomes {
		o := &outcomes[i]
		if o.Changed {
			changes = append(changes, ZoneChange{
				Apex: o.Zone, At: o.Position, Serial: o.Serial, Created: o.Created, Deleted: o.Deleted, Peering: o.Peering,
				Resettled: o.Resettled, Generation: o.Generation,
			})
		}
	}
	if len(changes) > 0 {
		l.tell(partition, changes)
	}
}
