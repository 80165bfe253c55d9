package differential

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
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
	if budget == hotBytes {
		replaceAll(t, partition, &log, all)
	}
	s, err := dnsserver.New(dnsserver.Options{Listen: []string{"127.0.0.1:0"}, Zones: st, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("stop Balefire: %v", err)
		}
		// How many are in it now says less: one that was just replaced is not.
		if loads := st.Stats().Loads; (loads == 0) != (budget == coldBytes) {
			t.Errorf("with %d octets of memory %d zones were brought into it", budget, loads)
		}
	})
	return s.Addrs()[0].String()
}

// replaceAll replaces one zone after another by what it is, again and again until the test ends: it leaves memory and comes back, and
// what was kept of it is made anew. Other zones come and go.
func replaceAll(t *testing.T, partition *store.Partition, log *storetest.Log, all []testZone) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	replaced := 0
	go func() {
		defer close(done)
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			z := all[i%len(all)]
			from := int64(len(log.Records))
			for _, cs := range storetest.Stage(z.apex.String(), log.NextID(), sortedSets(z.sets), chunk) {
				log.Add(t, cs)
			}
			passing := fmt.Sprintf("passing%d.invalid.", i%3)
			log.Add(t, storetest.Create(passing))
			log.Add(t, storetest.Change(passing, zones.OpDeleteZone{}))
			outcomes, err := partition.Apply(log.From(from))
			if err != nil {
				t.Errorf("replace %s: %v", z.apex, err)
				return
			}
			for _, o := range outcomes {
				if o.Rejection != nil {
					t.Errorf("replace %s: %v", o.Zone, o.Rejection)
					return
				}
			}
			replaced++
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if replaced == 0 {
			t.Error("no zone was replaced")
		}
	})
}
