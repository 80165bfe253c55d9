package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"balefire/store/hotzone"
	"balefire/zones"
)

func newTestStore(limit int64) (*Store, *Partition) {
	s := &Store{hot: newHotSet(limit)}
	p := &Partition{store: s, log: zerolog.Nop()}
	s.partitions = map[int32]*Partition{0: p}
	s.copyLive()
	return s, p
}

func zoneOf(t *testing.T, apex zones.Name) *hotzone.Zone {
	t.Helper()
	b := hotzone.NewBuilder(apex)
	soa, err := zones.NewRRset(apex, zones.TypeSOA, 60, make([]byte, 22))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(zones.NewNode(apex, []zones.RRset{soa})); err != nil {
		t.Fatal(err)
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// Who has seen that a zone is gone finds no stamp of it current after that, however often it goes and comes back.
func TestStampOfRemovedZone(t *testing.T) {
	s, p := newTestStore(1 << 20)
	apex := zones.MustParseName("gone.test.")
	zone := zoneOf(t, apex)
	var kept atomic.Pointer[Stamp]
	kept.Store(new(Stamp))
	var done atomic.Bool
	var look sync.WaitGroup
	var gone, seen atomic.Int64
	for range 2 {
		look.Go(func() {
			for !done.Load() {
				last := kept.Load()
				h, ok := s.FindHot(apex, zones.TypeA)
				switch {
				case ok && h.Status == Here && h.Stamp != (Stamp{}):
					kept.Store(&h.Stamp)
					seen.Add(1)
				case ok && h.Status == NotHosted:
					gone.Add(1)
					// It may have been made again meanwhile, but not as it was.
					if s.Current(*last) {
						t.Errorf("the zone is gone, and %+v is current", *last)
						return
					}
				}
			}
		})
	}
	for range 200_000 {
		s.hot.create(p, apex)
		s.hot.install(newHotEntry(zone, p, 0))
		s.hot.remove(apex)
	}
	done.Store(true)
	look.Wait()
	if gone.Load() == 0 || seen.Load() == 0 {
		t.Errorf("seen %d times, gone %d times: this says little", seen.Load(), gone.Load())
	}
}

// A zone of which only what was kept is asked for is in use, too: when room is needed, others go.
func TestKeptAnswersAreUse(t *testing.T) {
	s, p := newTestStore(1 << 30)
	put := func(text string) {
		apex := zones.MustParseName(text)
		s.hot.create(p, apex)
		s.hot.install(newHotEntry(zoneOf(t, apex), p, 0))
	}
	put("busy.test.")
	h, _ := s.FindHot(zones.MustParseName("busy.test."), zones.TypeA)
	busy := h.Stamp
	for _, other := range []string{"a.test.", "b.test.", "c.test.", "d.test."} {
		put(other)
	}
	each := s.hot.bytes.Load() / 5
	s.hot.limit = each*5 + each/2
	for i := range 40 {
		if !s.Current(busy) {
			t.Fatalf("put out of memory after %d others came", i)
		}
		more := fmt.Sprintf("more%d.test.", i)
		put(more)
		s.FindHot(zones.MustParseName(more), zones.TypeA) // each is asked for once
	}
	if s.hot.evictions.Load() == 0 {
		t.Error("nothing was put out")
	}
}
