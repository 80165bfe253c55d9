package store_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestOutcomeIsVisible asks for each outcome while records are being applied. As soon as there is one, whoever looks
// the name up sees that record's value or a later one: in zones from memory, from disk, and on their way into memory.
func TestOutcomeIsVisible(t *testing.T) {
	for _, mode := range []struct {
		name     string
		hotBytes int64
		replace  int // every so many records replace the zone, which puts it out of memory
	}{{"hot", 0, 0}, {"cold", 1, 0}, {"loading", 0, 7}} {
		t.Run(mode.name, func(t *testing.T) {
			opts := storetest.Options(t, t.TempDir())
			opts.HotBytes = mode.hotBytes
			s, p := storetest.Open(t, opts)
			var l storetest.Log
			l.Add(t, storetest.Create("visible."))
			apply(t, p, l.Records)
			if mode.name == "hot" {
				warm(t, s, name("visible."))
			}
			const records, batch = 2000, 25
			for i := range records {
				// The address is the offset.
				var address [4]byte
				binary.BigEndian.PutUint32(address[:], uint32(i+1))
				www := storetest.Set("www.visible.", 60, zones.TypeA, netip.AddrFrom4(address).String())
				if mode.replace > 0 && i%mode.replace == 0 {
					l.Add(t, storetest.Change("visible.", zones.OpReplaceZone{RRsets: append(storetest.Apex("visible.", 1), www)}))
				} else {
					l.Add(t, storetest.Put("visible.", www))
				}
			}
			var look sync.WaitGroup
			failed := make(chan struct{})
			for range 2 {
				look.Go(func() {
					for offset := int64(1); offset <= records; {
						select {
						case <-failed:
							return
						default:
						}
						o, err := p.Outcome(offset)
						if errors.Is(err, store.ErrNoOutcome) {
							runtime.Gosched()
							continue
						}
						if err != nil || o.Status != store.StatusApplied {
							t.Errorf("offset %d: %+v %v", offset, o, err)
							return
						}
						if seen := addressOf(t, s, "www.visible."); seen < offset {
							t.Errorf("the outcome at offset %d is known, and offset %d is served", offset, seen)
							return
						}
						offset++
					}
				})
			}
			for at := 1; at <= records; at += batch {
				if _, err := p.Apply(l.Records[at:min(at+batch, records+1)]); err != nil {
					close(failed)
					t.Error(err)
					break
				}
			}
			look.Wait()
		})
	}
}

// addressOf returns the IPv4 address of a name as a number; 0 when it has none.
func addressOf(t *testing.T, s *store.Store, owner string) int64 {
	h := s.Find(name(owner), zones.TypeA)
	defer h.Release()
	if h.Status != store.Here {
		t.Errorf("%s: %s %v", owner, h.Status, h.Err)
		return 0
	}
	var at zones.Location
	if err := h.View.Find(name(owner), &at); err != nil {
		t.Error(err)
		return 0
	}
	set, ok := at.Node.RRset(zones.TypeA)
	if !at.Exact || !ok {
		return 0
	}
	return int64(binary.BigEndian.Uint32(set.First()))
}
