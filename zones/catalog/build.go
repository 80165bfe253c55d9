package catalog

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
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

// Ops are the operations that make the zone of one catalog that of another with the same apex, SOA and NS apart; none when they say the same.
func Ops(from, to *Catalog) ([]zones.Op, error) {
	// By owner and type, since a label may go from one member to another.
	type place struct {
		owner zones.Name
		t     zones.Type
	}
	before := make(map[place]zones.RRset)
	var deleted []place
	for _, m := range from.members {
		if after, ok := to.members[m.Zone]; ok && after.Equal(m) {
			continue
		}
		sets, err := from.rrsets(m)
		if err != nil {
			return nil, err
		}
		for _, s := range sets {
			before[place{s.Owner, s.Type}] = s
		}
	}
	var put []zones.RRset
	for _, m := range to.members {
		if old, ok := from.members[m.Zone]; ok && old.Equal(m) {
			continue
		}
		sets, err := to.rrsets(m)
		if err != nil {
			return nil, err
		}
		for _, s := range sets {
			at := place{s.Owner, s.Type}
			if old, ok := before[at]; !ok || !old.Equal(s) {
				put = append(put, s)
			}
			delete(before, at)
		}
	}
	for at := range before {
		deleted = append(deleted, at)
	}
	slices.SortFunc(deleted, func(a, b place) int {
		if c := zones.Compare(a.owner, b.owner); c != 0 {
			return c
		}
		return int(a.t) - int(b.t)
	})
	slices.SortFunc(put, zones.CompareRRsets)
	ops := make([]zones.Op, 0, len(deleted)+len(put))
	for _, at := range deleted {
		ops = append(ops, zones.OpDeleteRRset{Owner: at.owner, Type: at.t})
	}
	for _, s := range put {
		ops = append(ops, zones.OpPutRRset{RRset: s})
	}
	return ops, nil
}
