package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"balefire/replication/catalogzones"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/catalog"
	"balefire/zones/change"
)

// Catalog zones (RFC 9432): a zone is one by its settings, and kept as one by the node on duty. Here they are made, shown and ended.

// Catalogs is what is known of catalogs.
type Catalogs interface {
	// Show compares a catalog in a partition that this node holds with what is hosted. The error is store.ErrNoZone when there is no such
	// zone, and catalogzones.ErrNoCatalog when it is no catalog.
	Show(ctx context.Context, apex zones.Name) (catalogzones.Report, error)
	// Each calls fn for all catalogs of the namespace.
	Each(ctx context.Context, fn func(apex zones.Name, s zones.ZoneSettings)) error
}

// catalogInfo is a catalog in a list.
type catalogInfo struct {
	Name      string       `json:"name"`
	Role      string       `json:"role"`
	Groups    []string     `json:"groups,omitempty"`
	Primaries []remoteInfo `json:"primaries,omitempty"`
}

// catalogDetails is one catalog and what it lists.
type catalogDetails struct {
	catalogInfo
	Serial   uint32       `json:"serial"`
	Standing string       `json:"standing,omitempty"`
	Problem  string       `json:"problem,omitempty"`
	Listed   int          `json:"listed"`
	Pending  int          `json:"pending"`
	Clashes  int          `json:"clashes"`
	Members  []memberInfo `json:"members"`
	Next     string       `json:"next,omitempty"`
}

// memberInfo is a zone that a catalog lists.
type memberInfo struct {
	Zone     string   `json:"zone"`
	Label    string   `json:"label"`
	Groups   []string `json:"groups,omitempty"`
	NewOwner string   `json:"new_owner,omitempty"`
	// Of a consumed catalog: what is to be done to the zone, "clash" when that is nothing, since it belongs to something else; and to which catalog.
	Pending string `json:"pending,omitempty"`
	Owner   string `json:"owner,omitempty"`
}

// labelText is a label as text: other octets than those of names are escaped as Go does it.
func labelText(label string) string {
	quoted := strconv.QuoteToASCII(label)
	return quoted[1 : len(quoted)-1]
}

func showCatalog(apex zones.Name, s zones.ZoneSettings) catalogInfo {
	info := catalogInfo{Name: apex.String(), Role: s.Catalog.Role.String(), Groups: s.Catalog.Groups}
	if s.IsSecondary() {
		info.Primaries = showRemotes(s.Primaries)
	}
	return info
}

func (s *Server) catalogs() (Catalogs, error) {
	if s.opts.Catalogs == nil {
		return nil, notKnown("catalogs are not known here")
	}
	return s.opts.Catalogs, nil
}

// getCatalogs lists all catalogs.
func (s *Server) getCatalogs(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	known, err := s.catalogs()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	found := map[zones.Name]zones.ZoneSettings{}
	err = known.Each(r.Context(), func(apex zones.Name, s zones.ZoneSettings) {
		mu.Lock()
		defer mu.Unlock()
		found[apex] = s
	})
	if err != nil {
		p := newProblem(http.StatusServiceUnavailable, "unavailable", "not all catalogs are known just now: %v", err)
		p.retryAfter = 5
		return p
	}
	shown := make([]catalogInfo, 0, len(found))
	names := make([]zones.Name, 0, len(found))
	for apex := range found {
		names = append(names, apex)
	}
	slices.SortFunc(names, zones.Compare)
	for _, apex := range names {
		shown = append(shown, showCatalog(apex, found[apex]))
	}
	return writeJSON(w, http.StatusOK, struct {
		Catalogs []catalogInfo `json:"catalogs"`
	}{shown})
}

// getCatalog shows a catalog, and a page of what it lists.
func (s *Server) getCatalog(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	query, err := queryOf(r, "after", "limit")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, defaultPage, s.opts.Limits.Page)
	if err != nil {
		return err
	}
	report, err := s.catalogOf(r.Context(), apex)
	if err != nil {
		return err
	}
	members := report.Members
	if query.Has("after") {
		after, err := zones.ParseName(query.Get("after"))
		if err != nil {
			return badParameter("?after", "%v", err)
		}
		from, found := slices.BinarySearchFunc(members, after, func(l catalogzones.Listed, zone zones.Name) int { return zones.Compare(l.Zone, zone) })
		if found {
			from++
		}
		members = members[from:]
	}
	standing, _ := standingOf(report.Info)
	shown := catalogDetails{
		catalogInfo: showCatalog(apex, report.Info.Settings), Serial: uint32(report.Info.Serial), Standing: standing, Problem: report.Problem,
		Listed: len(report.Members), Pending: report.Pending, Clashes: report.Clashes, Members: []memberInfo{},
	}
	for i, m := range members {
		if i == limit {
			shown.Next = members[i-1].Zone.String()
			break
		}
		info := memberInfo{Zone: m.Zone.String(), Label: labelText(m.Label), Groups: m.Groups, NewOwner: m.NewOwner.String(), Owner: m.Owner.String()}
		if m.Pending != 0 {
			info.Pending = m.Pending.String()
		}
		shown.Members = append(shown.Members, info)
	}
	w.Header().Set("ETag", tag(report.Info.Serial))
	return writeJSON(w, http.StatusOK, shown)
}

// catalogOf reads a catalog; the error is a problem when it is none.
func (s *Server) catalogOf(ctx context.Context, apex zones.Name) (catalogzones.Report, error) {
	known, err := s.catalogs()
	if err != nil {
		return catalogzones.Report{}, err
	}
	if _, err := s.infoOf(apex); err != nil {
		return catalogzones.Report{}, err
	}
	report, err := known.Show(ctx, apex)
	switch {
	case errors.Is(err, store.ErrNoZone):
		err = noSuchZone(apex)
	case errors.Is(err, catalogzones.ErrNoCatalog):
		err = notCatalog(apex)
	}
	return report, err
}

func notCatalog(apex zones.Name) *problem {
	return newProblem(http.StatusConflict, "no-catalog", "zone %s is hosted, and is no catalog", apex)
}

// postCatalogs makes a catalog that lists zones of ours, or, with primaries, one whose members are hosted here.
func (s *Server) postCatalogs(w http.ResponseWriter, r *http.Request) error {
	d, _, err := s.demandsOf(r, zones.Root)
	if err != nil {
		return err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return err
	}
	f := &form{}
	o := f.object(body)
	v, ok := o.required("name")
	apex, named := o.name(v, ok, zones.Root)
	if reason := o.reason(change.MaxReason); reason != "" {
		d.reason = reason
	}
	listed, ok := o.optional("groups")
	op := zones.OpCreateZone{Settings: zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: o.groups(listed, ok)}}}
	if v, there := o.optional("primaries"); there {
		op.Settings.Primaries = o.remotes(v, change.MaxPrimaries, s.opts.CheckRemote)
	}
	if v, there := o.optional("notify"); there {
		op.Settings.Notify = o.remotes(v, change.MaxNotify, s.opts.CheckRemote)
	}
	for _, list := range []struct {
		field string
		deed  zones.Deed
	}{{"allow_transfer", zones.DeedTransfer}, {"allow_notify", zones.DeedNotify}} {
		if v, there := o.optional(list.field); there {
			op.Settings.Grants = append(op.Settings.Grants, o.grants(v, list.deed, apex)...)
		}
	}
	o.end()
	switch {
	case op.Settings.IsSecondary() && len(op.Settings.Catalog.Groups) > 0:
		f.add(listed.at, "a catalog with primaries lists what these say")
	case op.Settings.IsSecondary():
		op.Settings.Catalog.Role = zones.CatalogConsumed
	case named:
		if op.RRsets, err = emptyCatalog(apex); err != nil {
			f.add(v.at, "%v", err)
		}
	}
	if err := f.err(); err != nil {
		return err
	}
	cs := s.changeSet(apex, d)
	cs.Ops = []zones.Op{op}
	place := func(int) string { return "" }
	if err := s.within(cs, place); err != nil {
		return err
	}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait, place: place})
	if err != nil {
		return err
	}
	if got.Status == statusApplied {
		w.Header().Set("Location", "/v1/catalogs/"+url.PathEscape(pathName(apex)))
	}
	return answer(w, http.StatusCreated, got)
}

// emptyCatalog is the content of a catalog that lists nothing. The error says that no zone could be listed under this name.
func emptyCatalog(apex zones.Name) ([]zones.RRset, error) {
	if _, err := catalog.New(apex, []catalog.Member{{Zone: zones.Root, Label: catalog.MemberLabel(zones.Root, "")}}); err != nil {
		return nil, errors.New("the name is too long for a catalog")
	}
	c, err := catalog.New(apex, nil)
	if err != nil {
		return nil, err
	}
	return c.RRsets(1, catalog.DefaultTiming)
}

// groups reads names of groups, in any order.
func (f *form) groups(list value, ok bool) (groups []string) {
	items := f.array(list, ok)
	if len(items) > zones.MaxGroups {
		f.add(list.at, "%d groups; at most %d are allowed", len(items), zones.MaxGroups)
		return nil
	}
	for _, item := range items {
		text, ok := f.text(item, true)
		if !ok {
			continue
		}
		if why := zones.CheckGroup(text); why != "" {
			f.add(item.at, "%q: %s", text, why)
		}
		groups = append(groups, text)
	}
	return zones.SortGroups(groups)
}

// patchCatalog has a produced catalog list zones of other groups.
func (s *Server) patchCatalog(w http.ResponseWriter, r *http.Request) error {
	apex, d, f, o, err := s.zoneChange(w, r)
	if err != nil {
		return err
	}
	v, ok := o.required("groups")
	groups := o.groups(v, ok)
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	info, err := s.infoOf(apex)
	if err != nil {
		return err
	}
	switch info.Settings.Catalog.Role {
	case zones.NoCatalog:
		return notCatalog(apex)
	case zones.CatalogProduced:
	default:
		return newProblem(http.StatusConflict, "no-producer", "catalog %s comes from its primaries, which say what it lists", apex)
	}
	cs := s.changeSet(apex, d)
	set := zones.ZoneSettings{Catalog: zones.Catalog{Role: zones.CatalogProduced, Groups: groups}}
	cs.Ops = []zones.Op{zones.OpSetSettings{Parts: zones.PartCatalog, Settings: set}}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, got)
}

// What becomes of the zones that were made for a catalog when that is deleted.
const (
	membersDelete = "delete"
	membersKeep   = "keep"
)

// deleteCatalog deletes a catalog, which takes a while when zones were made for it: the node on duty does that.
func (s *Server) deleteCatalog(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	d, query, err := s.demandsOf(r, apex, "members")
	if err != nil {
		return err
	}
	members := query.Get("members")
	if query.Has("members") && members != membersDelete && members != membersKeep {
		return badParameter("?members", "%q: want %s or %s", members, membersDelete, membersKeep)
	}
	info, err := s.infoOf(apex)
	if err != nil {
		return err
	}
	cs := s.changeSet(apex, d)
	end := zones.Catalog{Role: zones.CatalogDissolved}
	if members == membersKeep {
		end.Role = zones.CatalogReleased
	}
	switch role := info.Settings.Catalog.Role; {
	case role == zones.NoCatalog:
		return notCatalog(apex)
	case role == zones.CatalogProduced && members != "":
		return badParameter("?members", "zones that a catalog made here lists stay as they are")
	case role == zones.CatalogProduced:
		cs.Ops = []zones.Op{zones.OpDeleteZone{}}
	case members == "":
		return badParameter("?members", "zones may have been made for this catalog: want %s or %s", membersDelete, membersKeep)
	default:
		cs.Ops = []zones.Op{zones.OpSetSettings{Parts: zones.PartCatalog, Settings: zones.ZoneSettings{Catalog: end}}}
	}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, got)
}
