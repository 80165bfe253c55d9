package store

import (
	"encoding/binary"
	"fmt"
	"sort"

	"balefire/store/hotzone"
	"balefire/zones"
)

// coldView answers from Badger, at one position. It is for one goroutine, and lives until its session ends.
type coldView struct {
	session
	apex zones.Name
	z    zoneState
	node zones.Node // the apex node

	whole *hotzone.Zone // all of it, when it is small; nil otherwise
}

// A small zone is read whole for each question: that is one scan where single names take several, and what was read is known to be all,
// by its number and digest. Of larger ones only what is needed is read.
const (
	smallRRsets = 32
	smallOctets = 4 << 10
)

var _ zones.View = (*coldView)(nil)

// openCold opens a view of a zone at the published position; nil when the zone is not there.
func (p *Partition) openCold(apex zones.Name) (v *coldView, err error) {
	r, err := p.begin()
	if err != nil {
		return nil, err
	}
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("reading panicked: %v: %w", caught, ErrCorrupt)
		}
		if v == nil || err != nil {
			v = nil
			r.end()
		}
	}()
	z, ok, err := readZone(r.reader, apex)
	if err != nil || !ok {
		return nil, err
	}
	if err := z.withheld(); err != nil {
		return nil, err
	}
	v = &coldView{session: r, apex: apex, z: z}
	if z.RRsets <= p.store.readWhole && z.Octets <= smallOctets {
		r.confine(dataPrefix(nil, z.generation))
		if v.whole, err = readAll(r.reader, apex, z); err != nil {
			return nil, err
		}
		v.node = v.whole.Apex()
	} else if v.node, err = readNode(r.reader, z.generation, spaceNames, apex, apex); err != nil {
		return nil, err
	}
	if !v.node.Has(zones.TypeSOA) {
		return nil, fmt.Errorf("zone %s has no SOA: %w", apex, ErrCorrupt)
	}
	return v, nil
}

func (v *coldView) Apex() zones.Node { return v.node }

// fail passes an error on, and turns a panic of Badger's on damaged files into one.
func (v *coldView) fail(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("reading panicked: %v: %w", r, ErrCorrupt)
	}
	if *err != nil {
		*err = v.p.suspect(v.apex, *err)
	}
}

// Find implements zones.View.
func (v *coldView) Find(n zones.Name, at *zones.Location) (err error) {
	defer v.fail(&err)
	if v.whole != nil {
		return v.whole.Find(n, at)
	}
	*at = zones.Location{}
	if !n.IsAtOrBelow(v.apex) {
		return fmt.Errorf("%s is not in zone %s", n, v.apex)
	}
	key := n.AppendRelativeKey(dataPrefix(nil, v.z.generation, spaceNames), v.apex)
	// ends[i] is where the key of the ancestor with i labels below the apex ends.
	ends := []int{dataPrefixLen}
	for i := dataPrefixLen; i < len(key); i++ {
		if key[i] == 0 {
			ends = append(ends, i+1)
		}
	}
	// A name exists when some key begins with its own; then all its ancestors exist. So the closest encloser
	// can be searched by halves: the first that does not exist follows it.
	var failed error
	missing := sort.Search(len(ends)-1, func(i int) bool {
		prefix := key[:ends[i+1]]
		found, err := v.first(prefix, after(prefix))
		if err != nil {
			failed = err
		}
		return found == nil
	})
	if failed != nil {
		return failed
	}
	depth := len(ends) - 1
	owner := func(i int) zones.Name {
		name := n
		for range depth - i {
			name = name.Parent()
		}
		return name
	}
	if at.Encloser, err = v.nodeOf(owner(missing)); err != nil {
		return err
	}
	if missing == depth {
		at.Exact, at.Node = true, at.Encloser
	}
	for i := 1; i <= missing; i++ {
		ns := appendType(append(key[:ends[i]:ends[i]], 0), zones.Key{Type: zones.TypeNS})
		_, ok, err := v.get(ns)
		if err != nil {
			return err
		}
		if ok {
			at.Cut, err = v.nodeOf(owner(i))
			return err
		}
	}
	return nil
}

// nodeOf reads the node of a name.
func (v *coldView) nodeOf(owner zones.Name) (zones.Node, error) {
	if owner == v.apex {
		return v.node, nil
	}
	return readNode(v.reader, v.z.generation, spaceNames, owner, v.apex)
}

// FindNSEC implements zones.View.
func (v *coldView) FindNSEC(n zones.Name) (node zones.Node, err error) {
	defer v.fail(&err)
	if v.whole != nil {
		return v.whole.FindNSEC(n)
	}
	owner, err := v.lastAtOrBefore(n, spaceNames, zones.TypeNSEC)
	if err != nil || owner == "" {
		return zones.Node{}, err
	}
	return readNode(v.reader, v.z.generation, spaceNames, owner, v.apex)
}

// FindNSEC3 implements zones.View.
func (v *coldView) FindNSEC3(n zones.Name) (node zones.Node, err error) {
	defer v.fail(&err)
	if v.whole != nil {
		return v.whole.FindNSEC3(n)
	}
	if !v.z.Hashed {
		return zones.Node{}, nil
	}
	owner, err := v.lastAtOrBefore(n, spaceHashed, zones.TypeNSEC3)
	if err == nil && owner == "" { // around from the first to the last
		owner, err = v.lastAtOrBefore("", spaceHashed, zones.TypeNSEC3)
	}
	if err != nil || owner == "" {
		return zones.Node{}, err
	}
	return readNode(v.reader, v.z.generation, spaceHashed, owner, v.apex)
}

// lastAtOrBefore returns the last owner at or before n ("" = the end) that has an RRset of type t; "" when
// there is none.
func (v *coldView) lastAtOrBefore(n zones.Name, space byte, t zones.Type) (owner zones.Name, err error) {
	start := dataPrefix(nil, v.z.generation, space)
	from := after(start)
	if n != "" {
		from = binary.BigEndian.AppendUint32(ownerPrefix(nil, v.z.generation, space, n, v.apex), 0xffffffff)
	}
	err = v.scanBack(from, start, func(e entry) (bool, error) {
		_, _, _, k, err := splitDataKey(e.key)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		if k.Type != t {
			return true, nil
		}
		owner, err = ownerOfKey(e.key, v.apex)
		return false, err
	})
	return owner, err
}
