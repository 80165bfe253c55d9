package catalog

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"balefire/zones"
)

const golden = "../../testdata/formats/v1/catalog.txt"

// The format of records is what the golden file has: key and value of each, the value in hexadecimal.
func TestRecordFormat(t *testing.T) {
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range []struct {
		apex      string
		partition int32
		e         Entry
	}{
		{"example.com.", 17, Entry{true, 4711}},
		{"gone.example.", 63, Entry{false, 1<<40 + 5}},
		{`odd\.label\032with\000octets.example.`, 0, Entry{true, 0}},
		{".", 1, Entry{true, 9}},
	} {
		r := appendRecord(zones.MustParseName(c.apex), c.partition, c.e)
		want = append(want, string(r.Key)+" "+hex.EncodeToString(r.Value))
		if apex, partition, e, err := parseRecord(r); err != nil || apex != zones.MustParseName(c.apex) || partition != c.partition || e != c.e {
			t.Errorf("%s: read as %s %d %+v, %v", c.apex, apex, partition, e, err)
		}
	}
	if got := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"); !slices.Equal(got, want) {
		t.Errorf("the golden file has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Of what was said of a zone that with the highest position counts, in whatever order it is read, and however often.
func TestHighestPositionCounts(t *testing.T) {
	topic := newTopic()
	c := start(t, optionsFor(t.TempDir(), topic))
	topic.add(entry("a.example.", true, 10), entry("b.example.", true, 10), entry("b.example.", false, 20), entry("c.example.", false, 9))
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{true, 10})
	c.check(t, "b.example.", Entry{false, 20})
	c.check(t, "c.example.", Entry{false, 9})
	topic.add(
		entry("a.example.", false, 9), entry("b.example.", true, 10), entry("c.example.", true, 12), // older, repeated, newer
		entry("a.example.", false, 10), // at one position only one thing is true: the first that was said
	)
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{true, 10})
	c.check(t, "b.example.", Entry{false, 20})
	c.check(t, "c.example.", Entry{true, 12})
	topic.add(entry("c.example.", false, 13))
	c.awaitEnd(t, topic)
	c.check(t, "c.example.", Entry{false, 13})
}

// What is no entry, or one of a partition that the zone can't be in, is ignored and counted.
func TestForgedRecords(t *testing.T) {
	topic := newTopic()
	c := start(t, optionsFor(t.TempDir(), topic))
	good := entry("a.example.", true, 10)
	key := func(k string) Record { return Record{Key: []byte(k), Value: good.Value} }
	value := func(edit func(v []byte) []byte) Record {
		return Record{Key: good.Key, Value: edit(slices.Clone(good.Value))}
	}
	forged := []Record{
		key(""), key("A.example."), key("a.example"), key("a..example."), key(strings.Repeat("a.", 200)), key(`\097.example.`),
		key("other.b.example."), // of partition 1
		value(func(v []byte) []byte { return v[:0] }),
		value(func(v []byte) []byte { return v[:len(v)-1] }),
		value(func(v []byte) []byte { return append(v, 0) }),
		value(func(v []byte) []byte { v[0] = 2; return v }),
		value(func(v []byte) []byte { v[1] = 2; return v }),
		value(func(v []byte) []byte { v[5] = 1; return v }),    // another partition
		value(func(v []byte) []byte { v[2] = 0x80; return v }), // a negative one
		value(func(v []byte) []byte { v[6] = 0x80; return v }), // a negative offset
	}
	topic.add(forged...)
	topic.add(Record{Key: good.Key}) // removed from the topic: no entry, but nothing wrong
	topic.add(entry("z.example.", true, 3))
	c.awaitEnd(t, topic)
	if got := c.Ignored(); got != uint64(len(forged)) {
		t.Errorf("%d records were ignored, want %d", got, len(forged))
	}
	c.check(t, "a.example.", Entry{})
	c.check(t, "z.example.", Entry{true, 3})
	topic.add(good)
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{true, 10})
}

// A restart goes on where it was, and the index has everything before the log is there.
func TestRestart(t *testing.T) {
	dir, topic := t.TempDir(), newTopic()
	opts := optionsFor(dir, topic)
	c := start(t, opts)
	topic.add(entry("a.example.", true, 1), entry("b.example.", true, 2), entry("b.example.", false, 3))
	c.awaitEnd(t, topic)
	c.stop()

	away := newTopic()
	away.id = [16]byte{} // the log is not there
	c = start(t, optionsFor(dir, away))
	c.await(t, "the disk is read", c.Whole)
	if c.Position() != 3 {
		t.Errorf("position %d", c.Position())
	}
	c.check(t, "a.example.", Entry{true, 1})
	c.check(t, "b.example.", Entry{false, 3})
	c.stop()

	// Nothing before the position is read again.
	topic.change(func() { topic.start, topic.records = 2, topic.records[2:] })
	topic.add(entry("c.example.", true, 9))
	c = start(t, optionsFor(dir, topic))
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{true, 1})
	c.check(t, "c.example.", Entry{true, 9})
}

// What is not read to its end is not whole, also after a restart.
func TestNotWhole(t *testing.T) {
	dir, topic := t.TempDir(), newTopic()
	topic.add(entry("a.example.", true, 1), entry("b.example.", true, 2))
	opts := optionsFor(dir, topic)
	held := &ending{topic: topic, more: 1}
	opts.Source = held
	c := start(t, opts)
	c.await(t, "it is read", func() bool { return c.Position() == 2 })
	if c.Whole() {
		t.Error("it is whole before its end")
	}
	c.stop()
	c = start(t, func() Options { o := optionsFor(dir, topic); o.Source = held; return o }())
	c.await(t, "the disk is read", func() bool { return c.index.has("b.example.") })
	if c.Whole() {
		t.Error("it is whole before its end, after a restart")
	}
	topic.add(entry("c.example.", true, 1))
	c.await(t, "it is whole", c.Whole)
}

// ending is a topic that is said to have more than it has.
type ending struct {
	*topic
	more int64
	said bool
}

func (e *ending) Bounds(ctx context.Context) (start, end int64, err error) {
	if e.said {
		return 0, 3, nil
	}
	e.said = true
	return 0, 2 + e.more, nil
}

// With the longest names, a full batch fits a transaction.
func TestLongestNames(t *testing.T) {
	topic := newTopic()
	label := strings.Repeat("x", 63)
	records := make([]Record, 3*maxBatch)
	for i := range records {
		number := hex.EncodeToString([]byte{byte(i >> 16), byte(i >> 8), byte(i)})
		records[i] = entry(strings.Join([]string{label, label, label, number + label[:55]}, ".")+".", true, int64(i))
	}
	topic.add(records...)
	c := start(t, optionsFor(t.TempDir(), topic))
	c.awaitEnd(t, topic)
	if n := c.index.len(); n != len(records) {
		t.Errorf("%d zones, want %d", n, len(records))
	}
}

// What a reader fails with passes: reading goes on, or begins anew; nothing is lost, and what was known stays known meanwhile.
func TestReaderFails(t *testing.T) {
	for _, broken := range []error{errAway, ErrAnew} {
		topic := newTopic()
		c := start(t, optionsFor(t.TempDir(), topic))
		topic.add(entry("a.example.", true, 1))
		c.awaitEnd(t, topic)
		topic.change(func() { topic.breaking, topic.brokenBy = 1, broken })
		topic.add(entry("b.example.", true, 2))
		c.await(t, "more is read", func() bool { return c.index.has("b.example.") })
		c.check(t, "a.example.", Entry{true, 1})
		if !c.Whole() {
			t.Errorf("%v: not whole any more", broken)
		}
	}
}

// A topic that lost its end, and one whose start is later than what was read to, are read from the start that they have.
func TestOutOfRange(t *testing.T) {
	dir, topic := t.TempDir(), newTopic()
	c := start(t, optionsFor(dir, topic))
	topic.add(entry("a.example.", true, 1), entry("b.example.", true, 2), entry("c.example.", true, 3))
	c.awaitEnd(t, topic)
	c.stop()
	topic.change(func() { topic.records = topic.records[:1] })
	topic.add(entry("b.example.", false, 9))
	c = start(t, optionsFor(dir, topic))
	c.await(t, "the topic is read", func() bool { return c.Position() == 2 })
	c.check(t, "a.example.", Entry{true, 1})
	c.check(t, "b.example.", Entry{false, 9})
	c.check(t, "c.example.", Entry{true, 3})
	c.stop()
	topic.change(func() { topic.start, topic.records = 100, nil })
	topic.add(entry("d.example.", true, 4))
	c = start(t, optionsFor(dir, topic))
	c.awaitEnd(t, topic)
	c.check(t, "c.example.", Entry{true, 3})
	c.check(t, "d.example.", Entry{true, 4})
}

// A crash leaves entries and position of one batch: a copy of the directory, taken at any time, reads on to the same end.
func TestCrash(t *testing.T) {
	dir, topic := t.TempDir(), newTopic()
	c := start(t, optionsFor(dir, topic))
	for i := range 5 {
		for j := range 7 {
			topic.add(entry("z"+string(rune('a'+j))+".example.", (i+j)%2 == 0, int64(10*i+j)))
		}
		c.awaitEnd(t, topic)
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		position := c.Position()
		again := start(t, optionsFor(copied, topic))
		if again.Position() != position { // there is nothing yet that it could follow
			t.Errorf("the copy is at %d, not at %d", again.Position(), position)
		}
		topic.add(entry("later.example.", true, int64(i)))
		again.awaitEnd(t, topic)
		for j := range 7 {
			again.check(t, "z"+string(rune('a'+j))+".example.", Entry{(i+j)%2 == 0, int64(10*i + j)})
		}
		again.stop()
	}
}

// Entries without the position that belongs to them, and a position without entries, are not what a crash leaves: a commit that
// fails changes nothing, and its records are read again.
func TestCommitFails(t *testing.T) {
	topic := newTopic()
	c := start(t, optionsFor(t.TempDir(), topic))
	topic.add(entry("a.example.", true, 1))
	c.awaitEnd(t, topic)
	c.filesMu.Lock()
	if err := c.db.Close(); err != nil {
		t.Fatal(err)
	}
	c.filesMu.Unlock()
	topic.add(entry("b.example.", true, 2))
	if c.stop(); c.Position() != 1 || c.index.has("b.example.") {
		t.Errorf("position %d after a commit that failed; told the index: %v", c.Position(), c.index.has("b.example."))
	}
}

// Damaged files are removed, and the topic is read anew.
func TestDamage(t *testing.T) {
	damage := map[string]func(t *testing.T, dir string){
		"manifest": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "MANIFEST")) },
		"tables": func(t *testing.T, dir string) {
			tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
			if err != nil || len(tables) == 0 {
				t.Fatal("no tables", err)
			}
			for _, table := range tables {
				flip(t, table)
			}
		},
		"a table is missing": func(t *testing.T, dir string) {
			tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
			for _, table := range tables {
				if err := os.Remove(table); err != nil {
					t.Fatal(err)
				}
			}
		},
		"it ended the process": func(t *testing.T, dir string) {
			if err := os.WriteFile(dir+".opening", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			dir, topic := t.TempDir(), newTopic()
			c := start(t, optionsFor(dir, topic))
			topic.add(entry("a.example.", true, 1), entry("b.example.", false, 2))
			c.awaitEnd(t, topic)
			c.stop()
			harm(t, filepath.Join(dir, "catalog"))
			opened, err := Open(optionsFor(dir, topic))
			if err != nil {
				t.Fatal(err)
			}
			if at := opened.Position(); at != 0 {
				t.Errorf("what is damaged is used: it was read to %d", at)
			}
			if err := opened.Close(); err != nil {
				t.Fatal(err)
			}
			c = start(t, optionsFor(dir, topic))
			c.awaitEnd(t, topic)
			c.check(t, "a.example.", Entry{true, 1})
			c.check(t, "b.example.", Entry{false, 2})
			c.stop()
			if _, err := os.Stat(filepath.Join(dir, "catalog.opening")); err == nil {
				t.Error("the mark of opening stays")
			}
		})
	}
}

// Damage that shows only while the files are open leads there, too.
func TestDamageWhileOpen(t *testing.T) {
	topic := newTopic()
	c := start(t, optionsFor(t.TempDir(), topic))
	topic.add(entry("a.example.", true, 1))
	c.awaitEnd(t, topic)
	if err := c.update(func(txn *badger.Txn) error {
		return txn.Set(entryKey(0, zones.MustParseName("a.example.")), []byte("rot"))
	}); err != nil {
		t.Fatal(err)
	}
	topic.add(entry("a.example.", true, 5), entry("b.example.", true, 2))
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{true, 5})
	c.check(t, "b.example.", Entry{true, 2})
}

// Positions of another log say nothing of this one's zones.
func TestAnotherLog(t *testing.T) {
	dir, topic := t.TempDir(), newTopic()
	c := start(t, optionsFor(dir, topic))
	topic.add(entry("a.example.", false, 1000))
	c.awaitEnd(t, topic)
	c.stop()
	other := newTopic()
	other.id = [16]byte{9}
	other.add(entry("a.example.", true, 1))
	opts := optionsFor(dir, other)
	opts.LogID = [16]byte{8}
	c = start(t, opts)
	c.awaitEnd(t, other)
	c.check(t, "a.example.", Entry{true, 1})
}

// flip turns an octet in the middle of a file over.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Without room for files all of it is in memory, and what is on disk stays as it was; without room to write, it waits.
func TestNoRoom(t *testing.T) {
	topic := newTopic()
	opts := optionsFor(t.TempDir(), topic)
	var full atomic.Bool
	room := func() error {
		if full.Load() {
			return errors.New("no room")
		}
		return nil
	}
	opts.Room = room
	c := start(t, opts)
	topic.add(entry("a.example.", true, 10))
	c.awaitEnd(t, topic)
	full.Store(true)
	topic.add(entry("a.example.", false, 20))
	if _, ok, err := c.Get(zones.MustParseName("a.example.")); err != nil || !ok {
		t.Errorf("it can't be read: %v %v", ok, err)
	}
	if at := c.Position(); at != 1 {
		t.Errorf("without room it has read on to %d", at)
	}
	c.stop()

	opts.RoomToOpen = room
	c = start(t, opts)
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{false, 20})
	c.stop()

	full.Store(false)
	c = start(t, opts)
	c.awaitEnd(t, topic)
	c.check(t, "a.example.", Entry{false, 20})
	if n := c.progress().reading; n != 1 {
		t.Errorf("what was on disk was not used: reading %d", n)
	}
}
