package hotzone

import (
	"balefire/zones"
)

// Apex implements zones.View.
func (z *Zone) Apex() zones.Node {
	e, _ := readEntry(z.apexEntry())
	return e.node()
}

// Find implements zones.View. It does not allocate; its only error is ErrNotInZone.
func (z *Zone) Find(n zones.Name, at *zones.Location) error {
	*at = zones.Location{}
	apexLen := int(z.apexEntry()[4])
	if b := z.names.find(n); b != nil {
		e, _ := readEntry(b)
		at.Exact = true
		at.Node = e.node()
		at.Encloser = at.Node
		if z.cuts == 0 || len(n) == apexLen {
			return nil
		}
		if e.cut {
			at.Cut = at.Node
		}
		if len(n)-1-int(n[0]) != apexLen {
			z.cutAbove(n, apexLen, at)
		}
		return nil
	}
	if !n.IsBelow(z.apexName()) {
		return ErrNotInZone
	}
	z.enclose(n, apexLen, at)
	return nil
}

// cutAbove puts the topmost delegation between the apex and n, both excluded, into at.Cut, if there is
// one. n exists.
func (z *Zone) cutAbove(n zones.Name, apexLen int, at *zones.Location) {
	for i := 1 + int(n[0]); len(n)-i > apexLen; i += 1 + int(n[i]) {
		if e, _ := readEntry(z.names.find(n[i:])); e.cut { // it is there: what exists is closed upwards
			at.Cut = e.node()
		}
	}
}

// enclose finds the closest encloser of n, which is below the apex and does not exist, and the cut.
// What exists is closed upwards, so the deepest ancestor that does is found by halving: a handful of
// look-ups for 127 labels.
func (z *Zone) enclose(n zones.Name, apexLen int, at *zones.Location) {
	var starts [zones.MaxLabels + 1]uint8 // where n's labels begin, and last where the apex does
	count := 0
	for i := 0; len(n)-i > apexLen; i += 1 + int(n[i]) {
		starts[count] = uint8(i)
		count++
	}
	starts[count] = uint8(len(n) - apexLen)
	found := z.apexEntry()
	low, high := 1, count // the suffix at starts[high] exists, none before starts[low] does
	if deepest := int(z.deepest); count > deepest {
		low = max(low, count-deepest)
	}
	for low < high {
		mid := (low + high) / 2
		if b := z.names.find(n[starts[mid]:]); b != nil {
			found, high = b, mid
		} else {
			low = mid + 1
		}
	}
	e, _ := readEntry(found)
	at.Encloser = e.node()
	if z.cuts == 0 || high == count {
		return
	}
	if e.cut {
		at.Cut = at.Encloser
	}
	if high < count-1 {
		z.cutAbove(n[starts[high]:], apexLen, at)
	}
}

// FindNSEC implements zones.View. It does not allocate.
func (z *Zone) FindNSEC(n zones.Name) (zones.Node, error) {
	apex := z.apexName()
	if !n.IsAtOrBelow(apex) {
		return zones.Node{}, ErrNotInZone
	}
	if z.denial == nil {
		return zones.Node{}, nil
	}
	var buf [maxKey]byte
	key, ok := z.denial.nsec.floor(n.AppendRelativeKey(buf[:0], apex))
	if !ok {
		return zones.Node{}, nil
	}
	return nodeOf(&z.names, key, apex), nil
}

// FindNSEC3 implements zones.View. It does not allocate.
func (z *Zone) FindNSEC3(n zones.Name) (zones.Node, error) {
	apex := z.apexName()
	if !n.IsAtOrBelow(apex) {
		return zones.Node{}, ErrNotInZone
	}
	if z.denial == nil {
		return zones.Node{}, nil
	}
	var buf [maxKey]byte
	key, ok := z.denial.nsec3.floor(n.AppendRelativeKey(buf[:0], apex))
	if !ok {
		if key, ok = z.denial.nsec3.last(); !ok { // before the first comes the last: a ring
			return zones.Node{}, nil
		}
	}
	return nodeOf(&z.denial.hashed, key, apex), nil
}

// maxKey bounds a sort key: two octets for each of a name's.
const maxKey = 2 * zones.MaxNameLen

// nodeOf returns the node whose sort key is key.
func nodeOf(t *table, key []byte, apex zones.Name) zones.Node {
	var buf [zones.MaxNameLen]byte
	at := len(buf) - len(apex)
	copy(buf[at:], apex)
	for len(key) > 0 { // labels come from the apex down; zones.NameFromKey, but without allocating
		var label [zones.MaxLabelLen]byte
		n := 0
		for ; key[0] != 0; key = key[1:] {
			c := key[0]
			if c == 1 { // 1 1 is the octet 0, 1 2 the octet 1
				key = key[1:]
				c = key[0] - 1
			}
			label[n] = c
			n++
		}
		key = key[1:]
		at -= n + 1
		buf[at] = byte(n)
		copy(buf[at+1:], label[:n])
	}
	e, _ := readEntry(t.find(zones.NameView(buf[at:])))
	return e.node()
}
