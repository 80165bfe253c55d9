package admin

import (
	"errors"
	"net/http"
	"strings"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/zonefile"
)

// rrset is an RRset as the API shows and takes it. Records are RDATA in presentation form, names absolute.
type rrset struct {
	Owner   string   `json:"owner"`
	Type    string   `json:"type"`
	Covers  string   `json:"covers,omitempty"` // of RRSIG: the type that is signed
	TTL     uint32   `json:"ttl"`
	Records []string `json:"records"`
}

func showRRset(s zones.RRset) rrset {
	shown := rrset{Owner: s.Owner.String(), Type: s.Type.String(), TTL: s.TTL, Records: make([]string, 0, s.Len())}
	if s.Covered != 0 {
		shown.Covers = s.Covered.String()
	}
	for rdata := range s.RDatas() {
		shown.Records = append(shown.Records, zonefile.FormatRData(s.Type, rdata))
	}
	return shown
}

func isNoZone(err error) bool { return errors.Is(err, store.ErrNoZone) }

// cursorText is a place between RRsets: "www.example.com./A", or "www.example.com./RRSIG/A".
func cursorText(c store.Cursor) string {
	s := c.Owner.String() + "/" + c.Key.Type.String()
	if c.Key.Covered != 0 {
		s += "/" + c.Key.Covered.String()
	}
	return s
}

// parseCursor is the inverse of cursorText. No type has a dot in it, so the last "./" ends the owner.
func parseCursor(text string, apex zones.Name) (*store.Cursor, error) {
	bad := badParameter("?after", "%q: want what a page gave as next", text)
	end := strings.LastIndex(text, "./")
	if end < 0 {
		return nil, bad
	}
	owner, err := zones.ParseName(text[:end+1])
	if err != nil || !owner.IsAtOrBelow(apex) {
		return nil, bad
	}
	types := strings.Split(text[end+2:], "/")
	c := &store.Cursor{Owner: owner}
	if c.Key.Type, err = zones.ParseType(types[0]); err != nil {
		return nil, bad
	}
	if len(types) == 2 {
		if c.Key.Covered, err = zones.ParseType(types[1]); err != nil {
			return nil, bad
		}
	}
	if len(types) > 2 || (c.Key.Covered != 0) != (c.Key.Type == zones.TypeRRSIG) {
		return nil, bad
	}
	return c, nil
}

// pageStep is how many RRsets are read at once; pageSteps bounds the reading for one page when ?type lets few through.
const (
	pageStep  = 100
	pageSteps = 100
)

func (s *Server) getRRsets(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	query, err := queryOf(r, "prefix", "after", "limit", "type")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, defaultPage, s.opts.Limits.Page)
	if err != nil {
		return err
	}
	var only zones.Type
	if query.Has("type") {
		if only, err = zones.ParseType(query.Get("type")); err != nil {
			return badParameter("?type", "%v", err)
		}
	}
	var at *store.Cursor
	if query.Has("after") {
		if at, err = parseCursor(query.Get("after"), apex); err != nil {
			return err
		}
	}
	reading, err := s.read(apex)
	if err != nil {
		return err
	}
	defer reading.Close()

	answer := struct {
		Serial   uint32  `json:"serial"`
		Position string  `json:"position"`
		RRsets   []rrset `json:"rrsets"`
		Next     string  `json:"next,omitempty"`
	}{Serial: uint32(reading.Info.Serial), Position: reading.Position().String(), RRsets: []rrset{}}
	octets := 0
	for range pageSteps {
		step := pageStep
		if only == 0 {
			step = min(pageStep, limit-len(answer.RRsets))
		}
		page, err := reading.RRsets(query.Get("prefix"), at, step)
		if err != nil {
			return err
		}
		at = page.Next
		for i, set := range page.RRsets {
			if only == 0 || set.Type == only {
				answer.RRsets = append(answer.RRsets, showRRset(set))
				octets += set.Size()
			}
			if last := i == len(page.RRsets)-1; !last && (len(answer.RRsets) == limit || octets >= s.opts.Limits.PageOctets) {
				at = &store.Cursor{Owner: set.Owner, Key: set.Key}
				break
			}
		}
		if at == nil || len(answer.RRsets) == limit || octets >= s.opts.Limits.PageOctets {
			break
		}
	}
	if at != nil {
		answer.Next = cursorText(*at)
	}
	w.Header().Set("ETag", tag(reading.Info.Serial))
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) getRRset(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	owner, t, err := rrsetOf(r, apex)
	if err != nil {
		return err
	}
	query, err := queryOf(r, "covers")
	if err != nil {
		return err
	}
	key := zones.Key{Type: t}
	if (t == zones.TypeRRSIG) != query.Has("covers") {
		return badParameter("?covers", "RRSIGs are kept by the type that they cover: say which; other types have none")
	}
	if query.Has("covers") {
		if key.Covered, err = zones.ParseType(query.Get("covers")); err != nil {
			return badParameter("?covers", "%v", err)
		}
	}
	reading, err := s.read(apex)
	if err != nil {
		return err
	}
	defer reading.Close()
	set, ok, err := reading.RRset(owner, key)
	if err != nil {
		return err
	}
	if !ok {
		p := newProblem(http.StatusNotFound, "not-found", "%s has no %s in %s", owner, key, apex)
		p.Owner, p.RRType = owner.String(), t.String()
		return p
	}
	w.Header().Set("ETag", tag(reading.Info.Serial))
	return writeJSON(w, http.StatusOK, showRRset(set))
}

// rrsetMatch makes "the zone must not be there" of If-None-Match: * into "the RRset must not be there", for
// requests whose resource is an RRset.
func rrsetMatch(d *demands, owner zones.Name, t zones.Type) {
	for i, p := range d.match {
		switch p.(type) {
		case zones.IfZoneAbsent:
			d.match[i] = zones.IfRRsetAbsent{Owner: owner, Type: t}
		case zones.IfRRsetExists: // If-Match: *
			d.match[i] = zones.IfRRsetExists{Owner: owner, Type: t}
		}
	}
}

func (s *Server) putRRset(w http.ResponseWriter, r *http.Request) error {
	apex, d, f, o, err := s.zoneChange(w, r)
	if err != nil {
		return err
	}
	owner, t, err := rrsetOf(r, apex)
	if err != nil {
		return err
	}
	rrsetMatch(&d, owner, t)
	set, _ := o.content(owner, t, apex, s.opts.Limits.RecordsPerRRset, true, true)
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	return s.change(w, r, apex, d, nil, []zones.Op{zones.OpPutRRset{RRset: set}}, func(int) string { return "/" })
}

func (s *Server) deleteRRset(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	owner, t, err := rrsetOf(r, apex)
	if err != nil {
		return err
	}
	d, _, err := s.demandsOf(r, apex)
	if err != nil {
		return err
	}
	rrsetMatch(&d, owner, t)
	return s.change(w, r, apex, d, nil, []zones.Op{zones.OpDeleteRRset{Owner: owner, Type: t}}, nil)
}

// putRRsets sets many RRsets in one change set.
func (s *Server) putRRsets(w http.ResponseWriter, r *http.Request) error {
	apex, d, f, o, err := s.zoneChange(w, r)
	if err != nil {
		return err
	}
	v, ok := o.required("rrsets")
	sets := o.rrsets(v, ok, apex, s.opts.Limits.RecordsPerRRset)
	if ok && len(v.items) == 0 && v.what == "array" {
		o.add(v.at, "is empty")
	}
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	ops := make([]zones.Op, len(sets))
	for i, set := range sets {
		ops[i] = zones.OpPutRRset{RRset: set}
	}
	return s.change(w, r, apex, d, nil, ops, func(op int) string { return v.items[op].at })
}

// change submits operations on records, and answers.
func (s *Server) change(w http.ResponseWriter, r *http.Request, apex zones.Name, d demands,
	preconditions []zones.Precondition, ops []zones.Op, place func(op int) string,
) error {
	if place == nil {
		place = func(int) string { return "/" }
	}
	cs := s.changeSet(apex, d, preconditions...)
	cs.Ops = ops
	if err := s.within(cs, place); err != nil {
		return err
	}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait, preconditions: len(preconditions), place: place})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, got)
}
