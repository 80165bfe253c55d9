package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// zoneInfo is what is known of a zone without its RRsets.
type zoneInfo struct {
	Name         string    `json:"name"`
	Serial       uint32    `json:"serial"`
	SerialPolicy string    `json:"serial_policy"`
	RRsets       uint64    `json:"rrsets"`
	Records      uint64    `json:"records"`
	Octets       uint64    `json:"octets"`
	Delegations  uint64    `json:"delegations"`
	Signed       bool      `json:"signed"`
	NSEC3        bool      `json:"nsec3"`
	Digest       string    `json:"digest"`
	Position     string    `json:"position"`
	ChangedAt    time.Time `json:"changed_at"`
	Frozen       bool      `json:"frozen"`
	// SettingsDigest is the same for zones with the same settings.
	SettingsDigest string `json:"settings_digest"`
	// Of secondary zones.
	Standing    string     `json:"standing,omitempty"`
	ConfirmedAt *time.Time `json:"confirmed_at,omitempty"`
}

func showZone(z store.ZoneInfo) zoneInfo {
	standing, confirmed := standingOf(z)
	return zoneInfo{
		Name: z.Apex.String(), Serial: uint32(z.Serial), SerialPolicy: z.Settings.SerialPolicy.String(),
		RRsets: z.RRsets, Records: z.Records, Octets: z.Octets, Delegations: z.Delegations, Signed: z.Signed, NSEC3: z.NSEC3,
		Digest: z.Digest.String(), Position: z.Changed.String(), ChangedAt: z.ChangedAt,
		Frozen: z.Settings.Frozen, SettingsDigest: settingsDigest(z.Settings), Standing: standing, ConfirmedAt: confirmed,
	}
}

func (s *Server) getZone(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	if _, err := queryOf(r); err != nil {
		return err
	}
	reading, err := s.read(apex)
	if err != nil {
		return err
	}
	defer reading.Close()
	w.Header().Set("ETag", tag(reading.Info.Serial))
	return writeJSON(w, http.StatusOK, zoneDetails{showZone(reading.Info), showSettings(reading.Info.Settings)})
}

// read opens a zone for reading; the error is a problem when it is not hosted.
func (s *Server) read(apex zones.Name) (*store.Reading, error) {
	reading, err := s.reading(apex)
	if isNoZone(err) {
		return nil, noSuchZone(apex)
	}
	return reading, err
}

// reading opens a zone for reading. The error is store.ErrNoZone only when it is known that there is no such zone, which
// takes its partition.
func (s *Server) reading(apex zones.Name) (*store.Reading, error) {
	if partition, elsewhere := s.elsewhere(apex); elsewhere {
		return nil, unheld(partition)
	}
	reading, err := s.opts.Reader.Read(apex)
	if !isNoZone(err) {
		return reading, err
	}
	number, ok := s.opts.Publisher.PartitionOf(apex)
	if !ok || s.opts.Reader.Partition(number) == nil {
		return nil, fmt.Errorf("whether %s is hosted is not known: %w", apex, store.ErrNotOpen)
	}
	return nil, err
}

// postZones creates a zone: of the RRsets given, with an SOA and the name servers' NS made where they lack; or, with primaries, of nothing.
func (s *Server) postZones(w http.ResponseWriter, r *http.Request) error {
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
	op := s.newZone(o, apex)
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	if !named {
		return newProblem(http.StatusInternalServerError, "internal", "a zone without a name")
	}
	for i, p := range d.match {
		if _, ok := p.(zones.IfRRsetExists); ok { // If-Match: *
			d.match[i] = zones.IfRRsetExists{Owner: apex, Type: zones.TypeSOA}
		}
	}
	cs := s.changeSet(apex, d)
	cs.Ops = []zones.Op{op}
	place := func(int) string {
		if op.Settings.IsSecondary() {
			return "/primaries"
		}
		return "/rrsets"
	}
	if err := s.within(cs, place); err != nil {
		return err
	}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait, place: place})
	if err != nil {
		return err
	}
	if got.Status == statusApplied {
		w.Header().Set("Location", "/v1/zones/"+url.PathEscape(pathName(apex)))
	}
	return answer(w, http.StatusCreated, got)
}

// pathName is a zone's name as part of a path: "." would be taken out of it.
func pathName(apex zones.Name) string {
	if apex == zones.Root {
		return "@"
	}
	return apex.String()
}

// Defaults of an SOA, in seconds: what RIPE-203 advises for small, stable zones, with shorter negative answers.
const (
	defaultTTL     = 3600
	defaultRefresh = 7200
	defaultRetry   = 900
	defaultExpire  = 1209600
	defaultMinimum = 300
)

// newZone reads what makes a zone, but for its name.
func (s *Server) newZone(o *object, apex zones.Name) zones.OpCreateZone {
	var op zones.OpCreateZone
	op.Settings = o.settings(apex, s.opts.CheckRemote).Settings
	if op.Settings.IsSecondary() { // what makes content is unknown here
		return op
	}
	rrsets, ok := o.optional("rrsets")
	op.RRsets = o.rrsets(rrsets, ok, apex, s.opts.Limits.RecordsPerRRset)
	ttl := uint64(defaultTTL)
	if v, ok := o.optional("ttl"); ok {
		ttl, _ = o.number(v, ok, zones.MaxTTL)
	}

	atApex := func(t zones.Type) int {
		return slices.IndexFunc(op.RRsets, func(s zones.RRset) bool { return s.Owner == apex && s.Type == t })
	}
	var servers []zones.Name
	v, ok := o.optional("nameservers")
	hasNS := atApex(zones.TypeNS) >= 0
	switch {
	case ok && hasNS:
		o.add(v.at, "the zone's NS are in rrsets already")
	case !ok && !hasNS:
		o.add(v.at, "a zone needs at least one name server: here, or as NS in rrsets")
	case ok:
		var rdatas [][]byte
		items := o.array(v, ok)
		if len(items) == 0 && v.what == "array" || len(items) > s.opts.Limits.RecordsPerRRset {
			o.add(v.at, "want 1 to %d name servers", s.opts.Limits.RecordsPerRRset)
			break
		}
		for _, item := range items {
			if n, ok := o.name(item, true, apex); ok {
				servers = append(servers, n)
				rdatas = append(rdatas, []byte(n))
			}
		}
		if ns, err := zones.NewRRset(apex, zones.TypeNS, uint32(ttl), rdatas...); err == nil {
			op.RRsets = append(op.RRsets, ns)
		}
	case hasNS:
		for rdata := range op.RRsets[atApex(zones.TypeNS)].RDatas() {
			if n, ok := zones.Target(zones.TypeNS, rdata); ok {
				servers = append(servers, n)
			}
		}
	}

	v, ok = o.optional("soa")
	if atApex(zones.TypeSOA) >= 0 {
		if ok {
			o.add(v.at, "the zone's SOA is in rrsets already")
		}
		return op
	}
	if soa, ok := newSOA(o, v, ok, apex, uint32(ttl), servers); ok {
		op.RRsets = append(op.RRsets, soa)
	}
	return op
}

// newSOA reads the fields of an SOA, all of which have defaults.
func newSOA(o *object, v value, given bool, apex zones.Name, ttl uint32, servers []zones.Name) (zones.RRset, bool) {
	before := len(o.mistakes)
	fields := &object{form: o.form, value: value{at: v.at}}
	if given {
		fields = o.object(v)
	}
	name := func(field string, otherwise func() (zones.Name, error)) string {
		v, ok := fields.optional(field)
		if ok {
			n, _ := o.name(v, ok, apex)
			return n.String()
		}
		n, err := otherwise()
		if err != nil {
			o.add(v.at, "is missing, and has no default here: %v", err)
		}
		return n.String()
	}
	number := func(field string, otherwise, maximum uint64) uint64 {
		v, ok := fields.optional(field)
		if !ok {
			return otherwise
		}
		n, _ := o.number(v, ok, maximum)
		return n
	}
	primary := name("primary", func() (zones.Name, error) {
		if len(servers) > 0 {
			return servers[0], nil
		}
		return zones.Root, nil // the lack of name servers is told already
	})
	mailbox := name("mailbox", func() (zones.Name, error) { return zones.ParseNameIn("hostmaster", apex) })
	text := fmt.Sprintf("%s %s %d %d %d %d %d", primary, mailbox, number("serial", 1, 1<<32-1),
		number("refresh", defaultRefresh, zones.MaxTTL), number("retry", defaultRetry, zones.MaxTTL),
		number("expire", defaultExpire, zones.MaxTTL), number("minimum", defaultMinimum, zones.MaxTTL))
	ttl = uint32(number("ttl", uint64(ttl), zones.MaxTTL))
	fields.end()
	if len(o.mistakes) > before || strings.HasPrefix(text, " ") {
		return zones.RRset{}, false
	}
	rdata, err := zonefile.ParseRData(zones.TypeSOA, text, apex)
	if err == nil {
		var soa zones.RRset
		if soa, err = zones.NewRRset(apex, zones.TypeSOA, ttl, rdata); err == nil {
			return soa, true
		}
	}
	o.add(v.at, "%v", err)
	return zones.RRset{}, false
}

// zoneChange begins a write to {zone} with a JSON body, and reads the reason from it.
func (s *Server) zoneChange(w http.ResponseWriter, r *http.Request, params ...string) (apex zones.Name, d demands, f *form, o *object, err error) {
	if apex, err = zoneOf(r); err != nil {
		return apex, d, nil, nil, err
	}
	if d, _, err = s.demandsOf(r, apex, params...); err != nil {
		return apex, d, nil, nil, err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return apex, d, nil, nil, err
	}
	f = &form{}
	o = f.object(body)
	if reason := o.reason(change.MaxReason); reason != "" {
		d.reason = reason
	}
	return apex, d, f, o, nil
}

func (s *Server) deleteZone(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	d, _, err := s.demandsOf(r, apex)
	if err != nil {
		return err
	}
	cs := s.changeSet(apex, d)
	cs.Ops = []zones.Op{zones.OpDeleteZone{}}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, got)
}
