package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"balefire/store"
	"balefire/zones"
)

// remoteInfo is a server that a zone has to do with, as the API shows and takes it.
type remoteInfo struct {
	Address string `json:"address"`
	Port    uint16 `json:"port,omitempty"`
	Key     string `json:"key,omitempty"`
	TLS     bool   `json:"tls,omitempty"`
	TLSName string `json:"tls_name,omitempty"`
}

func (r remoteInfo) String() string {
	s := r.Address
	if addr, err := netip.ParseAddr(r.Address); err == nil {
		s = netip.AddrPortFrom(addr, r.Port).String()
	}
	if r.Key != "" {
		s = "key:" + r.Key + "@" + s
	}
	if r.TLS {
		s += strings.TrimSuffix(" over TLS as "+r.TLSName, " as ")
	}
	return s
}

// grantInfo is a grant, as the API shows and takes it.
type grantInfo struct {
	Key      string        `json:"key,omitempty"`
	Networks []string      `json:"networks,omitempty"`
	Names    []patternInfo `json:"names,omitempty"`
	Types    []string      `json:"types,omitempty"`
}

type patternInfo struct {
	Name  string `json:"name"`
	Scope string `json:"scope,omitempty"`
}

func (g grantInfo) String() string {
	s := strings.Join(g.Networks, ",")
	if g.Key != "" {
		s = strings.TrimSuffix("key:"+g.Key+"@"+s, "@")
	}
	for _, p := range g.Names {
		s += " " + p.Scope + ":" + p.Name
	}
	return strings.TrimSpace(s + " " + strings.Join(g.Types, ","))
}

// zoneDetails is a zone with all of its settings, as the API shows it.
type zoneDetails struct {
	zoneInfo
	Primaries     []remoteInfo `json:"primaries"`
	Notify        []remoteInfo `json:"notify"`
	AllowTransfer []grantInfo  `json:"allow_transfer"`
	AllowUpdate   []grantInfo  `json:"allow_update"`
	AllowNotify   []grantInfo  `json:"allow_notify"`
	Groups        []string     `json:"groups"`
	NewOwner      string       `json:"new_owner,omitempty"`
	Catalog       *struct {
		Role   string   `json:"role"`
		Groups []string `json:"groups,omitempty"`
	} `json:"catalog,omitempty"`
	Member *struct {
		Catalog string `json:"catalog"`
		Label   string `json:"label"`
	} `json:"member,omitempty"`
}

// How secondary zones stand.
const (
	awaiting = "awaiting"
	served   = "served"
)

// isSecondary reports whether a zone comes from primaries.
func (z zoneInfo) isSecondary() bool { return z.Standing != "" }

// hasSettings reports whether a zone has settings that those of a new one, with its serial policy, are not.
func (z zoneDetails) hasSettings() bool {
	return z.Frozen || len(z.Primaries)+len(z.Notify)+len(z.AllowTransfer)+len(z.AllowUpdate)+len(z.AllowNotify)+len(z.Groups) > 0 || z.NewOwner != ""
}

// settings are all of them, as PATCH takes them: but what the zone is as a catalog, and which it was made for.
func (z zoneDetails) settings() map[string]any {
	return map[string]any{
		"serial_policy": z.SerialPolicy, "frozen": z.Frozen, "primaries": z.Primaries, "notify": z.Notify,
		"allow_transfer": z.AllowTransfer, "allow_update": z.AllowUpdate, "allow_notify": z.AllowNotify,
		"groups": z.Groups, "new_owner": z.NewOwner,
	}
}

// detailsOf is a zone of a store as the API would show it, but for what is counted.
func detailsOf(z store.ZoneInfo) zoneDetails {
	d := zoneDetails{
		zoneInfo:  zoneInfo{Name: z.Apex.String(), Serial: uint32(z.Serial), SerialPolicy: z.Settings.SerialPolicy.String(), Frozen: z.Settings.Frozen},
		Primaries: remotesOf(z.Settings.Primaries), Notify: remotesOf(z.Settings.Notify),
		AllowTransfer: grantsOf(z.Settings.Grants, zones.DeedTransfer), AllowUpdate: grantsOf(z.Settings.Grants, zones.DeedUpdate),
		AllowNotify: grantsOf(z.Settings.Grants, zones.DeedNotify),
		Groups:      append([]string{}, z.Settings.Groups...), NewOwner: z.Settings.NewOwner.String(),
	}
	switch {
	case !z.Settings.IsSecondary():
	case z.Standing.Awaiting:
		d.Standing = awaiting
	case z.Standing.Expired:
		d.Standing = "expired"
	default:
		d.Standing = served
	}
	return d
}

func remotesOf(remotes []zones.Remote) []remoteInfo {
	all := []remoteInfo{}
	for _, r := range remotes {
		all = append(all, remoteInfo{Address: r.Addr.Addr().String(), Port: r.Addr.Port(), Key: r.Key.String(), TLS: r.TLS, TLSName: r.TLSName})
	}
	return all
}

func grantsOf(grants []zones.Grant, deed zones.Deed) []grantInfo {
	all := []grantInfo{}
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
				scope := "all"
				if !p.Below {
					scope = "self"
				} else if !p.Self {
					scope = "below"
				}
				info.Names = append(info.Names, patternInfo{p.Name.String(), scope})
			}
			for _, t := range g.Types {
				info.Types = append(info.Types, t.String())
			}
		}
		all = append(all, info)
	}
	return all
}

// rows adds what there is of settings to a table.
func (z zoneDetails) rows(t table) {
	if z.Standing != "" {
		t.row("secondary", z.secondary())
	}
	if z.Frozen {
		t.row("frozen", "yes")
	}
	list := func(name string, lines []string) {
		for _, line := range lines {
			t.row(name, line)
			name = ""
		}
	}
	list("primaries", texts(z.Primaries))
	list("notified", texts(z.Notify))
	list("may transfer", texts(z.AllowTransfer))
	list("may update", texts(z.AllowUpdate))
	list("may notify", texts(z.AllowNotify))
	if z.Catalog != nil {
		t.row("catalog", z.Catalog.Role)
		list("lists groups", z.Catalog.Groups)
	}
	list("groups", z.Groups)
	if z.NewOwner != "" {
		t.row("goes to catalog", z.NewOwner)
	}
	if z.Member != nil {
		t.row("of catalog", z.Member.Catalog+" as "+z.Member.Label)
	}
}

func texts[T fmt.Stringer](list []T) (all []string) {
	for _, one := range list {
		all = append(all, one.String())
	}
	return all
}

// secondary says how a secondary zone stands.
func (z zoneInfo) secondary() string {
	switch {
	case z.Standing == awaiting:
		return "awaits its first transfer"
	case z.ConfirmedAt == nil:
		return z.Standing
	}
	return z.Standing + ", confirmed at " + z.ConfirmedAt.Local().Format(time.DateTime)
}

// none is the term that empties a list.
const none = "none"

// primaryFlags say where a secondary zone comes from.
type primaryFlags struct {
	flag  string // that terms are of
	terms []string
	key   string
	tls   string // anyTLS, or the name that the certificate must be for; "" without TLS
}

// anyTLS is --tls without a name; none can be written so.
const anyTLS = "any"

func (f *primaryFlags) register(flags *pflag.FlagSet) { f.registerAs(flags, "secondary-of") }

// registerAs is register with another name for the flag of the primaries.
func (f *primaryFlags) registerAs(flags *pflag.FlagSet, name string) {
	f.flag = name
	flags.StringSliceVar(&f.terms, name, nil, "a primary that the zone comes from: [key:NAME@]ADDRESS[:PORT]; repeatable, in the order in which they are asked")
	flags.StringVar(&f.key, "tsig", "", "the TSIG key for primaries that have none of their own")
	flags.StringVar(&f.tls, "tls", "", "fetch over TLS (RFC 9103); --tls=NAME: from servers whose certificate is for that name")
	flags.Lookup("tls").NoOptDefVal = anyTLS
}

// remotes returns the primaries.
func (f *primaryFlags) remotes() ([]remoteInfo, error) {
	if len(f.terms) == 0 && (f.key != "" || f.tls != "") {
		return nil, usagef("--tsig and --tls are about primaries: --%s is missing", f.flag)
	}
	remotes, err := parseRemotes(f.flag, f.terms)
	for i := range remotes {
		r := &remotes[i]
		r.Key = firstOf(r.Key, f.key)
		if f.tls != "" {
			r.TLS = true
		}
		if f.tls != anyTLS {
			r.TLSName = f.tls
		}
	}
	return remotes, err
}

// parseRemotes reads the terms of a flag. "none" alone is an empty list.
func parseRemotes(flag string, terms []string) ([]remoteInfo, error) {
	remotes := []remoteInfo{}
	if len(terms) == 1 && terms[0] == none {
		return remotes, nil
	}
	for _, term := range terms {
		key, where, err := cutKey(term)
		if err != nil {
			return nil, usagef("--%s: %v", flag, err)
		}
		r := remoteInfo{Key: key}
		if at, err := netip.ParseAddrPort(where); err == nil {
			r.Address, r.Port = at.Addr().String(), at.Port()
		} else if addr, err := netip.ParseAddr(strings.Trim(where, "[]")); err == nil {
			r.Address = addr.String()
		} else {
			return nil, usagef("--%s %q: want an IP address, such as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53; with a key: key:NAME@ADDRESS", flag, term)
		}
		remotes = append(remotes, r)
	}
	return remotes, nil
}

// parseGrants reads the terms of a flag. "none" alone is an empty list.
func parseGrants(flag string, terms []string) ([]grantInfo, error) {
	grants := []grantInfo{}
	if len(terms) == 1 && terms[0] == none {
		return grants, nil
	}
	for _, term := range terms {
		key, where, err := cutKey(term)
		if err != nil {
			return nil, usagef("--%s: %v", flag, err)
		}
		g := grantInfo{Key: key}
		if where != "" {
			g.Networks = []string{where}
		}
		if _, err := netip.ParsePrefix(where); err != nil && where != "" {
			if _, err := netip.ParseAddr(where); err != nil {
				return nil, usagef("--%s %q: want key:NAME, an address or network such as 192.0.2.0/24, or key:NAME@NETWORK", flag, term)
			}
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// cutKey takes the key off a term: key:NAME, or key:NAME@rest.
func cutKey(term string) (key, rest string, err error) {
	named, ok := strings.CutPrefix(term, "key:")
	if !ok {
		if term == "" || term == none {
			return "", "", fmt.Errorf("%q is no term that can be one of several", term)
		}
		return "", term, nil
	}
	key, rest, _ = strings.Cut(named, "@")
	if _, err := zones.ParseName(key); err != nil {
		return "", "", fmt.Errorf("key %w", err)
	}
	return key, rest, nil
}

func newZoneSetCommand(conn *connection) *cobra.Command {
	var primaries primaryFlags
	var policy string
	var notify, transfer, update, notified, names, types, groups []string
	var newOwner string
	var detach bool
	cmd := &cobra.Command{
		Use:   "set ZONE",
		Short: "Change settings of a zone: those that are named, and no others",
		Long: `Change settings of a zone. What is not named stays as it is; "none" empties a list. Who may do something is said by terms: key:NAME for who
has a TSIG key, an address or network such as 192.0.2.0/24 for who comes from there, key:NAME@192.0.2.0/24 for who does both.
What no term allows is refused.`,
		Example: `  balefire zone set example.org. --notify 198.51.100.5 --allow-transfer key:secondary.example.
  balefire zone set example.org. --allow-update key:dhcp@192.0.2.0/24 --update-names dyn --update-types A,AAAA,TXT
  balefire zone set example.org. --notify none
  balefire zone set example.net. --secondary-of 192.0.2.1 --secondary-of 192.0.2.2 --tsig key.example.
  balefire zone set example.net. --secondary-of none
  balefire zone set example.org. --group customers --group signed
  balefire zone set example.org. --new-catalog other.catalog.example.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			body := map[string]any{}
			if cmd.Flags().Changed("serial-policy") {
				if _, err := zones.ParseSerialPolicy(policy); err != nil {
					return usagef("--serial-policy: %v", err)
				}
				body["serial_policy"] = policy
			}
			from, err := primaries.remotes()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("secondary-of") {
				body["primaries"] = from
			}
			if cmd.Flags().Changed("notify") {
				if body["notify"], err = parseRemotes("notify", notify); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("group") {
				body["groups"] = groupTerms(groups)
			}
			if cmd.Flags().Changed("new-catalog") {
				if body["new_owner"], err = newOwnerTerm(newOwner); err != nil {
					return err
				}
			}
			if detach {
				body["detached"] = true
			}
			for flag, terms := range map[string][]string{"allow-transfer": transfer, "allow-update": update, "allow-notify": notified} {
				if !cmd.Flags().Changed(flag) {
					continue
				}
				grants, err := parseGrants(flag, terms)
				if err != nil {
					return err
				}
				if flag == "allow-update" {
					restrict(grants, names, types)
				}
				body[strings.ReplaceAll(flag, "-", "_")] = grants
			}
			switch {
			case len(names)+len(types) > 0 && body["allow_update"] == nil:
				return usagef("--update-names and --update-types say what --allow-update allows, which is missing")
			case len(body) == 0:
				return usagef("nothing to set: see `balefire zone set --help`")
			}
			return patchZone(cmd, conn, apex, body, "set")
		},
	}
	conn.registerWait(cmd)
	flags := cmd.Flags()
	flags.StringVar(&policy, "serial-policy", "", "how the serial goes forward: increment, unixtime, date or keep")
	flags.StringSliceVar(&notify, "notify", nil, "a server that is told of changes: [key:NAME@]ADDRESS[:PORT]; repeatable")
	flags.StringSliceVar(&transfer, "allow-transfer", nil, "who may transfer the zone; repeatable")
	flags.StringSliceVar(&update, "allow-update", nil, "who may change the zone by dynamic updates; repeatable")
	flags.StringSliceVar(&notified, "allow-notify", nil, "who, besides its primaries, may say that a secondary zone has changed; repeatable")
	flags.StringArrayVar(&groups, "group", nil, "a group that the zone is in, which catalogs say of it; repeatable")
	flags.StringVar(&newOwner, "new-catalog", "", "the catalog that is to have the zone: the others that list it say so, and it lists it")
	flags.BoolVar(&detach, "detach", false, "take the zone off the catalog that it was made for, which does nothing to it any more")
	flags.StringSliceVar(&names, "update-names", nil, "names that --allow-update is about, with all below them; repeatable")
	flags.StringSliceVar(&types, "update-types", nil, "types of records that --allow-update is about; repeatable")
	primaries.register(flags)
	return cmd
}

// groupTerms reads the terms of --group. "none" alone is an empty list.
func groupTerms(groups []string) []string {
	if len(groups) == 1 && groups[0] == none {
		return []string{}
	}
	return groups
}

// newOwnerTerm reads --new-catalog.
func newOwnerTerm(text string) (string, error) {
	if text == none {
		return "", nil
	}
	apex, err := zones.ParseName(text)
	if err != nil {
		return "", usagef("--new-catalog: %v", err)
	}
	return apex.String(), nil
}

// restrict says what grants for updates are about.
func restrict(grants []grantInfo, names, types []string) {
	for i := range grants {
		for _, name := range names {
			grants[i].Names = append(grants[i].Names, patternInfo{Name: name})
		}
		grants[i].Types = types
	}
}

func patchZone(cmd *cobra.Command, conn *connection, apex zones.Name, body map[string]any, done string) error {
	c, err := conn.dial()
	if err != nil {
		return err
	}
	got, err := c.change(cmd.Context(), request{method: http.MethodPatch, path: []string{"v1", "zones", apex.String()}, body: body})
	if err != nil {
		return err
	}
	return printChanged(cmd, conn, got, done)
}

func newZoneFreezeCommand(conn *connection) *cobra.Command {
	return newFreezeCommand(conn, "freeze", "Keep a zone's content as it is, whoever wants to change it", "frozen", true)
}

func newZoneThawCommand(conn *connection) *cobra.Command {
	return newFreezeCommand(conn, "thaw", "Let a frozen zone be changed again", "thawed", false)
}

func newFreezeCommand(conn *connection, use, short, done string, frozen bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use + " ZONE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			return patchZone(cmd, conn, apex, map[string]any{"frozen": frozen}, done)
		},
	}
	conn.registerWait(cmd)
	return cmd
}
