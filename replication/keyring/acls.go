package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"balefire/zones"
)

// aclPrefix is followed by the ACL's name.
const aclPrefix = "acl/"

// ACL is a grant for all zones of the namespace, or for some of them.
type ACL struct {
	Name string
	// Zones are for which it is; none: for all.
	Zones []zones.NamePattern
	Grant zones.Grant
	// Changed is when it was set, in UTC, to the second.
	Changed time.Time
}

// Limits of one ACL.
const (
	maxZones    = 256
	maxNetworks = 256
	maxNames    = 32
	maxTypes    = 32
)

var aclName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// Check returns what is wrong with an ACL.
func (a ACL) Check() error {
	g := a.Grant
	switch {
	case !aclName.MatchString(a.Name):
		return errors.New("a name is 1 to 63 of a to z, 0 to 9, - _ and ., and begins with a letter or digit")
	case !g.Deeds.Valid():
		return errors.New("it allows nothing: want one or more of transfer, update and notify")
	case g.Key == "" && len(g.Networks) == 0:
		return errors.New("it is for nobody: want a key, networks, or both")
	case len(a.Zones) > maxZones || len(g.Networks) > maxNetworks || len(g.Names) > maxNames || len(g.Types) > maxTypes:
		return fmt.Errorf("want at most %d zones, %d networks, %d names and %d types", maxZones, maxNetworks, maxNames, maxTypes)
	case g.Deeds&zones.DeedUpdate == 0 && len(g.Names)+len(g.Types) > 0:
		return errors.New("names and types are for updates, which it does not allow")
	}
	for _, p := range slices.Concat(a.Zones, g.Names) {
		if p.Name == "" || !p.Self && !p.Below {
			return errors.New("a pattern of names matches none")
		}
	}
	for _, n := range g.Networks {
		if !n.IsValid() || n.Masked() != n || n.Addr().Is4In6() {
			return fmt.Errorf("%s is no network", n)
		}
	}
	return nil
}

// covers reports whether the ACL is for a zone.
func (a *ACL) covers(apex zones.Name) bool {
	return len(a.Zones) == 0 || slices.ContainsFunc(a.Zones, func(p zones.NamePattern) bool { return p.Matches(apex) })
}

// aclRecord is the value of an ACL.
type aclRecord struct {
	V        int             `json:"v"`
	Name     string          `json:"name"`
	Zones    []patternRecord `json:"zones,omitempty"`
	Allow    []string        `json:"allow,omitempty"`
	Key      string          `json:"key,omitempty"`
	Networks []netip.Prefix  `json:"networks,omitempty"`
	Names    []patternRecord `json:"names,omitempty"`
	Types    []string        `json:"types,omitempty"`
	Changed  time.Time       `json:"changed,omitzero"`
	Deleted  bool            `json:"deleted,omitempty"`
}

type patternRecord struct {
	Name  string `json:"name"`
	Self  bool   `json:"self,omitempty"`
	Below bool   `json:"below,omitempty"`
}

type namedDeed struct {
	deed zones.Deed
	name string
}

// deedNames are the deeds as they are written.
var deedNames = []namedDeed{{zones.DeedTransfer, "transfer"}, {zones.DeedUpdate, "update"}, {zones.DeedNotify, "notify"}}

// DeedNames returns what d allows, as it is written.
func DeedNames(d zones.Deed) (names []string) {
	for _, each := range deedNames {
		if d&each.deed != 0 {
			names = append(names, each.name)
		}
	}
	return names
}

// ParseDeeds reads what is allowed, as it is written.
func ParseDeeds(names []string) (d zones.Deed, err error) {
	for _, name := range names {
		i := slices.IndexFunc(deedNames, func(each namedDeed) bool { return each.name == name })
		if i < 0 {
			return 0, fmt.Errorf("%q is nothing that can be allowed: want transfer, update or notify", name)
		}
		d |= deedNames[i].deed
	}
	return d, nil
}

// record makes the record of an ACL.
func (a ACL) record() aclRecord {
	r := aclRecord{
		V: recordVersion, Name: a.Name, Zones: patternRecords(a.Zones), Allow: DeedNames(a.Grant.Deeds), Key: a.Grant.Key.String(),
		Networks: a.Grant.Networks, Names: patternRecords(a.Grant.Names), Changed: time.Now().UTC().Truncate(time.Second),
	}
	for _, t := range a.Grant.Types {
		r.Types = append(r.Types, t.String())
	}
	return r
}

func patternRecords(patterns []zones.NamePattern) (list []patternRecord) {
	for _, p := range patterns {
		list = append(list, patternRecord{p.Name.String(), p.Self, p.Below})
	}
	return list
}

func readPatterns(list []patternRecord) (patterns []zones.NamePattern, err error) {
	for _, p := range list {
		name, err := zones.ParseName(p.Name)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, zones.NamePattern{Name: name, Self: p.Self, Below: p.Below})
	}
	return patterns, nil
}

// readACL reads the record of an ACL; nil for one that was deleted. A field that is not known here could be a condition, so a record that has one is an
// error.
func readACL(topicKey string, value []byte) (*ACL, error) {
	if err := readVersion(value); err != nil {
		return nil, err
	}
	r, err := decodeACL(value)
	if err != nil {
		return nil, err
	}
	if topicKey != aclPrefix+r.Name {
		return nil, fmt.Errorf("it is of the name %q", r.Name)
	}
	if r.Deleted {
		return nil, nil
	}
	a := &ACL{Name: r.Name, Changed: r.Changed.UTC().Truncate(time.Second), Grant: zones.Grant{Networks: r.Networks}}
	if a.Zones, err = readPatterns(r.Zones); err != nil {
		return nil, err
	}
	if a.Grant.Names, err = readPatterns(r.Names); err != nil {
		return nil, err
	}
	if a.Grant.Deeds, err = ParseDeeds(r.Allow); err != nil {
		return nil, err
	}
	if r.Key != "" {
		if a.Grant.Key, err = zones.ParseName(r.Key); err != nil {
			return nil, err
		}
	}
	for _, text := range r.Types {
		t, err := zones.ParseType(text)
		if err != nil {
			return nil, err
		}
		a.Grant.Types = append(a.Grant.Types, t)
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	return a, nil
}

func decodeACL(value []byte) (r aclRecord, err error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	err = dec.Decode(&r)
	return r, err
}
