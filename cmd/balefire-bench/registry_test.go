package main

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestRegistry reads what is written for a registry, and asks for what it has.
func TestRegistry(t *testing.T) {
	const names = 3000
	z, err := writeRegistry(t.TempDir(), smallRegistryApex, names)
	if err != nil {
		t.Fatal(err)
	}
	all := records(t, z)
	delegations, signed, withGlue := 0, 0, 0
	for owner, rrs := range all {
		if owner == z.apex || rrs[0].Header().Rrtype != dns.TypeNS {
			continue
		}
		delegations++
		for _, rr := range rrs {
			switch rr := rr.(type) {
			case *dns.DS:
				signed++
			case *dns.NS:
				if strings.HasSuffix(rr.Ns, "."+owner) {
					withGlue++
					if len(all[rr.Ns]) != 1 || all[rr.Ns][0].Header().Rrtype != dns.TypeA {
						t.Fatalf("%s has no glue", rr.Ns)
					}
				}
			}
		}
	}
	if delegations != names || signed != names/secured || withGlue != 2*names/glued {
		t.Errorf("%d delegations, %d with a DS, %d name servers with glue", delegations, signed, withGlue)
	}
	for i := range registryHosts {
		if rrs := all[host(i)+"."+z.apex]; len(rrs) != 1 || rrs[0].Header().Rrtype != dns.TypeA {
			t.Fatalf("host %d has %v", i, rrs)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, m := range registryMixes(z.apex) {
		absent := 0
		for range 1000 {
			name := m.question(rng, names)
			_, parent, _ := strings.Cut(name, ".")
			switch {
			case len(all[name]) > 0:
				t.Fatalf("%s asks for %s, which is there", m.name, name)
			case parent == z.apex:
				absent++
			case len(all[parent]) < 2:
				t.Fatalf("%s asks for %s, which is below no delegation", m.name, name)
			}
		}
		if want := strings.Contains(m.name, "NXDOMAIN"); want != (absent > 200) || absent > 400 {
			t.Errorf("%s: %d of 1000 are in no delegation", m.name, absent)
		}
	}
}

func TestQuantile(t *testing.T) {
	var f figures
	if f.quantile(0.99) != 0 {
		t.Error("of none")
	}
	for i := range 200 {
		f = append(f, float64(200-i))
	}
	if got := f.quantile(0.99); got != 199 {
		t.Errorf("99th percentile of 1 to 200: %v", got)
	}
	if got := (figures{3}).quantile(0.99); got != 3 {
		t.Errorf("of one: %v", got)
	}
}

func TestMetrics(t *testing.T) {
	const text = "# HELP a x\na 1\nab{le=\"0.5\"} 2e3\nb 7\na_bad x\n"
	got := metricsIn(text, []string{"a"})
	if len(got) != 2 || got["a"] != 1 || got[`ab{le="0.5"}`] != 2000 {
		t.Errorf("%v", got)
	}
}

func TestLongest(t *testing.T) {
	bucket := func(counts ...float64) map[string]float64 {
		m := map[string]float64{}
		for i, bound := range []string{"0.001", "0.01", "0.1", "+Inf"} {
			m[`p{le="`+bound+`"}`] = counts[i]
		}
		return m
	}
	before := bucket(5, 6, 6, 7)
	for want, after := range map[string]map[string]float64{
		none: before, "< 1": bucket(8, 9, 9, 10), "< 10": bucket(5, 9, 9, 10), "< 100": bucket(5, 6, 9, 10),
	} {
		if got := longest(before, after, "p"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
