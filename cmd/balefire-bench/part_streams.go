package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"balefire/cmd/balefire-bench/load"
)

// streams are the loads over kept connections: few that have many questions under way, and many with one each.
var streams = []struct{ connections, window int }{{8, 24}, {192, 1}}

// overTCP measures questions over kept connections, alone and with idle ones beside them.
func (c *contest) overTCP(ctx context.Context, sum *summary) error {
	return c.only(c.competitors()).overStreams(ctx, sum, "TCP", false)
}

// overTLS is the same with TLS, for servers that know it, and measures new connections as well.
func (c *contest) overTLS(ctx context.Context, sum *summary) error {
	var able []*server
	for _, s := range c.competitors() {
		switch s.peer.(type) {
		case balefire, nsd, bind:
			able = append(able, s)
		}
	}
	c = c.only(able)
	if err := c.overStreams(ctx, sum, "TLS", true); err != nil {
		return err
	}
	for _, name := range []string{"new", "resumed"} {
		if err := c.handshakes(ctx, name, name == "resumed"); err != nil {
			return err
		}
	}
	return nil
}

// only is the contest among some of the servers.
func (c *contest) only(servers []*server) *contest {
	return &contest{bench: c.bench, servers: servers, notes: slices.Clone(c.notes)}
}

// stream returns where a server takes connections.
func (s *server) stream(secure bool) netip.AddrPort {
	if secure {
		return s.tls
	}
	return s.addr
}

func (c *contest) overStreams(ctx context.Context, sum *summary, transport string, secure bool) error {
	queries := mixes[0].queries(manyQueries, c.names, seed, nil)
	for i, l := range streams {
		ask := func(r *result, round int) func() (load.Tally, error) {
			return load.TCP{
				Server: r.server.stream(secure), TLS: secure, Queries: queries, Connections: l.connections, Window: l.window,
				Length: c.slice, CPU: c.clientCPU, Start: round * 10007,
			}.Run
		}
		name := fmt.Sprintf("%s, %d connections", transport, l.connections)
		progress("%s", name)
		t := &table{title: fmt.Sprintf("%s, %d questions under way on each, existing names", name, l.window), notes: slices.Clone(c.notes)}
		all, err := c.measure(ctx, t, c.able(t, secure, l.window), func(r *result, _, round int) error { return r.slice(t, ask(r, round)) })
		if err != nil {
			return err
		}
		sum.add(name, c.servers, all)
		tabulate(t, c.servers, all)
		if err := t.write(os.Stdout); err != nil {
			return err
		}
		if i > 0 || c.idle == 0 {
			continue
		}
		if err := c.besideIdle(ctx, sum, transport, secure, queries[0], ask); err != nil {
			return err
		}
	}
	return nil
}

// able says which servers can do with a window of questions on each connection.
func (c *contest) able(t *table, secure bool, window int) []bool {
	able := slices.Repeat([]bool{true}, len(c.servers))
	for i, s := range c.servers {
		if _, ok := s.peer.(nsd); ok && secure && window > 1 {
			able[i] = false
			t.note("%s waits for something to come before it reads the second question of a TLS record, and is not asked several at once", s.name)
		}
	}
	return able
}

// besideIdle measures the same with idle connections, which are made before each slice and ended after it.
func (c *contest) besideIdle(ctx context.Context, sum *summary, transport string, secure bool, query []byte, ask func(*result, int) func() (load.Tally, error)) error {
	name := fmt.Sprintf("%s, %d idle beside", transport, c.idle)
	progress("%s", name)
	t := &table{title: fmt.Sprintf("%s, existing names", name), notes: slices.Clone(c.notes)}
	wanted := c.able(t, secure, streams[0].window)
	for i, s := range c.servers {
		grown, err := holdIdle(s, secure, c.idle, query)
		if err != nil {
			wanted[i] = false
			t.note("%s: %v", s.name, err)
			continue
		}
		t.note("%s: %s MB more with the idle connections", s.name, megabytes(grown))
	}
	all, err := c.measure(ctx, t, wanted, func(r *result, _, round int) error {
		return r.beside(t, secure, c.idle, query, ask(r, round))
	})
	if err != nil {
		return err
	}
	sum.add(name, c.servers, all)
	tabulate(t, c.servers, all)
	return t.write(os.Stdout)
}

// holdIdle opens idle connections for a moment, and returns by how many octets the server grows with them. That it does not hold
// all of them is an error.
func holdIdle(s *server, secure bool, n int, query []byte) (int64, error) {
	before, err := s.usage()
	if err != nil {
		return 0, err
	}
	idle, err := load.OpenIdle(s.stream(secure), secure, n, query)
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
func (r *result) beside(t *table, secure bool, n int, query []byte, ask func() (load.Tally, error)) error {
	idle, err := load.OpenIdle(r.server.stream(secure), secure, n, query)
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

// handshakes measures connections with TLS that are made for one question each, one after another.
func (c *contest) handshakes(ctx context.Context, name string, resume bool) error {
	progress("TLS, %s connections", name)
	t := &table{title: fmt.Sprintf("TLS, %s connections for one question each, one at a time", name), notes: slices.Clone(c.notes)}
	query := mixes[0].queries(1, c.names, seed, nil)[0]
	all, err := c.measure(ctx, t, slices.Repeat([]bool{true}, len(c.servers)), func(r *result, _, _ int) error {
		return r.slice(t, load.Handshakes{Server: r.server.tls, Query: query, Resume: resume, Length: c.slice, CPU: c.clientCPU}.Run)
	})
	if err != nil {
		return err
	}
	tabulate(t, c.servers, all)
	return t.write(os.Stdout)
}
