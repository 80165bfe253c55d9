//go:build clusterbench && kafka && s3

package clusterbench

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/kafkatest"
	"balefire/replication/s3test"
)

var (
	restoreZones = flag.Int("restore-zones", 5000, "zones of the copy that is restored")
	restoreHosts = flag.Int("restore-hosts", 200, "hosts in each of them")
	catchUp      = flag.Duration("catch-up", 15*time.Second, "how long changes are written that a node then catches up with")
	catchRate    = flag.Float64("catch-rate", 20_000, "queries a second that it answers meanwhile")
)

// TestRestore: from an empty disk to ready, by a backup in an object store, and by the log.
func TestRestore(t *testing.T) {
	store, broker := s3test.Start(t), kafkatest.Start(t)
	c := newCluster(t, 8)
	c.backups = store.URL("")
	n := c.add("near", "a", broker.Address())
	c.start(n)
	begin := time.Now()
	n.loadMany("restore.test.", *restoreZones, *restoreHosts)
	imported := time.Since(begin)
	var made struct {
		Backups []struct {
			Partition int
			Octets    int64
			Error     string
		}
	}
	begin = time.Now()
	if err := n.call(t.Context(), "POST", "/v1/backups", "application/json", nil, &made); err != nil {
		t.Fatal(err)
	}
	backedUp := time.Since(begin)
	octets := int64(0)
	for _, b := range made.Backups {
		if b.Error != "" {
			t.Fatalf("partition %d: %s", b.Partition, b.Error)
		}
		octets += b.Octets
	}
	records := *restoreZones * (*restoreHosts + 3)
	heading(fmt.Sprintf("%d records in %d zones, from an empty disk to ready", records, *restoreZones), "from", "time", "zones/s", "records/s", "MB/s of zone files")
	text := float64(*restoreZones*len(zoneFile("z1000.restore.test.", *restoreHosts))) / 1e6
	rates := func(what string, took time.Duration) {
		s := took.Seconds()
		row(what, short(took), fmt.Sprintf("%.0f", float64(*restoreZones)/s), fmt.Sprintf("%.0f", float64(records)/s), fmt.Sprintf("%.1f", text/s))
	}
	for _, how := range []struct {
		what string
		args []string
	}{
		{fmt.Sprintf("a backup of %.1f MB in an S3 server", float64(octets)/1e6), nil},
		{"the log alone", []string{"--backup-restore=false"}},
	} {
		fresh := c.add("near", fmt.Sprintf("fresh%d", len(c.nodes)), broker.Address(), append(how.args, "--backup-create=false")...)
		c.start(fresh)
		rates(how.what, time.Since(fresh.Began))
		if _, err := oneByOne(fresh.DNS, "h1.z1.restore.test.", 1); err != nil {
			t.Errorf("%s: %v", how.what, err)
		}
	}
	rates("(importing them over the API, four clients)", imported)
	rates("(backing them up)", backedUp)
}

// loadMany imports so many zones, by as many clients as may import at once.
func (n *node) loadMany(under string, count, hosts int) {
	n.c.t.Helper()
	var next atomic.Int64
	errs := make([]error, 4)
	var all sync.WaitGroup
	for k := range errs {
		all.Go(func() {
			for errs[k] == nil {
				i := int(next.Add(1))
				if i > count {
					return
				}
				zone := fmt.Sprintf("z%d.%s", i, under)
				errs[k] = n.call(n.c.t.Context(), "PUT", "/v1/zones/"+zone+"/file", "text/dns", zoneFile(zone, hosts), nil)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			n.c.t.Fatal(err)
		}
	}
}

// TestCatchUp: a node that was away applies what it has missed, while it answers queries.
func TestCatchUp(t *testing.T) {
	broker := kafkatest.Start(t)
	c := newCluster(t, 8)
	writer, away := c.add("near", "a", broker.Address()), c.add("near", "b", broker.Address())
	c.start(writer, away)
	var apexes []string
	for p := range 8 {
		apexes = append(apexes, c.zoneIn(p, 0))
		writer.load(apexes[p], 1000, "?wait=region")
	}
	heading("Catching up after being away", "queries/s asked", "changes applied", "time", "changes/s", "p50 / p99 of the answers meanwhile", "lost")
	for _, rate := range []float64{0, *catchRate} {
		if err := away.Stop(time.Minute); err != nil {
			t.Fatalf("%v\n%s", err, away.Log())
		}
		missed := writer.writeMany(apexes, *catchUp)
		end := writer.positions()
		away.Server = balefiretest.Launch(t, away.how)
		if err := away.Await(time.Minute, "answering", func() bool {
			_, err := oneByOne(away.DNS, "h1."+apexes[0], 1)
			return err == nil
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan tally, 1)
		go func() {
			var of tally
			if rate > 0 {
				var questions [][]byte
				for i := range 64 {
					questions = append(questions, question(host(i)+"."+apexes[i%len(apexes)]))
				}
				var err error
				if of, err = steadily(ctx, away.DNS, questions, rate); err != nil {
					t.Error(err)
				}
			}
			result <- of
		}()
		begin, from := time.Now(), sum(away.positions())
		if err := away.Await(3*time.Minute, "as far as the other", func() bool { return sum(away.positions()) >= sum(end) }); err != nil {
			t.Error(err)
		}
		took := time.Since(begin)
		cancel()
		of := <-result
		times := of.all()
		asked := 0.0
		if rate > 0 {
			asked = float64(of.sent) / of.took.Seconds()
		}
		applied := sum(end) - from
		row(fmt.Sprintf("%.0f", asked), fmt.Sprintf("%d of %d", applied, missed), short(took), fmt.Sprintf("%.0f", float64(applied)/took.Seconds()),
			short(times.at(0.5))+" / "+short(times.at(0.99)), strconv.Itoa(of.lost))
	}
}

func sum(positions map[int]int64) (total int64) {
	for _, p := range positions {
		total += p
	}
	return total
}

// writeMany has clients change records for a while, as fast as they can, and returns how many.
func (n *node) writeMany(apexes []string, length time.Duration) int64 {
	n.c.t.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for k := range 64 {
		all.Go(func() {
			for i := 0; time.Since(begin) < length; i++ {
				value := [4]byte{203, byte(k), byte(i >> 8), byte(i)}
				if err := n.put(n.c.t.Context(), apexes[k%len(apexes)], host(i%1000), value, whenLogged); err != nil {
					n.c.t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return done.Load()
}
