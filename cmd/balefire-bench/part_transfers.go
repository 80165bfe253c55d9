package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire-bench/load"
)

const (
	transferApex = "transfer.test."
	// changesFollowed is how many changes are followed to a secondary, and changePause the time between them: longer than Balefire waits before it tells a server again.
	changesFollowed = 10
	changePause     = 1200 * time.Millisecond
	// wholeTime and followTime are how long a secondary may take for the zone, and for a change.
	wholeTime  = 2 * time.Minute
	followTime = 20 * time.Second
)

// primaries are the peers that give zones to others.
var primaries = []peer{balefire{}, nsd{}, knot{}, bind{}}

// transfers measures how fast a large zone is transferred, and how long a change of it takes until a secondary has it.
func (b *bench) transfers(ctx context.Context) error {
	progress("writing a zone of %d names", b.transferred)
	z, err := writeLarge(b.dir, transferApex, b.transferred)
	if err != nil {
		return err
	}
	records, err := countRecords(z.file)
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	follower := loopback(port)
	s := site{
		zones: []zone{z}, probes: []string{host(1) + "." + transferApex}, cpu: b.serverCPU, updates: true, hot: b.hot, follower: follower,
	}
	c, err := b.contend(ctx, s, primaries)
	defer c.stop()
	if err != nil {
		return err
	}
	if err := c.transferTable(ctx, records); err != nil {
		return err
	}
	return c.followTable(ctx, follower)
}

// countRecords counts the records in a file that has one in each line, beside its directives.
func countRecords(file string) (n int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "$") {
			n++
		}
	}
	return n, lines.Err()
}

// during does something, and returns the most memory of its own that a server was seen to have meanwhile.
func (s *server) during(do func() error) (most int64, err error) {
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond) // looking takes the kernel some time, with much memory
		defer tick.Stop()
		for {
			if u, err := s.usage(); err == nil {
				most = max(most, u.own)
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	err = do()
	close(stop)
	watching.Wait()
	return most, err
}

// transferTable measures transfers of the whole zone by one client, one server after another.
func (c *contest) transferTable(ctx context.Context, records int) error {
	query, err := new(dns.Msg).SetAxfr(transferApex).Pack()
	if err != nil {
		return err
	}
	t := &table{
		title: fmt.Sprintf("AXFR of a zone of %d names, %d records (medians of %d)", c.transferred, records, c.rounds),
		head:  []string{"server", "MB/s", "records/s", "spread", "MB", "messages", "s", "CPU s of the server", "MB of memory before", "MB meanwhile, at most", "CPU s of who takes it"},
		notes: slices.Clone(c.notes),
	}
	progress("%s", t.title)
	type figure struct {
		seconds, cpu, taker figures
		got                 load.Transferred
		before, most        int64
	}
	all := make([]figure, len(c.servers))
	results, err := c.measure(ctx, t, slices.Repeat([]bool{true}, len(c.servers)), func(r *result, i, round int) error {
		before, err := r.server.usage()
		if err != nil {
			return err
		}
		f := &all[i]
		if round == 0 {
			f.before = before.own
		}
		most, err := r.server.during(func() (err error) {
			f.got, err = load.Transfer{Server: r.server.addr, Query: query, Records: records + 1, CPU: c.clientCPU}.Run()
			return err
		})
		if err != nil {
			return err
		}
		after, err := r.server.usage()
		if err != nil {
			return err
		}
		f.most = max(f.most, most)
		f.seconds = append(f.seconds, f.got.Elapsed.Seconds())
		f.cpu = append(f.cpu, (after.cpu - before.cpu).Seconds())
		f.taker = append(f.taker, f.got.CPU.Seconds())
		return nil
	})
	if err != nil {
		return err
	}
	for i, r := range results {
		if r == nil {
			t.row(append([]string{c.servers[i].name}, slices.Repeat([]string{none}, len(t.head)-1)...)...)
			continue
		}
		f := all[i]
		took := f.seconds.median()
		var rates figures
		for _, s := range f.seconds {
			rates = append(rates, float64(records)/s)
		}
		t.row(r.server.name, fmt.Sprintf("%.0f", float64(f.got.Octets)/1e6/took), fmt.Sprintf("%.0f", float64(records)/took), rates.spread(0), fmt.Sprintf("%.1f", float64(f.got.Octets)/1e6),
			fmt.Sprint(f.got.Messages), fmt.Sprintf("%.2f", took), fmt.Sprintf("%.2f", f.cpu.median()), megabytes(f.before), megabytes(f.most), fmt.Sprintf("%.2f", f.taker.median()))
	}
	return t.write(os.Stdout)
}

// followTable measures how long changes take to a secondary, which is Knot for all servers, one after another. It is told of them by NOTIFY, and asks for differences.
func (c *contest) followTable(ctx context.Context, follower netip.AddrPort) error {
	t := &table{
		title: fmt.Sprintf("One change in a zone of %d names, until Knot as the secondary has the new serial (%d changes)", c.transferred, changesFollowed),
		head:  []string{"primary", "the secondary has the zone after", "acknowledged after, p50 / most", "the secondary has it after, p50 / most", "MB of the primary meanwhile, at most"},
	}
	for _, s := range c.servers {
		p, ok := s.peer.(writable)
		if !ok {
			t.row(s.name, none, none, none, none)
			t.note("%s has no changes but those of its files", s.name)
			continue
		}
		row, err := c.follow(ctx, s, p, follower)
		if err != nil {
			if vital(s.peer) || ctx.Err() != nil {
				return err
			}
			t.note("%s: %v", s.name, err)
			row = slices.Repeat([]string{none}, len(t.head)-1)
		}
		t.row(append([]string{s.name}, row...)...)
	}
	return t.write(os.Stdout)
}

func (c *contest) follow(ctx context.Context, primary *server, p writable, at netip.AddrPort) ([]string, error) {
	progress("a secondary of %s", primary.name)
	follower, err := newServer(ctx, knot{}, c.dir+"/follower")
	if err != nil {
		return nil, err
	}
	follower.addr = at
	if err := startFollower(follower, primary.addr, transferApex); err != nil {
		return nil, err
	}
	defer follower.stop()
	conn, err := net.Dial("udp4", at.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	serial, err := awaitSerial(ctx, conn, wholeTime, func(uint32) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, follower.said())
	}
	whole := time.Since(follower.started)
	w, err := p.writer(primary)
	if err != nil {
		return nil, err
	}
	defer w.close()
	var acknowledged, seen figures
	most, err := primary.during(func() error {
		for k := range changesFollowed {
			select {
			case <-time.After(changePause):
			case <-ctx.Done():
				return ctx.Err()
			}
			begin := time.Now()
			if err := w.change(ctx, transferApex, k*7, k+1); err != nil {
				return err
			}
			acknowledged = append(acknowledged, time.Since(begin).Seconds()*1000)
			next, err := awaitSerial(ctx, conn, followTime, func(now uint32) bool { return now != serial })
			if err != nil {
				return fmt.Errorf("%w\n%s", err, follower.said())
			}
			seen = append(seen, time.Since(begin).Seconds()*1000)
			serial = next
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	text := func(f figures) string { return fmt.Sprintf("%.1f / %.1f ms", f.median(), slices.Max(f)) }
	return []string{seconds(whole), text(acknowledged), text(seen), megabytes(most)}, nil
}

// awaitSerial asks for the zone's serial until it is as wanted.
func awaitSerial(ctx context.Context, conn net.Conn, limit time.Duration, wanted func(uint32) bool) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	q := new(dns.Msg).SetQuestion(transferApex, dns.TypeSOA)
	packet, err := q.Pack()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return 0, err
		}
		if _, err := conn.Write(packet); err == nil {
			if n, err := conn.Read(buf); err == nil {
				var m dns.Msg
				if err := m.Unpack(buf[:n]); err == nil && m.Id == q.Id && len(m.Answer) == 1 {
					if soa, ok := m.Answer[0].(*dns.SOA); ok && wanted(soa.Serial) {
						return soa.Serial, nil
					}
				}
			}
		}
		time.Sleep(500 * time.Microsecond)
	}
	return 0, errors.Join(errors.New("the secondary does not come to have it"), ctx.Err())
}

// startFollower starts Knot as the secondary of a server.
func startFollower(s *server, primary netip.AddrPort, apex string) error {
	err := s.configure("knot.conf", `server:
  rundir: "%[2]s"
  listen: 127.0.0.1@%[1]d
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
control:
  listen: "%[2]s/control"
database:
  storage: "%[2]s"
log:
  - target: stderr
    any: notice
remote:
  - id: primary
    address: 127.0.0.1@%[3]d
acl:
  - id: notices
    address: 127.0.0.1
    action: notify
zone:
  - domain: "%[4]s"
    storage: "%[2]s"
    zonefile-load: none
    zonefile-sync: -1
    journal-content: none
    master: primary
    acl: notices
`, s.addr.Port(), s.dir, primary.Port(), apex)
	if err != nil {
		return err
	}
	return s.launch(-1, nil, "knotd", "-c", s.path("knot.conf"))
}
