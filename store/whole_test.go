package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestStagedZone brings in a zone of 50,000 names in chunks, twice: readers see the old zone until the switch, then
// the new one; the dead generation's keys go, and memory does not grow with the zone.
func TestStagedZone(t *testing.T) {
	const names = 50_000
	big := func(ip string, names int) []zones.RRset {
		sets := storetest.Apex("big.", 5)
		a := storetest.Set("big.", 60, zones.TypeA, ip)
		for i := range names {
			owner, err := name("big.").Child(fmt.Sprintf("n%07d", i))
			if err != nil {
				t.Fatal(err)
			}
			sets = append(sets, a.WithOwner(owner))
		}
		slices.SortFunc(sets, zones.CompareRRsets)
		return sets
	}
	opts := storetest.Options(t, t.TempDir())
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	l.Add(t, storetest.Create("big."))
	for _, cs := range storetest.Stage("big.", l.NextID(), big("192.0.2.1", names), 1900) {
		l.Add(t, cs)
	}
	half := len(l.Records)
	const fewer = 5000
	for _, cs := range storetest.Stage("big.", l.NextID(), big("192.0.2.2", fewer), 1900) {
		l.Add(t, cs)
	}
	at := func() (serial zones.Serial, records uint64) {
		info, err := s.Zone(name("big."))
		if err != nil {
			t.Fatal(err)
		}
		return info.Serial, info.Records
	}
	for i := range l.Records {
		for _, o := range apply(t, p, l.Records[i:i+1]) {
			if o.Status != store.StatusApplied {
				t.Fatalf("%s: %v", o.Position, o.Rejection)
			}
		}
		serial, records := at()
		want := uint64(3)
		switch {
		case i == len(l.Records)-1:
			want = fewer + 3
		case i >= half-1:
			want = names + 3
		}
		if records != want {
			t.Fatalf("after record %d of %d: serial %d, %d records", i, len(l.Records), serial, records)
		}
		if i == half-2 {
			check(t, p) // with a stage
		}
	}
	check(t, p) // with a dead generation, or a part of it
	if err := p.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, p)
	h := s.Find(name("n0000007.big."), zones.TypeA)
	defer h.Release()
	var loc zones.Location
	if err := h.View.Find(name("n0000007.big."), &loc); err != nil {
		t.Fatal(err)
	}
	if set, ok := loc.Node.RRset(zones.TypeA); !ok || !bytes.Equal(set.First(), []byte{192, 0, 2, 2}) {
		t.Errorf("n0000007.big. is %v", set)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("heap %d MiB", m.HeapInuse>>20)
}

// TestStageExpires: an abandoned stage goes when the partition's time has passed, and a chunk that comes late is
// rejected.
func TestStageExpires(t *testing.T) {
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	l := storetest.Log{}
	chunks := storetest.Stage("s.", l.NextID(), storetest.Apex("s.", 1), 1)
	l.Add(t, chunks[0])
	l.Step = 25 * time.Hour
	l.Add(t, chunks[1])
	out := apply(t, p, l.Records)
	if out[1].Status != store.StatusRejected || out[1].Rejection.Rule != zones.RuleStage {
		t.Errorf("%+v", out[1])
	}
	check(t, p)
	if err := p.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, p)
}

// damage opens a closed partition's database and changes it behind the server's back.
func damage(t *testing.T, dir string, do func(txn *badger.Txn, keys [][]byte) error) {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(filepath.Join(dir, "partitions", "000", "badger")).
		WithLogger(nil).WithDetectConflicts(false).WithNumVersionsToKeep(math.MaxInt32).WithMemTableSize(16 << 20))
	if err != nil {
		t.Fatal(err)
	}
	txn := db.NewTransactionAt(math.MaxUint64, true)
	it := txn.NewIterator(badger.IteratorOptions{})
	var keys [][]byte
	var ts uint64 // the present position, where readers will see it
	for it.Rewind(); it.Valid(); it.Next() {
		keys = append(keys, it.Item().KeyCopy(nil))
		ts = max(ts, it.Item().Version())
	}
	it.Close()
	if err := errors.Join(do(txn, keys), txn.CommitAt(ts, nil), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestScrubFindsDamage deletes, changes or adds one key of each kind, and expects the scrub, or the opening, to
// find it, and the answers to be errors rather than absence.
func TestScrubFindsDamage(t *testing.T) {
	var l storetest.Log
	l.Add(t, storetest.Create("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
	l.Add(t, storetest.Create("other."))
	for _, cs := range storetest.Stage("staged.", l.NextID(), storetest.Apex("staged.", 1), 1)[:1] {
		l.Add(t, cs)
	}
	// What the digest covers must not lose a key; what is this node's own must not have a wrong value.
	for kind, deleted := range map[byte]bool{'m': true, 'z': true, 's': true, 'i': true, 't': true, 'd': true, 'h': false, 'y': false, 'o': false, 'c': false} {
		for _, what := range []string{"deleted", "changed"} {
			if what == "deleted" && !deleted {
				continue
			}
			t.Run(fmt.Sprintf("%c %s", kind, what), func(t *testing.T) {
				opts := storetest.Options(t, t.TempDir())
				var alarms atomic.Int32
				opts.Alarm = func(store.Alarm) { alarms.Add(1) }
				s, p := storetest.Open(t, opts)
				apply(t, p, l.Records)
				check(t, p)
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				damage(t, opts.Dir, func(txn *badger.Txn, keys [][]byte) error {
					for _, key := range keys {
						if key[0] != kind {
							continue
						}
						if what == "deleted" {
							return txn.Delete(key)
						}
						item, err := txn.Get(key)
						if err != nil {
							return err
						}
						value, err := item.ValueCopy(nil)
						value[0] ^= 1
						return errors.Join(err, txn.Set(key, value))
					}
					return fmt.Errorf("there is no key of kind %c", kind)
				})
				p, err := s.Open(0, storetest.TopicID)
				if err == nil {
					err = p.Scrub(t.Context())
					if alarms.Load() != 1 || p.Suspicious() == nil {
						t.Errorf("%d alarms, %v", alarms.Load(), p.Suspicious())
					}
				}
				if !errors.Is(err, store.ErrCorrupt) {
					t.Fatalf("found: %v", err)
				}
				t.Log(err)
			})
		}
	}
}

func TestDamageIsNotAbsence(t *testing.T) {
	for what, test := range map[string]struct {
		whole uint64 // zones with so many RRsets are read whole
		rot   func(txn *badger.Txn, key []byte) error
	}{
		"a value, the zone read whole":          {32, func(txn *badger.Txn, key []byte) error { return txn.Set(key, []byte("rotten")) }},
		"a value, read by itself":               {0, func(txn *badger.Txn, key []byte) error { return txn.Set(key, []byte("rotten")) }},
		"a key is missing, the zone read whole": {32, func(txn *badger.Txn, key []byte) error { return txn.Delete(key) }},
	} {
		t.Run(what, func(t *testing.T) {
			opts := storetest.Options(t, t.TempDir())
			s, p := storetest.Open(t, opts)
			s.ReadWhole(test.whole)
			var l storetest.Log
			l.Add(t, storetest.Create("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
			apply(t, p, l.Records)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, opts.Dir, func(txn *badger.Txn, keys [][]byte) error {
				for _, key := range keys {
					if key[0] == 'd' && bytes.Contains(key, []byte("www")) {
						return test.rot(txn, key)
					}
				}
				return errors.New("no such key")
			})
			if _, err := s.Open(0, storetest.TopicID); err != nil {
				t.Fatal(err)
			}
			h := s.Find(name("www.example."), zones.TypeA)
			defer h.Release()
			err := h.Err
			var at zones.Location
			if h.Status == store.Here {
				err = h.View.Find(name("www.example."), &at)
			}
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%s, found %+v, %v", h.Status, at, err)
			}
		})
	}
}

func TestSnapshot(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	l.Add(t, storetest.Create("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
	for i := range 50 {
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.", i)))
	}
	l.Add(t, storetest.Change("z1.", zones.OpDeleteZone{}))
	apply(t, p, l.Records)
	var image bytes.Buffer
	info, err := p.WriteSnapshot(t.Context(), &image)
	if err != nil {
		t.Fatal(err)
	}
	digest, offset := p.Digest()
	if info.Offset != offset || info.Digest != digest || info.Partition != 0 || info.TopicID != storetest.TopicID || int(info.Size) != image.Len() {
		t.Errorf("%+v", info)
	}

	// Into another store, where the log goes on.
	other := storetest.New(t, storetest.Options(t, t.TempDir()))
	if _, err := other.RestorePartition(t.Context(), 0, [16]byte{1}, bytes.NewReader(image.Bytes())); !errors.Is(err, store.ErrOtherTopic) {
		t.Errorf("restored a snapshot of another topic: %v", err)
	}
	if _, err := other.RestorePartition(t.Context(), 0, storetest.TopicID, bytes.NewReader(image.Bytes())); err != nil {
		t.Fatal(err)
	}
	q, err := other.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	if q.Applied() != p.Applied() {
		t.Errorf("%+v, want %+v", q.Applied(), p.Applied())
	}
	l.Add(t, storetest.Put("example.", storetest.Set("new.example.", 60, zones.TypeA, "192.0.2.2")))
	apply(t, p, l.Records)
	apply(t, q, l.Records)
	check(t, q)
	d1, _ := p.Digest()
	d2, _ := q.Digest()
	if d1 != d2 || !slices.Equal(content(t, s, "example."), content(t, other, "example.")) {
		t.Error("after the restore the replicas differ")
	}
	if h, err := other.History(name("example."), 0, 10); err != nil || len(h) != 2 {
		t.Errorf("history after the restore: %v %v", h, err)
	}

	// What is not whole is not restored, and leaves nothing.
	dir := filepath.Join(t.TempDir(), "000")
	for _, cut := range []int{0, 10, image.Len() / 2, image.Len() - 1} {
		if _, err := store.Restore(t.Context(), dir, bytes.NewReader(image.Bytes()[:cut]), store.RestoreOptions{}); err == nil {
			t.Errorf("restored a snapshot cut at %d of %d", cut, image.Len())
		}
		if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
			t.Fatalf("a failed restore left %v", left)
		}
	}
}

func TestHistoryAndRollback(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	opts.HistoryChanges = 5
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	www := func(ip string) zones.RRset { return storetest.Set("www.example.", 60, zones.TypeA, ip) }
	l.Add(t, storetest.Create("example.", www("192.0.2.1"))) // serial 1
	l.Add(t, storetest.Put("example.", www("192.0.2.2")))    // 2
	apply(t, p, l.Records)
	want := content(t, s, "example.")
	l.Add(t, storetest.Put("example.", storetest.Set("a.example.", 60, zones.TypeTXT, "x")))                                  // 3
	l.Add(t, storetest.Change("example.", zones.OpDeleteName{Owner: name("www.example.")}))                                   // 4
	l.Add(t, storetest.Put("example.", storetest.Set("www.example.", 60, zones.TypeCNAME, "a.example.")))                     // 5
	l.Add(t, storetest.Change("example.", zones.OpSetSettings{Settings: zones.ZoneSettings{SerialPolicy: zones.SerialDate}})) // 5
	apply(t, p, l.Records)
	info, err := s.Zone(name("example."))
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.History(name("example."), 0, 3)
	if err != nil || len(h) != 3 || h[0].Action != store.ActionSettings || h[1].From != 4 || h[1].To != 5 || h[1].Author != "storetest" ||
		h[1].Reason != "a test" || h[2].Offset != 3 || len(h[2].Changes) != 2 {
		t.Fatalf("%+v %v", h, err)
	}
	if older, err := s.History(name("example."), h[2].Offset, 10); err != nil || len(older) != 2 || older[0].Offset != 2 {
		t.Errorf("5 are kept, 2 of them before %d: %+v %v", h[2].Offset, older, err)
	}
	if apex, at, err := s.HistoryAt(h[1].Position); err != nil || apex != name("example.") || at.To != 5 {
		t.Errorf("%+v %v", at, err)
	}
	if _, _, err := s.HistoryAt(store.Position{Offset: 0}); !errors.Is(err, store.ErrNoOutcome) {
		t.Errorf("what is too many is kept: %v", err)
	}

	if _, _, err := s.Rollback(name("example."), 77); !errors.Is(err, store.ErrNoRollback) {
		t.Errorf("to a serial that never was: %v", err)
	}
	if ops, _, err := s.Rollback(name("example."), info.Serial); err != nil || len(ops) != 0 {
		t.Errorf("to the present: %v %v", ops, err)
	}
	ops, current, err := s.Rollback(name("example."), 2)
	if err != nil || current != info.Serial {
		t.Fatal(ops, current, err)
	}
	cs := storetest.Change("example.", ops...)
	cs.Preconditions = []zones.Precondition{zones.IfSerial{Serial: current}}
	l.Add(t, cs)
	if out := apply(t, p, l.Records); out[0].Status != store.StatusApplied {
		t.Fatal(out[0].Rejection)
	}
	soa := func(lines []string) []string { // all but the SOA, whose serial went on
		return slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return strings.Contains(s, " SOA ") })
	}
	if got := content(t, s, "example."); !slices.Equal(soa(got), soa(want)) {
		t.Errorf("rolled back to\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	l.Add(t, storetest.Change("example.", zones.OpReplaceZone{RRsets: storetest.Apex("example.", 3)}))
	apply(t, p, l.Records)
	if _, _, err := s.Rollback(name("example."), 2); !errors.Is(err, store.ErrNoRollback) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("across a replacement: %v", err)
	}
	l.Add(t, storetest.Change("example.", zones.OpDeleteZone{}))
	apply(t, p, l.Records)
	if h, err := s.History(name("example."), 0, 2); err != nil || len(h) != 2 || h[0].Action != store.ActionDeleted || h[1].Action != store.ActionReplaced {
		t.Errorf("of a deleted zone: %+v %v", h, err)
	}
	l.Step = 200 * 24 * time.Hour // everything is over age
	for i := range 6 {
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.", i)))
		l.Step = time.Second
	}
	apply(t, p, l.Records)
	if h, err := s.History(name("example."), 0, 2); err != nil || len(h) != 0 {
		t.Errorf("over age: %+v %v", h, err)
	}
	if _, err := p.Outcome(1); !errors.Is(err, store.ErrNoOutcome) {
		t.Errorf("an outcome over age: %v", err)
	}
	check(t, p)
}

func TestPages(t *testing.T) {
	s := storetest.New(t, storetest.Options(t, t.TempDir()))
	logs := make([]storetest.Log, 3)
	var want []string
	for i := range 40 {
		apex := fmt.Sprintf("z%02d.test.", i)
		logs[i%3].Add(t, storetest.Create(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
		want = append(want, apex)
	}
	for i := range logs {
		p, err := s.Open(int32(i), storetest.TopicID)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, p, logs[i].Records)
	}
	for _, limit := range []int{1, 7, 40, 100} {
		var got []string
		for after := zones.Name(""); ; {
			page, err := s.Zones("z", after, limit)
			if err != nil || len(page.Zones) > limit {
				t.Fatal(err, len(page.Zones))
			}
			for _, z := range page.Zones {
				got = append(got, z.Apex.String())
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	if page, err := s.Zones("Z1", "", 100); err != nil || len(page.Zones) != 10 || page.Next != "" {
		t.Errorf("prefix z1: %d %v", len(page.Zones), err)
	}
	r, err := s.Read(name("z07.test."))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, limit := range []int{1, 2, 9} {
		var got []string
		for after := (*store.Cursor)(nil); ; {
			page, err := r.RRsets("", after, limit)
			if err != nil || len(page.RRsets) > limit {
				t.Fatal(err)
			}
			for _, set := range page.RRsets {
				got = append(got, set.Owner.Relative(name("z07.test."))+" "+set.Type.String())
			}
			if after = page.Next; after == nil {
				break
			}
		}
		if fmt.Sprint(got) != "[@ NS @ SOA www A]" {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	if page, err := r.RRsets("w", nil, 10); err != nil || len(page.RRsets) != 1 || page.RRsets[0].Owner != name("www.z07.test.") {
		t.Errorf("prefix w: %+v %v", page, err)
	}
	if _, ok, err := r.RRset(name("www.z07.test."), zones.Key{Type: zones.TypeAAAA}); ok || err != nil {
		t.Errorf("an absent RRset: %v %v", ok, err)
	}
}

// TestCrash kills a child at each named point, once at its first and once at a later passing, and then goes on with
// the log: the result is that of a run without a crash.
func TestCrash(t *testing.T) {
	want := crashLog(t)
	ref, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	apply(t, p, want.Records)
	digest, _ := p.Digest()
	lines := content(t, ref, "big.")
	for _, point := range store.CrashPoints {
		for _, count := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s:%d", point, count), func(t *testing.T) {
				dir := t.TempDir()
				child := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
				child.Env = append(os.Environ(), "BALEFIRE_CRASH_DIR="+dir, fmt.Sprintf("BALEFIRE_CRASH_AT=%s:%d", point, count))
				out, err := child.CombinedOutput()
				if child.ProcessState.ExitCode() != crashed {
					if count > 1 && err == nil {
						return // the point is not passed so often
					}
					t.Fatalf("the child did not crash: %v\n%s", err, out)
				}
				s, p := storetest.Open(t, storetest.Options(t, dir))
				var acknowledged int64 = -1
				if b, err := os.ReadFile(filepath.Join(dir, "acknowledged")); err == nil {
					if err := json.Unmarshal(b, &acknowledged); err != nil {
						t.Fatal(err)
					}
				}
				if got := p.Applied().Offset; got < acknowledged {
					t.Errorf("applied up to %d, but %d was acknowledged", got, acknowledged)
				}
				check(t, p)
				apply(t, p, want.Records)
				if err := p.Collect(t.Context()); err != nil {
					t.Fatal(err)
				}
				check(t, p)
				if got, _ := p.Digest(); got != digest || !slices.Equal(content(t, s, "big."), lines) {
					t.Errorf("digest %s, want %s", got, digest)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "partitions", "*.restoring")); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
			})
		}
	}
}

const crashed = 86

// crashLog passes all crash points of applying: it creates, stages, switches and collects.
func crashLog(t *testing.T) *storetest.Log {
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	for round := range 3 {
		sets := storetest.Apex("big.", 1)
		for i := range 900 {
			sets = append(sets, storetest.Set(fmt.Sprintf("n%d.big.", i), uint32(60+round), zones.TypeA, "192.0.2.1"))
		}
		slices.SortFunc(sets, zones.CompareRRsets)
		for _, cs := range storetest.Stage("big.", l.NextID(), sets, 400) {
			l.Add(t, cs)
			l.Add(t, storetest.Put("example.", storetest.Set("www.example.", 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", len(l.Records)))))
		}
	}
	return &l
}

// TestCrashChild is the child of TestCrash; by itself it does nothing.
func TestCrashChild(t *testing.T) {
	dir, at := os.Getenv("BALEFIRE_CRASH_DIR"), os.Getenv("BALEFIRE_CRASH_AT")
	if dir == "" {
		return
	}
	point, count, _ := strings.Cut(at, ":")
	left, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	opts := storetest.Options(t, dir)
	var passed atomic.Int32
	opts.CrashPoint = func(name string) {
		if name == point && int(passed.Add(1)) == left {
			os.Exit(crashed) // nothing is closed, flushed or unlocked
		}
	}
	s, p := storetest.Open(t, opts)
	for _, rec := range crashLog(t).Records {
		apply(t, p, []store.Record{rec})
		// Renamed into place: the process may end in the middle of a write, at a point that the background passes.
		file := filepath.Join(dir, "acknowledged")
		if err := os.WriteFile(file+".new", strconv.AppendInt(nil, rec.Offset, 10), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	for range 3 {
		image.Reset()
		if _, err := p.WriteSnapshot(t.Context(), &image); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int32(3) {
		_, err := store.Restore(t.Context(), filepath.Join(dir, "partitions", fmt.Sprintf("%03d", i+1)), &image, store.RestoreOptions{CrashPoint: opts.CrashPoint})
		if err != nil && i == 0 {
			t.Fatal(err)
		}
	}
	_ = s
}
