package replication

import (
	"fmt"
	"testing"

	"balefire/zones"
)

func TestChosen(t *testing.T) {
	var ids []string
	for i := range 7 {
		ids = append(ids, fmt.Sprintf("node-%d", i))
	}
	all := func(fitness fitness, but string) (c []candidate) {
		for _, id := range ids {
			if id != but {
				c = append(c, candidate{id, fitness})
			}
		}
		return c
	}
	const partitions = 700
	shares := map[string]int{}
	for p := range int32(partitions) {
		one := chosen(p, all(fit, ""))
		shares[one]++
		// Who looks in another order sees the same.
		backwards := all(fit, "")
		for i, j := 0, len(backwards)-1; i < j; i, j = i+1, j-1 {
			backwards[i], backwards[j] = backwards[j], backwards[i]
		}
		if other := chosen(p, backwards); other != one {
			t.Fatalf("partition %d: %s or %s", p, one, other)
		}
		// One that goes gives up only what was its own.
		for _, gone := range ids {
			next := chosen(p, all(fit, gone))
			if gone != one && next != one || gone == one && next == one {
				t.Fatalf("partition %d: %s is gone, and %s follows %s", p, gone, next, one)
			}
		}
		// The fittest are preferred, whatever their weight.
		for _, best := range ids {
			if got := chosen(p, append(all(going, best), candidate{best, fit})); got != best {
				t.Fatalf("partition %d: %s, although %s is fit", p, got, best)
			}
			if got := chosen(p, append(all(unfit, best), candidate{best, going})); got != best {
				t.Fatalf("partition %d: %s, although %s still applies", p, got, best)
			}
		}
	}
	for _, id := range ids {
		if shares[id] < partitions/len(ids)/2 {
			t.Errorf("%s has %d of %d partitions", id, shares[id], partitions)
		}
	}
	if got := chosen(0, nil); got != "" {
		t.Errorf("of nobody, %q was chosen", got)
	}
}

func TestRankOf(t *testing.T) {
	regions := []string{"africa", "asia", "europe", "oceania"}
	first := map[string]int{}
	for i := range 400 {
		apex := zones.MustParseName(fmt.Sprintf("z%d.example.", i))
		ranks := map[int]string{}
		for _, r := range regions {
			ranks[rankOf(r, regions, apex)] = r
		}
		for rank := range regions {
			if ranks[rank] == "" {
				t.Fatalf("%s: nobody has rank %d: %v", apex, rank, ranks)
			}
		}
		first[ranks[0]]++
		// Whoever goes changes the order of nobody else.
		if got := rankOf(ranks[0], []string{ranks[3], ranks[0]}, apex); got != 0 {
			t.Fatalf("%s: the first is %d among fewer", apex, got)
		}
	}
	for _, r := range regions {
		if first[r] < 50 {
			t.Errorf("%s is first for %d of 400 zones", r, first[r])
		}
	}
	if got := rankOf("mars", regions, zones.Root); got != len(regions) {
		t.Errorf("a region that is not registered has rank %d", got)
	}
}

// Of two groups of two nodes each, one node is on duty for each partition; whoever drains, or goes, hands it to another.
func TestDutyInARegion(t *testing.T) {
	g := newRegion(t)
	for i, id := range []string{"a", "b", "c", "d"} {
		n := g.start(g.options(id, []string{"one", "one", "two", "two"}[i]))
		n.SetReadiness(true, false)
		ready(t, n)
	}
	for _, n := range g.nodes {
		eventually(t, n, "each has half", func() bool { return len(g.holding(n)) == regionPartitions/2 })
	}
	onDuty := func(p int32) (ids []string) {
		for id, n := range g.nodes {
			if n.OnDuty(p) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	oneEach := func(without string) func() bool {
		return func() bool {
			for p := range int32(regionPartitions) {
				ids := onDuty(p)
				if len(ids) != 1 || ids[0] == without {
					return false
				}
				// Everybody knows who it is.
				for id, n := range g.nodes {
					peer, ok := n.Duty(p)
					if ok != (id != ids[0]) || ok && peer.ID != ids[0] {
						return false
					}
				}
			}
			return true
		}
	}
	a := g.nodes["a"]
	eventually(t, a, "one is on duty for each partition", oneEach(""))
	a.SetReadiness(true, true)
	eventually(t, a, "the one that drains is not on duty", oneEach("a"))
	a.SetReadiness(true, false)
	eventually(t, a, "one is on duty for each partition again", oneEach(""))

	b := g.nodes["b"]
	had := int32(-1)
	for p := range int32(regionPartitions) {
		if b.OnDuty(p) {
			had = p
		}
	}
	b.Close()
	delete(g.nodes, "b")
	eventually(t, a, "others have taken over", oneEach("b"))
	if had >= 0 && b.OnDuty(had) {
		t.Error("a node that is closed is on duty")
	}
	if rank := a.Rank(zones.MustParseName("example.")); rank != 0 {
		t.Errorf("the only region has rank %d", rank)
	}
}

// A node that no longer applies does not keep the others from being on duty.
func TestOneThatIsBehindIsNotOnDuty(t *testing.T) {
	g := newRegion(t)
	for _, id := range []string{"a", "b"} {
		n := g.start(g.options(id, "group-"+id)) // each has it all
		n.SetReadiness(true, false)
		ready(t, n)
	}
	a, b := g.nodes["a"], g.nodes["b"]
	const p = 0
	eventually(t, a, "one is on duty", func() bool { return a.OnDuty(p) != b.OnDuty(p) })
	off := a
	if a.OnDuty(p) {
		off = b
	}
	r := off.replica(p)
	r.outdated.Store(r.applied().Offset + 1) // as if the other had not come here for long
	if !off.OnDuty(p) {
		t.Error("nobody is on duty")
	}
}
