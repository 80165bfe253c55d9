package store

import (
	"fmt"
	"testing"
	"time"

	"balefire/zones"
	"balefire/zones/change"
)

// replaceOften gives a partition a zone that was replaced n times, so that as many generations are dead.
func replaceOften(t *testing.T, p *Partition, n int) {
	t.Helper()
	apex := zones.MustParseName("example.")
	set := func(ty zones.Type, rdata []byte) zones.RRset {
		s, err := zones.NewRRset(apex, ty, 60, rdata)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var recs []Record
	for i := range n + 1 {
		soa := append([]byte("\x02ns\x00\x02ns\x00"), make([]byte, 20)...)
		soa[8+3] = byte(i) // serial
		soa[8+2] = byte(i >> 8)
		cs := &zones.ChangeSet{Zone: apex, Ops: []zones.Op{zones.OpReplaceZone{RRsets: []zones.RRset{
			set(zones.TypeNS, []byte("\x02ns\x00")), set(zones.TypeSOA, soa), set(zones.TypeTXT, fmt.Appendf(nil, "\x04%04d", i)),
		}}}}
		cs.ID[0], cs.ID[1], cs.ID[2] = 1, byte(i>>8), byte(i)
		value, err := change.Encode(cs)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, Record{Offset: int64(i), Time: time.Unix(int64(1e9+i), 0), Key: []byte("example."), Value: value})
	}
	outs, err := p.Apply(recs)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outs {
		if o.Status != StatusApplied {
			t.Fatalf("%+v", o)
		}
	}
}

// TestDeadOutliveTheirKeys: a generation stays written down as dead until none of its keys is left. The entries of a
// transaction appear to readers of its own timestamp one by one, in any order: keys of a generation that nobody owns
// and that is not dead would be damage, to a scrub or a snapshot that looks just then.
func TestDeadOutliveTheirKeys(t *testing.T) {
	s, err := New(Options{Dir: t.TempDir(), Ballast: -1, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.openPartition(0, [16]byte{1}) // not started: nothing collects but this test
	if err != nil {
		t.Fatal(err)
	}
	defer p.db.Close()
	const replaced = 700
	replaceOften(t, p, replaced)
	steps := 0
	for more := true; more; steps++ {
		before := deadGenerations(t, p)
		if more, err = p.collect(); err != nil {
			t.Fatal(err)
		}
		for generation := range before {
			if before[generation] > 0 && !isDead(t, p, generation) {
				t.Fatalf("generation %d lost its mark in the same transaction as %d keys", generation, before[generation])
			}
		}
	}
	if left := deadGenerations(t, p); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// Many small generations share a transaction.
	if steps > 10 {
		t.Errorf("it took %d transactions to remove %d generations of three keys", steps, replaced)
	}
}

// deadGenerations returns the dead generations, and how many keys each has.
func deadGenerations(t *testing.T, p *Partition) map[int64]int {
	t.Helper()
	r, inner := openReader(p.db, p.published.Load().ts(), nil), openReader(p.db, p.published.Load().ts(), nil)
	defer r.close()
	defer inner.close()
	all := map[int64]int{}
	err := r.scan([]byte{kindDead}, []byte{kindDead + 1}, func(e entry) (bool, error) {
		generation, err := parseNumberKey(e.key, kindDead)
		if err != nil {
			return false, err
		}
		all[generation] = 0
		prefix := dataPrefix(nil, generation)
		return true, inner.scan(prefix, after(prefix), func(entry) (bool, error) {
			all[generation]++
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func isDead(t *testing.T, p *Partition, generation int64) bool {
	t.Helper()
	r := openReader(p.db, p.published.Load().ts(), nil)
	defer r.close()
	_, ok, err := r.get(deadKey(nil, generation))
	if err != nil {
		t.Fatal(err)
	}
	return ok
}
