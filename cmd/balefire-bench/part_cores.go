package main

import (
	"context"
	"fmt"
)

// workers is Balefire with so many receiving loops.
type workers struct {
	balefire
	n int
}

func (w workers) about() (string, []string) {
	_, version := w.balefire.about()
	return fmt.Sprintf("Balefire, receiving loops: %d", w.n), version
}

func (w workers) prepare(ctx context.Context, s *server, site site) error {
	return w.balefire.prepare(ctx, s, site)
}

func (w workers) start(_ context.Context, s *server, site site) error {
	return w.serve(s, site, "--dns-udp-workers", fmt.Sprint(w.n))
}

// cores measures what a second processor adds. Server and load share all processors, since there may be no more than two: what tells is
// the server's CPU time for an answer with one receiving loop, and with one for each processor.
func (b *bench) cores(ctx context.Context) error {
	large, err := writeLarge(b.dir, largeApex, b.names)
	if err != nil {
		return err
	}
	shared := *b
	shared.clientCPU = -1
	sum := &summary{table: table{title: fmt.Sprintf("CPU seconds of the server for a million answers, by receiving loops (medians of %d slices of %s)", b.rounds, b.slice)}}
	site := site{zones: []zone{large}, probes: []string{host(1) + "." + largeApex}, cpu: -1}
	c, err := shared.contend(ctx, site, []peer{workers{n: 1}, workers{n: 2}})
	defer c.stop()
	if err != nil {
		return err
	}
	for _, m := range []mix{mixes[0], mixes[2]} {
		if _, err := c.mix(ctx, m, c.names, 0, sum); err != nil {
			return err
		}
	}
	return sum.print()
}
