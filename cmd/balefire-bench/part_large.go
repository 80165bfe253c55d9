package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire-bench/load"
)

const (
	changesSeen  = 200
	besideChange = 20_000           // questions a second while changes are watched
	changesTime  = 15 * time.Second // after which no more are made
)

// registry measures one zone of very many names beside the servers that stand one, and a small zone of the same kind in the same servers.
func (b *bench) registry(ctx context.Context) error {
	progress("writing a zone of %d delegations", b.registryNames)
	large, err := writeRegistry(b.dir, registryApex, b.registryNames)
	if err != nil {
		return err
	}
	small, err := writeRegistry(b.dir, smallRegistryApex, b.names)
	if err != nil {
		return err
	}
	tiny, err := writeRegistry(b.dir, "tiny.", 16)
	if err != nil {
		return err
	}
	empty, err := b.emptyMemory(ctx, site{zones: []zone{tiny}, probes: []string{host(1) + "." + tiny.apex}, cpu: b.serverCPU})
	if err != nil {
		return err
	}
	s := site{
		zones: []zone{large, small}, probes: []string{host(1) + "." + registryApex, host(1) + "." + smallRegistryApex},
		cpu: b.serverCPU, updates: true, hot: cmp.Or(b.hot, hotBudget), warm: true,
	}
	c, err := b.contend(ctx, s, append([]peer{echoes{}}, registries...))
	defer c.stop()
	if err != nil {
		return err
	}
	if err := c.beginRegistry(); err != nil {
		return err
	}
	sum := &summary{table: table{title: fmt.Sprintf("CPU seconds of the server for a million answers (zones of %d and %d delegations, medians of %d slices of %s)",
		b.registryNames, b.names, b.rounds, b.slice)}}
	for i := range registryMixes("") {
		for _, of := range []struct {
			apex  string
			names int
		}{{registryApex, b.registryNames}, {smallRegistryApex, b.names}} {
			m := registryMixes(of.apex)[i]
			m.name = fmt.Sprintf("%s, %d names", m.name, of.names)
			if _, err := c.mix(ctx, m, of.names, 0, sum); err != nil {
				return err
			}
		}
	}
	if err := sum.print(); err != nil {
		return err
	}
	return c.registryTable(ctx, empty)
}

// registries are the peers that a large zone is compared with.
var registries = []peer{balefire{}, nsd{}, knot{}}

// emptyMemory returns what each server takes with hardly anything in it, by name.
func (b *bench) emptyMemory(ctx context.Context, s site) (map[string]int64, error) {
	c, err := b.contend(ctx, s, registries)
	defer c.stop()
	if err != nil {
		return nil, err
	}
	took := map[string]int64{}
	for _, s := range c.servers {
		u, err := s.usage()
		if err != nil {
			return nil, err
		}
		took[s.name] = u.own
	}
	return took, nil
}

// beginRegistry prints how long the servers took until they answered, and Balefire until the zones were in its memory.
func (c *contest) beginRegistry() error {
	t := &table{
		title: fmt.Sprintf("A zone of %d delegations: the start", c.registryNames),
		head:  []string{"server", "imported in", "MB then, at most", "first right answer after", "answers from memory after", "MB then, at most"},
		notes: slices.Clone(c.notes),
	}
	for _, s := range c.competitors() {
		highest, err := s.highest()
		if err != nil {
			return err
		}
		imported, before, hot := none, none, seconds(s.first)
		if s.inMemory > 0 {
			imported, before, hot = seconds(s.prepared), megabytes(s.peak), seconds(s.inMemory)
		}
		t.row(s.name, imported, before, seconds(s.first), hot, megabytes(highest))
	}
	return t.write(os.Stdout)
}

// registryTable prints memory for each name, and how long a change takes until it is in DNS.
func (c *contest) registryTable(ctx context.Context, empty map[string]int64) error {
	t := &table{
		title: fmt.Sprintf("A zone of %d delegations: memory and changes", c.registryNames),
		head:  []string{"server", "MB empty", "MB", "octets a name", "MB of mapped files", "changes: acknowledged after, p50 / p99", "in DNS after, p50 / p99", "p50 / p99 of the answers meanwhile", "MB afterwards"},
	}
	names := c.registryNames + c.names + 2*registryHosts
	for _, s := range c.competitors() {
		u, err := s.usage()
		if err != nil {
			return err
		}
		row := []string{
			s.name, megabytes(empty[s.name]), megabytes(u.own), fmt.Sprintf("%d", (u.own-empty[s.name])/int64(names)), megabytes(u.memory - u.own),
		}
		if p, ok := s.peer.(writable); ok {
			progress("changes of %s", s.name)
			w, err := p.writer(s)
			if err != nil {
				return err
			}
			acknowledged, seen, beside, err := c.changesBeside(ctx, s, w)
			w.close()
			if err != nil {
				return err
			}
			row = append(row, milliseconds(acknowledged), milliseconds(seen),
				fmt.Sprintf("%s / %s µs, %d lost", micros(inMicros(beside.Latency.Quantile(0.5))), micros(inMicros(beside.Latency.Quantile(0.99))), beside.Lost))
		} else {
			row = append(row, none, none, none)
		}
		if u, err = s.usage(); err != nil {
			return err
		}
		t.row(append(row, megabytes(u.own))...)
	}
	return t.write(os.Stdout)
}

// changesBeside changes records of the large zone while it is asked at a fixed rate, and returns, in milliseconds, how long each took
// until it was acknowledged and until its new value was in DNS, and what came of the questions.
func (c *contest) changesBeside(ctx context.Context, s *server, w writer) (acknowledged, seen figures, beside load.Tally, err error) {
	queries := registryMixes(registryApex)[0].queries(manyQueries, c.registryNames, seed, nil)
	done := make(chan error, 1)
	quit := make(chan struct{})
	go func() {
		for round := 0; ; round++ { // at least one slice, and until the changes are done
			got, err := load.UDP{Server: s.addr, Queries: queries, Sockets: 4, Batch: 48, Rate: besideChange, Length: c.slice, CPU: c.clientCPU, Start: round * 10007}.Run()
			beside.Received += got.Received
			beside.Lost += got.Lost
			beside.Latency.Merge(&got.Latency)
			if err != nil {
				done <- err
				return
			}
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
		}
	}()
	acknowledged, seen, err = watchChanges(ctx, s.addr, w, registryApex, changesSeen)
	close(quit)
	if loadErr := <-done; err == nil {
		err = loadErr
	}
	return acknowledged, seen, beside, err
}

// watchChanges changes one address after another, and returns, in milliseconds, how long each took.
func watchChanges(ctx context.Context, server netip.AddrPort, w writer, apex string, rounds int) (acknowledged, seen figures, err error) {
	conn, err := dns.Dial("udp4", server.String())
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	began := time.Now()
	for k := range rounds {
		if time.Since(began) > changesTime {
			break
		}
		i := k * 7 % registryHosts
		begin := time.Now()
		if err := w.change(ctx, apex, i, k+1); err != nil {
			return nil, nil, err
		}
		acknowledged = append(acknowledged, time.Since(begin).Seconds()*1000)
		if err := awaitAddress(conn, host(i)+"."+apex, changedAddress(i, k+1)); err != nil {
			return nil, nil, err
		}
		seen = append(seen, time.Since(begin).Seconds()*1000)
	}
	return acknowledged, seen, nil
}

// milliseconds writes the median and the 99th percentile.
func milliseconds(f figures) string {
	return fmt.Sprintf("%.2f / %.2f ms", f.median(), f.quantile(0.99))
}
