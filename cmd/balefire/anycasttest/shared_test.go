//go:build kafka

package anycasttest

import (
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestKafkaAnycastShared: a site of two nodes that share its partitions, and each announce the address. Either one answers for all
// zones, also while it is drained; when it is gone, the other one has everything.
func TestKafkaAnycastShared(t *testing.T) {
	const gossip, relay = ":7946", ":8054"
	join := ""
	w := newWorld(t, []string{"a", "b"}, func(s *site) (args, env []string) {
		if join == "" {
			join = s.ns.Address + gossip
		}
		return []string{
			"--region", "one", "--gossip-listen", s.ns.Address + gossip, "--gossip-join", join, "--relay-listen", s.ns.Address + relay,
		}, []string{"BALEFIRE_GOSSIP_KEY=" + base64.StdEncoding.EncodeToString(make([]byte, 32))}
	})
	var zones []string
	for i := range 12 {
		zones = append(zones, fmt.Sprintf("z%d.test.", i))
	}
	w.sites[0].importZones(zones...)
	for _, s := range w.sites {
		await(t, time.Minute, "each answers for all zones", func() bool { return answering(s.ns, zones...) == "site-"+s.name })
		await(t, time.Minute, "each has a half", func() bool { return s.holds() == 2 })
	}
	first, second := w.sites[0], w.sites[1]
	if answering(w.router, zones...) == "site-b" {
		first, second = second, first
	}
	w.drain(first, second, zones...)
	if first.holds() != 2 {
		t.Error("a drained node has given partitions away")
	}
	first.cli("node", "drain", "--leave")
	await(t, time.Minute, "the other one has everything", func() bool { return second.holds() == 4 && first.holds() == 0 })
	for _, s := range w.sites {
		if got := answering(s.ns, zones...); got != "site-"+s.name {
			t.Errorf("asked directly after that, %q answered, not site-%s", got, s.name)
		}
	}
	if err := first.server.Stop(time.Minute); err != nil {
		t.Errorf("%v\n%s", err, first.server.Log())
	}
	if got := answering(w.router, zones...); got != "site-"+second.name {
		t.Errorf("%q answers, not site-%s", got, second.name)
	}
	if slices.ContainsFunc(w.sites, func(s *site) bool { return w.announced(s) != (s == second) }) {
		t.Error("it is not the other one alone that is announced")
	}
}
