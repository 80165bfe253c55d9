package differential

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// reply is a message as it is compared: sections as sorted lines, names in lower case, OPT apart.
type reply struct {
	rcode      int
	aa, tc     bool
	flags      string // all others
	question   string
	answer     []string
	authority  []string
	additional []string
	opt        string
	size       int
}

func readReply(message []byte) (*reply, error) {
	var m dns.Msg
	if err := m.Unpack(message); err != nil {
		return nil, fmt.Errorf("malformed reply: %w: %x", err, message)
	}
	r := &reply{rcode: m.Rcode, aa: m.Authoritative, tc: m.Truncated, size: len(message)}
	r.flags = fmt.Sprintf("%04x", binary.BigEndian.Uint16(message[2:])&^0x060f)
	for _, q := range m.Question {
		r.question += strings.ToLower(q.String())
	}
	r.answer, r.authority = lines(m.Answer), lines(m.Ns)
	var additional []dns.RR
	for _, rr := range m.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			r.opt += fmt.Sprintf("version %d do %t", opt.Version(), opt.Do())
			continue
		}
		additional = append(additional, rr)
	}
	r.additional = lines(additional)
	return r, nil
}

func lines(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.ToLower(rr.String()))
	}
	slices.Sort(out)
	return slices.Compact(out) // NSD and Knot may go around a loop of one alias twice
}

// header describes all but the sections.
func (r *reply) header() string {
	return fmt.Sprintf("%s aa=%t tc=%t flags=%s opt=%q %q %d octets",
		dns.RcodeToString[r.rcode], r.aa, r.tc, r.flags, r.opt, strings.ReplaceAll(r.question, "\t", " "), r.size)
}

// describe shows the three replies: headers, and the records, each with who has it.
func (c comparison) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: differs in %s\n", c.q, strings.Join(c.differing, ", "))
	replies := []*reply{c.nsd, c.knot, c.balefire}
	for i, r := range replies {
		fmt.Fprintf(&b, "  %-9s %s\n", [...]string{"NSD", "Knot", "Balefire"}[i], r.header())
	}
	for _, section := range []struct {
		name string
		of   func(*reply) []string
	}{
		{"answer", func(r *reply) []string { return r.answer }},
		{"authority", func(r *reply) []string { return r.authority }},
		{"additional", func(r *reply) []string { return r.additional }},
	} {
		var all []string
		for _, r := range replies {
			all = append(all, section.of(r)...)
		}
		slices.Sort(all)
		for _, line := range slices.Compact(all) {
			who := []byte("...")
			for i, r := range replies {
				if slices.Contains(section.of(r), line) {
					who[i] = "NKB"[i]
				}
			}
			fmt.Fprintf(&b, "  %s %-10s %.200s\n", who, section.name, line)
		}
	}
	if q := c.q; slices.Contains(c.differing, "tc") && !q.tcp {
		q.tcp = true
		if whole, err := c.again(q); err == nil {
			b.WriteString(whole.describe())
		}
	}
	return b.String()
}

// field is a part of a reply that is compared by itself.
type field struct {
	name string
	same func(a, b *reply) bool
	// decides means that replies which differ here are different answers: what comes after is not compared.
	decides bool
}

var fields = []field{
	{"rcode", func(a, b *reply) bool { return a.rcode == b.rcode }, true},
	{"question", func(a, b *reply) bool { return a.question == b.question }, false},
	{"flags", func(a, b *reply) bool { return a.flags == b.flags }, false},
	{"opt", func(a, b *reply) bool { return a.opt == b.opt }, false},
	{"aa", func(a, b *reply) bool { return a.aa == b.aa }, false},
	{"tc", func(a, b *reply) bool { return a.tc == b.tc }, true},
	// What is left of a truncated answer is of no use to anyone.
	{"answer", func(a, b *reply) bool { return a.tc || slices.Equal(a.answer, b.answer) }, true},
	{"authority", func(a, b *reply) bool { return a.tc || slices.Equal(a.authority, b.authority) }, false},
	{"additional", func(a, b *reply) bool { return a.tc || slices.Equal(a.additional, b.additional) }, false},
}

// compare returns the fields in which nsd and knot agree and balefire differs, and whether nsd and knot agree in all.
func compare(nsd, knot, balefire *reply) (differing []string, agreed bool) {
	agreed = true
	for _, f := range fields {
		// Whether an answer fits depends on what it is: two that differ, and both fit, say nothing of a third.
		byChance := f.name == "tc" && !nsd.tc && !knot.tc &&
			(!slices.Equal(nsd.answer, knot.answer) || !slices.Equal(nsd.authority, knot.authority))
		if !f.same(nsd, knot) || byChance {
			agreed = false
			if f.decides {
				return differing, false
			}
			continue
		}
		if !f.same(nsd, balefire) {
			differing = append(differing, f.name)
			if f.decides {
				return differing, agreed
			}
		}
	}
	return differing, agreed
}
