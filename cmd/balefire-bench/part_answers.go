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
	fixedRate   = 30_000
	manyQueries = 1 << 17
	seed        = 7
)

// answers measures answers over UDP, TCP and TLS from one large zone, and over UDP from one that comes signed.
func (b *bench) answers(ctx context.Context) error {
	large, err := writeLarge(b.dir, largeApex, b.names)
	if err != nil {
		return err
	}
	probes := []string{host(1) + "." + largeApex}
	sum := &summary{table: table{title: fmt.Sprintf("CPU seconds of the server for a million answers (one zone of %d names, medians of %d slices of %s)", b.names, b.rounds, b.slice)}}
	all := site{zones: []zone{large}, probes: probes, cpu: b.serverCPU, connections: b.idle + 400}
	if b.wants("tls") {
		if all.cert, all.key, err = writeCertificate(b.dir); err != nil {
			return err
		}
	}
	err = b.among(ctx, all, func(c *contest) error {
		if b.wants("udp") {
			if err := c.overUDP(ctx, sum); err != nil {
				return err
			}
		}
		if b.wants("tcp") {
			if err := c.overTCP(ctx, sum); err != nil {
				return err
			}
		}
		if b.wants("tls") {
			return c.overTLS(ctx, sum)
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
