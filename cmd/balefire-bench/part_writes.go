package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"balefire/cmd/balefire-bench/load"
)

// Zones that are changed: one for all clients, or one for each client.
const (
	writtenZones = 64
	writtenNames = 1000
)

func writtenApex(i int) string { return fmt.Sprintf("w%d.test.", i) }

// writes measures changes by many clients at once, through the API or by updates, whichever a server has. Servers and clients share
// all processors, and each server does what it is shipped to do about the disk.
func (b *bench) writes(ctx context.Context) error {
	var able []peer
	for _, p := range peers {
		if _, ok := p.(writable); ok {
			able = append(able, p)
		}
	}
	return b.written(ctx, "changes", able, "", newWriter)
}

// newWriter returns a client of the sort that a server has.
func newWriter(s *server) (writer, error) {
	p, ok := s.peer.(writable)
	if !ok {
		return nil, fmt.Errorf("%s takes no changes", s.name)
	}
	return p.writer(s)
}

// updates measures updates of RFC 2136 by many clients at once, each signed with a key, as nsupdate sends them. All else is as in writes.
func (b *bench) updates(ctx context.Context) error {
	return b.written(ctx, "updates", []peer{balefire{}, knot{}, bind{}}, updateKey, newSignedUpdater)
}

// written has clients write to servers, which demand a key for that, or none.
func (b *bench) written(ctx context.Context, what string, able []peer, key string, open func(*server) (writer, error)) error {
	dir := filepath.Join(b.dir, "written")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s := site{cpu: -1, updates: true, updateKey: key}
	for i := range writtenZones {
		z, err := writeLarge(dir, writtenApex(i), writtenNames)
		if err != nil {
			return err
		}
		s.zones = append(s.zones, z)
		s.probes = append(s.probes, host(1)+"."+z.apex)
	}
	c, err := b.contend(ctx, s, able)
	defer c.stop()
	if err != nil {
		return err
	}
	for _, how := range []struct{ clients, zones int }{{1, 1}, {b.clients, 1}, {b.clients, writtenZones}} {
		if err := c.writeTable(ctx, what, open, how.clients, how.zones); err != nil {
			return err
		}
	}
	return nil
}

// writeTable measures changes of so many zones by so many clients.
func (c *contest) writeTable(ctx context.Context, what string, open func(*server) (writer, error), clients, zones int) error {
	t := &table{
		title: fmt.Sprintf("%s; clients: %d, zones: %d of %d names each", strings.ToUpper(what[:1])+what[1:], clients, zones, writtenNames),
		head:  []string{"server", what + "/s", "spread", "p50 ms", "p99 ms", "CPU ms of the server for each", "own memory MB, at most"},
		notes: slices.Clone(c.notes),
	}
	progress("%s", t.title)
	all, err := c.measure(ctx, t, slices.Repeat([]bool{true}, len(c.servers)), func(r *result, _, round int) error {
		return r.slice(t, func() (load.Tally, error) { return changes(ctx, r.server, open, clients, zones, round, 2*c.slice) })
	})
	if err != nil {
		return err
	}
	for i, r := range all {
		if r == nil {
			t.row(c.servers[i].name, none, none, none, none, none, none)
			continue
		}
		memory, err := r.server.highest()
		if err != nil {
			return err
		}
		t.row(r.server.name, fmt.Sprintf("%.0f", r.rate.median()), r.rate.spread(0), fmt.Sprintf("%.1f", r.p50.median()/1000),
			fmt.Sprintf("%.1f", r.p99.median()/1000), fmt.Sprintf("%.2f", r.cost.median()/1000), megabytes(memory))
	}
	return t.write(os.Stdout)
}

// changes has clients change zones for a while, client k zone k modulo how many there are.
func changes(ctx context.Context, s *server, open func(*server) (writer, error), clients, zones, round int, length time.Duration) (load.Tally, error) {
	tallies, errs := make([]load.Tally, clients), make([]error, clients)
	begin := time.Now()
	var all sync.WaitGroup
	for k := range clients {
		all.Go(func() {
			w, err := open(s)
			if err != nil {
				errs[k] = err
				return
			}
			defer w.close()
			for n := 0; time.Since(begin) < length; n++ {
				at := time.Now()
				// Another value each time, so that there is something to change.
				if err := w.change(ctx, writtenApex(k%zones), (k*37+n)%writtenNames, round*31+n/writtenNames+1+k); err != nil {
					errs[k] = err
					return
				}
				tallies[k].Received++
				tallies[k].Latency.Add(time.Since(at))
			}
		})
	}
	all.Wait()
	var sum load.Tally
	sum.Elapsed = time.Since(begin)
	for i := range tallies {
		sum.Received += tallies[i].Received
		sum.Latency.Merge(&tallies[i].Latency)
	}
	for _, err := range errs {
		if err != nil {
			return sum, err // the others' are hardly different
		}
	}
	return sum, nil
}
