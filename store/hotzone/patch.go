package hotzone

import (
	"fmt"
	"slices"
	"unsafe"

	"balefire/zones"
)

// Patch returns the zone as it is after the delta, which must begin at this very version: otherwise
// ErrMismatch. Unchanged pages are shared, changed ones copied, and this version stays as it is.
func (z *Zone) Patch(d zones.Delta) (*Zone, error) {
	p := &patcher{next: *z, apex: z.apexName()}
	p.names.table, p.names.known = &z.names, map[zones.Name]int{}
	if z.denial != nil {
		p.denial = *z.denial
	}
	p.hashed.table, p.hashed.known = &p.denial.hashed, map[zones.Name]int{}
	for changes := d.Changes; len(changes) > 0; {
		first, end := changes[0], 1
		for end < len(changes) && changes[end].Owner == first.Owner && changes[end].Key.Hashed() == first.Key.Hashed() {
			end++
		}
		if !first.Owner.IsAtOrBelow(p.apex) {
			return nil, fmt.Errorf("patch %s: %w", p.apex, ErrNotInZone)
		}
		var err error
		if first.Key.Hashed() {
			err = p.changeHashed(first.Owner, changes[:end])
		} else {
			err = p.change(first.Owner, changes[:end])
		}
		if err != nil {
			return nil, fmt.Errorf("patch %s: %s: %w", p.apex, first.Owner, err)
		}
		changes = changes[end:]
	}
	return p.done()
}

// patcher gathers what becomes of each name that a delta touches, and then changes each page once.
type patcher struct {
	apex   zones.Name
	next   Zone
	denial denial
	names  edits
	hashed edits
}

// edits are entries on their way to a table.
type edits struct {
	table *table
	list  []edit
	known map[zones.Name]int // index in list
}

// of returns the name's entry as it is now, ready to be changed.
func (s *edits) of(n zones.Name) *edit {
	i, ok := s.known[n]
	if !ok {
		e := edit{entry: entry{name: n}, hash: hashOf(n), gone: true}
		if b := s.table.findHash(e.hash, n); b != nil {
			e.entry, _ = readEntry(b)
			e.gone = false
		}
		i = len(s.list)
		s.list = append(s.list, e)
		s.known[n] = i
	}
	return &s.list[i]
}

func (p *patcher) change(owner zones.Name, changes []zones.RRsetChange) error {
	e := p.names.of(owner)
	node, err := merge(e.node(), changes)
	if err != nil {
		return err
	}
	if had, has := e.node().Has(zones.TypeNSEC), node.Has(zones.TypeNSEC); had != has {
		key := owner.AppendRelativeKey(nil, p.apex)
		if has {
			p.denial.nsec = p.denial.nsec.insert(key)
		} else {
			p.denial.nsec = p.denial.nsec.remove(key)
		}
	}
	below := owner != p.apex
	if !e.gone {
		p.next.count(e.entry, below, -1)
	}
	e.packed = node.Packed()
	e.cut = below && node.Has(zones.TypeNS)
	was := e.gone
	e.gone = node.IsEmpty() && e.children == 0
	if node.IsEmpty() && !below {
		return ErrNoApex
	}
	if !e.gone {
		p.next.count(e.entry, below, +1)
	}
	switch {
	case was && !e.gone:
		p.next.deepest = max(p.next.deepest, uint8(owner.Labels()-p.apex.Labels()))
		p.appear(owner.Parent())
	case !was && e.gone:
		p.vanish(owner.Parent())
	}
	return nil
}

// appear says to n, and on to its ancestors while they are new, that there is one name more below it.
func (p *patcher) appear(n zones.Name) {
	for ; n.IsAtOrBelow(p.apex); n = n.Parent() {
		e := p.names.of(n)
		e.children++
		if !e.gone {
			return
		}
		e.gone = false // an empty non-terminal
		p.next.count(e.entry, true, +1)
	}
}

// vanish says to n, and on to its ancestors while nothing is left of them, that there is one name less below it.
func (p *patcher) vanish(n zones.Name) {
	for ; n.IsAtOrBelow(p.apex); n = n.Parent() {
		e := p.names.of(n)
		e.children--
		if e.children > 0 || len(e.packed) > 0 {
			return
		}
		e.gone = true
		p.next.count(e.entry, true, -1)
	}
}

func (p *patcher) changeHashed(owner zones.Name, changes []zones.RRsetChange) error {
	e := p.hashed.of(owner)
	node, err := merge(e.node(), changes)
	if err != nil {
		return err
	}
	if had, has := e.node().Has(zones.TypeNSEC3), node.Has(zones.TypeNSEC3); had != has {
		key := owner.AppendRelativeKey(nil, p.apex)
		if has {
			p.denial.nsec3 = p.denial.nsec3.insert(key)
		} else {
			p.denial.nsec3 = p.denial.nsec3.remove(key)
		}
	}
	e.packed, e.gone = node.Packed(), node.IsEmpty()
	return nil
}

// merge returns the node after the changes, each of which must begin with what the node has.
func merge(node zones.Node, changes []zones.RRsetChange) (zones.Node, error) {
	sets := slices.Collect(node.RRsets())
	for _, c := range changes {
		i := slices.IndexFunc(sets, func(s zones.RRset) bool { return s.Key == c.Key })
		switch {
		case (i < 0) != c.Before.IsZero(), i >= 0 && (sets[i].TTL != c.Before.TTL || !sets[i].SameRData(c.Before)):
			return zones.Node{}, fmt.Errorf("%s: %w", c.Key, ErrMismatch)
		case c.After.IsZero():
			if i >= 0 {
				sets = slices.Delete(sets, i, i+1)
			}
		case c.After.Key != c.Key:
			return zones.Node{}, fmt.Errorf("%s: %w", c.Key, ErrMismatch)
		case i < 0:
			sets = append(sets, c.After)
		default:
			sets[i] = c.After
		}
	}
	size := 0
	for _, s := range sets {
		size += zones.PackedHeader + s.Size()
	}
	if size > pageMax/2 {
		return zones.Node{}, ErrTooLarge
	}
	return zones.NewNode(node.Owner, sets), nil
}

func (p *patcher) done() (*Zone, error) {
	z := p.next
	var err error
	if z.names, err = z.names.apply(p.names.list); err != nil {
		return nil, fmt.Errorf("patch %s: %w", p.apex, err)
	}
	if p.denial.hashed, err = p.denial.hashed.apply(p.hashed.list); err != nil {
		return nil, fmt.Errorf("patch %s: %w", p.apex, err)
	}
	z.denial = nil
	if !p.denial.empty() {
		z.denial = &p.denial
	}
	z.apex = unsafe.SliceData(z.names.find(p.apex))
	return &z, nil
}
