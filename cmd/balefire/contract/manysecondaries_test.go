//go:build many

package contract

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

var zoneCount = flag.Int("zones", 100_000, "how many secondary zones there are")

// TestManySecondaries: a hundred thousand zones of one primary come one after the other, and are not all asked for at once by a node that starts.
func TestManySecondaries(t *testing.T) {
	count := *zoneCount
	primary := start(t, "--dns-allow-peers", "127.0.0.0/8")
	n := start(t, "--dns-allow-peers", "127.0.0.0/8")
	dir := t.TempDir()
	for i := range count {
		write(t, dir, fmt.Sprintf("%d/z%d.test.zone", i/1000, i), "$TTL 300\n@ SOA ns1 host 1 3600 600 604800 60\n@ NS ns1\nns1 A 192.0.2.1\nwww A 192.0.2.2\n")
	}
	if r := run(t, primary.env(), "", "zone", "import", "--timeout", "1h", dir); r.code != 0 {
		t.Fatal(r)
	}
	primary.cli("acl", "set", "all", "--allow", "transfer", "--network", "127.0.0.0/8")

	began := time.Now()
	next := make(chan int)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range next {
				createSecondary(t, n, fmt.Sprintf("z%d.test.", i), primary.DNS)
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
	t.Logf("%d zones were made in %s", count, time.Since(began).Round(time.Second))
	served := func() int { return int(n.metric(`balefire_secondary_zones{standing="served"}`)) }
	awaitAll(t, n, count, served)
	t.Logf("all of them had come after %s; %.0f MB, %.0f CPU seconds", time.Since(began).Round(time.Second), n.metric("process_resident_memory_bytes")/1e6, n.metric("process_cpu_seconds_total"))

	n = n.again()
	awaitAll(t, n, count, served) // known to be secondary, and answered for
	asked := func() float64 { return n.metric(`balefire_secondary_refreshes_total{result="current"}`) }
	for range 6 {
		before, at := asked(), time.Now()
		some := float64(count) / 60
		awaitMore(t, n, before+some, asked)
		rate := (asked() - before) / time.Since(at).Seconds()
		t.Logf("after a start: %.0f zones a second, %.0f MB, %.1f CPU seconds", rate, n.metric("process_resident_memory_bytes")/1e6, n.metric("process_cpu_seconds_total"))
		if rate > max(100, float64(count)/60) {
			t.Errorf("a storm: %.0f zones a second", rate)
		}
	}
}

func createSecondary(t *testing.T, n node, zone, primary string) {
	body := fmt.Sprintf(`{"name": %q, "primaries": [{"address": "127.0.0.1", "port": %s}]}`, zone, primary[len("127.0.0.1:"):])
	req, err := http.NewRequest(http.MethodPost, "http://"+n.Admin+"/v1/zones", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := n.HTTP().Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	if said, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusCreated {
		t.Errorf("%s: %d %s", zone, res.StatusCode, said)
	}
}

// awaitMore waits until so many were asked for.
func awaitMore(t *testing.T, n node, want float64, asked func() float64) {
	t.Helper()
	late := time.Now().Add(patience)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for asked() < want {
		if time.Now().After(late) {
			t.Fatalf("%.0f asked for, want %.0f\n%s", asked(), want, n.Log())
		}
		<-tick.C
	}
}

// awaitAll waits until all zones are there, for as long as more come.
func awaitAll(t *testing.T, n node, count int, served func() int) {
	t.Helper()
	last, since := 0, time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		switch now := served(); {
		case now == count:
			return
		case now != last:
			last, since = now, time.Now()
		case time.Since(since) > patience:
			t.Fatalf("%d of %d zones have come\n%s", now, count, n.Log())
		}
		<-tick.C
	}
}
