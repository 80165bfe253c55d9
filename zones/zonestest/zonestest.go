// Package zonestest helps tests that need a zone. Its View is the plainest one possible, a sorted slice
// that is searched from end to end, and so the measure of the others. Only tests import it.
package zonestest

import (
	"fmt"
	"slices"

	"balefire/zones"
)

// View is a zone held as a sorted slice of nodes. It is immutable after NewView.
type View struct {
	apex   zones.Name
	nodes  []zones.Node // names that own RRsets, in canonical order
	hashed []zones.Node // owners of the NSEC3 chain, in canonical order
}

var _ zones.View = (*View)(nil)

// NewView makes a view of the RRsets, which come in any order and are at or below apex.
func NewView(apex zones.Name, rrsets []zones.RRset) *View {
	sorted := slices.SortedFunc(slices.Values(rrsets), zones.CompareRRsets)
	v := &View{apex: apex}
	for len(sorted) > 0 {
		first, end := sorted[0], 1
		for end < len(sorted) && sorted[end].Owner == first.Owner && sorted[end].Hashed() == first.Hashed() {
			end++
		}
		node := zones.NewNode(first.Owner, slices.Clone(sorted[:end]))
		if first.Hashed() {
			v.hashed = append(v.hashed, node)
		} else {
			v.nodes = append(v.nodes, node)
		}
		sorted = sorted[end:]
	}
	return v
}

// Nodes returns the nodes that own RRsets, in canonical order.
func (v *View) Nodes() []zones.Node { return v.nodes }

// HashedNodes returns the nodes of the NSEC3 chain, in canonical order.
func (v *View) HashedNodes() []zones.Node { return v.hashed }

// Apex implements zones.View.
func (v *View) Apex() zones.Node {
	n, _ := v.lookup(v.apex)
	return n
}

// lookup returns the node of a name that exists, an empty non-terminal included.
func (v *View) lookup(name zones.Name) (n zones.Node, exists bool) {
	for _, node := range v.nodes {
		switch {
		case node.Owner == name:
			return node, true
		case node.Owner.IsBelow(name):
			exists = true // at least an empty non-terminal
		}
	}
	if exists || name == v.apex {
		return zones.NodeView(name, nil), true
	}
	return zones.Node{}, false
}

// Find implements zones.View.
func (v *View) Find(n zones.Name, at *zones.Location) error {
	*at = zones.Location{}
	if !n.IsAtOrBelow(v.apex) {
		return fmt.Errorf("find %s: not in zone %s", n, v.apex)
	}
	at.Node, at.Exact = v.lookup(n)
	for name := n; ; name = name.Parent() {
		if node, exists := v.lookup(name); exists {
			at.Encloser = node
			break
		}
	}
	for name := n; name != v.apex; name = name.Parent() {
		if node, exists := v.lookup(name); exists && node.Has(zones.TypeNS) {
			at.Cut = node // the topmost one is the last one seen
		}
	}
	return nil
}

// FindNSEC implements zones.View.
func (v *View) FindNSEC(n zones.Name) (found zones.Node, err error) {
	for _, node := range v.nodes {
		if node.Has(zones.TypeNSEC) && zones.Compare(node.Owner, n) <= 0 {
			found = node
		}
	}
	return found, nil
}

// FindNSEC3 implements zones.View.
func (v *View) FindNSEC3(n zones.Name) (found zones.Node, err error) {
	var last zones.Node
	for _, node := range v.hashed {
		if !node.Has(zones.TypeNSEC3) {
			continue
		}
		last = node
		if zones.Compare(node.Owner, n) <= 0 {
			found = node
		}
	}
	if found.IsZero() {
		found = last // before the first comes the last: the chain is a ring
	}
	return found, nil
}
