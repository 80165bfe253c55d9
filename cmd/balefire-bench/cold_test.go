package main

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestColdMixes: hot zones are of the fleet, and what is made up is not.
func TestColdMixes(t *testing.T) {
	const fleet = 3000
	zones := map[string]bool{}
	for i := range fleet {
		zones[fleetApex(i)] = true
	}
	of := func(name string) (apex string) {
		for rest := name; rest != ""; _, rest, _ = strings.Cut(rest, ".") {
			if zones[rest] {
				return rest
			}
		}
		return ""
	}
	rng := rand.New(rand.NewPCG(1, 2))
	asked := map[string]map[string]bool{}
	for _, m := range coldMixes {
		asked[m.name] = map[string]bool{}
		for range 20_000 {
			name := m.question(rng, fleet)
			apex := of(name)
			asked[m.name][apex] = true
			if real := name == "www."+apex; real != strings.Contains(m.name, "zones") && apex != "" && m.name != "half of each" {
				t.Fatalf("%s: %s", m.name, name)
			}
		}
	}
	for name, want := range map[string]int{
		coldMixes[0].name: favourites, coldMixes[1].name: fleet, coldMixes[3].name: favourites, coldMixes[4].name: 1, coldMixes[5].name: 1,
	} {
		if got := len(asked[name]); got < want*9/10 || got > want {
			t.Errorf("%s: %d zones, not %d", name, got, want)
		}
	}
	if asked[coldMixes[4].name][""] || !asked[coldMixes[5].name][""] {
		t.Error("names below a zone are below none, or zones that are not hosted are")
	}
}
