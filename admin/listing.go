package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"balefire/store"
	"balefire/zones"
)

// defaultPage is how many entries a page has when the client says nothing.
const defaultPage = 100

// zonePage is a page of the list of zones.
type zonePage struct {
	Zones []zoneInfo `json:"zones"`
	Next  string     `json:"next,omitempty"`
	// Unavailable are partitions whose zones are not on the page, as no node of the region holds them just now.
	Unavailable []int32 `json:"unavailable_partitions,omitempty"`
}

// zoneOctets bounds what a zone takes of a peer's page: its name in presentation form, and the rest.
const zoneOctets = 2048

// getZones lists the zones of the namespace: those that are held here, and pages of other nodes, merged.
func (s *Server) getZones(w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r, "prefix", "after", "limit", "partitions")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, defaultPage, s.opts.Limits.Page)
	if err != nil {
		return err
	}
	var after zones.Name
	if query.Has("after") {
		if after, err = zones.ParseName(query.Get("after")); err != nil {
			return badParameter("?after", "%v", err)
		}
	}
	wanted, err := s.partitionsOf(query)
	if err != nil {
		return err
	}
	own, others := s.divide(wanted)
	var merged merger
	if len(own) > 0 {
		page, err := s.opts.Reader.ZonesIn(own, query.Get("prefix"), after, limit)
		if err != nil {
			return err
		}
		merged.addOwn(page)
	}
	answer := zonePage{Unavailable: others}
	if !s.relayed(r) {
		answer.Unavailable = s.spread(others, func(of share) []int32 {
			page, err := s.askZones(r, of, query, limit)
			if err == nil {
				err = merged.add(page)
			}
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					s.log.Debug().Err(err).Str("peer", of.peer.ID).Msg("no page of zones")
				}
				return of.partitions
			}
			return page.Unavailable
		})
	}
	if err := r.Context().Err(); err != nil {
		return err
	}
	answer.Zones, answer.Next = merged.page(limit)
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) askZones(r *http.Request, of share, query url.Values, limit int) (page zonePage, err error) {
	asked := url.Values{"limit": {strconv.Itoa(limit)}, "partitions": {partitionsText(of.partitions)}}
	for _, name := range []string{"prefix", "after"} {
		if query.Has(name) {
			asked[name] = query[name]
		}
	}
	at := &url.URL{Path: "/v1/zones", RawQuery: asked.Encode()}
	most := int64(limit+1)*zoneOctets + maxNamed*16
	a, err := s.askPeer(r, of.peer, s.opts.Limits.PeerWait, most, http.MethodGet, at, nil)
	if err == nil {
		err = a.json(&page)
	}
	return page, err
}

// merger makes one page of several, each of which is whole up to its next. Safe for concurrent use.
type merger struct {
	mu    sync.Mutex
	zones []listedZone
	bound zones.Name // up to here all pages are whole; "" when to the end
}

type listedZone struct {
	apex zones.Name
	info zoneInfo
}

func (m *merger) addOwn(page store.ZonePage) {
	listed := make([]listedZone, len(page.Zones))
	for i, z := range page.Zones {
		listed[i] = listedZone{z.Apex, showZone(z)}
	}
	m.merge(listed, page.Next)
}

// add takes a peer's page, or none of it.
func (m *merger) add(page zonePage) error {
	listed := make([]listedZone, len(page.Zones))
	for i, z := range page.Zones {
		apex, err := zones.ParseName(z.Name)
		if err != nil {
			return fmt.Errorf("a zone of the page: %w", err)
		}
		listed[i] = listedZone{apex, z}
	}
	var next zones.Name
	if page.Next != "" {
		var err error
		if next, err = zones.ParseName(page.Next); err != nil {
			return fmt.Errorf("the end of the page: %w", err)
		}
	}
	m.merge(listed, next)
	return nil
}

func (m *merger) merge(listed []listedZone, next zones.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zones = append(m.zones, listed...)
	if next != "" && (m.bound == "" || zones.Compare(next, m.bound) < 0) {
		m.bound = next
	}
}

// page returns the first zones, and the name after which the next page begins; "" at the end.
func (m *merger) page(limit int) (page []zoneInfo, next string) {
	slices.SortFunc(m.zones, func(a, b listedZone) int { return zones.Compare(a.apex, b.apex) })
	page, next = make([]zoneInfo, 0, min(limit, len(m.zones))), m.bound.String()
	for _, z := range m.zones {
		if m.bound != "" && zones.Compare(z.apex, m.bound) > 0 {
			break
		}
		if len(page) == limit {
			return page, page[limit-1].Name
		}
		page = append(page, z.info)
	}
	return page, next
}
