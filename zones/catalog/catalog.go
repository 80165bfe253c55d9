// Package catalog reads and makes catalog zones (RFC 9432): zones whose content is a list of zones, for other servers to serve. It knows the content
// alone: neither how catalogs are transferred, nor what is done with their members.
//
// What holds:
//   - A catalog that breaks a rule of the RFC is none: nothing of it is used, and a *Broken says why.
//   - What Build makes, Parse reads as the same, and Differences lead from any zone to what the catalog says.
//   - A member's zone is removed, or taken over, only by what its owner says (Decide).
package catalog

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"balefire/zones"
)

// Version is the version of the schema (RFC 9432 §4.2.1).
const Version = "2"

// Labels of the schema.
const (
	versionLabel = "version"
	zonesLabel   = "zones"
	groupLabel   = "group"
	cooLabel     = "coo"
)

// Member is a zone that a catalog lists.
type Member struct {
	Zone zones.Name
	// Label tags the member within the catalog. Another label for the same zone says that the zone is to begin anew (RFC 9432 §5.4).
	Label string
	// Groups say to those who know them how the zone is to be treated (RFC 9432 §4.3.2); sorted, without duplicates.
	Groups []string
	// NewOwner is the catalog that may take the member over (RFC 9432 §4.3.1); "" for none.
	NewOwner zones.Name
}

// Equal reports whether both say the same.
func (m Member) Equal(other Member) bool {
	return m.Zone == other.Zone && m.Label == other.Label && m.NewOwner == other.NewOwner && slices.Equal(m.Groups, other.Groups)
}

// Catalog is what a catalog zone says. It is not changed once it is made.
type Catalog struct {
	Apex    zones.Name
	members map[zones.Name]Member
}

// Len returns the number of members.
func (c *Catalog) Len() int { return len(c.members) }

// Member returns the member that a zone is.
func (c *Catalog) Member(zone zones.Name) (Member, bool) {
	m, ok := c.members[zone]
	return m, ok
}

// Members returns all members, by the canonical order of their zones.
func (c *Catalog) Members() []Member {
	all := make([]Member, 0, len(c.members))
	for _, m := range c.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return zones.Compare(a.Zone, b.Zone) })
	return all
}

// Broken says why a zone is no catalog, or not one that may be processed (RFC 9432 §5.1). What it said before stays in force.
type Broken struct {
	Owner  zones.Name
	Reason string
}

func (b *Broken) Error() string { return fmt.Sprintf("broken catalog zone: %s: %s", b.Owner, b.Reason) }

// node is a member node while the zone is read.
type node struct {
	zone     zones.Name
	groups   []string
	newOwner zones.Name
}

// Parse reads the catalog zone at apex from its RRsets, in any order. What is not part of the schema is ignored (RFC 9432 §4.2). The error is a
// *Broken.
func Parse(apex zones.Name, rrsets iter.Seq[zones.RRset]) (*Catalog, error) {
	versionName, err := apex.Child(versionLabel)
	if err != nil {
		return nil, &Broken{apex, "its name is too long for a catalog"}
	}
	zonesName, err := apex.Child(zonesLabel)
	if err != nil {
		return nil, &Broken{apex, "its name is too long for a catalog"}
	}
	nodes := make(map[string]*node)
	of := func(label string) *node {
		n := nodes[label]
		if n == nil {
			n = &node{}
			nodes[strings.Clone(label)] = n // RRsets may be views of memory that goes
		}
		return n
	}
	hasVersion := false
	for s := range rrsets {
		switch {
		case s.Owner == versionName && s.Type == zones.TypeTXT:
			if broken := checkVersion(s); broken != nil {
				return nil, broken
			}
			hasVersion = true
		case s.Owner.IsBelow(zonesName):
			if broken := readMember(s, zonesName, of); broken != nil {
				return nil, broken
			}
		}
	}
	if !hasVersion {
		return nil, &Broken{versionName, "there is no version"}
	}
	c := &Catalog{Apex: apex, members: make(map[zones.Name]Member, len(nodes))}
	for label, n := range nodes {
		if n.zone == "" {
			continue // properties of nothing
		}
		if other, twice := c.members[n.zone]; twice {
			owner, _ := zonesName.Child(max(label, other.Label))
			return nil, &Broken{owner, fmt.Sprintf("%s is listed twice", n.zone)}
		}
		c.members[n.zone] = Member{Zone: n.zone, Label: label, Groups: sorted(n.groups), NewOwner: n.newOwner}
	}
	return c, nil
}

func checkVersion(s zones.RRset) *Broken {
	if s.Len() != 1 {
		return &Broken{s.Owner, "there are several versions"}
	}
	if version, ok := text(s.First()); !ok || version != Version {
		return &Broken{s.Owner, fmt.Sprintf("version %q is not known here", version)}
	}
	return nil
}

// readMember reads an RRset below zones.
func readMember(s zones.RRset, zonesName zones.Name, of func(string) *node) *Broken {
	switch s.Owner.Labels() - zonesName.Labels() {
	case 1:
		if s.Type != zones.TypePTR {
			return nil
		}
		if s.Len() != 1 { // RFC 9432 §4.1
			return &Broken{s.Owner, "more than one PTR record for a member"}
		}
		target, ok := zones.Target(zones.TypePTR, s.First())
		if !ok {
			return &Broken{s.Owner, "its PTR record can't be read"}
		}
		of(s.Owner.Label()).zone = clone(target)
	case 2:
		label := s.Owner.Parent().Label()
		switch property := s.Owner.Label(); {
		case property == cooLabel && s.Type == zones.TypePTR:
			if s.Len() != 1 { // RFC 9432 §4.3.1
				return &Broken{s.Owner, "more than one PTR record for a new owner"}
			}
			target, ok := zones.Target(zones.TypePTR, s.First())
			if !ok {
				return &Broken{s.Owner, "its PTR record can't be read"}
			}
			of(label).newOwner = clone(target)
		case property == groupLabel && s.Type == zones.TypeTXT:
			for rdata := range s.RDatas() {
				group, ok := text(rdata)
				if !ok {
					return &Broken{s.Owner, "its TXT record can't be read"}
				}
				if group != "" {
					of(label).groups = append(of(label).groups, group)
				}
			}
		}
	}
	return nil
}

// clone gives a name memory of its own.
func clone(n zones.Name) zones.Name { return zones.Name(strings.Clone(string(n))) }

// text returns the character-strings of a TXT record, joined.
func text(rdata []byte) (string, bool) {
	var b strings.Builder
	for len(rdata) > 0 {
		n := 1 + int(rdata[0])
		if n > len(rdata) {
			return "", false
		}
		b.Write(rdata[1:n])
		rdata = rdata[n:]
	}
	return b.String(), true
}

// appendText appends the RDATA of a TXT record, in as few character-strings as it takes.
func appendText(dst []byte, s string) []byte {
	for {
		n := min(len(s), 255)
		dst = append(append(dst, byte(n)), s[:n]...)
		if s = s[n:]; s == "" {
			return dst
		}
	}
}

func sorted(texts []string) []string {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	return slices.Compact(texts)
}

// bytesOf are the RDATA of groups.
func bytesOf(groups []string) [][]byte {
	all := make([][]byte, len(groups))
	for i, g := range groups {
		all[i] = appendText(nil, g)
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}
