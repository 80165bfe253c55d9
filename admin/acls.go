package admin

import (
	"net/http"
	"net/netip"
	"time"

	"balefire/replication/keyring"
	"balefire/zones"
)

// aclView is an ACL as it is shown, and as it comes, without name and time.
type aclView struct {
	Name     string         `json:"name"`
	Zones    []patternView  `json:"zones"`
	Allow    []string       `json:"allow"`
	Key      string         `json:"key,omitempty"`
	Networks []netip.Prefix `json:"networks"`
	Names    []patternView  `json:"names"`
	Types    []string       `json:"types"`
	Changed  *time.Time     `json:"changed,omitempty"`
}

// patternView is a set of names.
type patternView struct {
	Name  string `json:"name"`
	Self  bool   `json:"self"`
	Below bool   `json:"below"`
}

func viewACL(a keyring.ACL) aclView {
	v := aclView{
		Name: a.Name, Zones: viewPatterns(a.Zones), Allow: keyring.DeedNames(a.Grant.Deeds), Key: a.Grant.Key.String(),
		Networks: append([]netip.Prefix{}, a.Grant.Networks...), Names: viewPatterns(a.Grant.Names), Types: []string{}, Changed: timeOrNil(a.Changed),
	}
	for _, t := range a.Grant.Types {
		v.Types = append(v.Types, t.String())
	}
	return v
}

func viewPatterns(patterns []zones.NamePattern) []patternView {
	list := make([]patternView, len(patterns))
	for i, p := range patterns {
		list[i] = patternView{p.Name.String(), p.Self, p.Below}
	}
	return list
}

// getACLs lists what is allowed in all zones, or some.
func (s *Server) getACLs(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	list := ring.ACLs()
	shown := make([]aclView, len(list))
	for i, a := range list {
		shown[i] = viewACL(a)
	}
	return writeJSON(w, http.StatusOK, struct {
		ACLs []aclView `json:"acls"`
	}{shown})
}

// getACL shows one of them.
func (s *Server) getACL(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	a, ok := ring.ACL(r.PathValue("acl"))
	if !ok {
		return newProblem(http.StatusNotFound, "not-found", "there is no ACL %q", r.PathValue("acl"))
	}
	return writeJSON(w, http.StatusOK, viewACL(a))
}

// putACL sets one of them, whether it was there or not.
func (s *Server) putACL(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return err
	}
	f := &form{}
	acl := f.acl(body)
	acl.Name = r.PathValue("acl")
	if err := f.err(); err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	if err := ring.PutACL(ctx, acl); err != nil {
		return fromKeyring(err)
	}
	s.log.Info().Str("acl", acl.Name).Msg("an ACL was set")
	if set, ok := ring.ACL(acl.Name); ok {
		acl = set
	}
	return writeJSON(w, http.StatusOK, viewACL(acl))
}

// deleteACL removes one of them.
func (s *Server) deleteACL(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	if err := ring.DeleteACL(ctx, r.PathValue("acl")); err != nil {
		return fromKeyring(err)
	}
	s.log.Info().Str("acl", r.PathValue("acl")).Msg("an ACL was deleted")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// acl reads an ACL without its name. What is wrong with it as a whole, its Check says.
func (f *form) acl(body value) (a keyring.ACL) {
	o := f.object(body)
	v, ok := o.optional("zones")
	a.Zones = o.patterns(v, ok)
	v, ok = o.required("allow")
	for _, item := range o.array(v, ok) {
		if text, ok := o.text(item, true); ok {
			d, err := keyring.ParseDeeds([]string{text})
			if err != nil {
				o.add(item.at, "%v", err)
			}
			a.Grant.Deeds |= d
		}
	}
	v, ok = o.optional("key")
	a.Grant.Key, _ = o.name(v, ok, zones.Root)
	v, ok = o.optional("networks")
	for _, item := range o.array(v, ok) {
		if text, ok := o.text(item, true); ok {
			n, err := parseNetwork(text)
			if err != nil {
				o.add(item.at, "%q: want an address or a network, such as 192.0.2.0/24", text)
				continue
			}
			a.Grant.Networks = append(a.Grant.Networks, n)
		}
	}
	v, ok = o.optional("names")
	a.Grant.Names = o.patterns(v, ok)
	v, ok = o.optional("types")
	for _, item := range o.array(v, ok) {
		if text, ok := o.text(item, true); ok {
			t, err := zones.ParseType(text)
			if err == nil && t.IsMeta() {
				o.add(item.at, "%s exists only in messages", t)
				continue
			}
			if err != nil {
				o.add(item.at, "%v", err)
				continue
			}
			a.Grant.Types = append(a.Grant.Types, t)
		}
	}
	o.end()
	return a
}

// parseNetwork reads a network, or an address, which is a network of one.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// patterns reads sets of names.
func (f *form) patterns(v value, ok bool) (patterns []zones.NamePattern) {
	for _, item := range f.array(v, ok) {
		o := f.object(item)
		p := zones.NamePattern{}
		v, ok := o.required("name")
		p.Name, _ = o.name(v, ok, zones.Root)
		p.Self, p.Below = o.flag("self"), o.flag("below")
		o.end()
		patterns = append(patterns, p)
	}
	return patterns
}

// flag reads a truth value that is false when it isn't there.
func (o *object) flag(name string) bool {
	v, ok := o.optional(name)
	if ok && v.what != "true" && v.what != "false" {
		o.add(v.at, "want true or false, not %s", v.kind())
	}
	return v.what == "true"
}
