package change

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"balefire/zones"
)

// The settings of a zone: the messages Settings, Remote, Grant, Network and NamePattern of docs/formats/mutation.proto, which are in
// records and in the zone's state, and what is wrong with them.

// The fields that these messages have, by number.
var (
	settingsFields = schema{1: number, 2: number, 3: repeated, 4: repeated, 5: repeated, 6: octetString, 7: repeated, 8: octetString, 9: octetString}
	remoteFields   = schema{1: octetString, 2: number, 3: octetString, 4: number, 5: octetString}
	grantFields    = schema{1: number, 2: octetString, 3: repeated, 4: repeated, 5: octetString}
	networkFields  = schema{1: octetString, 2: number}
	patternFields  = schema{1: octetString, 2: number, 3: number}
)

func encodeSettings(s zones.ZoneSettings) []byte {
	b := appendNumber(nil, 1, uint64(s.SerialPolicy))
	b = appendFlag(b, 2, s.Frozen)
	for _, r := range s.Primaries {
		b = appendMessage(b, 3, encodeRemote(r))
	}
	for _, r := range s.Notify {
		b = appendMessage(b, 4, encodeRemote(r))
	}
	for _, g := range s.Grants {
		b = appendMessage(b, 5, encodeGrant(g))
	}
	return appendCatalogSettings(b, s)
}

func encodeRemote(r zones.Remote) []byte {
	b := appendOctets(nil, 1, r.Addr.Addr().AsSlice())
	b = appendNumber(b, 2, uint64(r.Addr.Port()))
	b = appendText(b, 3, string(r.Key))
	b = appendFlag(b, 4, r.TLS)
	return appendText(b, 5, r.TLSName)
}

func encodeGrant(g zones.Grant) []byte {
	b := appendNumber(nil, 1, uint64(g.Deeds))
	b = appendText(b, 2, string(g.Key))
	for _, n := range g.Networks {
		b = appendMessage(b, 3, appendNumber(appendOctets(nil, 1, n.Addr().AsSlice()), 2, uint64(max(n.Bits(), 0))))
	}
	for _, p := range g.Names {
		b = appendMessage(b, 4, appendFlag(appendFlag(appendText(nil, 1, string(p.Name)), 2, p.Self), 3, p.Below))
	}
	var types []byte
	for _, t := range g.Types {
		types = binary.BigEndian.AppendUint16(types, uint16(t))
	}
	return appendOctets(b, 5, types)
}

// settings reads a message Settings.
func (f field) settings(to *zones.ZoneSettings) error { return decodeSettings(f.octets, to) }

func decodeSettings(b []byte, to *zones.ZoneSettings) error {
	return read(b, "settings", settingsFields, func(f field) error {
		switch f.number {
		case 1:
			if f.value > math.MaxUint8 {
				return fmt.Errorf("settings: %d is no serial policy", f.value)
			}
			to.SerialPolicy = zones.SerialPolicy(f.value)
			return nil
		case 2:
			return f.flag(&to.Frozen)
		case 3:
			return appendDecoded(&to.Primaries, f.octets, MaxPrimaries, "primaries", decodeRemote)
		case 4:
			return appendDecoded(&to.Notify, f.octets, MaxNotify, "remotes to notify", decodeRemote)
		case 5:
			return appendDecoded(&to.Grants, f.octets, MaxGrants, "grants", decodeGrant)
		}
		return f.catalogSettings(to)
	})
}

// appendDecoded decodes one more of what a list may have only so many of.
func appendDecoded[T any](list *[]T, b []byte, most int, what string, decode func([]byte) (T, error)) error {
	if len(*list) == most {
		return tooMany(most, what)
	}
	one, err := decode(b)
	*list = append(*list, one)
	return err
}

func tooMany(most int, what string) *zones.Rejection {
	return &zones.Rejection{Rule: zones.RuleTooLarge, Op: -1, Detail: fmt.Sprintf("more than %d %s", most, what)}
}

func decodeRemote(b []byte) (r zones.Remote, err error) {
	var addr netip.Addr
	var port uint16
	err = read(b, "remote", remoteFields, func(f field) error {
		switch f.number {
		case 1:
			return f.address(&addr)
		case 2:
			if f.value > math.MaxUint16 {
				return fmt.Errorf("field 2: %d is no port", f.value)
			}
			port = uint16(f.value)
		case 3:
			return f.name(&r.Key)
		case 4:
			return f.flag(&r.TLS)
		case 5:
			r.TLSName = string(f.octets)
		}
		return nil
	})
	r.Addr = netip.AddrPortFrom(addr, port)
	return r, err
}

func decodeGrant(b []byte) (g zones.Grant, err error) {
	err = read(b, "grant", grantFields, func(f field) error {
		switch f.number {
		case 1:
			if f.value > math.MaxUint8 {
				return fmt.Errorf("field 1: %d are no deeds", f.value)
			}
			g.Deeds = zones.Deed(f.value)
		case 2:
			return f.name(&g.Key)
		case 3:
			return appendDecoded(&g.Networks, f.octets, MaxGrantTerms, "networks of a grant", decodeNetwork)
		case 4:
			return appendDecoded(&g.Names, f.octets, MaxGrantTerms, "names of a grant", decodePattern)
		case 5:
			if len(f.octets) > 2*MaxGrantTerms {
				return tooMany(MaxGrantTerms, "types of a grant")
			}
			if len(f.octets)%2 != 0 {
				return errors.New("field 5: types are two octets each")
			}
			for t := range slices.Chunk(f.octets, 2) {
				g.Types = append(g.Types, zones.Type(binary.BigEndian.Uint16(t)))
			}
		}
		return nil
	})
	return g, err
}

func decodeNetwork(b []byte) (netip.Prefix, error) {
	var addr netip.Addr
	var bits uint64
	err := read(b, "network", networkFields, func(f field) error {
		if f.number == 1 {
			return f.address(&addr)
		}
		bits = f.value
		return nil
	})
	if err == nil && (!addr.IsValid() || bits > uint64(addr.BitLen())) {
		err = errors.New("network: no address, or a prefix longer than that")
	}
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, int(bits)), nil
}

func decodePattern(b []byte) (p zones.NamePattern, err error) {
	err = read(b, "name pattern", patternFields, func(f field) error {
		switch f.number {
		case 1:
			return f.name(&p.Name)
		case 2:
			return f.flag(&p.Self)
		}
		return f.flag(&p.Below)
	})
	return p, err
}

func (f field) address(to *netip.Addr) error {
	addr, ok := netip.AddrFromSlice(f.octets)
	if !ok {
		return fmt.Errorf("field %d: an address is 4 or 16 octets", f.number)
	}
	*to = addr
	return nil
}

// appendSettings appends a field of message Settings, unless they say nothing.
func appendSettings(b []byte, field protowire.Number, s zones.ZoneSettings) []byte {
	if s.IsZero() {
		return b
	}
	return appendMessage(b, field, encodeSettings(s))
}

// checkSettings says what is wrong with the settings of a zone.
func checkSettings(s zones.ZoneSettings, apex zones.Name) *zones.Rejection {
	bad := func(rule zones.Rule, format string, args ...any) *zones.Rejection {
		return &zones.Rejection{Rule: rule, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case !s.SerialPolicy.Valid():
		return bad(zones.RuleMalformed, "no such serial policy: %s", s.SerialPolicy)
	case len(s.Primaries) > MaxPrimaries:
		return tooMany(MaxPrimaries, "primaries")
	case len(s.Notify) > MaxNotify:
		return tooMany(MaxNotify, "remotes to notify")
	case len(s.Grants) > MaxGrants:
		return tooMany(MaxGrants, "grants")
	}
	for _, list := range [][]zones.Remote{s.Primaries, s.Notify} {
		for i, r := range list {
			if why := remoteFault(r); why != "" {
				return bad(zones.RuleMalformed, "remote %s: %s", r.Addr, why)
			}
			if slices.Contains(list[:i], r) {
				return bad(zones.RuleMalformed, "remote %s is there twice", r.Addr)
			}
		}
	}
	for i, g := range s.Grants {
		if len(g.Networks) > MaxGrantTerms || len(g.Names) > MaxGrantTerms || len(g.Types) > MaxGrantTerms {
			return tooMany(MaxGrantTerms, "networks, names or types of a grant")
		}
		if why := grantFault(g, apex); why != "" {
			return bad(zones.RuleMalformed, "grant %d: %s", i, why)
		}
	}
	if rej := checkCatalogSettings(s, apex); rej != nil {
		return rej
	}
	if len(s.Primaries)+len(s.Notify)+len(s.Grants) == 0 && !s.InCatalogs() {
		return nil
	}
	if size := len(encodeSettings(s)); size > MaxSettings {
		return bad(zones.RuleTooLarge, "the settings take %d octets; at most %d are allowed", size, MaxSettings)
	}
	return nil
}

// addressFault says what keeps an address from being the only way to write it down; "" when nothing does.
func addressFault(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no address"
	case a.Zone() != "":
		return "an address with a zone, which means nothing elsewhere"
	case a.Is4In6():
		return "an IPv4 address written as one of IPv6"
	}
	return ""
}

// remoteFault says what is wrong with a remote as a value; "" when nothing is. Whether it may be spoken to is for who speaks.
func remoteFault(r zones.Remote) string {
	if why := addressFault(r.Addr.Addr()); why != "" {
		return why
	}
	switch {
	case r.Addr.Addr().IsUnspecified(), r.Addr.Addr().IsMulticast():
		return "not the address of a server"
	case r.Addr.Port() == 0:
		return "no port"
	case r.TLSName != "" && !r.TLS:
		return "a name for TLS without TLS"
	case len(r.TLSName) > MaxTLSName || !hostName(r.TLSName):
		return "the name for TLS is no host name"
	}
	return ""
}

// hostName says whether s has only what host names are written with.
func hostName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// grantFault says what is wrong with a grant; "" when nothing is.
func grantFault(g zones.Grant, apex zones.Name) string {
	switch {
	case !g.Deeds.Valid():
		return "no deeds, or unknown ones"
	case g.Key == "" && len(g.Networks) == 0:
		return "it takes a key, or a network"
	case g.Deeds&zones.DeedUpdate == 0 && (len(g.Names) > 0 || len(g.Types) > 0):
		return "names and types are about updates, which it does not allow"
	}
	for _, n := range g.Networks {
		if why := addressFault(n.Addr()); why != "" {
			return why
		}
		if n != n.Masked() || !n.IsValid() {
			return "network " + n.String() + " has bits after its prefix"
		}
	}
	for _, p := range g.Names {
		switch {
		case p.Name == "" || !p.Self && !p.Below:
			return "a pattern that matches nothing"
		case !p.Name.IsAtOrBelow(apex):
			return p.Name.String() + " is not in the zone " + apex.String()
		}
	}
	for _, t := range g.Types {
		if !typeKept(t) {
			return "no zone here holds type " + t.String()
		}
	}
	return ""
}
