package differential

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"balefire/zones"
	"balefire/zones/answer"
)

// exception is a difference from what NSD and Knot agree on that is meant.
type exception struct {
	name string
	row  int // of ANSWERS.md
	when func(c comparison) bool
}

// comparison is one question and what became of it.
type comparison struct {
	q question
	// again asks the three servers another question.
	again               func(question) (comparison, error)
	exists              func(owner zones.Name) bool // in any of the zones, other than as an empty non-terminal
	nsd, knot, balefire *reply
	differing           []string // fields in which NSD and Knot agree, and Balefire does not
	agreed              bool     // NSD and Knot agree in everything
	unread              bool     // what NSD or Knot said could not be read: nothing is compared
}

var exceptions = []exception{
	{"other optional records fit, as compression differs", 69, func(c comparison) bool {
		if c.q.tcp || !slices.Equal(c.differing, []string{"additional"}) {
			return false
		}
		q := c.q
		q.tcp = true
		whole, err := c.again(q)
		return err == nil && !slices.Contains(whole.differing, "additional") && within(c.balefire.additional, whole.balefire.additional)
	}},
	{"addresses synthesised from wildcards: none here", 31, comparison.wildcardGlue},
	{"all but optional glue fits: better compression, nothing from wildcards, no loop gone around again", 66, comparison.fits},
	{"no more than thirteen names get addresses that are optional", 32, comparison.capped},
	// NSD leaves the closest encloser of a wildcard's NODATA unproven, and Knot does when the name asked for
	// begins with an asterisk (RFC 5155 §7.2.5 wants it).
	{"wildcard NODATA proves its closest encloser", 75, func(c comparison) bool {
		if !c.q.do || !c.q.name.IsWildcard() || c.balefire.rcode != dns.RcodeSuccess || len(c.balefire.answer) > 0 {
			return false
		}
		if slices.Equal(c.differing, []string{"tc"}) {
			q := c.q
			q.tcp = true
			whole, err := c.again(q)
			return err == nil && whole.proves()
		}
		return c.proves()
	}},
	// Under opt-out, NSD and Knot answer for a DS as if no wildcard matched (RFC 5155 §7.2.4); §7.2.5 wants the NSEC3 of the wildcard besides.
	{"wildcard NODATA shows the wildcard's types for DS, too", 75, func(c comparison) bool {
		return c.q.do && c.asks(zones.TypeDS) && slices.Equal(c.differing, []string{"authority"}) && c.balefire.rcode == dns.RcodeSuccess &&
			len(c.balefire.answer) == 0 && within(c.nsd.authority, c.balefire.authority) && len(c.balefire.authority) == len(c.nsd.authority)+2
	}},
	{"addresses for SVCB and HTTPS: NSD has none, Knot misses names with capitals", 32, func(c comparison) bool {
		return c.asks(zones.TypeSVCB, zones.TypeHTTPS) && slices.Equal(c.differing, []string{"additional"}) &&
			len(c.nsd.additional) == 0
	}},
	{"OPT, TSIG and TKEY as QTYPE are malformed", 39, func(c comparison) bool {
		return c.asks(zones.TypeOPT, zones.TypeTSIG, zones.TypeTKEY) && c.balefire.rcode == dns.RcodeFormatError
	}},
	{"MAILA and MAILB get NOTIMP", 40, func(c comparison) bool {
		return c.asks(zones.TypeMAILA, zones.TypeMAILB) && c.balefire.rcode == dns.RcodeNotImplemented
	}},
	{"NXNAME as QTYPE is malformed", 41, func(c comparison) bool {
		return c.asks(zones.TypeNXNAME) && c.balefire.rcode == dns.RcodeFormatError
	}},
}

func (c comparison) asks(types ...zones.Type) bool { return slices.Contains(types, c.q.qtype) }

// wildcardGlue reports whether all that is missing is at names that don't exist.
func (c comparison) wildcardGlue() bool {
	return slices.Equal(c.differing, []string{"additional"}) && within(c.balefire.additional, c.nsd.additional) &&
		!slices.ContainsFunc(c.nsd.additional, func(line string) bool {
			owner, _, _ := strings.Cut(line, "\t")
			return !slices.Contains(c.balefire.additional, line) && c.exists(zones.MustParseName(owner))
		})
}

// capped reports whether addresses are missing because there are enough.
func (c comparison) capped() bool {
	return slices.Equal(c.differing, []string{"additional"}) && len(c.balefire.additional) >= answer.MaxAdditional &&
		within(c.balefire.additional, c.knot.additional)
}

// proves reports whether the difference is that there are more proofs.
func (c comparison) proves() bool {
	return slices.Equal(c.differing, []string{"authority"}) && within(c.knot.authority, c.balefire.authority)
}

// fits reports whether the answer is not truncated because it has all but optional records, while the
// others' are too large for the message.
func (c comparison) fits() bool {
	if c.q.tcp || !slices.Equal(c.differing, []string{"tc"}) || c.balefire.tc {
		return false
	}
	q := c.q
	q.tcp = true
	whole, err := c.again(q)
	if err != nil || len(whole.differing) > 0 && !whole.wildcardGlue() && !whole.capped() {
		return false
	}
	if min(whole.nsd.size, whole.knot.size) <= c.q.limit() ||
		!slices.Equal(c.balefire.answer, whole.balefire.answer) || !slices.Equal(c.balefire.authority, whole.balefire.authority) {
		return false
	}
	return !slices.ContainsFunc(whole.balefire.additional, func(line string) bool {
		return !slices.Contains(c.balefire.additional, line) && c.insideCut(line)
	})
}

// insideCut reports whether a line's owner is at or below that of the NS in the authority section: then it
// is glue that a referral must have.
func (c comparison) insideCut(line string) bool {
	owner, _, _ := strings.Cut(line, "\t")
	return slices.ContainsFunc(c.balefire.authority, func(ns string) bool {
		fields := strings.Split(ns, "\t")
		return fields[3] == "ns" && zones.MustParseName(owner).IsAtOrBelow(zones.MustParseName(fields[0]))
	})
}

// within reports whether all lines are among those of whole.
func within(lines, whole []string) bool {
	return !slices.ContainsFunc(lines, func(line string) bool { return !slices.Contains(whole, line) })
}

// excused returns the index of the exception that a difference falls under.
func (c comparison) excused() (int, bool) {
	for i, e := range exceptions {
		if e.when(c) {
			return i, true
		}
	}
	return 0, false
}
