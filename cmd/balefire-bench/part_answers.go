package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"balefire/cmd/balefire-bench/load"
)

const (
	fixedRate     = 30_000
	manyQueries   = 1 << 17
	seed          = 7
	tcpConnection = 8
	tcpWindow     = 24
)

// answers measures answers over UDP and TCP from one large zone, and over UDP from one that comes signed.
func (b *bench) answers(ctx context.Context) error {
	large, err := writeLarge(b.dir, largeApex, b.names)
	if err != nil {
		return err
	}
	probes := []string{host(1) + "." + largeApex}
	sum := &summary{table: table{title: fmt.Sprintf("CPU seconds of the server for a million answers (one zone of %d names, medians of %d slices of %s)", b.names, b.rounds, b.slice)}}
	err = b.among(ctx, site{zones: []zone{large}, probes: probes, cpu: b.serverCPU, connections: b.idle + 200}, func(c *contest) error {
		if b.wants("udp") {
			if err := c.overUDP(ctx, sum); err != nil {
				return err
			}
		}
		if b.wants("tcp") {
			return c.overTCP(ctx, sum)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if b.wants("udp") {
		if err := b.signed(ctx, sum); err != nil {
			return err
		}
	}
	return sum.print()
}

// among starts the floor and all servers on a site, does what is to be done, and stops them.
func (b *bench) among(ctx context.Context, site site, do func(*contest) error) error {
	c, err := b.contend(ctx, site, append([]peer{echoes{}}, peers...))
	defer c.stop()
	if err != nil {
		return err
	}
	return do(c)
}

// signed measures answers with DO from a zone that comes signed, which is smaller, since signing takes a while.
func (b *bench) signed(ctx context.Context, sum *summary) error {
	names := max(b.names/10, 10)
	plain, err := writeLarge(b.dir, signedApex, names)
	if err != nil {
		return err
	}
	progress("signing a zone of %d names", names)
	z, err := sign(ctx, plain)
	if err != nil {
		return err
	}
	var able []peer
	for _, p := range peers {
		if _, ok := p.(gdnsd); !ok { // which refuses the zone
			able = append(able, p)
		}
	}
	c, err := b.contend(ctx, site{zones: []zone{z}, probes: []string{host(1) + "." + signedApex}, cpu: b.serverCPU}, append([]peer{echoes{}}, able...))
	defer c.stop()
	if err != nil {
		return err
	}
	_, err = c.mix(ctx, signedMix, names, 0, sum)
	return err
}

// overUDP measures all mixes as fast as the servers can, the first also at a fixed rate and at half of what NSD reached.
func (c *contest) overUDP(ctx context.Context, sum *summary) error {
	half := 0.0
	for i, m := range mixes {
		all, err := c.mix(ctx, m, c.names, 0, sum)
		if err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		for _, r := range all {
			if r == nil {
				continue
			}
			if _, ok := r.server.peer.(nsd); ok {
				half = r.rate.median() / 2
			}
		}
	}
	if _, err := c.mix(ctx, mixes[0], c.names, fixedRate, sum); err != nil {
		return err
	}
	if half == 0 {
		return nil // NSD does not take part
	}
	m := mixes[0]
	m.name += ", half of NSD's rate,"
	_, err := c.mix(ctx, m, c.names, int(half), sum)
	return err
}

// mix measures one mix of questions over UDP, at a rate, or as fast as can be when it is 0, and prints the table.
func (c *contest) mix(ctx context.Context, m mix, names, rate int, sum *summary) ([]*result, error) {
	name := m.name
	if rate > 0 {
		name = fmt.Sprintf("%s at %d q/s", m.name, rate)
	}
	progress("UDP, %s", name)
	t := &table{title: "UDP, " + name, notes: slices.Clone(c.notes)}
	queries := make([][][]byte, len(c.servers))
	wanted := make([]bool, len(c.servers))
	for i, s := range c.servers {
		var err error
		if queries[i], err = m.forServer(s, names); err != nil {
			if vital(s.peer) {
				return nil, fmt.Errorf("%s: %s: %w", name, s.name, err)
			}
			t.note("%s: %v", s.name, err)
			continue
		}
		wanted[i] = true
	}
	all, err := c.measure(ctx, t, wanted, func(r *result, i, round int) error {
		return r.slice(t, load.UDP{
			Server: r.server.addr, Queries: queries[i], Sockets: 4, Window: 48, Batch: 48, Rate: rate,
			Length: c.slice, CPU: c.clientCPU, Start: round * 10007,
		}.Run)
	})
	if err != nil {
		return nil, err
	}
	sum.add(name, c.servers, all)
	tabulate(t, c.servers, all)
	return all, t.write(os.Stdout)
}

// forServer makes a server's questions, and checks that it gives right answers to some.
func (m mix) forServer(s *server, names int) ([][]byte, error) {
	_, echo := s.peer.(echoes)
	var cookie []byte
	if m.options.cookie {
		var err error
		cookie, err = learnCookie(s.addr)
		switch {
		case echo: // it sends back what looks like one
			cookie = make([]byte, 24)
		case errors.Is(err, errNoCookies):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("learn its cookie: %w", err)
		}
	}
	queries := m.queries(manyQueries, names, seed, cookie)
	if echo {
		return queries, nil
	}
	return queries, m.check(s.addr, queries)
}

// overTCP measures questions over kept connections, alone and with idle ones beside them.
func (c *contest) overTCP(ctx context.Context, sum *summary) error {
	queries := mixes[0].queries(manyQueries, c.names, seed, nil)
	c = &contest{bench: c.bench, servers: c.competitors(), notes: slices.Clone(c.notes)}
	wanted := slices.Repeat([]bool{true}, len(c.servers))
	ask := func(r *result, round int) func() (load.Tally, error) {
		return load.TCP{
			Server: r.server.addr, Queries: queries, Connections: tcpConnection, Window: tcpWindow,
			Length: c.slice, CPU: c.clientCPU, Start: round * 10007,
		}.Run
	}
	name := fmt.Sprintf("TCP, %d connections", tcpConnection)
	progress("%s", name)
	t := &table{title: fmt.Sprintf("%s, %d questions under way on each, existing names", name, tcpWindow), notes: slices.Clone(c.notes)}
	all, err := c.measure(ctx, t, wanted, func(r *result, _, round int) error { return r.slice(t, ask(r, round)) })
	if err != nil {
		return err
	}
	sum.add(name, c.servers, all)
	tabulate(t, c.servers, all)
	if err := t.write(os.Stdout); err != nil || c.idle == 0 {
		return err
	}
	return c.besideIdle(ctx, sum, queries, wanted, ask)
}

// besideIdle measures the same with idle connections, which are made before each slice and ended after it.
func (c *contest) besideIdle(ctx context.Context, sum *summary, queries [][]byte, wanted []bool, ask func(*result, int) func() (load.Tally, error)) error {
	name := fmt.Sprintf("TCP, %d idle beside", c.idle)
	progress("%s", name)
	t := &table{title: fmt.Sprintf("%s, existing names", name), notes: slices.Clone(c.notes)}
	for i, s := range c.servers {
		grown, err := holdIdle(s, c.idle, queries[0])
		if err != nil {
			wanted[i] = false
			t.note("%s: %v", s.name, err)
			continue
		}
		t.note("%s: %s MB more with the idle connections", s.name, megabytes(grown))
	}
	all, err := c.measure(ctx, t, wanted, func(r *result, _, round int) error { return r.beside(t, c.idle, queries[0], ask(r, round)) })
	if err != nil {
		return err
	}
	sum.add(name, c.servers, all)
	tabulate(t, c.servers, all)
	return t.write(os.Stdout)
}

// holdIdle opens idle connections for a moment, and returns by how many octets the server grows with them. That it does not hold
// all of them is an error.
func holdIdle(s *server, n int, query []byte) (int64, error) {
	before, err := s.usage()
	if err != nil {
		return 0, err
	}
	idle, err := load.OpenIdle(s.addr, n, query)
	if err != nil {
		return 0, err
	}
	defer idle.Close()
	if open := idle.Open(); open < n {
		return 0, fmt.Errorf("ended %d of %d idle connections", n-open, n)
	}
	after, err := s.usage()
	return after.memory - before.memory, err
}

// beside does a slice with so many idle connections open.
func (r *result) beside(t *table, n int, query []byte, ask func() (load.Tally, error)) error {
	idle, err := load.OpenIdle(r.server.addr, n, query)
	if err != nil {
		return err
	}
	defer idle.Close()
	if err := r.slice(t, ask); err != nil {
		return err
	}
	if open := idle.Open(); open < n {
		t.note("%s: only %d of %d idle connections were left after a slice", r.server.name, open, n)
	}
	return nil
}
