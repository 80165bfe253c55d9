package hotzone

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestChain makes chains by building and by patching, and compares each with a sorted slice.
func TestChain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	random := func() []byte { return fmt.Appendf(nil, "%0*d", 1+rng.IntN(60), rng.IntN(40_000)) }
	for _, size := range []int{0, 1, 2, 127, 128, 129, 9_000} {
		want := map[string]bool{}
		for range size {
			want[string(random())] = true
		}
		var b chainBuilder
		for _, k := range sorted(want) {
			b.add([]byte(k))
		}
		c := b.done()
		checkChain(t, c, want, random)
		old, oldWant := c, len(want)
		for i := range 3_000 {
			k := random()
			if rng.IntN(3) == 0 {
				c = c.insert(k)
				want[string(k)] = true
			} else {
				if rng.IntN(4) > 0 { // what is there, for once
					if f, ok := c.floor(k); ok {
						k = bytes.Clone(f)
					}
				}
				c = c.remove(k)
				delete(want, string(k))
			}
			if i%1_000 == 0 {
				checkChain(t, c, want, random)
			}
		}
		checkChain(t, c, want, random)
		if n := len(walk(old.root, nil)); n != oldWant {
			t.Fatalf("an old version of %d keys has %d", oldWant, n)
		}
		for _, k := range sorted(want) {
			c = c.remove([]byte(k))
		}
		if c != (chain{}) {
			t.Fatalf("emptied chain is %+v", c)
		}
	}
}

func sorted(set map[string]bool) []string {
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func walk(b *branch, keys []string) []string {
	if b == nil {
		return keys
	}
	for i := range b.keys.count() {
		if b.kids == nil {
			keys = append(keys, string(b.keys.at(i)))
		} else {
			keys = walk(b.kids[i], keys)
		}
	}
	return keys
}

func cost(b *branch) (n int) {
	if b == nil {
		return 0
	}
	for _, kid := range b.kids {
		n += cost(kid)
	}
	return n + b.cost()
}

func checkChain(t *testing.T, c chain, set map[string]bool, random func() []byte) {
	t.Helper()
	want := sorted(set)
	if got := walk(c.root, nil); !slices.Equal(got, want) {
		t.Fatalf("chain has %d keys, want %d", len(got), len(want))
	}
	if c.bytes != cost(c.root) {
		t.Fatalf("account says %d octets, the pages %d", c.bytes, cost(c.root))
	}
	last, ok := c.last()
	if ok != (len(want) > 0) || ok && string(last) != want[len(want)-1] {
		t.Fatalf("last is %q", last)
	}
	for range 500 {
		k := random()
		i, found := slices.BinarySearch(want, string(k))
		if !found {
			i--
		}
		got, ok := c.floor(k)
		if ok != (i >= 0) || ok && string(got) != want[i] {
			t.Fatalf("floor of %q is %q, %v", k, got, ok)
		}
	}
}
