package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// own measures what concerns Balefire alone: changes until they are in DNS, the import of a large zone, and the start after it.
func (b *bench) own(ctx context.Context) error {
	s, err := newServer(ctx, balefire{}, b.dir)
	if err != nil {
		return err
	}
	defer s.stop()
	fmt.Printf("%s\n\n", s.name)
	start := site{cpu: -1}
	if err := (balefire{}).start(ctx, s, start); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "own")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	z, err := writeLarge(dir, writtenApex(0), b.names)
	if err != nil {
		return err
	}
	if _, _, err := s.load(ctx, z); err != nil {
		return err
	}
	if err := b.ownChanges(ctx, s); err != nil {
		return err
	}
	if b.large == 0 {
		return nil
	}
	return b.ownImport(ctx, s, dir)
}

// ownChanges prints what changes through the API cost.
func (b *bench) ownChanges(ctx context.Context, s *server) error {
	t := &table{title: "Changes through the API (embedded log, each one synced to disk)", head: []string{"what", "figure"}}
	for _, clients := range []int{1, b.clients} {
		progress("changes by %d clients", clients)
		got, err := changes(ctx, s, newWriter, clients, 1, clients, 3*time.Second)
		if err != nil {
			return err
		}
		t.row(fmt.Sprintf("changes/s, clients at once: %d", clients), fmt.Sprintf("%.0f", got.Rate()))
	}
	seen, err := visibility(ctx, s, 200)
	if err != nil {
		return err
	}
	slices.Sort(seen)
	t.row("from the API's answer to the new answer in DNS, p50 / p99",
		fmt.Sprintf("%d µs / %d µs", seen[len(seen)/2].Microseconds(), seen[len(seen)*99/100].Microseconds()))
	return t.write(os.Stdout)
}

// ownImport prints what the import of a large zone costs, and the start afterwards.
func (b *bench) ownImport(ctx context.Context, s *server, dir string) error {
	progress("import of a zone of %d names", b.large)
	z, err := writeLarge(dir, "large.test.", b.large)
	if err != nil {
		return err
	}
	idle, err := s.usage()
	if err != nil {
		return err
	}
	took, peak, err := s.load(ctx, z)
	if err != nil {
		return err
	}
	records := float64(b.large)*1.5 + 7*float64(extras(b.large))
	t := &table{title: fmt.Sprintf("Import of a zone of %d names", b.large), head: []string{"what", "figure"}}
	t.row("time", seconds(took))
	t.row("records/s", fmt.Sprintf("%.0f", records/took.Seconds()))
	t.row("resident MB before / highest", megabytes(idle.memory)+" / "+megabytes(peak))
	s.stop()
	begin := time.Now()
	if err := (balefire{}).start(ctx, s, site{cpu: -1}); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	t.row("start with both zones, to ready", fmt.Sprintf("%d ms", time.Since(begin).Milliseconds()))
	return t.write(os.Stdout)
}

// load imports a zone's file over the API, and returns how long it took and the most memory seen.
func (s *server) load(ctx context.Context, z zone) (took time.Duration, peak int64, err error) {
	watch, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watch.Err() == nil {
			if u, err := s.usage(); err == nil {
				peak = max(peak, u.memory)
			}
			select {
			case <-watch.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	begin := time.Now()
	err = balefire{}.addZone(ctx, s, z)
	took = time.Since(begin)
	cancel()
	watcher.Wait()
	return took, peak, err
}

// visibility changes a record again and again, and returns, for each, how long after the API's answer DNS gave the new value.
func visibility(ctx context.Context, s *server, rounds int) ([]time.Duration, error) {
	c, err := dns.Dial("udp4", s.addr.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	api := newClient(s)
	var all []time.Duration
	for k := range rounds {
		if err := api.put(ctx, writtenApex(0), 1, k+1); err != nil {
			return nil, err
		}
		begin := time.Now()
		if err := awaitAddress(c, host(1)+"."+writtenApex(0), changedAddress(1, k+1)); err != nil {
			return nil, err
		}
		all = append(all, time.Since(begin))
	}
	return all, nil
}

// awaitAddress asks for a name's address again and again until it is the one that is waited for.
func awaitAddress(c *dns.Conn, name, want string) error {
	begin := time.Now()
	for {
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if err := c.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
			return err
		}
		r, err := c.ReadMsg()
		if err != nil {
			return err
		}
		if len(r.Answer) == 1 {
			if a, ok := r.Answer[0].(*dns.A); ok && a.A.String() == want {
				return nil
			}
		}
		if time.Since(begin) > 5*time.Second {
			return fmt.Errorf("%s is not %s in DNS 5 s after the change was acknowledged", name, want)
		}
	}
}
