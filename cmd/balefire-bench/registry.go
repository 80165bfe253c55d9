package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/miekg/dns"
)

// Zones of delegations, as a registry has them: a large one, and a small one to compare it with.
const (
	registryApex      = "registry."
	smallRegistryApex = "small."
	registryHosts     = 1000 // names with an address of their own
	glued             = 10   // every such delegation has its name servers below itself
	secured           = 3    // every such delegation has a DS
	providers         = 997
)

// delegated returns the name of delegation i, whose order in the zone has nothing to do with i.
func delegated(i int) string { return "n" + host(i)[1:] }

// writeRegistry writes a zone of that many delegations, with two name servers each: of providers elsewhere, or, for a tenth, below
// themselves, with addresses. A third has a DS. Besides, there are hosts with an address.
func writeRegistry(dir, apex string, names int) (zone, error) {
	z := zone{apex: apex, file: filepath.Join(dir, apex+"zone")}
	return z, writeFile(z.file, func(w *bufio.Writer) {
		fmt.Fprintf(w, "$ORIGIN %s\n$TTL 86400\n@ IN SOA ns1 hostmaster 1 7200 900 1209600 300\n", apex)
		fmt.Fprintf(w, "@ IN NS ns1\n@ IN NS ns2\nns1 IN A 192.0.2.1\nns2 IN A 192.0.2.2\n")
		for i := range registryHosts {
			fmt.Fprintf(w, "%s IN A %s\n", host(i), address(i))
		}
		for i := range names {
			n := delegated(i)
			if i%glued == 0 {
				fmt.Fprintf(w, "%[1]s IN NS ns1.%[1]s\n%[1]s IN NS ns2.%[1]s\nns1.%[1]s IN A %[2]s\nns2.%[1]s IN A %[2]s\n", n, address(i))
			} else {
				fmt.Fprintf(w, "%[1]s IN NS ns1.p%[2]d.provider.example.\n%[1]s IN NS ns2.p%[2]d.provider.example.\n", n, i%providers)
			}
			if i%secured == 0 {
				fmt.Fprintf(w, "%s IN DS %d 13 2 %064x\n", n, i&0xffff, uint64(i)*0x9e3779b97f4a7c15)
			}
		}
	})
}

// registryMixes are what such a zone is asked for.
func registryMixes(apex string) []mix {
	referral := func(m *dns.Msg) bool {
		return m.Rcode == dns.RcodeSuccess && !m.Authoritative && len(m.Answer) == 0 && len(m.Ns) >= 2
	}
	delegation := func(rng *rand.Rand, names int) string {
		return fmt.Sprintf("www.%s.%s", delegated(rng.IntN(names)), apex)
	}
	return []mix{
		{name: "referrals", question: delegation, options: edns{present: true}, right: referral},
		{
			name: "30% NXDOMAIN",
			question: func(rng *rand.Rand, names int) string {
				if rng.IntN(100) < 30 {
					return fmt.Sprintf("no%x.%s", rng.Uint32(), apex)
				}
				return delegation(rng, names)
			},
			options: edns{present: true},
			right: func(m *dns.Msg) bool {
				return referral(m) || m.Rcode == dns.RcodeNameError && len(m.Ns) > 0
			},
		},
	}
}
