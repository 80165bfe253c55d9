package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// History goes by age, in the partition's time, whether or not the zone changes again; the digest does not know.
func TestHistoryAges(t *testing.T) {
	var l storetest.Log
	l.Step = time.Minute
	l.Add(t, storetest.Create("still.")) // and never changed again
	l.Add(t, storetest.Create("busy."))
	for i := range 10 {
		l.Add(t, storetest.Put("busy.", storetest.Set("www.busy.", 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", i+1))))
	}
	var digests []zones.Digest
	for _, age := range []time.Duration{24 * time.Hour, 4*time.Minute + time.Second} {
		opts := storetest.Options(t, t.TempDir())
		opts.HistoryAge = age
		s, p := storetest.Open(t, opts)
		apply(t, p, l.Records)
		digest, _ := p.Digest()
		digests = append(digests, digest)
		want := min(int(age/time.Minute)+1, 11)
		if h, err := s.History(name("busy."), 0, 100); err != nil || len(h) != want {
			t.Errorf("age %s: %d entries, %v; want %d", age, len(h), err, want)
		}
		h, err := s.History(name("still."), 0, 100)
		if aged := age < time.Hour; err != nil || (len(h) == 0) != aged {
			t.Errorf("age %s: %d entries of a zone that never changed again, %v", age, len(h), err)
		}
		if _, _, err := s.HistoryAt(store.Position{Offset: 1}); errors.Is(err, store.ErrNoOutcome) != (age < time.Hour) {
			t.Errorf("age %s: the entry of the first change: %v", age, err)
		}
	}
	if digests[0] != digests[1] {
		t.Error("how long history is kept is in the digest")
	}
}

// TestSince: what has changed since a serial, from the reading's own position, or that nobody knows.
func TestSince(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	www := func(i int) *zones.ChangeSet {
		return storetest.Put("busy.", storetest.Set("www.busy.", 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", i)))
	}
	add := func(cs *zones.ChangeSet) { apply(t, p, l.From(l.Add(t, cs))) }
	add(storetest.Create("busy."))
	for i := range 5 {
		add(www(i + 1))
	}
	first, err := s.Zone(name("busy."))
	if err != nil {
		t.Fatal(err)
	}
	serial := first.Serial
	reading, err := s.Read(name("busy."))
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	add(storetest.Change("busy.", zones.OpSetSettings{Settings: zones.ZoneSettings{SerialPolicy: zones.SerialUnixTime}}))
	add(storetest.Change("busy.", zones.OpSetSettings{}))
	add(www(6)) // which the reading does not see
	since := func(r *store.Reading, from zones.Serial, stop int) (addresses []string, whole bool) {
		t.Helper()
		whole, err := r.Since(from, func(changes []zones.RRsetChange) bool {
			for _, c := range changes {
				if c.Key.Type == zones.TypeA {
					addresses = append(addresses, fmt.Sprint(c.After.First()))
				}
			}
			return len(addresses) != stop
		})
		if err != nil {
			t.Fatal(err)
		}
		return addresses, whole
	}
	want := func(got []string, whole bool, wantWhole bool, want ...int) {
		t.Helper()
		var all []string
		for _, i := range want {
			all = append(all, fmt.Sprint([]byte{192, 0, 2, byte(i)}))
		}
		if whole != wantWhole || fmt.Sprint(got) != fmt.Sprint(all) {
			t.Errorf("%v, whole %v; want %v, %v", got, whole, all, wantWhole)
		}
	}
	got, whole := since(reading, serial, 0)
	want(got, whole, true)
	got, whole = since(reading, serial-2, 0)
	want(got, whole, true, 5, 4)
	got, whole = since(reading, serial-5, 0)
	want(got, whole, true, 5, 4, 3, 2, 1)
	got, whole = since(reading, serial-5, 2)
	want(got, whole, false, 5, 4)
	got, whole = since(reading, serial-6, 0) // before it was created
	want(got, whole, false, 5, 4, 3, 2, 1)

	now, err := s.Read(name("busy."))
	if err != nil {
		t.Fatal(err)
	}
	got, whole = since(now, serial-1, 0) // over settings
	want(got, whole, true, 6, 5)
	now.Close()
	add(storetest.Change("busy.", zones.OpReplaceZone{RRsets: storetest.Apex("busy.", 100)}))
	add(www(7))
	now, err = s.Read(name("busy."))
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	got, whole = since(now, serial, 0) // made anew in between
	want(got, whole, false, 7)
	got, whole = since(now, now.Info.Serial-1, 0)
	want(got, whole, true, 7)
}

// TestSinceOverStanding: that a secondary zone expired, and is back as it was, does not hide what has changed before.
func TestSinceOverStanding(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	add := func(cs *zones.ChangeSet) { apply(t, p, l.From(l.Add(t, cs))) }
	primary := func(ops ...zones.Op) {
		add(storetest.From(zones.SourcePrimary, storetest.Change("second.test.", ops...)))
	}
	www := func(serial uint32, address string) []zones.Op {
		return []zones.Op{
			zones.OpPutRRset{RRset: storetest.Apex("second.test.", serial)[1]},
			zones.OpPutRRset{RRset: storetest.Set("www.second.test.", 60, zones.TypeA, address)},
		}
	}
	add(storetest.Change("second.test.", zones.OpCreateZone{Settings: storetest.Secondary()}))
	primary(zones.OpReplaceZone{RRsets: storetest.Apex("second.test.", 7)})
	primary(www(8, "192.0.2.8")...)
	primary(zones.OpSetStanding{Expired: true})
	primary(zones.OpSetStanding{})
	primary(www(9, "192.0.2.9")...)
	primary(zones.OpSetStanding{Expired: true})
	primary(zones.OpSetStanding{})

	r, err := s.Read(name("second.test."))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for since, want := range map[zones.Serial]int{9: 0, 8: 1, 7: 2} {
		sets := 0
		whole, err := r.Since(since, func([]zones.RRsetChange) bool { sets++; return true })
		if err != nil || !whole || sets != want {
			t.Errorf("since %d: %d change sets, whole %v, %v; want %d", since, sets, whole, err, want)
		}
	}
}

// TestReadingEndsWithItsPartition: who reads for long is told when the partition is to be closed, which waits for that.
func TestReadingEndsWithItsPartition(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	l.Add(t, storetest.Put("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
	apply(t, p, l.Records)
	reading, err := s.Read(name("example."))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-reading.Closing():
		t.Fatal("it is to be closed, they say")
	default:
	}
	closed := make(chan error, 1)
	var failed error
	for _, err := range reading.All(t.Context()) {
		if err != nil {
			failed = err
			break
		}
		if closed != nil {
			go func(closed chan error) { closed <- p.Close() }(closed)
			<-reading.Closing()
			select {
			case err := <-closed:
				t.Fatalf("closed while it is read: %v", err)
			default:
			}
			defer func(closed chan error) {
				if err := <-closed; err != nil {
					t.Error(err)
				}
			}(closed)
			closed = nil
		}
	}
	if !errors.Is(failed, store.ErrClosed) {
		t.Errorf("all of a closing partition: %v", failed)
	}
	if _, err := reading.Since(0, func([]zones.RRsetChange) bool { return true }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("the history of a closing partition: %v", err)
	}
	reading.Close()
}
