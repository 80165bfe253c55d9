package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"

	"balefire/cmd/balefire-bench/load"
)

const (
	// coldBudget is the memory for hot zones while far more zones are asked for than fit into it.
	coldBudget = "64MiB"
	// favourites is how many zones are asked for all the time.
	favourites = 1000
	// flooded is the zone below which names are made up.
	flooded = favourites
)

// coldMixes are asked for in this order; names is how many zones there are.
var coldMixes = []mix{
	{name: fmt.Sprintf("%d hot zones", favourites), question: favourite, right: hasAnswer},
	{name: "all zones, at random", question: fleetMix.question, right: hasAnswer},
	{
		name: "half of each",
		question: func(rng *rand.Rand, names int) string {
			if rng.IntN(2) == 0 {
				return favourite(rng, names)
			}
			return fleetMix.question(rng, names)
		},
		right: hasAnswer,
	},
	{name: "the hot zones again", question: favourite, right: hasAnswer},
	{
		name:     "names that don't exist, below one zone",
		question: func(rng *rand.Rand, _ int) string { return fmt.Sprintf("no%x.%s", rng.Uint32(), fleetApex(flooded)) },
		right:    isNameError,
	},
	{
		name:     "zones that are not hosted",
		question: func(rng *rand.Rand, _ int) string { return fmt.Sprintf("www.no%x.test.", rng.Uint32()) },
		right:    isRefused,
	},
}

func favourite(rng *rand.Rand, names int) string {
	return "www." + fleetApex(rng.IntN(min(favourites, names)))
}

// cold measures Balefire with far more zones than fit into the memory for them.
func (b *bench) cold(ctx context.Context) error {
	s, err := newServer(ctx, balefire{}, b.dir)
	if err != nil {
		return err
	}
	defer s.stop()
	place := site{probes: []string{"www." + fleetApex(b.zones-1)}, cpu: b.serverCPU, hot: coldBudget}
	if err := b.bringIn(ctx, s, &place); err != nil {
		return err
	}
	if err := (balefire{}).start(ctx, s, place); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := b.fillMemory(ctx, s); err != nil {
		return err
	}
	t := &table{
		title: fmt.Sprintf("Balefire with %d zones on disk and %s for those in memory (medians of %d slices of %s)", b.zones, coldBudget, b.rounds, b.slice),
		head:  []string{"asked for", "CPU µs for a query", "queries/s", "p50 µs", "p99 µs", "lost", "readings of the disk for 1,000 queries", "zones brought into memory for 1,000", "resident MB"},
	}
	for _, m := range coldMixes {
		if err := b.coldRow(ctx, s, m, t); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return t.write(os.Stdout)
}

// fillMemory asks for zones at random until those in memory take what they may, or all are there.
func (b *bench) fillMemory(ctx context.Context, s *server) error {
	progress("filling the memory for zones")
	for round := uint64(0); ctx.Err() == nil; round++ {
		now, err := s.counters(ctx)
		if err != nil {
			return err
		}
		if now["balefire_store_hot_bytes"] > now["balefire_store_hot_limit_bytes"]*0.9 || now["balefire_store_hot_zones"] >= 0.99*float64(b.zones) {
			return nil
		}
		queries := fleetMix.queries(manyQueries, b.zones, 1000+round, nil)
		if _, err := (load.UDP{Server: s.addr, Queries: queries, Sockets: 4, Window: 48, Batch: 48, Length: b.slice, CPU: b.clientCPU}).Run(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// coldRow asks one mix. Every slice has other questions: none is asked twice but by chance.
func (b *bench) coldRow(ctx context.Context, s *server, m mix, t *table) error {
	progress("%s", m.name)
	r := &result{server: s}
	var received, readings, loads float64
	for round := range b.rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		queries := m.queries(manyQueries, b.zones, seed+uint64(round), nil)
		before, err := s.counters(ctx)
		if err != nil {
			return err
		}
		err = r.slice(t, func() (load.Tally, error) {
			got, err := load.UDP{Server: s.addr, Queries: queries, Sockets: 4, Window: 48, Batch: 48, Length: b.slice, CPU: b.clientCPU}.Run()
			received += float64(got.Received)
			if m.name == coldMixes[len(coldMixes)-1].name {
				got.RCodes[5] = 0 // as it should be
			}
			return got, err
		})
		if err != nil {
			return err
		}
		after, err := s.counters(ctx)
		if err != nil {
			return err
		}
		readings += after["balefire_store_readings_total"] - before["balefire_store_readings_total"]
		loads += after["balefire_store_loads_total"] - before["balefire_store_loads_total"]
		if err := m.check(s.addr, queries); err != nil {
			return err
		}
	}
	used, err := s.usage()
	if err != nil {
		return err
	}
	t.row(m.name, fmt.Sprintf("%.1f", r.cost.median()), fmt.Sprintf("%.0f", r.rate.median()), micros(r.p50.median()), micros(r.p99.median()),
		fmt.Sprint(r.lost), fmt.Sprintf("%.2f", readings/received*1000), fmt.Sprintf("%.2f", loads/received*1000), megabytes(used.memory))
	return nil
}

// counters returns Balefire's metrics that have no labels.
func (s *server) counters(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.control.String()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: status %d", res.StatusCode)
	}
	all := make(map[string]float64)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.ContainsAny(name, "#{") {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = n
		}
	}
	return all, lines.Err()
}
