package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/replication/backup"
	"balefire/replication/objectstore"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

func options(t testing.TB, objects objectstore.Store) backup.Options {
	return backup.Options{
		Objects: objects, Namespace: "test", TopicID: storetest.TopicID, Node: "n1", Scratch: t.TempDir(), FullEvery: 4, Keep: 2,
	}
}

// site is a copy of partition 0, and what it backs up with.
type site struct {
	t testing.TB
	p *store.Partition
	b *backup.Backups
	l *storetest.Log
}

func newSite(t testing.TB, o backup.Options, l *storetest.Log) *site {
	t.Helper()
	_, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	return &site{t, p, backup.New(o), l}
}

// change adds n random changes to the log, and applies all of it.
func (s *site) change(rng *rand.Rand, n int) {
	s.t.Helper()
	storetest.Random(s.t, s.l, rng, n)
	s.apply()
}

// grow adds a large zone, so that increments are small beside full snapshots.
func (s *site) grow() {
	sets := storetest.Apex("large.", 1)
	for i := range 500 {
		sets = append(sets, storetest.Set(fmt.Sprintf("n%d.large.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	s.l.Add(s.t, storetest.Change("large.", zones.OpCreateZone{RRsets: sets}))
}

func (s *site) apply() {
	s.t.Helper()
	if _, err := s.p.Apply(s.l.Records); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) save() backup.Manifest {
	s.t.Helper()
	m, err := s.b.Save(s.t.Context(), s.p, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// restored restores a backup, and compares it with a copy that has applied the log up to its position.
func restored(t testing.TB, b *backup.Backups, m backup.Manifest, l *storetest.Log) {
	t.Helper()
	opts := storetest.Options(t, t.TempDir())
	s := storetest.New(t, opts)
	dir := filepath.Join(t.TempDir(), "restored")
	if err := b.RestoreInto(t.Context(), dir, m); err != nil {
		t.Fatal(err)
	}
	if err := s.Adopt(0, storetest.TopicID, dir); err != nil {
		t.Fatal(err)
	}
	got, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	_, want := storetest.Open(t, storetest.Options(t, t.TempDir()))
	if _, err := want.Apply(l.Records[:m.Offset+1]); err != nil {
		t.Fatal(err)
	}
	if g, w := got.Applied(), want.Applied(); g != w {
		t.Errorf("restored %+v, want %+v", g, w)
	}
	d1, _ := got.Digest()
	d2, _ := want.Digest()
	if d1 != d2 || d1.String() != m.Digest {
		t.Errorf("digest %s, want %s, manifest %s", d1, d2, m.Digest)
	}
	if err := got.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
}

func keys(t testing.TB, objects objectstore.Store, part string) (found []string) {
	t.Helper()
	for info, err := range objects.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info.Key, part) {
			found = append(found, info.Key)
		}
	}
	return found
}

// TestChains makes many backups: chains are bounded, old ones go, and every one that is left restores to its position.
func TestChains(t *testing.T) {
	objects := objectstore.NewMemory()
	o := options(t, objects)
	s := newSite(t, o, &storetest.Log{})
	rng := rand.New(rand.NewPCG(1, 1))
	s.grow()
	var lengths []int
	for range 11 {
		s.change(rng, 5)
		lengths = append(lengths, s.save().Length)
	}
	if want := fmt.Sprint([]int{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2}); fmt.Sprint(lengths) != want {
		t.Errorf("chains %v, want %v", lengths, want)
	}
	found, bad, err := s.b.List(t.Context(), 0)
	if err != nil || len(bad) > 0 || len(found) != 7 {
		t.Fatalf("%d backups, %v, %v", len(found), bad, err)
	}
	if n := len(keys(t, objects, "")); n != 14 {
		t.Errorf("%d objects", n)
	}
	for _, m := range found {
		restored(t, s.b, m, s.l)
		last := m.Offset + 4 // that it is the newest for
		for _, other := range found {
			if other.Offset > m.Offset {
				last = min(last, other.Offset-1)
			}
		}
		at, err := s.b.AtOffset(t.Context(), 0, last)
		if err != nil || at != m {
			t.Errorf("at offset %d: %+v, %v", last, at, err)
		}
		if at, err := s.b.AtTime(t.Context(), 0, m.Time); err != nil || at != m {
			t.Errorf("at %s: %+v, %v", m.Time, at, err)
		}
	}
	oldest := found[len(found)-1]
	if _, err := s.b.AtOffset(t.Context(), 0, oldest.Offset-1); !errors.Is(err, backup.ErrNone) {
		t.Errorf("before the oldest: %v", err)
	}
	if again := s.save(); again.Number != found[0].Number {
		t.Errorf("nothing has changed, and there is backup %d", again.Number)
	}
}

// TestWritersTakeTurns: of two that write at once the second learns it, and goes on from what the first wrote.
func TestWritersTakeTurns(t *testing.T) {
	objects := &racing{Store: objectstore.NewMemory()}
	var l storetest.Log
	rng := rand.New(rand.NewPCG(2, 2))
	first, second := newSite(t, options(t, objects), &l), newSite(t, options(t, objects), &l)
	first.grow()
	first.change(rng, 20)
	second.apply()
	first.save()
	if m := second.save(); m.Number != 1 {
		t.Errorf("at the same position the second made backup %d", m.Number)
	}
	second.change(rng, 5)
	if m := second.save(); m.Follows != 1 {
		t.Errorf("after another's, at the same position, the second made %+v", m)
	}
	second.change(rng, 5)
	first.apply()
	// While the second makes its backup, the first makes one.
	objects.before = func() { first.save() }
	if _, err := second.b.Save(t.Context(), second.p, 0); !errors.Is(err, backup.ErrFenced) {
		t.Errorf("the second writer: %v", err)
	}
	if n := len(keys(t, objects, "snapshot-")); n != 3 {
		t.Errorf("%d snapshots: the second's is left behind", n)
	}
	second.change(rng, 5)
	m := second.save()
	if m.Number != 4 || m.Follows != 3 {
		t.Errorf("the second goes on with %+v", m)
	}
	restored(t, second.b, m, &l)
	// Who is behind makes none.
	if _, err := first.b.Save(t.Context(), first.p, 0); !errors.Is(err, backup.ErrFenced) {
		t.Errorf("from behind: %v", err)
	}
}

// racing calls before, once, ahead of the next manifest that is put.
type racing struct {
	objectstore.Store
	before func()
}

func (r *racing) Put(ctx context.Context, key string, body io.Reader, size int64, c objectstore.Condition) (string, error) {
	if before := r.before; before != nil && strings.HasSuffix(key, ".manifest") {
		r.before = nil
		before()
	}
	return r.Store.Put(ctx, key, body, size, c)
}

// failing fails puts of a kind, after they have had their effect or before.
type failing struct {
	objectstore.Store
	kind          string
	landed        bool
	failed        int
	afterOctets   int64 // of a snapshot that is put
	neverRecovers bool
}

var errLost = errors.New("connection lost")

func (f *failing) Put(ctx context.Context, key string, body io.Reader, size int64, c objectstore.Condition) (string, error) {
	if f.kind == "" || !strings.Contains(key, f.kind) {
		return f.Store.Put(ctx, key, body, size, c)
	}
	f.failed++
	if !f.neverRecovers {
		f.kind = ""
	}
	if f.landed {
		if _, err := f.Store.Put(ctx, key, body, size, c); err != nil {
			return "", err
		}
	} else if _, err := io.CopyN(io.Discard, body, f.afterOctets); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return "", errLost
}

// TestPutsFail: what was half put is no backup, and leaves nothing; an answer that was lost changes nothing.
func TestPutsFail(t *testing.T) {
	for _, c := range []struct {
		kind   string
		landed bool
		saved  bool
	}{{"snapshot-", false, false}, {"snapshot-", true, false}, {".manifest", false, false}, {".manifest", true, true}} {
		t.Run(fmt.Sprintf("%s landed=%v", c.kind, c.landed), func(t *testing.T) {
			objects := &failing{Store: objectstore.NewMemory(), afterOctets: 100}
			s := newSite(t, options(t, objects), &storetest.Log{})
			rng := rand.New(rand.NewPCG(3, 3))
			s.change(rng, 30)
			first := s.save()
			s.change(rng, 5)
			objects.kind, objects.landed = c.kind, c.landed
			m, err := s.b.Save(t.Context(), s.p, 0)
			if (err == nil) != c.saved || err != nil && !errors.Is(err, errLost) {
				t.Fatalf("saved: %v", err)
			}
			want := 1
			if c.saved {
				want = 2
			}
			if n := len(keys(t, objects, "snapshot-")); n != want {
				t.Errorf("%d snapshots, want %d", n, want)
			}
			if c.saved {
				restored(t, s.b, m, s.l)
			} else if newest, err := s.b.Newest(t.Context(), 0); err != nil || newest.Number != first.Number {
				t.Errorf("newest is %+v, %v", newest, err)
			}
			s.change(rng, 5)
			m = s.save()
			if m.Length != want {
				t.Errorf("then %+v", m)
			}
			restored(t, s.b, m, s.l)
		})
	}
}

// TestSavingEnds: a context that ends while a snapshot goes up ends all of it.
func TestSavingEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	objects := &endless{Store: objectstore.NewMemory(), began: cancel}
	s := newSite(t, options(t, objects), &storetest.Log{})
	s.change(rand.New(rand.NewPCG(4, 4)), 30)
	if _, err := s.b.Save(ctx, s.p, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("saved: %v", err)
	}
	if found := keys(t, objects, ""); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

// endless takes nothing of what is put, until the context ends.
type endless struct {
	objectstore.Store
	began func()
}

func (e *endless) Put(ctx context.Context, _ string, _ io.Reader, _ int64, _ objectstore.Condition) (string, error) {
	e.began()
	<-ctx.Done()
	return "", ctx.Err()
}

// TestDamage: a snapshot of a chain that is gone, cut short, or changed, takes those with it that follow it, and no others;
// the next backup is full, and good.
func TestDamage(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(len(b)+at)%len(b)] ^= 4
			return b
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"gone":            nil,
		"empty":           func([]byte) []byte { return nil },
		"cut":             func(b []byte) []byte { return b[:len(b)-1] },
		"longer":          func(b []byte) []byte { return append(b, 0) },
		"flipped header":  flip(20),
		"flipped middle":  flip(400),
		"flipped footer":  flip(-3),
		"another's frame": func(b []byte) []byte { return append(b[:56:56], bytes.Repeat([]byte{'E'}, len(b)-56)...) },
	} {
		for _, kind := range []string{"snapshot-", ".manifest"} {
			if kind == ".manifest" && (name == "longer" || strings.HasPrefix(name, "another") || strings.HasSuffix(name, "er")) {
				continue // TestManifestDamage does more of these
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				objects := objectstore.NewMemory()
				o := options(t, objects)
				s := newSite(t, o, &storetest.Log{})
				rng := rand.New(rand.NewPCG(5, 5))
				s.grow()
				var made []backup.Manifest
				for range 6 { // full, 3 increments, full, increment
					s.change(rng, 20)
					made = append(made, s.save())
				}
				if made[4].Length != 0 || made[5].Length != 1 {
					t.Fatalf("chains of %d and %d", made[4].Length, made[5].Length)
				}
				for _, victim := range []int{5, 2} { // the last, and one in the middle of the chain before
					key := keys(t, objects, kind)[victim]
					damage(t, objects, key, change)
					// Another process looks at it, which has nothing in its memory.
					s.b = backup.New(o)
					found, bad, err := s.b.List(t.Context(), 0)
					if err != nil {
						t.Fatal(err)
					}
					whole := 0
					for _, m := range found {
						if err := s.b.Verify(t.Context(), m); err == nil {
							whole++ // Verify has compared all of it with its own digest
						} else if !errors.Is(err, backup.ErrDamaged) {
							t.Errorf("backup %d: %v", m.Number, err)
						}
					}
					want := 5
					if victim == 2 {
						want = 3 // 0, 1, and 4
					}
					if whole != want {
						t.Errorf("%d of %d backups are whole, want %d; bad: %v", whole, len(found), want, bad)
					}
					if found, _, err = s.b.List(t.Context(), 0); err != nil || len(found) != want {
						t.Errorf("it is known of %d that they are whole: %v", len(found), err)
					}
				}
				s.change(rng, 5)
				m := s.save()
				if m.Length != 0 && !(kind == ".manifest" && change == nil) {
					t.Errorf("it follows what is damaged: %+v", m)
				}
				restored(t, s.b, m, s.l)
			})
		}
	}
}

func damage(t *testing.T, objects objectstore.Store, key string, change func([]byte) []byte) {
	t.Helper()
	if change == nil {
		if err := objects.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		return
	}
	r, _, err := objects.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	b = change(bytes.Clone(b))
	if _, err := objects.Put(t.Context(), key, bytes.NewReader(b), int64(len(b)), objectstore.Condition{}); err != nil {
		t.Fatal(err)
	}
}

// TestOthersAreApart: another namespace, topic or partition in the same place is never taken for this one's.
func TestOthersAreApart(t *testing.T) {
	objects := objectstore.NewMemory()
	o := options(t, objects)
	s := newSite(t, o, &storetest.Log{})
	s.change(rand.New(rand.NewPCG(6, 6)), 10)
	m := s.save()
	for name, other := range map[string]func(*backup.Options){
		"namespace":        func(o *backup.Options) { o.Namespace = "tes" },
		"longer namespace": func(o *backup.Options) { o.Namespace = "test2" },
		"topic":            func(o *backup.Options) { o.TopicID[3]++ },
	} {
		o := o
		other(&o)
		b := backup.New(o)
		if found, bad, err := b.List(t.Context(), 0); len(found)+len(bad) > 0 || err != nil {
			t.Errorf("%s: %v, %v, %v", name, found, bad, err)
		}
		if err := b.Verify(t.Context(), m); !errors.Is(err, store.ErrOtherTopic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, bad, err := s.b.List(t.Context(), 1); len(found)+len(bad) > 0 || err != nil {
		t.Errorf("partition 1: %v, %v, %v", found, bad, err)
	}
	// A manifest that somebody has copied to where it does not belong.
	for _, key := range keys(t, objects, "") {
		r, _, err := objects.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := objects.Put(t.Context(), strings.Replace(key, "/00000/", "/00001/", 1), r, -1, objectstore.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if found, bad, err := s.b.List(t.Context(), 1); len(found) > 0 || len(bad) != 1 || err != nil {
		t.Errorf("partition 1: %v, %v, %v", found, bad, err)
	}
	stored, err := backup.Inventory(t.Context(), objects, "test")
	if err != nil || len(stored) != 1 || stored[0].Topic != storetest.TopicID || len(stored[0].Partitions) != 2 {
		t.Errorf("inventory %+v, %v", stored, err)
	}
}

// TestOrphansGo: a snapshot without a manifest is removed when no upload can still be at it.
func TestOrphansGo(t *testing.T) {
	root := t.TempDir()
	objects := objectstore.NewDirectory(root)
	s := newSite(t, options(t, objects), &storetest.Log{})
	rng := rand.New(rand.NewPCG(7, 7))
	s.change(rng, 10)
	s.save()
	orphan := strings.Replace(keys(t, objects, "snapshot-")[0], "snapshot-", "snapshot-0", 1)
	if _, err := objects.Put(t.Context(), orphan, strings.NewReader("x"), 1, objectstore.Condition{}); err != nil {
		t.Fatal(err)
	}
	s.change(rng, 10)
	s.save()
	if len(keys(t, objects, orphan)) != 1 {
		t.Error("an upload that may go on was removed")
	}
	old := time.Now().Add(-30 * 24 * time.Hour)
	for _, key := range keys(t, objects, "") {
		if err := os.Chtimes(filepath.Join(root, key), old, old); err != nil {
			t.Fatal(err)
		}
	}
	s.change(rng, 10)
	m := s.save()
	if len(keys(t, objects, orphan)) != 0 {
		t.Error("an old orphan is still there")
	}
	restored(t, s.b, m, s.l)
}

// TestNoRoom: a restore that the disk has no room for ends, and leaves nothing.
func TestNoRoom(t *testing.T) {
	o := options(t, objectstore.NewMemory())
	s := newSite(t, o, &storetest.Log{})
	s.change(rand.New(rand.NewPCG(8, 8)), 10)
	m := s.save()
	o.Room = func() error { return store.ErrDiskReserve }
	dir := filepath.Join(t.TempDir(), "restored")
	if err := backup.New(o).RestoreInto(t.Context(), dir, m); !errors.Is(err, store.ErrDiskReserve) || errors.Is(err, backup.ErrDamaged) {
		t.Errorf("restored: %v", err)
	}
	if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
