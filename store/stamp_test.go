package store_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// stampOf asks for a name of a zone in memory.
func stampOf(t *testing.T, s *store.Store, owner string, rrtype zones.Type) store.Stamp {
	t.Helper()
	h, hot := s.FindHot(name(owner), rrtype)
	if !hot || h.Status != store.Here {
		t.Fatalf("%s: %s, in memory: %v", owner, h.Status, hot)
	}
	return h.Stamp
}

// openHot opens a partition with the zone a.test. in memory.
func openHot(t *testing.T) (*store.Store, *store.Partition) {
	t.Helper()
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("a.test."))
	apply(t, p, l.Records)
	warm(t, s, name("a.test."))
	return s, p
}

// A stamp is current until something happens to what the question is answered from, and no longer.
func TestStamp(t *testing.T) {
	www := func(address string) zones.RRset { return storetest.Set("www.a.test.", 60, zones.TypeA, address) }
	for _, tt := range []struct {
		name    string
		cs      *zones.ChangeSet
		current bool
	}{
		{"a record changes", storetest.Put("a.test.", www("192.0.2.2")), false},
		{"another zone changes", storetest.Put("b.test.", storetest.Set("www.b.test.", 60, zones.TypeA, "192.0.2.2")), true},
		{"the zone is replaced", storetest.Change("a.test.", zones.OpReplaceZone{RRsets: append(storetest.Apex("a.test.", 7), www("192.0.2.3"))}), false},
		{"the zone is deleted", storetest.Change("a.test.", zones.OpDeleteZone{}), false},
		{"a zone is made in it", storetest.Create("www.a.test."), false},
		{"a zone is made above it", storetest.Create("test."), true},
		{"a zone is made elsewhere", storetest.Create("c.test."), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
			var l storetest.Log
			l.Add(t, storetest.Create("a.test.", www("192.0.2.1")))
			l.Add(t, storetest.Create("b.test."))
			apply(t, p, l.Records)
			warm(t, s, name("a.test."))
			warm(t, s, name("b.test."))
			at := stampOf(t, s, "www.a.test.", zones.TypeA)
			if !s.Current(at) || at == (store.Stamp{}) {
				t.Fatal("it is not current at once")
			}
			apply(t, p, l.From(l.Add(t, tt.cs)))
			if s.Current(at) != tt.current {
				t.Errorf("current: %v, want %v", s.Current(at), tt.current)
			}
		})
	}
	t.Run("no stamp", func(t *testing.T) {
		s, _ := openHot(t)
		if s.Current(store.Stamp{}) {
			t.Error("the stamp that says nothing is current")
		}
		if h, _ := s.FindHot(name("x.else."), zones.TypeA); h.Stamp != (store.Stamp{}) {
			t.Error("a name without a zone has a stamp")
		}
		if at := stampOf(t, s, "a.test.", zones.TypeDS); at != (store.Stamp{}) {
			t.Error("a DS at an apex has a stamp: a zone above would answer for it")
		}
	})
	t.Run("doubt", func(t *testing.T) {
		s, _ := openHot(t)
		at := stampOf(t, s, "a.test.", zones.TypeSOA)
		s.Doubt(func() {
			if s.Current(at) {
				t.Error("current during the doubt")
			}
			if stampOf(t, s, "a.test.", zones.TypeSOA) != (store.Stamp{}) {
				t.Error("stamped during the doubt")
			}
		})
		if s.Current(at) || !s.Current(stampOf(t, s, "a.test.", zones.TypeSOA)) {
			t.Error("the old stamp is current after it, or a new one is not")
		}
	})
	t.Run("the partition is closed", func(t *testing.T) {
		s, p := openHot(t)
		at := stampOf(t, s, "a.test.", zones.TypeSOA)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if s.Current(at) {
			t.Error("still current")
		}
	})
}

// Many who keep what they found, each for itself, while the zone changes all the time, and is replaced whole: nobody is given
// something older than what anybody was given before.
func TestStampNeverGoesBack(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	l.Add(t, storetest.Create("kept."))
	apply(t, p, l.Records)
	warm(t, s, name("kept."))
	const records = 900
	for i := range records {
		// The address is the offset.
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], uint32(i+1))
		www := storetest.Set("www.kept.", 60, zones.TypeA, netip.AddrFrom4(address).String())
		if i%50 == 0 {
			l.Add(t, storetest.Change("kept.", zones.OpReplaceZone{RRsets: append(storetest.Apex("kept.", 1), www)}))
		} else {
			l.Add(t, storetest.Put("kept.", www))
		}
	}
	var highest atomic.Int64
	var kept atomic.Int64
	var done atomic.Bool
	var look sync.WaitGroup
	for range 4 {
		look.Go(func() {
			var at store.Stamp
			value := int64(0)
			for !done.Load() {
				floor := highest.Load()
				if !s.Current(at) {
					h := s.Find(name("www.kept."), zones.TypeA)
					var where zones.Location
					if h.Status != store.Here || h.View.Find(name("www.kept."), &where) != nil {
						t.Errorf("%s %v", h.Status, h.Err)
						h.Release()
						return
					}
					value = 0
					if set, ok := where.Node.RRset(zones.TypeA); ok && where.Exact {
						value = int64(binary.BigEndian.Uint32(set.First()))
					}
					at = h.Stamp
					h.Release()
				} else {
					kept.Add(1)
				}
				if value < floor {
					t.Errorf("given %d after somebody was given %d", value, floor)
					return
				}
				for old := highest.Load(); value > old && !highest.CompareAndSwap(old, value); old = highest.Load() {
				}
			}
		})
	}
	for at := 1; at <= records; at += 3 {
		if _, err := p.Apply(l.Records[at:min(at+3, records+1)]); err != nil {
			t.Error(err)
			break
		}
	}
	done.Store(true)
	look.Wait()
	if kept.Load() == 0 || highest.Load() < records/2 {
		t.Errorf("%d times what was kept was given, and %d was the highest: this says little", kept.Load(), highest.Load())
	}
}
