package answercache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"balefire/store"
	"balefire/zones"
)

func answerOf(rng *rand.Rand) Answer {
	body := make([]byte, rng.IntN(200))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	extra := make([]byte, 2*rng.IntN(5))
	for i := range extra {
		extra[i] = byte(rng.Uint32())
	}
	return Answer{
		Stamp:  store.StampOf([3]uint64{rng.Uint64(), rng.Uint64(), uint64(rng.Uint32())}),
		Counts: [3]uint16{uint16(rng.Uint32()), uint16(rng.Uint32()), uint16(rng.Uint32())},
		RCode:  uint8(rng.UintN(16)), Authoritative: rng.IntN(2) == 0, ExtendedError: int16(rng.IntN(30)) - 1, Body: body, Extra: extra,
	}
}

func same(a, b Answer) bool {
	return a.Stamp == b.Stamp && a.Counts == b.Counts && a.RCode == b.RCode && a.Authoritative == b.Authoritative &&
		a.ExtendedError == b.ExtendedError && bytes.Equal(a.Body, b.Body) && bytes.Equal(a.Extra, b.Extra)
}

func questionOf(i int) Question {
	return Question{zones.MustParseName(fmt.Sprintf("n%d.%d.test.", i/24, i%7)), zones.Type(1 + i/8%3), i%2 == 0, uint8(i / 2 % 4)}
}

// What is found is what was put last for the very question, whatever was put for others, over many laps of the ring.
func TestFindsTheLast(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	c := New(MinSize)
	put := make(map[Question]Answer)
	found := 0
	for range 200_000 {
		q := questionOf(rng.IntN(6000))
		hash := c.Hash(&q)
		c.Expect(hash)
		c.ExpectAnswer(hash)
		got, ok := c.Find(hash, &q)
		if want := put[q]; ok && !same(got, want) {
			t.Fatalf("%v: found %+v, and put was %+v", q, got, want)
		}
		if ok {
			found++
			continue
		}
		a := answerOf(rng)
		c.Put(hash, &q, &a)
		put[q] = a
		if got, ok := c.Find(hash, &q); !ok || !same(got, a) {
			t.Fatalf("%v: not found just after it was put", q)
		}
	}
	if c.end < 20*uint64(len(c.ring)) || found < 10_000 {
		t.Errorf("%d octets written to a ring of %d, %d found: this says little", c.end, len(c.ring), found)
	}
}

// Questions whose hashes are the same are told apart.
func TestSameHash(t *testing.T) {
	c := New(MinSize)
	const hash = 0x1234_5678_9abc_def0
	rng := rand.New(rand.NewPCG(1, 1))
	var put []Answer
	for i := range lineWays {
		q, a := questionOf(i), answerOf(rng)
		c.Put(hash, &q, &a)
		put = append(put, a)
	}
	for i, want := range put {
		q := questionOf(i)
		if got, ok := c.Find(hash, &q); !ok || !same(got, want) {
			t.Errorf("%v: %v, %+v", q, ok, got)
		}
	}
	if _, ok := c.Find(hash, &Question{Name: zones.MustParseName("other.test."), Type: 1}); ok {
		t.Error("found what was never put")
	}
}

// What is put again takes the place of what was there, and no second one.
func TestReplaces(t *testing.T) {
	c := New(MinSize)
	q := questionOf(1)
	hash := c.Hash(&q)
	rng := rand.New(rand.NewPCG(2, 1))
	for range 20 {
		a := answerOf(rng)
		c.Put(hash, &q, &a)
		if got, ok := c.Find(hash, &q); !ok || !same(got, a) {
			t.Fatalf("%+v", got)
		}
	}
	used := 0
	for _, w := range c.line(hash) {
		if w != 0 {
			used++
		}
	}
	if used != 1 {
		t.Errorf("%d ways are used for one question", used)
	}
}

func TestTooLongIsNotKept(t *testing.T) {
	c := New(MinSize)
	q := questionOf(1)
	hash := c.Hash(&q)
	c.Put(hash, &q, &Answer{Body: make([]byte, MaxBody+1)})
	if _, ok := c.Find(hash, &q); ok {
		t.Error("found")
	}
}

func TestRoom(t *testing.T) {
	c := New(MinSize)
	a := Answer{Body: make([]byte, 1000)}
	put := 0
	for ; c.Room(); put++ {
		q := questionOf(put)
		c.Put(c.Hash(&q), &q, &a)
	}
	if put < MinSize/1200 || put > MinSize/1000 {
		t.Errorf("room for %d answers of 1,000 octets in %d", put, MinSize)
	}
}

func TestAgain(t *testing.T) {
	c := New(MinSize)
	h := c.Hash(&Question{Name: zones.MustParseName("x.test."), Type: 1})
	if c.Again(h) {
		t.Error("asked for the first time")
	}
	if !c.Again(h) {
		t.Error("asked for the second time")
	}
}

// The cost of an answer that is found, among so many that no processor's cache holds them.
func BenchmarkFind(b *testing.B) {
	for _, expect := range []bool{false, true} {
		b.Run(fmt.Sprintf("expected=%v", expect), func(b *testing.B) {
			c := New(64 << 20)
			rng := rand.New(rand.NewPCG(1, 1))
			all := make([]Question, 200_000)
			for i := range all {
				all[i] = Question{Name: zones.MustParseName(fmt.Sprintf("host%d.example.test.", i)), Type: 1}
				c.Put(c.Hash(&all[i]), &all[i], &Answer{Body: make([]byte, 16)})
			}
			const batch = 32
			var hashes [batch]uint64
			var asked [batch]*Question
			b.ReportAllocs()
			found := 0
			for b.Loop() {
				for i := range hashes {
					asked[i] = &all[rng.IntN(len(all))]
					hashes[i] = c.Hash(asked[i])
					if expect {
						c.Expect(hashes[i])
					}
				}
				if expect {
					for _, h := range hashes {
						c.ExpectAnswer(h)
					}
				}
				for i, h := range hashes {
					if _, ok := c.Find(h, asked[i]); ok {
						found++
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/answer")
			if found == 0 {
				b.Fatal("nothing was found")
			}
		})
	}
}
