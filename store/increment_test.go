package store_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"balefire/store"
	"balefire/store/snapshot"
	"balefire/store/storetest"
	"balefire/zones"
)

var seeds = flag.Int("seeds", 16, "how many seeds TestIncrements goes through")

// links are snapshots as RestoreChain takes them.
func links(images ...[]byte) iter.Seq2[io.Reader, error] {
	return func(yield func(io.Reader, error) bool) {
		for _, image := range images {
			if !yield(bytes.NewReader(image), nil) {
				return
			}
		}
	}
}

// full returns a full snapshot.
func full(t *testing.T, s *store.Saving) []byte {
	t.Helper()
	var image bytes.Buffer
	if _, err := s.WriteFull(t.Context(), &image); err != nil {
		t.Fatal(err)
	}
	return image.Bytes()
}

// entries are what a full snapshot has, without versions, which are each copy's own.
func entries(t *testing.T, image []byte) map[string]string {
	t.Helper()
	r, err := snapshot.NewReader(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for {
		e, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[string(e.Key)] = string(e.Value)
	}
}

// sameEntries compares two full snapshots, key by key.
func sameEntries(t *testing.T, what string, got, want []byte) {
	t.Helper()
	g, w := entries(t, got), entries(t, want)
	for key, value := range w {
		if have, ok := g[key]; !ok || have != value {
			t.Errorf("%s: key %x has value %x (%v), want %x", what, key, have, ok, value)
		}
	}
	for key := range g {
		if _, ok := w[key]; !ok {
			t.Errorf("%s: key %x came back", what, key)
		}
	}
}

// busyLog is a log of few zones that are made, changed, replaced and deleted over and over.
func busyLog(t *testing.T, rng *rand.Rand, n int) *storetest.Log {
	var l storetest.Log
	for len(l.Records) < n {
		if rng.IntN(2) == 0 {
			storetest.Random(t, &l, rng, 1+rng.IntN(5))
			continue
		}
		apex := fmt.Sprintf("loop%d.", rng.IntN(2))
		var sets []zones.RRset
		for i := range 1 + rng.IntN(30) {
			sets = append(sets, storetest.Set(fmt.Sprintf("n%d.%s", i, apex), 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", rng.IntN(256))))
		}
		l.Add(t, storetest.Create(apex, sets...))
		for range rng.IntN(4) {
			owner := zones.MustParseName(fmt.Sprintf("n%d.%s", rng.IntN(30), apex))
			l.Add(t, storetest.Change(apex, zones.OpDeleteName{Owner: owner}))
		}
		if rng.IntN(2) == 0 {
			l.Add(t, storetest.Change(apex, zones.OpReplaceZone{RRsets: storetest.Apex(apex, rng.Uint32N(1000))}))
		}
		if rng.IntN(2) == 0 {
			l.Add(t, storetest.Change(apex, zones.OpDeleteZone{}))
		}
	}
	return &l
}

// copyOf is one copy of a partition, in a store of its own.
type copyOf struct {
	t    *testing.T
	opts store.Options
	s    *store.Store
	p    *store.Partition
}

func newCopy(t *testing.T) *copyOf {
	opts := storetest.Options(t, t.TempDir())
	opts.HistoryChanges = 3
	c := &copyOf{t: t, opts: opts}
	c.open()
	t.Cleanup(c.close)
	return c
}

func (c *copyOf) open() {
	c.t.Helper()
	var err error
	if c.s, err = store.New(c.opts); err != nil {
		c.t.Fatal(err)
	}
	if c.p, err = c.s.Open(0, storetest.TopicID); err != nil {
		c.t.Fatal(err)
	}
}

func (c *copyOf) close() {
	if err := c.s.Close(); err != nil {
		c.t.Error(err)
	}
}

// TestIncrements is row F21 of the faults: two copies of a partition apply one log in different batches, are restarted and
// compacted at any moment, see records again, and take turns at making increments; what they restore to has the keys and
// the digest of the copy, no more and no less.
func TestIncrements(t *testing.T) {
	increments, refused := 0, 0
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 21))
			l := busyLog(t, rng, 120)
			copies := []*copyOf{newCopy(t), newCopy(t)}
			var chain [][]byte
			end := int64(-1) // of the chain
			for range 30 {
				c := copies[rng.IntN(len(copies))]
				applied := c.p.Applied().Offset
				switch rng.IntN(8) {
				case 0, 1, 2:
					from := max(0, int(applied)+1-rng.IntN(20)) // some of them again
					apply(t, c.p, l.Records[from:min(len(l.Records), int(applied)+1+rng.IntN(25))])
				case 3:
					c.close()
					c.open()
					if err := c.p.Compact(); err != nil {
						t.Fatal(err)
					}
				case 4:
					if err := c.p.Collect(t.Context()); err != nil {
						t.Fatal(err)
					}
				default:
					if applied < 0 || applied < end {
						continue
					}
					save, err := c.p.Save()
					if err != nil {
						t.Fatal(err)
					}
					// It goes on meanwhile, and may compact.
					apply(t, c.p, l.Records[applied+1:min(len(l.Records), int(applied)+1+rng.IntN(10))])
					want := full(t, save)
					var image bytes.Buffer
					_, err = save.WriteIncrement(t.Context(), &image, end)
					switch {
					case len(chain) > 0 && err == nil:
						chain = append(chain, image.Bytes())
						increments++
					case errors.Is(err, store.ErrNoIncrement):
						chain = [][]byte{want}
						refused++
					default:
						t.Fatal(err)
					}
					if err := save.Verified(); err != nil {
						t.Fatal(err)
					}
					save.Close()
					end = applied

					dir := filepath.Join(t.TempDir(), "restored")
					other := storetest.New(t, storetest.Options(t, dir))
					info, err := other.RestoreChain(t.Context(), 0, storetest.TopicID, links(chain...))
					if err != nil {
						t.Fatalf("chain of %d: %v", len(chain), err)
					}
					q, err := other.Open(0, storetest.TopicID)
					if err != nil {
						t.Fatal(err)
					}
					if q.Applied().Offset != end || info.Offset != end {
						t.Fatalf("restored to %d, info says %d, want %d", q.Applied().Offset, info.Offset, end)
					}
					check(t, q)
					saved, err := q.Save()
					if err != nil {
						t.Fatal(err)
					}
					sameEntries(t, fmt.Sprintf("chain of %d", len(chain)), full(t, saved), want)
					saved.Close()
					if err := other.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if t.Failed() {
					t.FailNow()
				}
			}
		})
	}
	if *seeds >= 10 && (increments < 2**seeds || refused < *seeds) {
		t.Errorf("only %d increments and %d full snapshots: the test tests little", increments, refused)
	}
}

// TestIncrementsOfTheDead makes increments while a generation is being collected: two name it, at whose own positions some
// of its keys go, and the rest, and its name, after them.
func TestIncrementsOfTheDead(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	var armed atomic.Bool
	ended := make(chan struct{})
	opts.CrashPoint = func(point string) {
		if point == store.CrashCollectBefore && armed.CompareAndSwap(true, false) {
			close(ended)
			runtime.Goexit() // the background ends, and the test collects
		}
	}
	_, p := storetest.Open(t, opts)
	var l storetest.Log
	var images [][]byte
	save := func() {
		t.Helper()
		s, err := p.Save()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var image bytes.Buffer
		if len(images) == 0 {
			_, err = s.WriteFull(t.Context(), &image)
		} else {
			_, err = s.WriteIncrement(t.Context(), &image, p.Kept())
		}
		if err := errors.Join(err, s.Verified()); err != nil {
			t.Fatal(err)
		}
		images = append(images, image.Bytes())
	}
	sets := storetest.Apex("big.", 1)
	for i := range 2*store.CollectStep + 500 {
		sets = append(sets, storetest.Set(fmt.Sprintf("n%d.big.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	slices.SortFunc(sets, zones.CompareRRsets)
	l.Add(t, storetest.Create("big."))
	for _, cs := range storetest.Stage("big.", l.NextID(), sets, 1000) {
		l.Add(t, cs)
	}
	for _, o := range apply(t, p, l.Records) {
		if o.Status != store.StatusApplied {
			t.Fatalf("%s: %v", o.Position, o.Rejection)
		}
	}
	if err := p.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	save()
	l.Add(t, storetest.Change("big.", zones.OpReplaceZone{RRsets: storetest.Apex("big.", 2)}))
	apply(t, p, l.Records)
	<-ended
	for step, more := 0, true; more; step++ {
		if step < 2 {
			save()
		}
		var err error
		if more, err = p.CollectOnce(); err != nil {
			t.Fatal(err)
		}
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.", len(l.Records))))
		apply(t, p, l.Records)
	}
	save()
	if len(images) != 4 { // full; named; after one step; when all is gone, the name included
		t.Errorf("%d snapshots", len(images))
	}
	for n := range images {
		other := storetest.New(t, storetest.Options(t, t.TempDir()))
		if _, err := other.RestoreChain(t.Context(), 0, storetest.TopicID, links(images[:n+1]...)); err != nil {
			t.Fatalf("chain of %d: %v", n+1, err)
		}
		q, err := other.Open(0, storetest.TopicID)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t, q)
		s, err := q.Save()
		if err != nil {
			t.Fatal(err)
		}
		if n == len(images)-1 {
			want, err := p.Save()
			if err != nil {
				t.Fatal(err)
			}
			sameEntries(t, "the chain", full(t, s), full(t, want))
			want.Close()
		}
		s.Close()
	}
}

// TestKeptAcrossRestart: what a verified snapshot keeps outlives the process, and ends when it is let go of.
func TestKeptAcrossRestart(t *testing.T) {
	c := newCopy(t)
	var l storetest.Log
	l.Add(t, storetest.Create("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
	apply(t, c.p, l.Records)
	if err := c.p.Verified(0); err != nil {
		t.Fatal(err)
	}
	l.Add(t, storetest.Change("example.", zones.OpDeleteName{Owner: name("www.example.")}))
	apply(t, c.p, l.Records)
	restart := func() {
		t.Helper()
		c.close()
		c.open()
		l.Add(t, storetest.Put("example.", storetest.Set("other.example.", uint32(60+len(l.Records)), zones.TypeA, "192.0.2.1")))
		apply(t, c.p, l.Records) // tells Badger what may go
		c.close()
		c.open()
		if err := c.p.Compact(); err != nil {
			t.Fatal(err)
		}
	}
	increment := func() error {
		_, err := c.p.WriteIncrement(t.Context(), io.Discard, 0)
		return err
	}
	restart()
	if kept := c.p.Kept(); kept != 0 {
		t.Errorf("changes are kept from %d", kept)
	}
	if err := increment(); err != nil {
		t.Error(err)
	}
	if err := c.p.Verified(-1); err != nil {
		t.Fatal(err)
	}
	if err := increment(); !errors.Is(err, store.ErrNoIncrement) {
		t.Errorf("nothing is kept: %v", err)
	}
	restart()
	if err := increment(); !errors.Is(err, store.ErrNoIncrement) {
		t.Errorf("nothing was kept: %v", err)
	}

	// What damage makes of the file is not believed.
	if err := c.p.Verified(c.p.Applied().Offset); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.opts.Dir, "partitions", "000", "KEPT")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		b := bytes.Clone(text)
		b[i] ^= 1
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c.close()
		c.open()
		if kept := c.p.Kept(); kept != -1 {
			t.Errorf("octet %d changed: changes are kept from %d", i, kept)
		}
	}
}

// TestKeptIsBounded: without a new snapshot, what is kept is let go of.
func TestKeptIsBounded(t *testing.T) {
	c := newCopy(t)
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	apply(t, c.p, l.Records)
	if err := c.p.Verified(0); err != nil {
		t.Fatal(err)
	}
	c.p.KeepRecords(5)
	for i := range 6 {
		if c.p.Kept() != 0 {
			t.Fatalf("let go after %d records", i)
		}
		l.Add(t, storetest.Put("example.", storetest.Set("www.example.", uint32(60+i), zones.TypeA, "192.0.2.1")))
		apply(t, c.p, l.Records)
	}
	if kept := c.p.Kept(); kept != -1 {
		t.Errorf("changes are kept from %d", kept)
	}
	c.close()
	c.open()
	if kept := c.p.Kept(); kept != -1 {
		t.Errorf("after a restart changes are kept from %d", kept)
	}
}

// TestChainRefused: what is no chain is not restored, and leaves nothing.
func TestChainRefused(t *testing.T) {
	c := newCopy(t)
	var l storetest.Log
	var images [][]byte
	for i := range 4 {
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.", i)))
		apply(t, c.p, l.Records)
		save, err := c.p.Save()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			images = append(images, full(t, save))
		} else {
			var image bytes.Buffer
			if _, err := save.WriteIncrement(t.Context(), &image, int64(i-1)); err != nil {
				t.Fatal(err)
			}
			images = append(images, image.Bytes())
		}
		if err := save.Verified(); err != nil {
			t.Fatal(err)
		}
		save.Close()
	}
	flipped := bytes.Clone(images[2])
	flipped[len(flipped)/2] ^= 1
	dir := filepath.Join(t.TempDir(), "000")
	for what, chain := range map[string][][]byte{
		"nothing":           {},
		"no full one":       images[1:],
		"a missing link":    {images[0], images[2]},
		"a link twice":      {images[0], images[1], images[1]},
		"two full ones":     {images[0], images[0]},
		"the wrong order":   {images[0], images[2], images[1]},
		"a link cut short":  {images[0], images[1][:len(images[1])-1], images[2]},
		"a link cut in two": {images[0], images[1][:60], images[2]},
		"a flipped bit":     {images[0], images[1], flipped},
	} {
		if _, err := store.RestoreChain(t.Context(), dir, links(chain...), store.RestoreOptions{}); err == nil {
			t.Errorf("restored %s", what)
		}
		if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
			t.Fatalf("%s left %v", what, left)
		}
	}
	if info, err := store.RestoreChain(t.Context(), dir, links(images...), store.RestoreOptions{}); err != nil || info.Offset != 3 {
		t.Errorf("the chain itself: %+v, %v", info, err)
	}
	noRoom := errors.New("no room")
	_, err := store.RestoreChain(t.Context(), dir+"x", links(images...), store.RestoreOptions{Room: func() error { return noRoom }})
	if !errors.Is(err, noRoom) {
		t.Errorf("without room: %v", err)
	}
}
