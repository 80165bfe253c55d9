package differential

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/store/storetest"
)

// Budgets of memory for zones: enough for all, and enough for none, so that every answer comes from disk.
const (
	hotBytes  = 256 << 20
	coldBytes = 1
)

// chunk is how many RRsets of a zone are staged in one record.
const chunk = 200

// startBalefire starts a server of the zones in this process, as records of a log make them, with a budget of
// memory, and returns its address.
func startBalefire(t *testing.T, all []testZone, budget int64) string {
	opts := storetest.Options(t, t.TempDir())
	opts.HotBytes = budget
	st, partition := storetest.Open(t, opts)
	var log storetest.Log
	for _, z := range all {
		for _, cs := range storetest.Stage(z.apex.String(), log.NextID(), sortedSets(z.sets), chunk) {
			log.Add(t, cs)
		}
	}
	outcomes, err := partition.Apply(log.Records)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Rejection != nil {
			t.Fatalf("zone %s: %v", o.Zone, o.Rejection)
		}
	}
	s, err := dnsserver.New(dnsserver.Options{Listen: []string{"127.0.0.1:0"}, Zones: st, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("stop Balefire: %v", err)
		}
		if hot := st.Stats().HotZones; (hot == 0) != (budget == coldBytes) {
			t.Errorf("with %d octets of memory %d zones are in it", budget, hot)
		}
	})
	return s.Addrs()[0].String()
}
