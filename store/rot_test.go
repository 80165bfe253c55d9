package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestRot flips single bits in each kind of file of a closed partition. When it is opened again, either that fails, or
// nothing is wrong: no answer may come from a copy with a hole in it. Losing the end of the newest log is no hole: it is
// the state at an earlier offset, from which the log is read on.
func TestRot(t *testing.T) {
	dir := t.TempDir()
	s, err := store.New(storetest.Options(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	var l storetest.Log
	var more []zones.RRset
	for i := range 400 {
		more = append(more, storetest.Set(fmt.Sprintf("n%d.example.", i), 300, zones.TypeTXT, fmt.Sprintf(`"%060d"`, i)))
	}
	l.Add(t, storetest.Create("example.", more...))
	for i := range 40 {
		l.Add(t, storetest.Put("example.", storetest.Set(fmt.Sprintf("p%d.example.", i), 300, zones.TypeA, "192.0.2.1")))
	}
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, l.Records)
	whole, offset := p.Digest()
	if err := s.Close(); err != nil { // what is in memory goes into a table
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "000", "badger", "*"))
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for _, file := range files {
		switch filepath.Base(file) {
		case "LOCK":
			continue
		}
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tries := 40
		if filepath.Ext(file) == ".vlog" {
			tries = 2
		}
		for try := range tries {
			if len(good) == 0 {
				break
			}
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			bad := append([]byte(nil), good...)
			at := rng.IntN(len(bad))
			if filepath.Ext(file) == ".sst" && try%2 == 0 {
				at = len(bad) - 1 - rng.IntN(min(len(bad), 400)) // the index, and what leads to it
			}
			bad[at] ^= 1 << rng.IntN(8)
			rel, err := filepath.Rel(dir, file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(copied, rel), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: octet %d of %d", filepath.Base(file), at, len(bad))
			opts := storetest.Options(t, copied)
			s := storetest.New(t, opts)
			q, err := s.Open(0, storetest.TopicID)
			if err != nil {
				refused++
				if !errors.Is(err, store.ErrCorrupt) {
					t.Errorf("%s, octet %d of %d: not marked as damage: %v", filepath.Base(file), at, len(bad), err)
				}
				continue
			}
			if err := q.Scrub(t.Context()); err != nil {
				t.Errorf("%s, octet %d of %d: opened, and then: %v", filepath.Base(file), at, len(bad), err)
			}
			if d, o := q.Digest(); o == offset && d != whole {
				t.Errorf("%s, octet %d of %d: another digest", filepath.Base(file), at, len(bad))
			}
			s.Close()
		}
	}
	if refused == 0 {
		t.Error("nothing was damaged")
	}
}
