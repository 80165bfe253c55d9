package admin

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// A zone's settings are a serial policy and whether it is frozen, the servers that it comes from and those that are told of its changes, and
// three lists of grants, one for each deed. Who sends some of them changes these, and leaves the others as they are.

// remoteInfo is a server that the zone has to do with.
type remoteInfo struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	Key     string `json:"key,omitempty"`
	TLS     bool   `json:"tls,omitempty"`
	TLSName string `json:"tls_name,omitempty"`
}

// grantInfo is a grant, in the list of a deed.
type grantInfo struct {
	Key      string        `json:"key,omitempty"`
	Networks []string      `json:"networks,omitempty"`
	Names    []patternInfo `json:"names,omitempty"`
	Types    []string      `json:"types,omitempty"`
}

type patternInfo struct {
	Name  string `json:"name"`
	Scope string `json:"scope"`
}

// Scopes of patterns.
const (
	scopeSelf  = "self"
	scopeBelow = "below"
	scopeAll   = "all"
)

// settingsInfo is what a zone has beyond what lists of zones show.
type settingsInfo struct {
	Primaries     []remoteInfo `json:"primaries"`
	Notify        []remoteInfo `json:"notify"`
	AllowTransfer []grantInfo  `json:"allow_transfer"`
	AllowUpdate   []grantInfo  `json:"allow_update"`
	AllowNotify   []grantInfo  `json:"allow_notify"`
	Groups        []string     `json:"groups"`
	NewOwner      string       `json:"new_owner,omitempty"`
	Catalog       *roleInfo    `json:"catalog,omitempty"`
	Member        *ownerInfo   `json:"member,omitempty"`
}

// roleInfo is what the zone is as a catalog.
type roleInfo struct {
	Role   string   `json:"role"`
	Groups []string `json:"groups,omitempty"`
}

// ownerInfo is the catalog that the zone was made for, and what that calls it.
type ownerInfo struct {
	Catalog string `json:"catalog"`
	Label   string `json:"label"`
}

// zoneDetails is a zone with all of its settings.
type zoneDetails struct {
	zoneInfo
	settingsInfo
}

func showSettings(s zones.ZoneSettings) settingsInfo {
	info := settingsInfo{
		Primaries: showRemotes(s.Primaries), Notify: showRemotes(s.Notify),
		AllowTransfer: showGrants(s.Grants, zones.DeedTransfer), AllowUpdate: showGrants(s.Grants, zones.DeedUpdate),
		AllowNotify: showGrants(s.Grants, zones.DeedNotify),
		Groups:      append([]string{}, s.Groups...), NewOwner: s.NewOwner.String(),
	}
	if s.Catalog.Role != zones.NoCatalog {
		info.Catalog = &roleInfo{s.Catalog.Role.String(), s.Catalog.Groups}
	}
	if s.Member.Catalog != "" {
		info.Member = &ownerInfo{s.Member.Catalog.String(), labelText(s.Member.Label)}
	}
	return info
}

// settingsDigest is the same for settings that are shown, and so taken, as the same: in which order the grants of different deeds were made does
// not matter.
func settingsDigest(s zones.ZoneSettings) string {
	all, err := json.Marshal(struct {
		Policy string
		Frozen bool
		settingsInfo
	}{s.SerialPolicy.String(), s.Frozen, showSettings(s)})
	if err != nil {
		return "" // it is texts and numbers: this is not reached
	}
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:16])
}

func showRemotes(remotes []zones.Remote) []remoteInfo {
	shown := make([]remoteInfo, 0, len(remotes))
	for _, r := range remotes {
		shown = append(shown, showRemote(r))
	}
	return shown
}

func showRemote(r zones.Remote) remoteInfo {
	return remoteInfo{Address: r.Addr.Addr().String(), Port: r.Addr.Port(), Key: r.Key.String(), TLS: r.TLS, TLSName: r.TLSName}
}

func showGrants(grants []zones.Grant, deed zones.Deed) []grantInfo {
	shown := []grantInfo{}
	for _, g := range grants {
		if g.Deeds&deed == 0 {
			continue
		}
		info := grantInfo{Key: g.Key.String()}
		for _, n := range g.Networks {
			info.Networks = append(info.Networks, n.String())
		}
		if deed == zones.DeedUpdate {
			for _, p := range g.Names {
				info.Names = append(info.Names, showPattern(p))
			}
			for _, t := range g.Types {
				info.Types = append(info.Types, t.String())
			}
		}
		shown = append(shown, info)
	}
	return shown
}

func showPattern(p zones.NamePattern) patternInfo {
	switch {
	case !p.Below:
		return patternInfo{p.Name.String(), scopeSelf}
	case !p.Self:
		return patternInfo{p.Name.String(), scopeBelow}
	}
	return patternInfo{p.Name.String(), scopeAll}
}

// standingOf says how a secondary zone stands; "" and nil for other zones.
func standingOf(z store.ZoneInfo) (standing string, confirmed *time.Time) {
	switch {
	case !z.Settings.IsSecondary():
		return "", nil
	case z.Standing.Awaiting:
		return "awaiting", nil
	case z.Standing.Expired:
		return "expired", &z.Standing.Confirmed
	}
	return "served", &z.Standing.Confirmed
}

// settings reads those settings that an object has, and which they are. check, unless nil, says whether a server may be spoken to.
func (o *object) settings(apex zones.Name, check func(zones.Remote) error) (op zones.OpSetSettings) {
	named := func(field string, part zones.SettingsPart) (value, bool) {
		v, ok := o.optional(field)
		if ok {
			op.Parts |= part
		}
		return v, ok
	}
	if v, there := named("serial_policy", zones.PartSerialPolicy); there {
		op.Settings.SerialPolicy, _ = o.policyOf(v, there)
	}
	if v, there := named("frozen", zones.PartFrozen); there {
		op.Settings.Frozen = o.boolean(v)
	}
	if v, there := named("primaries", zones.PartPrimaries); there {
		op.Settings.Primaries = o.remotes(v, change.MaxPrimaries, check)
	}
	if v, there := named("notify", zones.PartNotify); there {
		op.Settings.Notify = o.remotes(v, change.MaxNotify, check)
	}
	if v, there := named("groups", zones.PartGroups); there {
		op.Settings.Groups = o.groups(v, there)
	}
	if v, there := named("new_owner", zones.PartNewOwner); there {
		if text, ok := o.text(v, there); ok && text != "" { // "" is for none
			op.Settings.NewOwner, _ = o.name(v, there, zones.Root)
		}
	}
	for _, list := range []struct {
		field string
		part  zones.SettingsPart
		deed  zones.Deed
	}{
		{"allow_transfer", zones.PartTransferGrants, zones.DeedTransfer},
		{"allow_update", zones.PartUpdateGrants, zones.DeedUpdate},
		{"allow_notify", zones.PartNotifyGrants, zones.DeedNotify},
	} {
		if v, there := named(list.field, list.part); there {
			op.Settings.Grants = append(op.Settings.Grants, o.grants(v, list.deed, apex)...)
		}
	}
	return op
}

func (f *form) boolean(v value) bool {
	if v.what != "true" && v.what != "false" {
		f.add(v.at, "want true or false, not %s", v.kind())
	}
	return v.what == "true"
}

// Ports of servers: RFC 1035 §4.2, and RFC 9103 §7.1 over TLS.
const (
	portDNS = 53
	portTLS = 853
)

func (f *form) remotes(list value, most int, check func(zones.Remote) error) (remotes []zones.Remote) {
	items := f.array(list, true)
	if len(items) > most {
		f.add(list.at, "%d servers; at most %d are allowed", len(items), most)
		return nil
	}
	for _, item := range items {
		before := len(f.mistakes)
		r := f.object(item).remote()
		if len(f.mistakes) == before && check != nil {
			if err := check(r); err != nil {
				f.add(item.at, "%v", err)
			}
		}
		switch {
		case len(f.mistakes) > before:
		case slices.Contains(remotes, r):
			f.add(item.at, "is there twice")
		default:
			remotes = append(remotes, r)
		}
	}
	return remotes
}

func (o *object) remote() (r zones.Remote) {
	v, ok := o.required("address")
	text, ok := o.text(v, ok)
	var addr netip.Addr
	if ok {
		var err error
		if addr, err = netip.ParseAddr(text); err != nil || addr.Zone() != "" {
			o.add(v.at, "%q: want an IP address", text)
		}
	}
	if tls, ok := o.optional("tls"); ok {
		r.TLS = o.boolean(tls)
	}
	if name, ok := o.optional("tls_name"); ok {
		r.TLSName, _ = o.text(name, ok)
	}
	key, ok := o.optional("key")
	r.Key, _ = o.name(key, ok, zones.Root)
	port := uint64(0)
	if p, ok := o.optional("port"); ok {
		if port, ok = o.number(p, ok, 1<<16-1); ok && port == 0 {
			o.add(p.at, "0 is no port")
		}
	}
	if port == 0 {
		port = portDNS
		if r.TLS {
			port = portTLS
		}
	}
	o.end()
	r.Addr = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	return r
}

func (f *form) grants(list value, deed zones.Deed, apex zones.Name) (grants []zones.Grant) {
	items := f.array(list, true)
	if len(items) > change.MaxGrants {
		f.add(list.at, "%d grants; at most %d are allowed", len(items), change.MaxGrants)
		return nil
	}
	for _, item := range items {
		g := f.object(item).grant(apex, deed == zones.DeedUpdate)
		g.Deeds = deed
		grants = append(grants, g)
	}
	return grants
}

func (o *object) grant(apex zones.Name, update bool) (g zones.Grant) {
	before := len(o.mistakes)
	key, ok := o.optional("key")
	g.Key, _ = o.name(key, ok, zones.Root)
	for _, item := range o.terms("networks") {
		if n, ok := o.network(item); ok {
			g.Networks = append(g.Networks, n)
		}
	}
	if update {
		for _, item := range o.terms("names") {
			g.Names = append(g.Names, o.object(item).pattern(apex))
		}
		for _, item := range o.terms("types") {
			text, _ := o.text(item, true)
			t, err := zones.ParseType(text)
			if err != nil {
				o.add(item.at, "%v", err)
			}
			g.Types = append(g.Types, t)
		}
	}
	o.end()
	if len(o.mistakes) == before && g.Key == "" && len(g.Networks) == 0 {
		o.add(o.at, "want a key, or networks, or both: nothing is allowed to everybody")
	}
	return g
}

// terms returns the items of a list in a grant.
func (o *object) terms(name string) []value {
	v, ok := o.optional(name)
	items := o.array(v, ok)
	if ok && (len(items) == 0 && v.what == "array" || len(items) > change.MaxGrantTerms) {
		o.add(v.at, "want 1 to %d, or no list for all", change.MaxGrantTerms)
		return nil
	}
	return items
}

// network reads an address, or a prefix without bits after it.
func (f *form) network(v value) (netip.Prefix, bool) {
	text, ok := f.text(v, true)
	if !ok {
		return netip.Prefix{}, false
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || p.Addr().Is4In6():
		f.add(v.at, "%q: want an IP address, or a network such as 192.0.2.0/24", text)
	case p != p.Masked():
		f.add(v.at, "%s has bits after its prefix: the network is %s", p, p.Masked())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

func (o *object) pattern(apex zones.Name) (p zones.NamePattern) {
	v, ok := o.required("name")
	p.Name, ok = o.name(v, ok, apex)
	if ok && !p.Name.IsAtOrBelow(apex) {
		o.add(v.at, "%s is not in the zone %s: leave its final dot out to make it relative", p.Name, apex)
	}
	v, ok = o.optional("scope")
	scope, _ := o.text(v, ok)
	switch cmp.Or(scope, scopeAll) {
	case scopeSelf:
		p.Self = true
	case scopeBelow:
		p.Below = true
	case scopeAll:
		p.Self, p.Below = true, true
	default:
		o.add(v.at, "%q: want %s", scope, strings.Join([]string{scopeSelf, scopeBelow, scopeAll}, ", "))
	}
	o.end()
	return p
}

func (s *Server) patchZone(w http.ResponseWriter, r *http.Request) error {
	apex, d, f, o, err := s.zoneChange(w, r)
	if err != nil {
		return err
	}
	op := o.settings(apex, s.opts.CheckRemote)
	if v, there := o.optional("detached"); there {
		op.Parts |= zones.PartMember
		if !o.boolean(v) && v.what == "false" {
			o.add(v.at, "a zone becomes a catalog's only by the catalog")
		}
	}
	o.end()
	if op.Parts == 0 && len(f.mistakes) == 0 {
		o.add("", "nothing to change; known here: %s", strings.Join(o.known, ", "))
	}
	if err := f.err(); err != nil {
		return err
	}
	cs := s.changeSet(apex, d)
	cs.Ops = []zones.Op{op}
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, got)
}

// noContent is the problem of reading a zone that has no content yet; nil for others.
func noContent(z store.ZoneInfo) error {
	if !z.Standing.Awaiting {
		return nil
	}
	return newProblem(http.StatusConflict, "awaiting", "zone %s is hosted, and nothing has come from its primaries yet", z.Apex)
}
