package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"balefire/zones"
)

// labels are what generated names are made of: few, so that names collide, and odd, where DNS allows it.
var labels = []string{
	"a", "b", "c", "d", "e", "ns", "www", "a", "b", "c", "*", "MiXeD", "_tcp", "-",
	`\000`, `x\.y`, `\255\128`, `sp\032ace`, `\@`, `\042\042`, `semi\;colon`, `quo\"te`, `back\\slash`,
	strings.Repeat("l", 62) + "1",
}

// generator makes the text of a zone. The zones are valid by Balefire's rules, so they have neither data
// below a DNAME nor NS or DNAME at a wildcard, and else as entangled as it gets.
type generator struct {
	rng   *rand.Rand
	apex  string // with its final dot, not the root
	max   int    // octets of a name
	names []string
	roles map[zones.Name]role
	text  strings.Builder
}

type role uint8

const (
	empty role = iota
	data
	alias
	cut
	redirection
)

// generate makes a zone of about size names, of at most max octets.
func generate(rng *rand.Rand, apex string, size, max int) string {
	g := &generator{rng: rng, apex: apex, max: max, roles: map[zones.Name]role{}}
	g.names = []string{apex}
	for range size {
		g.grow(pick(rng, g.names), 1+rng.IntN(3))
	}
	g.growLongest()
	for _, name := range g.names {
		g.roles[zones.MustParseName(name)] = g.chooseRole(name)
	}
	g.roles[zones.MustParseName(apex)] = data
	for _, name := range slices.Clone(g.names) {
		if g.belowRedirection(zones.MustParseName(name)) {
			delete(g.roles, zones.MustParseName(name))
		}
	}
	g.names = slices.DeleteFunc(g.names, func(name string) bool { _, ok := g.roles[zones.MustParseName(name)]; return !ok })

	g.add(apex, g.ttl(), "SOA", fmt.Sprintf("ns.%s host.%s %d 7200 900 1209600 %d", apex, apex, 1+rng.IntN(1000), g.ttl()))
	g.addServers(apex)
	for _, name := range g.names {
		switch g.roles[zones.MustParseName(name)] {
		case data:
			g.addData(name)
		case alias:
			g.add(name, g.ttl(), "CNAME", g.target())
		case redirection:
			g.add(name, g.ttl(), "DNAME", g.target())
			if rng.IntN(2) == 0 {
				g.add(name, g.ttl(), "A", "192.0.2.7")
			}
		case cut:
			g.addServers(name)
			if rng.IntN(3) == 0 {
				g.add(name, g.ttl(), "DS", fmt.Sprintf("%d 13 2 %064x", rng.IntN(65536), rng.Uint64()))
			}
		}
	}
	return g.text.String()
}

// grow adds a name some labels below another one; the names between may stay empty.
func (g *generator) grow(name string, by int) {
	for range by {
		name = pick(g.rng, labels) + "." + name
	}
	g.addName(name)
}

func (g *generator) addName(name string) bool {
	n, err := zones.ParseName(name)
	if err != nil || len(n) > g.max {
		return false
	}
	for _, other := range g.names {
		if zones.MustParseName(other) == n {
			return false
		}
	}
	g.names = append(g.names, name)
	return true
}

// growLongest adds a name of max octets.
func (g *generator) growLongest() {
	name := g.apex
	for {
		rest := g.max - len(zones.MustParseName(name)) - 1
		if rest < 1 {
			break
		}
		name = strings.Repeat("z", min(rest, zones.MaxLabelLen)) + "." + name
	}
	g.addName(name)
}

func (g *generator) chooseRole(name string) role {
	n := g.rng.IntN(100)
	switch wild := strings.HasPrefix(name, "*."); {
	case n < 15:
		return alias
	case n < 30 && !wild:
		return cut
	case n < 36 && !wild:
		return redirection
	case n < 45:
		return empty
	}
	return data
}

// belowRedirection reports whether name is below a DNAME.
func (g *generator) belowRedirection(name zones.Name) bool {
	for name != zones.Root {
		name = name.Parent()
		if g.roles[name] == redirection {
			return true
		}
	}
	return false
}

func (g *generator) add(owner string, ttl int, rrtype string, rdata ...string) {
	for _, rd := range rdata {
		fmt.Fprintf(&g.text, "%s\t%d\tIN\t%s\t%s\n", owner, ttl, rrtype, rd)
	}
}

func (g *generator) ttl() int { return pick(g.rng, []int{0, 60, 300, 3600, 86400}) }

// target is a name for RDATA: one of the zone, one below it, one that is nowhere, one outside.
func (g *generator) target() string {
	name := pick(g.rng, g.names)
	switch g.rng.IntN(8) {
	case 0:
		return pick(g.rng, []string{"ns.elsewhere.invalid.", "invalid.", ".", "www.other.invalid."})
	case 1, 2:
		below := pick(g.rng, labels) + "." + name
		if _, err := zones.ParseName(below); err == nil {
			return below
		}
	}
	return name
}

func (g *generator) targets(n int) []string {
	var out []string
	for range n {
		out = append(out, g.target())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addServers adds NS, some of them inside the zone cut, and addresses for those, if nothing else is there.
func (g *generator) addServers(owner string) {
	servers := g.targets(1 + g.rng.IntN(3))
	for _, label := range []string{"ns1", `n\.s`, "ns2.deeper"} {
		inside := label + "." + owner
		n, err := zones.ParseName(inside)
		if _, taken := g.roles[n]; err != nil || taken || g.rng.IntN(2) == 0 || g.belowRedirection(n) {
			continue
		}
		g.roles[n] = data
		servers = append(servers, inside)
		g.addAddresses(inside)
	}
	g.add(owner, g.ttl(), "NS", servers...)
}

func (g *generator) addAddresses(owner string) {
	which := g.rng.IntN(4)
	if which != 1 {
		g.add(owner, g.ttl(), "A", g.addresses("192.0.2.%d")...)
	}
	if which != 0 {
		g.add(owner, g.ttl(), "AAAA", g.addresses("2001:db8::%x")...)
	}
}

func (g *generator) addresses(format string) (out []string) {
	for i := range 1 + g.rng.IntN(3) {
		out = append(out, fmt.Sprintf(format, 1+i+g.rng.IntN(80)*3))
	}
	return out
}

// addData adds RRsets of some types.
func (g *generator) addData(owner string) {
	for n := 1 + g.rng.IntN(3); n > 0; n-- {
		switch g.rng.IntN(18) {
		case 0, 1, 2, 3:
			if !strings.Contains(g.text.String(), "\n"+owner+"\t") { // or the TTLs of one RRset would differ
				g.addAddresses(owner)
				return
			}
		case 4:
			g.once(owner, "TXT", `"`+strings.Repeat("t", g.rng.IntN(200))+`"`, `"second" "\000\"\255"`)
		case 5:
			g.once(owner, "MX", prefixed("10 ", g.targets(4))...)
		case 6:
			g.once(owner, "SRV", prefixed("1 2 53 ", g.targets(3))...)
		case 7:
			g.once(owner, "PTR", g.targets(2)...)
		case 8:
			g.once(owner, "TYPE65280", `\# 4 00010203`, `\# 0`)
		case 9:
			g.once(owner, "CAA", `0 issue "ca.invalid"`)
		case 10:
			g.once(owner, "NAPTR", `1 2 "U" "sip" "!^.*$!x!" `+g.target())
		case 11: // more than 512 octets
			g.once(owner, "TXT", prefixed("", g.strings(12, 60))...)
		case 12: // more than 1232 octets
			g.once(owner, "TXT", prefixed("", g.strings(12, 150))...)
		case 13:
			g.once(owner, "MX", prefixed("20 ", g.targets(20))...)
		case 14:
			g.once(owner, "SSHFP", "1 1 123456789abcdef67890123456789abcdef67890")
		case 15:
			g.once(owner, "HINFO", `"c" "o"`)
		case 16:
			g.once(owner, "HTTPS", "1 "+g.target()+" port=53")
		case 17:
			g.once(owner, "TLSA", "1 1 1 "+strings.Repeat("ab", 32))
		}
	}
}

// once adds an RRset unless the owner has one of the type already.
func (g *generator) once(owner, rrtype string, rdata ...string) {
	for line := range strings.SplitSeq(g.text.String(), "\n") {
		if fields := strings.Split(line, "\t"); len(fields) > 3 && fields[0] == owner && fields[3] == rrtype {
			return
		}
	}
	g.add(owner, g.ttl(), rrtype, rdata...)
}

func (g *generator) strings(n, size int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(`"%d%s"`, i, strings.Repeat("x", size)))
	}
	return out
}

func prefixed(prefix string, in []string) (out []string) {
	for _, s := range in {
		out = append(out, prefix+s)
	}
	return out
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// generateGlue makes a zone of delegations whose referrals are around 512 and 1232 octets, with servers
// inside the delegation, beside it, and both.
func generateGlue(apex string) string {
	g := &generator{apex: apex}
	g.add(apex, 300, "SOA", "ns."+apex+" host."+apex+" 1 7200 900 1209600 300")
	g.add(apex, 300, "NS", "ns.elsewhere.invalid.")
	for servers := 1; servers <= 24; servers++ {
		inside, beside := fmt.Sprintf("in%d.%s", servers, apex), fmt.Sprintf("by%d.%s", servers, apex)
		for i := range servers {
			host := fmt.Sprintf("server%02d.%s", i, inside)
			g.add(inside, 300, "NS", host)
			g.add(host, 300, "A", fmt.Sprintf("192.0.2.%d", i))
			g.add(host, 300, "AAAA", fmt.Sprintf("2001:db8::%d", i))
			if i%2 == 0 {
				g.add(beside, 300, "NS", host)
			} else {
				g.add(beside, 300, "NS", fmt.Sprintf("server%02d.%s", i, beside))
				g.add(fmt.Sprintf("server%02d.%s", i, beside), 300, "A", fmt.Sprintf("192.0.2.%d", 100+i))
			}
		}
	}
	return g.text.String()
}

// generateMail makes a zone in which names have one to twenty hosts to give addresses of.
func generateMail(apex string) string {
	g := &generator{apex: apex}
	g.add(apex, 300, "SOA", "ns."+apex+" host."+apex+" 1 7200 900 1209600 300")
	g.add(apex, 300, "NS", "ns.elsewhere.invalid.")
	for hosts := 1; hosts <= 20; hosts++ {
		g.add(fmt.Sprintf("host%02d.%s", hosts, apex), 300, "A", fmt.Sprintf("192.0.2.%d", hosts))
		for i := range hosts {
			g.add(fmt.Sprintf("to%d.%s", hosts, apex), 300, "MX", fmt.Sprintf("10 host%02d.%s", i+1, apex))
			g.add(fmt.Sprintf("to%d.%s", hosts, apex), 300, "SRV", fmt.Sprintf("1 1 1 host%02d.%s", i+1, apex))
			g.add(fmt.Sprintf("cut%d.%s", hosts, apex), 300, "NS", fmt.Sprintf("host%02d.%s", i+1, apex))
		}
	}
	return g.text.String()
}

// generateChains makes aliases that lead to each other, in lines and in rings, by CNAME and by DNAME.
func generateChains(apex string) string {
	g := &generator{apex: apex}
	g.add(apex, 300, "SOA", "ns."+apex+" host."+apex+" 1 7200 900 1209600 300")
	g.add(apex, 300, "NS", "ns.elsewhere.invalid.")
	const long = 20
	for i := range long {
		g.add(fmt.Sprintf("line%d.%s", i, apex), 300, "CNAME", fmt.Sprintf("line%d.%s", i+1, apex))
	}
	g.add(fmt.Sprintf("line%d.%s", long, apex), 300, "A", "192.0.2.1")
	for size := 1; size <= 4; size++ {
		for i := range size {
			g.add(fmt.Sprintf("c%d.ring%d.%s", i, size, apex), 300, "CNAME", fmt.Sprintf("c%d.ring%d.%s", (i+1)%size, size, apex))
			g.add(fmt.Sprintf("d%d-ring%d.%s", i, size, apex), 300, "DNAME", fmt.Sprintf("d%d-ring%d.%s", (i+1)%size, size, apex))
		}
	}
	for i := range 3 {
		g.add(fmt.Sprintf("hop%d.%s", i, apex), 300, "DNAME", fmt.Sprintf("hop%d.%s", i+1, apex))
	}
	g.add("x.hop3."+apex, 300, "A", "192.0.2.1")
	g.add("*.wild."+apex, 300, "CNAME", "x.hop0."+apex)
	g.add("*.self."+apex, 300, "CNAME", "b.self."+apex)
	g.add("grow."+apex, 300, "DNAME", "x.y.grow."+apex)
	long63 := strings.Repeat("o", 63)
	g.add("over."+apex, 300, "DNAME", long63+"."+long63+"."+long63+"."+apex)
	g.add("toover."+apex, 300, "CNAME", long63+".over."+apex)
	return g.text.String()
}

// generateWild makes a zone with wildcards at the apex and below, with delegations and empty non-terminals among them.
func generateWild(apex string) string {
	g := &generator{apex: apex}
	g.add(apex, 300, "SOA", "ns."+apex+" host."+apex+" 1 7200 900 1209600 300")
	g.add(apex, 300, "NS", "ns."+apex, "ns.away."+apex, "ns.elsewhere.invalid.")
	for _, name := range []string{"", "one.", "cut.two.", "*."} {
		g.add("*."+name+apex, 300, "TXT", "wild")
		g.add("*."+name+apex, 300, "A", "192.0.2.1")
		g.add("here."+name+apex, 300, "MX", "10 away."+name+apex, "20 ns."+apex)
		g.add("x.ent."+name+apex, 300, "AAAA", "2001:db8::1")
		g.add("*.alias."+name+apex, 300, "CNAME", "away."+apex)
	}
	g.add("x.*.stars."+apex, 300, "A", "192.0.2.2")
	for _, name := range []string{"cut.ent.", "cut.one.", "cut.two.", "deep.below.nothing.", "cut.*.lonely."} {
		g.add(name+apex, 300, "NS", "ns."+apex, "ns."+name+apex, "ns.away."+apex)
		g.add("ns."+name+apex, 300, "A", "192.0.2.3")
	}
	g.add("cut.one."+apex, 300, "DS", "1 13 2 "+strings.Repeat("00", 32))
	return g.text.String()
}

// generateApexDNAME makes a zone that is a DNAME.
func generateApexDNAME(apex, target string) string {
	return apex + "\t60\tIN\tSOA\tns.elsewhere.invalid. host." + apex + " 1 2 3 4 30\n" +
		apex + "\t60\tIN\tNS\tns.elsewhere.invalid.\n" +
		apex + "\t90\tIN\tDNAME\t" + target + "\n" +
		apex + "\t90\tIN\tTXT\t\"apex\"\n"
}
