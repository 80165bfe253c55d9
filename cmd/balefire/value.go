package main

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is the text form of one option, bound to the variable that it sets. Set's error says what would be
// right; String is a text that Set takes. It is also a pflag.Value.
type value interface {
	Set(text string) error
	String() string
	Type() string // a word for people: "size"
}

type textValue struct{ p *string }

func text(p *string) value { return textValue{p} }

func (v textValue) Set(s string) error { *v.p = s; return nil }
func (v textValue) String() string     { return *v.p }
func (v textValue) Type() string       { return "text" }

type pathValue struct{ textValue }

func path(p *string) value { return pathValue{textValue{p}} }

func (v pathValue) Type() string { return "path" }

// nameValue is text that may become part of a topic's, group's or file's name.
type nameValue struct {
	textValue
	ok   *regexp.Regexp
	want string
}

func name(p *string) value {
	return nameValue{textValue{p}, plainName, "1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"}
}

// region is narrower than name: in a consumer group's name, NAMESPACE.REGION.GROUP, it ends at the next dot.
func region(p *string) value { return namespace(p) }

func namespace(p *string) value {
	return nameValue{textValue{p}, plainNamespace, "1 to 64 letters, digits, dashes and underscores, a letter or digit first"}
}

func (v nameValue) Set(s string) error {
	if !v.ok.MatchString(s) {
		return fmt.Errorf("%q: want %s", s, v.want)
	}
	*v.p = s
	return nil
}
func (v nameValue) Type() string { return "name" }

type boolValue struct{ p *bool }

func boolean(p *bool) value { return boolValue{p} }

func (v boolValue) Set(s string) error {
	switch s {
	case "true":
		*v.p = true
	case "false":
		*v.p = false
	default:
		return fmt.Errorf("%q: want true or false", s)
	}
	return nil
}
func (v boolValue) String() string { return strconv.FormatBool(*v.p) }
func (v boolValue) Type() string   { return "true|false" }

type numberValue struct {
	p        *int
	min, max int
}

func number(p *int, min, max int) value { return numberValue{p, min, max} }

func (v numberValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < v.min || n > v.max {
		return fmt.Errorf("%q: want a whole number from %d to %d", s, v.min, v.max)
	}
	*v.p = n
	return nil
}
func (v numberValue) String() string { return strconv.Itoa(*v.p) }
func (v numberValue) Type() string   { return "number" }

type durationValue struct {
	p        *time.Duration
	min, max time.Duration
}

func duration(p *time.Duration, min, max time.Duration) value { return durationValue{p, min, max} }

func (v durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < v.min || d > v.max {
		return fmt.Errorf("%q: want a time from %s to %s, such as 90s, 10m or 24h", s, shortDuration(v.min), shortDuration(v.max))
	}
	*v.p = d
	return nil
}
func (v durationValue) String() string { return shortDuration(*v.p) }
func (v durationValue) Type() string   { return "time" }

// shortDuration writes 10m, where Duration.String writes 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits are the units of sizes, largest first.
var sizeUnits = []struct {
	suffix string
	octets int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

type sizeValue struct {
	p   *int64
	min int64
}

func size(p *int64, min int64) value { return sizeValue{p, min} }

func (v sizeValue) Set(s string) error {
	number, unit := s, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = rest, u.octets
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit || n*unit < v.min {
		want := "want a size such as 512MiB or 4GiB"
		if v.min > 0 {
			want += ", at least " + formatSize(v.min)
		}
		return fmt.Errorf("%q: %s", s, want)
	}
	*v.p = n * unit
	return nil
}
func (v sizeValue) String() string { return formatSize(*v.p) }
func (v sizeValue) Type() string   { return "size" }

// formatSize writes octets in the largest unit that divides them.
func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.octets && n%u.octets == 0 && u.octets > 1 {
			return strconv.FormatInt(n/u.octets, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

type choiceValue struct {
	textValue
	of []string
}

func choice(p *string, of ...string) value { return choiceValue{textValue{p}, of} }

func (v choiceValue) Set(s string) error {
	if !slices.Contains(v.of, s) {
		return fmt.Errorf("%q: want one of %s", s, strings.Join(v.of, ", "))
	}
	*v.p = s
	return nil
}
func (v choiceValue) Type() string { return strings.Join(v.of, "|") }

type addressValue struct {
	textValue
	allowEmpty bool
}

func address(p *string) value { return addressValue{textValue{p}, false} }

// maybeAddress is an address, or empty.
func maybeAddress(p *string) value { return addressValue{textValue{p}, true} }

func (v addressValue) Set(s string) error {
	if s == "" && v.allowEmpty {
		*v.p = s
		return nil
	}
	if err := checkAddress(s); err != nil {
		return err
	}
	*v.p = s
	return nil
}
func (v addressValue) Type() string { return "host:port" }

// listValue is a list; its text form has commas.
type listValue struct {
	p          *[]string
	of         string // what an item is
	check      func(item string) error
	allowEmpty bool
}

func addresses(p *[]string, allowEmpty bool) value {
	return listValue{p, "host:port", checkAddress, allowEmpty}
}

func networks(p *[]string) value { return listValue{p, "network", checkNetwork, true} }

func (v listValue) Set(s string) error {
	var list []string
	if s != "" || !v.allowEmpty {
		for _, item := range strings.Split(s, ",") {
			item = strings.TrimSpace(item)
			if err := v.check(item); err != nil {
				return err
			}
			list = append(list, item)
		}
	}
	*v.p = list
	return nil
}
func (v listValue) String() string { return strings.Join(*v.p, ",") }
func (v listValue) Type() string   { return v.of + " list" }

func checkNetwork(s string) error {
	if p, err := netip.ParsePrefix(s); err != nil || p != p.Masked() {
		return fmt.Errorf("%q: want a network such as 192.0.2.0/24 or 2001:db8::/32", s)
	}
	return nil
}

// parseNetworks parses what checkNetwork has accepted.
func parseNetworks(list []string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			parsed = append(parsed, p)
		}
	}
	return parsed
}

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && strconv.FormatUint(n, 10) == port {
			return nil
		}
	}
	return fmt.Errorf("%q: want HOST:PORT, such as 192.0.2.1:53 or [2001:db8::1]:53", s)
}

// endsInPortZero tells addresses whose port the kernel chooses.
func endsInPortZero(a string) bool { return strings.HasSuffix(a, ":0") }
