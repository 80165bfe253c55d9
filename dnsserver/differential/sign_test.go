package differential

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/zones"
	"balefire/zones/zonefile"
	"balefire/zones/zonestest"
)

// chain says how a zone is signed.
type chain uint8

const (
	unsigned chain = iota
	nsec
	nsec3
	optOut
)

func (c chain) String() string { return [...]string{"unsigned", "nsec", "nsec3", "optout"}[c] }

// signer adds DNSSEC to a zone as RFC 4035 §2 and RFC 5155 §7.1 say. The signatures are noise: no server looks into them.
type signer struct {
	t       *testing.T
	rng     *rand.Rand
	apex    zones.Name
	chain   chain
	minimum uint32
	sets    []zones.RRset
	made    []zones.RRset
}

func sign(t *testing.T, rng *rand.Rand, apex zones.Name, sets []zones.RRset, c chain) []zones.RRset {
	s := &signer{t: t, rng: rng, apex: apex, chain: c, minimum: 300}
	s.sets = slices.Clone(sets)
	s.sets = append(s.sets, s.rrset(apex, zones.TypeDNSKEY, 3600, "257 3 13 "+s.noise(64), "256 3 13 "+s.noise(64)))
	if c != nsec {
		s.sets = append(s.sets, s.rrset(apex, zones.TypeNSEC3PARAM, 0, "1 0 0 -"))
	}
	view := zonestest.NewView(apex, s.sets)
	if soa, ok := view.Apex().RRset(zones.TypeSOA); ok {
		rdata := soa.First()
		minimum := rdata[len(rdata)-4:]
		s.minimum = min(soa.TTL, uint32(minimum[0])<<24|uint32(minimum[1])<<16|uint32(minimum[2])<<8|uint32(minimum[3]))
	}
	var authoritative []zones.Node // delegations among them
	for _, node := range view.Nodes() {
		var at zones.Location
		if err := view.Find(node.Owner, &at); err != nil {
			t.Fatal(err)
		}
		if at.Cut.IsZero() || at.Cut.Owner == node.Owner {
			authoritative = append(authoritative, node)
		}
	}
	if c == nsec {
		s.linkNSEC(authoritative)
	} else {
		s.linkNSEC3(authoritative)
	}
	for _, node := range authoritative {
		delegation := node.Owner != apex && node.Has(zones.TypeNS)
		for set := range node.RRsets() {
			if !delegation || set.Type == zones.TypeDS {
				s.sign(set)
			}
		}
	}
	return append(s.sets, s.made...)
}

func (s *signer) rrset(owner zones.Name, t zones.Type, ttl uint32, texts ...string) zones.RRset {
	s.t.Helper()
	var rdatas [][]byte
	for _, text := range texts {
		rdata, err := zonefile.ParseRData(t, text, "")
		if err != nil {
			s.t.Fatalf("%s %s: %v", t, text, err)
		}
		rdatas = append(rdatas, rdata)
	}
	set, err := zones.NewRRset(owner, t, ttl, rdatas...)
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

func (s *signer) noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

func (s *signer) sign(set zones.RRset) {
	counted := set.Owner.Labels()
	if set.Owner.IsWildcard() {
		counted--
	}
	keys := []int{11111}
	if set.Type == zones.TypeDNSKEY {
		keys = append(keys, 22222)
	}
	var texts []string
	for _, key := range keys {
		texts = append(texts, fmt.Sprintf("%s 13 %d %d 20800101000000 20200101000000 %d %s %s",
			set.Type, counted, set.TTL, key, s.apex, s.noise(64)))
	}
	s.made = append(s.made, s.rrset(set.Owner, zones.TypeRRSIG, set.TTL, texts...))
}

// types lists the types of a node's bitmap; signed, unless there is nothing that is.
func (s *signer) types(node zones.Node, also ...zones.Type) string {
	var types []zones.Type
	delegation := node.Owner != s.apex && node.Has(zones.TypeNS)
	signed := false
	for set := range node.RRsets() {
		if !delegation || set.Type == zones.TypeNS || set.Type == zones.TypeDS {
			types = append(types, set.Type)
			signed = signed || !delegation || set.Type == zones.TypeDS
		}
	}
	if signed && !slices.Contains(also, zones.TypeRRSIG) {
		types = append(types, zones.TypeRRSIG)
	}
	types = append(types, also...)
	slices.Sort(types)
	var names []string
	for _, t := range types {
		names = append(names, t.String())
	}
	return strings.Join(names, " ")
}

func (s *signer) linkNSEC(nodes []zones.Node) {
	for i, node := range nodes {
		next := nodes[(i+1)%len(nodes)].Owner
		set := s.rrset(node.Owner, zones.TypeNSEC, s.minimum, next.String()+" "+s.types(node, zones.TypeNSEC, zones.TypeRRSIG))
		s.made = append(s.made, set)
		s.sign(set)
	}
}

func (s *signer) linkNSEC3(nodes []zones.Node) {
	bitmaps := map[zones.Name]string{} // of names in the chain, empty non-terminals among them
	for _, node := range nodes {
		insecure := node.Owner != s.apex && node.Has(zones.TypeNS) && !node.Has(zones.TypeDS)
		if s.chain == optOut && insecure {
			continue // and so are empty non-terminals that only lead to it
		}
		bitmaps[node.Owner] = s.types(node)
		for name := node.Owner; name != s.apex; name = name.Parent() {
			if _, ok := bitmaps[name]; !ok {
				bitmaps[name] = ""
			}
		}
	}
	flags := 0
	if s.chain == optOut {
		flags = 1
	}
	hashes := map[string]string{}
	var order []string
	for name, bitmap := range bitmaps {
		hash := strings.ToLower(dns.HashName(name.String(), dns.SHA1, 0, ""))
		hashes[hash] = bitmap
		order = append(order, hash)
	}
	slices.Sort(order)
	for i, hash := range order {
		owner, err := s.apex.Child(hash)
		if err != nil {
			s.t.Fatal(err)
		}
		text := fmt.Sprintf("1 %d 0 - %s %s", flags, order[(i+1)%len(order)], hashes[hash])
		set := s.rrset(owner, zones.TypeNSEC3, s.minimum, strings.TrimSpace(text))
		s.made = append(s.made, set)
		s.sign(set)
	}
}

func sortedSets(sets []zones.RRset) []zones.RRset {
	return slices.SortedFunc(slices.Values(sets), zones.CompareRRsets)
}
