package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"balefire/cmd/balefire-bench/load"
)

// contest is servers that run at the same time on the same zones, and are visited in turn.
type contest struct {
	*bench
	servers []*server
	notes   []string
	turn    int // changes the order of visits
}

// contend starts the servers one after another and waits for each. One that can't be started is left out with a note, unless it is
// Balefire or the floor. The caller stops them, also after an error.
func (b *bench) contend(ctx context.Context, site site, contenders []peer) (*contest, error) {
	c := &contest{bench: b}
	for _, p := range contenders {
		name, _ := p.about()
		if !vital(p) && !b.chosen(name) {
			continue
		}
		s, err := newServer(ctx, p, b.dir)
		if err == nil {
			err = b.startOne(ctx, s, site)
		}
		if err == nil {
			c.servers = append(c.servers, s)
			continue
		}
		if s != nil {
			s.stop()
		}
		if vital(p) || ctx.Err() != nil {
			return c, err
		}
		progress("%s is left out: %v", name, err)
		c.notes = append(c.notes, fmt.Sprintf("%s is left out: %v", name, err))
	}
	return c, nil
}

// vital says whether there is nothing to compare without a peer.
func vital(p peer) bool {
	switch p.(type) {
	case balefire, workers, echoes:
		return true
	}
	return false
}

// chosen says whether the flags let a peer take part.
func (b *bench) chosen(name string) bool {
	if b.settings.servers == "" {
		return true
	}
	for want := range strings.SplitSeq(b.settings.servers, "|") {
		if want != "" && strings.HasPrefix(strings.ToLower(name), strings.ToLower(want)) {
			return true
		}
	}
	return false
}

// startOne prepares and starts a server, and waits until it answers all probes.
func (b *bench) startOne(ctx context.Context, s *server, site site) error {
	if p, ok := s.peer.(preparer); ok {
		progress("preparing %s", s.name)
		begin := time.Now()
		if err := p.prepare(ctx, s, site); err != nil {
			return fmt.Errorf("prepare %s: %w", s.name, err)
		}
		s.prepared = time.Since(begin)
	}
	if err := s.peer.start(ctx, s, site); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	var probes [][]byte
	for _, name := range site.probes {
		probes = append(probes, question(name))
	}
	limit, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	said := make(chan error, 1)
	go func() { said <- s.awaitReadiness(limit) }()
	if err := errors.Join(s.await(limit, probes), <-said); err != nil {
		return err
	}
	progress("%s answers after %s", s.name, seconds(s.all))
	if _, ok := s.peer.(balefire); ok && site.warm {
		if err := s.hot(ctx, len(site.zones)); err != nil {
			return err
		}
		s.inMemory = time.Since(s.started)
		progress("%s answers from memory after %s", s.name, seconds(s.inMemory))
	}
	return nil
}

// awaitReadiness notes when a server that says so was ready; others are when they answer.
func (s *server) awaitReadiness(ctx context.Context) error {
	if _, ok := s.peer.(balefire); !ok {
		return nil
	}
	err := s.ready(ctx)
	s.readyAfter = time.Since(s.started)
	return err
}

func (c *contest) stop() {
	for _, s := range c.servers {
		s.stop()
	}
}

// result is what was measured of one server in all rounds.
type result struct {
	server                     *server
	rate, cost, p50, p99, p999 figures // answers/s, CPU s for a million, µs
	busy, generator            figures // percent of a core
	lost                       uint64
}

// measure visits every wanted server once a round, and returns what came of each server, in their order; of the others, nil. One that
// fails at a visit is left out from then on, with a note, unless it is vital.
func (c *contest) measure(ctx context.Context, t *table, wanted []bool, visit func(r *result, i, round int) error) ([]*result, error) {
	all := make([]*result, len(c.servers))
	for i, s := range c.servers {
		if wanted[i] {
			all[i] = &result{server: s}
		}
	}
	for round := range c.rounds {
		c.turn++
		for k := range c.servers {
			i := (k + c.turn) % len(c.servers)
			if all[i] == nil {
				continue
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			err := visit(all[i], i, round)
			if err == nil {
				continue
			}
			err = fmt.Errorf("%s: %w", c.servers[i].name, err)
			if vital(c.servers[i].peer) || ctx.Err() != nil {
				return nil, err
			}
			progress("%v", err)
			t.note("%v", err)
			all[i] = nil
		}
	}
	return all, nil
}

// slice does one slice, and notes what was lost or refused in it.
func (r *result) slice(t *table, ask func() (load.Tally, error)) error {
	before, err := r.server.usage()
	if err != nil {
		return err
	}
	got, err := ask()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.server.said())
	}
	after, err := r.server.usage()
	if err != nil {
		return err
	}
	if got.Received == 0 {
		return fmt.Errorf("no answers\n%s", r.server.said())
	}
	if bad := got.RCodes[1] + got.RCodes[2] + got.RCodes[4] + got.RCodes[5]; bad > 0 {
		t.note("%s: %d of %d answers in a slice were FORMERR, SERVFAIL, NOTIMP or REFUSED", r.server.name, bad, got.Received)
	}
	if got.Reconnects > 0 {
		t.note("%s ended connections", r.server.name)
	}
	r.lost += got.Lost
	cpu := after.cpu - before.cpu
	r.rate = append(r.rate, got.Rate())
	r.cost = append(r.cost, cpu.Seconds()/float64(got.Received)*1e6)
	r.p50 = append(r.p50, inMicros(got.Latency.Quantile(0.5)))
	r.p99 = append(r.p99, inMicros(got.Latency.Quantile(0.99)))
	r.p999 = append(r.p999, inMicros(got.Latency.Quantile(0.999)))
	r.busy = append(r.busy, 100*cpu.Seconds()/got.Elapsed.Seconds())
	r.generator = append(r.generator, 100*got.Busy())
	return nil
}

// tabulate fills a table with results. The ratio is to the first of them: the floor, where there is one.
func tabulate(t *table, servers []*server, all []*result) {
	t.head = []string{
		"server", "CPU s per million", "spread", "ratio to the first", "answers/s", "p50 µs", "p99 µs", "p99.9 µs", "server busy %", "generator busy %", "lost",
	}
	var base float64
	for i, r := range all {
		if r == nil {
			t.row(servers[i].name, none, none, none, none, none, none, none, none, none, none)
			continue
		}
		cost := r.cost.median()
		if base == 0 {
			base = cost
		}
		t.row(r.server.name, fmt.Sprintf("%.2f", cost), r.cost.spread(2), fmt.Sprintf("%.2f", cost/base), fmt.Sprintf("%.0f", r.rate.median()),
			micros(r.p50.median()), micros(r.p99.median()), micros(r.p999.median()),
			fmt.Sprintf("%.0f", r.busy.median()), fmt.Sprintf("%.0f", r.generator.median()), fmt.Sprint(r.lost))
	}
}
