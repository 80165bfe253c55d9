// Command balefire-bench measures Balefire beside NSD and Knot, on this machine, in one run: the same zone,
// the same load, the servers visited in turn in short slices. Only ratios within a run mean anything.
//
// It prints Markdown. The servers run pinned to one processor, the load generator to another.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"balefire/zones"
)

type settings struct {
	binary string
	names  int
	large  int
	rounds int
	slice  time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "balefire", "bin/balefire", "the program to measure")
	flag.IntVar(&s.names, "names", 100_000, "names in the zone that is queried")
	flag.IntVar(&s.large, "large", 1_000_000, "names in the zone that is imported; 0 leaves that out")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds of slices")
	flag.DurationVar(&s.slice, "slice", 1500*time.Millisecond, "length of a slice")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "balefire-bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "balefire-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	zoneFile := filepath.Join(dir, "bench.zone")
	if err := writeZone(zoneFile, apex, s.names); err != nil {
		return err
	}
	serverCPU, clientCPU := 0, 1
	if runtime.NumCPU() < 2 {
		serverCPU, clientCPU = -1, -1
	}
	probe := message(zones.MustParseName(host(1)+"."+apex), zones.TypeA, false)

	b, err := newBalefire(s.binary, dir)
	if err != nil {
		return err
	}
	defer b.stop()
	fmt.Printf("Balefire %s, %d processors, %s, %s\n\n", b.version, runtime.NumCPU(), runtime.GOARCH, time.Now().UTC().Format(time.DateOnly))
	if err := b.start(ctx, -1); err != nil {
		return err
	}
	if _, _, err := b.load(ctx, apex, zoneFile); err != nil {
		return err
	}
	if err := b.writes(ctx, s); err != nil {
		return err
	}
	b.stop()
	if err := b.start(ctx, serverCPU); err != nil {
		return err
	}
	servers := []*server{&b.server}
	for _, start := range []func(string, string, int) (*server, error){startNSD, startKnot} {
		peer, err := start(dir, zoneFile, serverCPU)
		if err != nil {
			return err
		}
		defer peer.stop()
		servers = append(servers, peer)
	}
	for _, srv := range servers {
		limit, cancel := context.WithTimeout(ctx, time.Minute)
		err := srv.await(limit, probe)
		cancel()
		if err != nil {
			return err
		}
	}
	if err := queries(servers, s, clientCPU); err != nil {
		return err
	}
	for _, srv := range servers {
		srv.stop()
	}
	return b.restartAndImport(ctx, s, probe, dir)
}

// queries loads the servers in turn, and prints a table for each mix.
func queries(servers []*server, s settings, cpu int) error {
	for _, m := range mixes {
		messages := m.queries(1<<17, s.names, 7)
		type sample struct{ qps, cpu, p50, p99 float64 }
		samples := make([][]sample, len(servers))
		for round := range s.rounds {
			for k := range servers {
				i := (k + round) % len(servers) // a changing order
				srv := servers[i]
				before, err := srv.usage()
				if err != nil {
					return err
				}
				t, err := load{
					server: srv.addr, queries: messages, sockets: 4, window: 48, batch: 64, length: s.slice, cpu: cpu, start: round * 10007,
				}.run()
				if err != nil {
					return fmt.Errorf("%s: %w", srv.name, err)
				}
				after, err := srv.usage()
				if err != nil {
					return err
				}
				if t.Received == 0 {
					return fmt.Errorf("%s answered nothing", srv.name)
				}
				samples[i] = append(samples[i], sample{
					t.qps(), (after.cpu - before.cpu).Seconds() / float64(t.Received) * 1e6,
					float64(t.P50.Microseconds()), float64(t.P99.Microseconds()),
				})
			}
		}
		fmt.Printf("### UDP, %s (%d names, medians of %d)\n\n", m.name, s.names, s.rounds)
		fmt.Println("| server | answers/s | CPU s per million | spread | ratio to Balefire | p50 µs | p99 µs |")
		fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
		median := func(i int, of func(sample) float64) float64 {
			v := make([]float64, len(samples[i]))
			for k, x := range samples[i] {
				v[k] = of(x)
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		cost := func(x sample) float64 { return x.cpu }
		own := median(0, cost)
		for i, srv := range servers {
			low := slices.MinFunc(samples[i], func(a, b sample) int { return int(1e6 * (a.cpu - b.cpu)) }).cpu
			high := slices.MaxFunc(samples[i], func(a, b sample) int { return int(1e6 * (a.cpu - b.cpu)) }).cpu
			fmt.Printf("| %s | %.0f | %.2f | %.2f – %.2f | %.2f | %.0f | %.0f |\n", srv.label(),
				median(i, func(x sample) float64 { return x.qps }), median(i, cost), low, high, median(i, cost)/own,
				median(i, func(x sample) float64 { return x.p50 }), median(i, func(x sample) float64 { return x.p99 }))
		}
		fmt.Println()
	}
	fmt.Print("### Memory and start with that zone\n\n| server | first right answer after | resident MB |\n| --- | --- | --- |\n")
	for _, srv := range servers {
		u, err := srv.usage()
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %d ms | %d |\n", srv.label(), srv.first.Milliseconds(), u.rss>>20)
	}
	fmt.Println()
	return nil
}

func (s *server) label() string {
	if s.name == "Balefire" {
		return s.name
	}
	return s.version
}

// writes prints what changes through the API cost.
func (b *balefire) writes(ctx context.Context, s settings) error {
	one, err := b.changes(ctx, 1, s.names, 3*time.Second)
	if err != nil {
		return err
	}
	many, err := b.changes(ctx, 64, s.names, 5*time.Second)
	if err != nil {
		return err
	}
	seen, err := b.visibility(ctx, 200)
	if err != nil {
		return err
	}
	slices.Sort(seen)
	fmt.Print("### Changes through the API (embedded log, each one synced to disk)\n\n| what | figure |\n| --- | --- |\n")
	fmt.Printf("| one client, changes/s | %.0f |\n| 64 clients, changes/s | %.0f |\n", one, many)
	fmt.Printf("| from the API's answer to the new answer in DNS, p50 / p99 | %d µs / %d µs |\n\n",
		seen[len(seen)/2].Microseconds(), seen[len(seen)*99/100].Microseconds())
	return nil
}

// restartAndImport measures the start from disk, and the import of a large zone.
func (b *balefire) restartAndImport(ctx context.Context, s settings, probe []byte, dir string) error {
	if s.large == 0 {
		return nil
	}
	const large = "large.test."
	file := filepath.Join(dir, "large.zone")
	if err := writeZone(file, large, s.large); err != nil {
		return err
	}
	if err := b.start(ctx, -1); err != nil {
		return err
	}
	idle, err := b.usage()
	if err != nil {
		return err
	}
	took, peak, err := b.load(ctx, large, file)
	if err != nil {
		return err
	}
	records := float64(s.large) * 1.5
	fmt.Printf("### Import of a zone of %d names\n\n| what | figure |\n| --- | --- |\n", s.large)
	fmt.Printf("| time | %.1f s |\n| records/s | %.0f |\n| resident MB idle / highest | %d / %d |\n",
		took.Seconds(), records/took.Seconds(), idle.rss>>20, peak>>20)
	b.stop()
	begin := time.Now()
	if err := b.start(ctx, -1); err != nil {
		return err
	}
	ready := time.Since(begin)
	if err := b.await(ctx, probe); err != nil {
		return err
	}
	fmt.Printf("| start with both zones, to ready | %d ms |\n", ready.Milliseconds())
	return nil
}
