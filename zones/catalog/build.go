package catalog

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"balefire/zones"
)

// maxGroup bounds a group's name, in octets: one character-string, since not all consumers join several.
const maxGroup = 255

// Errors of New.
var (
	ErrLabel  = errors.New("a member's label must have 1 to 63 octets, lower-case letters at that")
	ErrTwice  = errors.New("listed twice")
	ErrGroup  = errors.New("a group's name must have 1 to 255 octets")
	ErrGroups = errors.New("the groups of a member must fit one RRset of a message")
)

// maxGroups bounds the groups of a member in octets, so that they fit a message with what else is in it.
const maxGroups = 60_000

// New makes a catalog of members.
func New(apex zones.Name, members []Member) (*Catalog, error) {
	c := &Catalog{Apex: apex, members: make(map[zones.Name]Member, len(members))}
	labels := make(map[string]bool, len(members))
	zonesName, err := apex.Child(zonesLabel)
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", apex, err)
	}
	for _, m := range members {
		if err := m.check(zonesName); err != nil {
			return nil, fmt.Errorf("member %s: %w", m.Zone, err)
		}
		if _, twice := c.members[m.Zone]; twice {
			return nil, fmt.Errorf("member %s: %w", m.Zone, ErrTwice)
		}
		if labels[m.Label] {
			return nil, fmt.Errorf("label %q of member %s: %w", m.Label, m.Zone, ErrTwice)
		}
		labels[m.Label] = true
		m.Groups = sorted(m.Groups)
		c.members[m.Zone] = m
	}
	return c, nil
}

func (m *Member) check(zonesName zones.Name) error {
	if m.Zone == "" {
		return errors.New("no zone")
	}
	node, err := zonesName.Child(m.Label)
	if err != nil || m.Label != strings.ToLower(m.Label) || node.Label() != m.Label {
		return fmt.Errorf("label %q: %w", m.Label, ErrLabel)
	}
	if _, err := node.Child(groupLabel); err != nil { // the longest property
		return fmt.Errorf("label %q: %w", m.Label, err)
	}
	octets := 0
	for _, g := range m.Groups {
		if g == "" || len(g) > maxGroup {
			return fmt.Errorf("group %q: %w", g, ErrGroup)
		}
		octets += len(g) + 12
	}
	if octets > maxGroups {
		return ErrGroups
	}
	return nil
}

// MemberLabel makes a label for a member, which is always the same for the same zone, in the same life of it: born is what is
// another each time that the zone is made, so that consumers begin anew with it.
func MemberLabel(zone zones.Name, born string) string {
	h := sha256.New()
	_, _ = h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(zone))))
	_, _ = h.Write([]byte(zone))
	_, _ = h.Write([]byte(born))
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:16]))
}

// Timing are the numbers of a catalog's SOA that tell its secondaries how to follow it, in seconds.
type Timing struct{ Refresh, Retry, Expire uint32 }

// DefaultTiming has secondaries that missed a NOTIFY look every quarter of an hour, and keep what they have for a month.
var DefaultTiming = Timing{Refresh: 900, Retry: 300, Expire: 2_592_000}

// nobody is the name server that the RFC recommends for catalogs (RFC 9432 §4): there is nothing to be asked.
var nobody = zones.MustParseName("invalid.")

// RRsets returns the catalog's zone, in canonical order.
func (c *Catalog) RRsets(serial zones.Serial, timing Timing) ([]zones.RRset, error) {
	soa := append(append([]byte(nobody), nobody...), make([]byte, 20)...)
	for i, v := range []uint32{uint32(serial), timing.Refresh, timing.Retry, timing.Expire, 0} {
		binary.BigEndian.PutUint32(soa[len(soa)-20+4*i:], v)
	}
	version, err := c.Apex.Child(versionLabel)
	if err != nil {
		return nil, err
	}
	all := make([]zones.RRset, 0, 3+len(c.members))
	var errs []error
	add := func(owner zones.Name, t zones.Type, rdatas ...[]byte) {
		s, err := zones.NewRRset(owner, t, 0, rdatas...)
		errs = append(errs, err)
		all = append(all, s)
	}
	add(c.Apex, zones.TypeSOA, soa)
	add(c.Apex, zones.TypeNS, []byte(nobody))
	add(version, zones.TypeTXT, appendText(nil, Version))
	for _, m := range c.members {
		sets, err := c.rrsets(m)
		errs = append(errs, err)
		all = append(all, sets...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("catalog %s: %w", c.Apex, err)
	}
	slices.SortFunc(all, zones.CompareRRsets)
	return all, nil
}

// rrsets are those of a member.
func (c *Catalog) rrsets(m Member) ([]zones.RRset, error) {
	nodeName, err := c.node(m.Label)
	if err != nil {
		return nil, err
	}
	all := make([]zones.RRset, 0, 3)
	var errs []error
	add := func(property string, t zones.Type, rdatas ...[]byte) {
		owner, err := nodeName, error(nil)
		if property != "" {
			owner, err = nodeName.Child(property)
			errs = append(errs, err)
		}
		s, err := zones.NewRRset(owner, t, 0, rdatas...)
		errs = append(errs, err)
		all = append(all, s)
	}
	add("", zones.TypePTR, []byte(m.Zone))
	if len(m.Groups) > 0 {
		add(groupLabel, zones.TypeTXT, bytesOf(m.Groups)...)
	}
	if m.NewOwner != "" {
		add(cooLabel, zones.TypePTR, []byte(m.NewOwner))
	}
	return all, errors.Join(errs...)
}

func (c *Catalog) node(label string) (zones.Name, error) {
	name, err := c.Apex.Child(zonesLabel)
	if err == nil {
		name, err = name.Child(label)
	}
	return name, err
}

// Differences are the operations that make a zone with the RRsets given, in any order, what the catalog says, the SOA apart; none when it says
// that already. Whatever else the zone has is deleted. What is deleted comes first, so that no member is in the zone twice even if
// they are made one after the other.
func (c *Catalog) Differences(have iter.Seq[zones.RRset]) ([]zones.Op, error) {
	want, err := c.RRsets(0, DefaultTiming)
	if err != nil {
		return nil, err
	}
	type place struct {
		owner zones.Name
		key   zones.Key
	}
	missing := make(map[place]int, len(want)) // the index in want
	for i, s := range want {
		if s.Type != zones.TypeSOA {
			missing[place{s.Owner, s.Key}] = i
		}
	}
	var ops []zones.Op
	same := make([]bool, len(want))
	for s := range have {
		i, wanted := missing[place{s.Owner, s.Key}]
		switch {
		case s.Type == zones.TypeSOA:
		case !wanted:
			ops = append(ops, zones.OpDeleteRRset{Owner: zones.Name(strings.Clone(string(s.Owner))), Type: s.Type})
		case want[i].Equal(s):
			same[i] = true
		}
	}
	for i, s := range want {
		if s.Type != zones.TypeSOA && !same[i] {
			ops = append(ops, zones.OpPutRRset{RRset: s})
		}
	}
	return ops, nil
}

// Labels returns how the members of a zone that may be a catalog are called in it, whatever else is wrong with it. Of several labels for one zone
// any is returned.
func Labels(apex zones.Name, have iter.Seq[zones.RRset]) map[zones.Name]string {
	labels := make(map[zones.Name]string)
	zonesName, err := apex.Child(zonesLabel)
	if err != nil {
		return labels
	}
	for s := range have {
		if s.Type != zones.TypePTR || !s.Owner.IsBelow(zonesName) || s.Owner.Labels() != zonesName.Labels()+1 {
			continue
		}
		if target, ok := zones.Target(zones.TypePTR, s.First()); ok && s.Len() == 1 {
			labels[clone(target)] = strings.Clone(s.Owner.Label())
		}
	}
	return labels
}
