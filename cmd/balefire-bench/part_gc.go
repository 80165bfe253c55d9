package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"balefire/cmd/balefire-bench/load"
)

const (
	// hotBudget is the memory for zones where all are to be in it.
	hotBudget = "1GiB"

	steadyTime    = 30 * time.Second
	steadyRate    = 30_000
	steadyChanges = 10 * time.Millisecond // between two changes, where there are any
)

// collection measures what garbage collection takes of Balefire with every zone of a fleet in memory: as it is shipped, and with the
// runtime's own pace, for questions alone and with changes beside them.
func (b *bench) collection(ctx context.Context) error {
	s, err := newServer(ctx, balefire{}, b.dir)
	if err != nil {
		return err
	}
	defer s.stop()
	at := site{cpu: b.serverCPU, hot: cmp.Or(b.hot, hotBudget), probes: []string{"www." + fleetApex(0)}}
	if err := b.bringIn(ctx, s, &at); err != nil {
		return err
	}
	t := &table{
		title: fmt.Sprintf("Garbage collection with %d zones in memory, %d queries/s for %s", b.zones, steadyRate, steadyTime),
		head: []string{
			"pace", "changes", "MB of zones", "objects in the heap", "cycles", "collection, % of a core", "of that assisting", "pauses", "in all, ms", "the longest, ms", "p50 µs", "p99 µs", "p99.9 µs", "lost",
		},
	}
	for _, pace := range []string{"", "100"} {
		at.pace = pace
		if err := (balefire{}).start(ctx, s, at); err != nil {
			return err
		}
		if err := s.ready(ctx); err != nil {
			return err
		}
		if err := b.heat(ctx, s); err != nil {
			return err
		}
		for _, changes := range []bool{false, true} {
			if err := b.steady(ctx, t, s, pace, changes); err != nil {
				return err
			}
		}
		s.stop()
	}
	return t.write(os.Stdout)
}

// bringIn has the fleet in a server's data directory.
func (b *bench) bringIn(ctx context.Context, s *server, at *site) error {
	if b.imported != "" {
		return os.Symlink(b.imported, s.path("data"))
	}
	progress("writing %d zones", b.zones)
	var err error
	if at.zones, err = writeFleet(filepath.Join(b.dir, "fleet"), b.zones); err != nil {
		return err
	}
	progress("preparing %s", s.name)
	return (balefire{}).prepare(ctx, s, *at)
}

// heat asks for every zone of the fleet until all are in memory, or no more have room there, which is an error.
func (b *bench) heat(ctx context.Context, s *server) error {
	progress("bringing %d zones into memory", b.zones)
	queries := make([][]byte, b.zones)
	for i := range queries {
		queries[i] = question("www." + fleetApex(i))
	}
	began := time.Now()
	for ctx.Err() == nil && time.Since(began) < b.patience {
		if _, err := (load.UDP{Server: s.addr, Queries: queries, Sockets: 4, Window: 48, Batch: 48, Length: b.slice, CPU: b.clientCPU, Start: int(time.Since(began)) % len(queries)}).Run(); err != nil {
			return err
		}
		hot, err := s.metrics("balefire_store_hot_zones", "balefire_store_evictions_total")
		if err != nil {
			return err
		}
		if hot["balefire_store_evictions_total"] > 0 {
			return fmt.Errorf("%s: memory has room for %.0f zones", s.name, hot["balefire_store_hot_zones"])
		}
		if int(hot["balefire_store_hot_zones"]) >= b.zones {
			progress("in memory after %s", seconds(time.Since(began)))
			return nil
		}
	}
	return fmt.Errorf("not all zones are in memory after %s: %w", seconds(time.Since(began)), context.Cause(ctx))
}

// steady adds a row: what the collector did while the load was the same all the time.
func (b *bench) steady(ctx context.Context, t *table, s *server, pace string, changes bool) error {
	progress("steady load, pace %q, changes %v", pace, changes)
	quit, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan error, 1)
	count := 0
	go func() {
		w := apiWriter{&webConn{server: s.control.String()}}
		defer w.close()
		tick := time.NewTicker(steadyChanges)
		defer tick.Stop()
		for changes {
			select {
			case <-quit.Done():
				changed <- nil
				return
			case <-tick.C:
			}
			if err := w.change(ctx, fleetApex(count*7919%b.zones), 1, count); err != nil {
				changed <- err
				return
			}
			count++
		}
		changed <- nil
	}()
	names := []string{"go_cpu_classes_gc_", "go_gc_heap_objects_objects", "go_sched_pauses_total_gc_seconds", "balefire_store_hot_bytes", "go_gc_duration_seconds_count"}
	before, err := s.metrics(names...)
	if err != nil {
		return err
	}
	got, err := load.UDP{
		Server: s.addr, Queries: fleetMix.queries(max(manyQueries, b.zones), b.zones, seed, nil), Sockets: 4, Window: 48, Batch: 48,
		Rate: steadyRate, Length: steadyTime, CPU: b.clientCPU,
	}.Run()
	cancel()
	if changeErr := <-changed; err == nil {
		err = changeErr
	}
	if err != nil {
		return err
	}
	after, err := s.metrics(names...)
	if err != nil {
		return err
	}
	since := func(name string) float64 { return after[name] - before[name] }
	if pace == "" {
		pace = "as shipped"
	} else {
		pace = "GOGC=" + pace
	}
	t.row(pace, fmt.Sprintf("%.0f/s", float64(count)/steadyTime.Seconds()),
		megabytes(int64(after["balefire_store_hot_bytes"])), fmt.Sprintf("%.0f", after["go_gc_heap_objects_objects"]),
		fmt.Sprintf("%.0f", since("go_gc_duration_seconds_count")),
		fmt.Sprintf("%.2f", 100*since("go_cpu_classes_gc_total_cpu_seconds_total")/steadyTime.Seconds()),
		fmt.Sprintf("%.2f", 100*since("go_cpu_classes_gc_mark_assist_cpu_seconds_total")/steadyTime.Seconds()),
		fmt.Sprintf("%.0f", since("go_sched_pauses_total_gc_seconds_count")), fmt.Sprintf("%.2f", 1000*since("go_sched_pauses_total_gc_seconds_sum")),
		longest(before, after, "go_sched_pauses_total_gc_seconds_bucket"),
		micros(inMicros(got.Latency.Quantile(0.5))), micros(inMicros(got.Latency.Quantile(0.99))), micros(inMicros(got.Latency.Quantile(0.999))), fmt.Sprint(got.Lost))
	return nil
}

// longest says below how many milliseconds everything was that a histogram has counted between two looks at it.
func longest(before, after map[string]float64, name string) string {
	total := after[name+`{le="+Inf"}`] - before[name+`{le="+Inf"}`]
	if total == 0 {
		return none
	}
	below := -1.0
	for series, n := range after {
		rest, ok := strings.CutPrefix(series, name+`{le="`)
		if !ok || n-before[series] < total {
			continue
		}
		if bound, err := strconv.ParseFloat(strings.TrimSuffix(rest, `"}`), 64); err == nil && (below < 0 || bound < below) {
			below = bound
		}
	}
	return fmt.Sprintf("< %.3g", below*1000)
}
