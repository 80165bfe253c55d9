package catalogzones

import (
	"context"
	"errors"
	"slices"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/catalog"
)

// Report is how a catalog and what is hosted compare, for people.
type Report struct {
	Info store.ZoneInfo
	// Problem says why the catalog is not acted upon; "" when it is.
	Problem string
	// Members are what the catalog lists, by zone.
	Members []Listed
	// Pending is how many members, or zones that are to be members, are not yet as they should be.
	Pending int
	// Clashes is how many members belong to something else.
	Clashes int
}

// Listed is a member of a catalog.
type Listed struct {
	catalog.Member
	// Pending is what is to be done to the zone; 0 when it is as it should be.
	Pending catalog.Action
	// Owner is, of a Clash, the catalog that the zone was made for; "" when it was made otherwise.
	Owner zones.Name
}

// Show compares a catalog with what is hosted, without doing anything. It works on any node that holds the catalog's partition. The error is
// store.ErrNoZone when there is no such zone, and ErrNoCatalog when it is none.
func (k *Keeper) Show(ctx context.Context, apex zones.Name) (r Report, err error) {
	content, err := k.opts.Source.Content(ctx, apex)
	if err != nil {
		return r, err
	}
	r.Info = content.Info
	role := content.Info.Settings.Catalog.Role
	if role == zones.NoCatalog {
		return r, ErrNoCatalog
	}
	if role == zones.CatalogProduced {
		ops, _, err := k.differences(ctx, content, false)
		if err != nil {
			r.Problem = err.Error()
		}
		r.Pending = len(ops)
	}
	var c *catalog.Catalog
	if role == zones.CatalogProduced {
		c, err = catalog.Parse(apex, slices.Values(content.RRsets))
		if err != nil { // it is about to be made one
			return r, nil
		}
	} else if c, err = read(content); err != nil {
		r.Problem = err.Error()
		return r, nil
	}
	for _, m := range c.Members() {
		r.Members = append(r.Members, Listed{Member: m})
	}
	if role != zones.CatalogConsumed {
		return r, nil
	}
	have, err := k.hosted(ctx, apex, c, false)
	if err != nil {
		return r, err
	}
	for _, s := range catalog.Decide(c, content.Info.Settings.Primaries, have) {
		if s.Action == catalog.Clash {
			r.Clashes++
		} else {
			r.Pending++
		}
		at, ok := slices.BinarySearchFunc(r.Members, s.Zone, func(l Listed, zone zones.Name) int { return zones.Compare(l.Zone, zone) })
		if ok {
			r.Members[at].Pending, r.Members[at].Owner = s.Action, s.Before.Catalog
		}
	}
	return r, nil
}

// ErrNoCatalog is of a zone that is no catalog.
var ErrNoCatalog = errors.New("the zone is no catalog")
