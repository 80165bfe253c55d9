package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// fleet measures many small zones: the start, memory, one zone more, and answers from all of them.
func (b *bench) fleet(ctx context.Context) error {
	progress("writing %d zones", b.zones)
	all, err := writeFleet(filepath.Join(b.dir, "fleet"), b.zones)
	if err != nil {
		return err
	}
	s := site{zones: all, cpu: b.serverCPU, hot: b.hot, imported: b.imported}
	for i := range min(16, b.zones) {
		s.probes = append(s.probes, "www."+fleetApex(i*b.zones/16))
	}
	sum := &summary{table: table{title: fmt.Sprintf("CPU seconds of the server for a million answers (a fleet of %d zones, medians of %d slices of %s)", b.zones, b.rounds, b.slice)}}
	err = b.among(ctx, s, func(c *contest) error {
		t := &table{
			title: fmt.Sprintf("%d zones of six records", b.zones),
			head: []string{
				"server", "prepared in", "first right answer after", "all probes answered after", "ready after", "MB then", "one zone more", "MB after the queries",
			},
			notes: slices.Clone(c.notes),
		}
		if err := c.fleetRows(ctx, t); err != nil {
			return err
		}
		// Once as they come into memory when they are asked for, and once as they are there.
		if _, err := c.mix(ctx, fleetMix, b.zones, 0, sum); err != nil {
			return err
		}
		for _, s := range c.servers {
			if _, ok := s.peer.(balefire); !ok {
				continue
			}
			if err := b.heat(ctx, s); err != nil {
				c.notes = append(c.notes, err.Error())
			}
		}
		again := fleetMix
		again.name += ", in memory"
		if _, err := c.mix(ctx, again, b.zones, 0, sum); err != nil {
			return err
		}
		for i, s := range c.competitors() {
			memory := none
			if u, err := s.usage(); err == nil {
				memory = megabytes(u.memory)
			} else {
				t.note("%v", err)
			}
			t.rows[i] = append(t.rows[i], memory)
		}
		return t.write(os.Stdout)
	})
	if err != nil {
		return err
	}
	return sum.print()
}

// competitors are the servers without the floor.
func (c *contest) competitors() []*server {
	var all []*server
	for _, s := range c.servers {
		if _, echo := s.peer.(echoes); !echo {
			all = append(all, s)
		}
	}
	return all
}

// fleetRows has every server take in one zone more, and begins its row.
func (c *contest) fleetRows(ctx context.Context, t *table) error {
	dir := filepath.Join(c.dir, "added")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	more := make([]zone, 3)
	for i := range more {
		var err error
		if more[i], err = writeSmall(dir, fmt.Sprintf("added%d.test.", i)); err != nil {
			return err
		}
	}
	for _, s := range c.competitors() {
		u, err := s.usage()
		if err != nil {
			return err
		}
		progress("%s takes in one zone more", s.name)
		var took figures
		for _, z := range more {
			d, err := c.timeAdded(ctx, s, z)
			if err != nil {
				t.note("%s: %v", s.name, err)
				break
			}
			took = append(took, d.Seconds()*1000)
		}
		added := none
		if len(took) > 0 {
			added = fmt.Sprintf("%.1f ms", took.median())
		}
		prepared := none
		if s.prepared > 50*time.Millisecond { // more than writing a configuration
			prepared = seconds(s.prepared)
		}
		ready := none
		if _, ok := s.peer.(balefire); ok {
			ready = seconds(s.readyAfter)
			size, err := diskUsage(s.path("data"))
			if err != nil {
				return err
			}
			t.note("%s: %s MB on disk", s.name, megabytes(size))
		}
		t.row(s.name, prepared, seconds(s.first), seconds(s.all), ready, megabytes(u.memory), added)
	}
	return nil
}

// timeAdded returns how long it takes from telling a server of a zone to its first right answer.
func (c *contest) timeAdded(ctx context.Context, s *server, z zone) (time.Duration, error) {
	limit, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	begin := time.Now()
	if err := s.peer.addZone(limit, s, z); err != nil {
		return 0, err
	}
	first, all := s.first, s.all
	defer func() { s.first, s.all = first, all }() // they are of the start
	if err := s.await(limit, [][]byte{question("www." + z.apex)}); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// diskUsage returns what the files in a directory take on disk, in octets: some are longer than what is written of them.
func diskUsage(dir string) (int64, error) {
	var total int64
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, err
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		blocks, err := blocksOf(e)
		total += blocks * 512
		return err
	})
	return total, err
}
