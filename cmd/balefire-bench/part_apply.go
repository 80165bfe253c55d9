package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"balefire/cmd/balefire-bench/load"
	"balefire/replication/mutationlog"
	"balefire/zones"
	"balefire/zones/change"
)

// What is asked while changes are applied.
const (
	askedRate = 20_000 // questions a second
	// askedNap is how long the generator sleeps between questions that are due, so that it leaves both processors to the server. It
	// is in the latencies, which count from when a question was due.
	askedNap = 200 * time.Microsecond
	// appliedFor is how long applying is watched. It has begun when the node has started and its zones are in memory.
	appliedFor = 5 * time.Second
)

// apply measures how fast a node applies what it has missed, with nothing asked and with questions. The changes, each of one RRset of a
// small zone, are in its embedded log before it starts. Node and questions share all processors.
func (b *bench) apply(ctx context.Context) error {
	progress("writing %d zones", b.zones)
	all, err := writeFleet(filepath.Join(b.dir, "applied"), b.zones)
	if err != nil {
		return err
	}
	s, err := newServer(ctx, balefire{}, b.dir)
	if err != nil {
		return err
	}
	defer s.stop()
	fmt.Printf("%s\n\n", s.name)
	progress("importing them")
	if err := (balefire{}).prepare(ctx, s, site{zones: all}); err != nil {
		return err
	}
	t := &table{
		title: fmt.Sprintf("Changes that a node applies from its log; %d zones, each change of one RRset, medians of %d times %s", b.zones, b.rounds, appliedFor),
		head: []string{
			"asked meanwhile", "changes applied/s", "spread", "p50 ms", "p99 ms", "spread", "p99.9 ms", "answers/s", "lost", "CPU ms of the node for each change",
		},
	}
	var alone result
	for _, rate := range []int{0, askedRate} {
		r := &result{server: s}
		var applied, each, answers figures
		for round := range b.rounds {
			got, err := b.applyOnce(ctx, s, rate, round)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, s.said())
			}
			applied = append(applied, got.rate)
			each = append(each, got.cost)
			if rate == 0 {
				continue
			}
			answers = append(answers, got.Rate())
			r.p50 = append(r.p50, inMicros(got.Latency.Quantile(0.5))/1000)
			r.p99 = append(r.p99, inMicros(got.Latency.Quantile(0.99))/1000)
			r.p999 = append(r.p999, inMicros(got.Latency.Quantile(0.999))/1000)
			r.lost += got.Lost
			alone.p50 = append(alone.p50, inMicros(got.alone.Latency.Quantile(0.5))/1000)
			alone.p99 = append(alone.p99, inMicros(got.alone.Latency.Quantile(0.99))/1000)
			alone.p999 = append(alone.p999, inMicros(got.alone.Latency.Quantile(0.999))/1000)
			alone.rate = append(alone.rate, got.alone.Rate())
			alone.lost += got.alone.Lost
		}
		cells := []string{"nothing", fmt.Sprintf("%.0f", applied.median()), applied.spread(0), none, none, none, none, none, none, fmt.Sprintf("%.3f", each.median())}
		if rate > 0 {
			cells = []string{
				fmt.Sprintf("%d questions/s", rate), cells[1], cells[2], fmt.Sprintf("%.2f", r.p50.median()), fmt.Sprintf("%.2f", r.p99.median()),
				r.p99.spread(2), fmt.Sprintf("%.2f", r.p999.median()), fmt.Sprintf("%.0f", answers.median()), fmt.Sprint(r.lost), cells[9],
			}
		}
		t.row(cells...)
	}
	t.row(
		"the same, when all are applied", none, none, fmt.Sprintf("%.2f", alone.p50.median()), fmt.Sprintf("%.2f", alone.p99.median()), alone.p99.spread(2),
		fmt.Sprintf("%.2f", alone.p999.median()), fmt.Sprintf("%.0f", alone.rate.median()), fmt.Sprint(alone.lost), none,
	)
	return t.write(os.Stdout)
}

// applying is what was seen in one time of watching.
type applying struct {
	load.Tally
	rate float64 // changes applied a second
	cost float64 // ms of CPU for each

	alone load.Tally // of the same questions, afterwards
}

// applyOnce puts changes into the log of the node, which does not run, starts it, and watches.
func (b *bench) applyOnce(ctx context.Context, s *server, rate, round int) (applying, error) {
	var got applying
	progress("%d changes into the log", b.changes)
	if err := b.publish(ctx, s, round*2+rate/askedRate); err != nil {
		return got, err
	}
	if err := (balefire{}).start(ctx, s, site{cpu: -1}); err != nil {
		return got, err
	}
	defer s.stop()
	if err := s.ready(ctx); err != nil {
		return got, err
	}
	asked := min(b.zones, 10_000) // as many as the node keeps in memory
	q := load.UDP{
		Server: s.addr, Queries: fleetMix.queries(1<<16, asked, uint64(round), nil), Sockets: 4, Batch: 32, CPU: -1,
		Rate: rate, Nap: askedNap, Length: 2 * time.Second,
	}
	if rate > 0 {
		if _, err := q.Run(); err != nil { // the zones come into memory
			return got, err
		}
	} else {
		time.Sleep(q.Length)
	}
	before, err := s.appliedSoFar(ctx)
	if err != nil {
		return got, err
	}
	used, err := s.usage()
	if err != nil {
		return got, err
	}
	progress("watching; %d are applied", before)
	begin := time.Now()
	q.Length = appliedFor
	if rate > 0 {
		if got.Tally, err = q.Run(); err != nil {
			return got, err
		}
	} else {
		time.Sleep(appliedFor)
	}
	usedNow, err := s.usage()
	if err != nil {
		return got, err
	}
	after, err := s.appliedSoFar(ctx)
	if err != nil {
		return got, err
	}
	if after >= b.changes {
		return got, fmt.Errorf("all %d changes were applied before the end: more are needed (-changes)", b.changes)
	}
	got.rate = float64(after-before) / time.Since(begin).Seconds()
	got.cost = (usedNow.cpu - used.cpu).Seconds() * 1000 / float64(after-before)
	if err := s.catchUp(ctx, b.changes); err != nil || rate == 0 {
		return got, err
	}
	got.alone, err = q.Run()
	return got, err
}

// catchUp waits until all changes are applied.
func (s *server) catchUp(ctx context.Context, changes int) error {
	for {
		n, err := s.appliedSoFar(ctx)
		if err != nil || n >= changes {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// appliedSoFar returns how many changes the node has applied since it started. One that it has rejected is an error.
func (s *server) appliedSoFar(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.control.String()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	applied := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "balefire_records_applied_total{outcome=\"")
		if !ok {
			continue
		}
		outcome, count, _ := strings.Cut(rest, "\"} ")
		n, err := strconv.ParseFloat(count, 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %q", lines.Text())
		}
		if outcome == "applied" {
			applied = int(n)
		} else if n > 0 {
			return 0, fmt.Errorf("%v changes are %s", n, outcome)
		}
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("metrics: %s", res.Status)
	}
	return applied, nil
}

// publish appends changes to the node's log, as the node would. Each gives one host of a zone another address: one that is there, or a
// new one.
func (b *bench) publish(ctx context.Context, s *server, round int) error {
	l, err := mutationlog.Open(mutationlog.Options{
		Namespace: "balefire", Dir: filepath.Join(s.path("data"), "log"), CacheFile: filepath.Join(s.path("data"), "bench-control.json"),
		DeliveryTimeout: time.Minute, Logger: zerolog.Nop(),
	})
	if err != nil {
		return err
	}
	defer l.Close()
	select {
	case <-l.Established():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("the log of the node that has stopped can't be opened: %w", l.Status().Trying)
	}
	const writers = 2000
	var next atomic.Int64
	errs := make([]error, writers)
	var all sync.WaitGroup
	for k := range writers {
		all.Go(func() {
			for errs[k] == nil {
				i := int(next.Add(1)) - 1
				if i >= b.changes {
					return
				}
				errs[k] = publishOne(ctx, l, i, b.zones, round)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func publishOne(ctx context.Context, l *mutationlog.Log, i, fleet, round int) error {
	apex := zones.MustParseName(fleetApex(i * 7919 % fleet))
	owner, err := zones.ParseName([]string{"www", "mail", "ftp", "api"}[i/fleet%4] + "." + apex.String())
	if err != nil {
		return err
	}
	address := [4]byte{203, byte(round), byte(i >> 8), byte(i)}
	a, err := zones.NewRRset(owner, zones.TypeA, 300, address[:])
	if err != nil {
		return err
	}
	cs := &zones.ChangeSet{Zone: apex, Author: "benchmark", Ops: []zones.Op{zones.OpPutRRset{RRset: a}}}
	binary.BigEndian.PutUint32(cs.ID[:], uint32(i))
	binary.BigEndian.PutUint64(cs.ID[8:], uint64(time.Now().UnixNano()))
	value, err := change.Encode(cs)
	if err != nil {
		return err
	}
	key := []byte(apex.String())
	_, err = l.Publish(ctx, mutationlog.PartitionOf(key, l.Partitions()), key, value)
	return err
}
