package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"
)

// filled makes a database of some tables' worth of keys, and returns its tables.
func filled(t *testing.T, dir string, how options.CompressionType) []string {
	t.Helper()
	opts := badgerOptions(dir, memTableDefault, zerolog.Nop()).WithCompression(how)
	db, err := badger.OpenManaged(opts)
	if err != nil {
		t.Fatal(err)
	}
	txn := db.NewTransactionAt(1, true)
	for i := range 2000 {
		if err := txn.Set([]byte{'x', byte(i >> 8), byte(i)}, make([]byte, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := txn.CommitAt(1, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	return tables
}

// flip changes one octet of a file.
func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Tables of programs that did not compress them are opened, and damage is found in both kinds, wherever in a block it is.
func TestTablesOfBothKinds(t *testing.T) {
	for how, octets := range map[options.CompressionType]int{options.None: 100_000, options.Snappy: 10_000} {
		dir := t.TempDir()
		tables := filled(t, dir, how)
		size, err := os.Stat(tables[0])
		if err != nil || size.Size() < int64(octets) {
			t.Fatalf("%v: %d octets, %v", how, size.Size(), err)
		}
		db, unread, err := openDatabase(dir, memTableDefault, zerolog.Nop())
		if err != nil || len(unread) > 0 {
			t.Fatal(how, unread, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for at := 0; at < octets; at += octets / 200 {
			flip(t, tables[0], at)
			if _, err := verifyTables(dir, badgerOptions(dir, memTableDefault, zerolog.Nop())); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: octet %d: %v", how, at, err)
			}
			flip(t, tables[0], at)
		}
	}
}

// Of a block that says it is as large as memory, nothing is read.
func TestHugeBlock(t *testing.T) {
	if _, err := expand(nil, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}); err == nil || !strings.Contains(err.Error(), "octets") {
		t.Error("expanded")
	}
}

// What an opening left unread is read later, and damage in it is said.
func TestTablesAreReadLater(t *testing.T) {
	dir := t.TempDir()
	file := tableFile{filled(t, dir, options.Snappy)[0], true}
	gone := tableFile{filepath.Join(dir, "000777.sst"), true}
	var alarms []Alarm
	later := func() *Partition {
		s := &Store{verifying: make(chan struct{}, 1), opts: Options{Alarm: func(a Alarm) { alarms = append(alarms, a) }}}
		p := &Partition{store: s, log: zerolog.Nop(), closing: make(chan struct{})}
		p.background.Add(1)
		p.verifyRest([]tableFile{gone, file}, 0)
		return p
	}
	if p := later(); p.Suspicious() != nil || len(alarms) > 0 {
		t.Fatal(p.Suspicious(), alarms)
	}
	flip(t, file.path, 4000)
	if p := later(); !errors.Is(p.Suspicious(), ErrCorrupt) || len(alarms) != 1 {
		t.Error(p.Suspicious(), alarms)
	}
}
