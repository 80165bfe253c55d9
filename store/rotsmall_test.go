package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
)

// TestRotOfSmallFiles damages every octet of the files that say what the others are, in several ways, and cuts them off everywhere. The
// partition then opens whole, or is found damaged, which has it restored; any other error would have it tried again for ever.
func TestRotOfSmallFiles(t *testing.T) {
	dir := t.TempDir()
	s, err := store.New(storetest.Options(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	var l storetest.Log
	l.Add(t, storetest.Create("example."))
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, l.Records)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range []string{"META", "KEPT", "badger/KEYREGISTRY", "badger/MANIFEST"} {
		file := filepath.Join(dir, "partitions", "000", name)
		good, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // KEPT comes with a backup
		}
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, bad []byte) {
			t.Helper()
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(copied, "partitions", "000", name), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.New(storetest.Options(t, copied))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Open(0, storetest.TopicID); err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%s, %s: %v", name, what, err)
			} else if err != nil {
				found++
			}
		}
		for i := range good {
			for _, flip := range []byte{1, 0x80, 0xff} {
				bad := bytes.Clone(good)
				bad[i] ^= flip
				try(fmt.Sprintf("octet %d of %d changed by %x", i, len(good), flip), bad)
			}
			try(fmt.Sprintf("cut to %d of %d octets", i, len(good)), good[:i])
		}
	}
	if found == 0 {
		t.Error("no damage was found")
	}
}
