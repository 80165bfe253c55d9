package main

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"

	"balefire/replication/catalogzones"
	"balefire/zones"
)

// TestListedZones: what a node says of zones is read as it is, but for settings that are not about catalogs; and a list that is cut, or makes no sense, is none.
func TestListedZones(t *testing.T) {
	primaries := []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.1:53"), Key: zones.MustParseName("key.")}}
	all := []catalogzones.Zone{
		{Apex: zones.Root, Generation: 1 << 40},
		{Apex: zones.MustParseName(`a\000b.test.`), Settings: zones.ZoneSettings{Groups: []string{"g", "h"}, NewOwner: zones.MustParseName("c."), Notify: primaries, Frozen: true}},
		{Apex: zones.MustParseName("m.test."), Settings: zones.ZoneSettings{Primaries: primaries, Member: zones.Membership{Catalog: zones.MustParseName("c."), Label: "l\xff"}}},
		{Apex: zones.MustParseName("c."), Settings: zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: []string{"g"}}}},
	}
	var list []byte
	for _, z := range all {
		list = appendListed(list, z)
	}
	list = append(list, 0)
	all[1].Settings.Notify, all[1].Settings.Frozen = nil, false
	read := func(list []byte) (got []catalogzones.Zone, err error) {
		for r := bytes.NewReader(list); ; {
			z, more, err := readListed(r)
			if err != nil || !more {
				return got, err
			}
			got = append(got, z)
		}
	}
	if got, err := read(list); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("%+v, %v; want %+v", got, err, all)
	}
	for n := range list {
		if got, err := read(list[:n]); err == nil {
			t.Errorf("%d octets of %d are read as %+v", n, len(list), got)
		}
	}
	large := appendListed(nil, all[0])
	large[len(zones.Root)+9] = 1 // the highest octet of the state's length
	for what, bad := range map[string][]byte{"a name that is none": {2, 1, 'a', 0}, "a state that is too large": large} {
		if got, err := read(bad); err == nil {
			t.Errorf("%s: read as %+v", what, got)
		}
	}
}
