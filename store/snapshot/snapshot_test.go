package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"balefire/zones"
)

var sampleHeader = Header{
	TopicID:     [16]byte{0: 0xb4, 15: 0x1e},
	Partition:   17,
	Since:       -1,
	Offset:      4711,
	LeaderEpoch: 3,
}

var sampleDigest = zones.Entry([]byte("the"), []byte("digest"))

func sampleEntries() []Entry {
	entries := []Entry{
		{Key: []byte{0}, Value: []byte("first"), Version: 1},
		{Key: []byte("z\x00example"), Value: bytes.Repeat([]byte("value "), 40), Version: 4712},
		{Key: []byte("gone"), Version: 4000, Deleted: true},
		{Key: []byte("empty"), Value: nil, Version: 1<<64 - 1},
	}
	for i := range 20 {
		entries = append(entries, Entry{Key: fmt.Appendf(nil, "key-%02d", i), Value: fmt.Appendf(nil, "%d", i*i), Version: uint64(i)})
	}
	return entries
}

func write(t testing.TB, h Header, entries []Entry) ([]byte, Info) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	info, err := w.Close(sampleDigest)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), info
}

// read reads all that comes, and returns it with the error that ended it, nil for the end.
func read(b []byte) (entries []Entry, info Info, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, Info{}, err
	}
	for {
		e, err := r.Next()
		if err == io.EOF {
			return entries, r.Info(), nil
		}
		if err != nil {
			return entries, r.Info(), err
		}
		entries = append(entries, Entry{Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value), Version: e.Version, Deleted: e.Deleted})
	}
}

func sameEntries(a, b []Entry) bool {
	return slices.EqualFunc(a, b, func(a, b Entry) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.Version == b.Version && a.Deleted == b.Deleted
	})
}

func TestRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var many []Entry
	for range 3_000 {
		e := Entry{Key: make([]byte, 1+rng.IntN(80)), Version: rng.Uint64(), Deleted: rng.IntN(5) == 0}
		if !e.Deleted {
			e.Value = make([]byte, rng.IntN(2_000))
		}
		for i := range e.Key {
			e.Key[i] = byte(rng.Uint32())
		}
		for i := range e.Value {
			e.Value[i] = byte(rng.Uint32())
		}
		many = append(many, e)
	}
	for name, entries := range map[string][]Entry{
		"nothing": nil,
		"few":     sampleEntries(),
		"many":    many,
		"largest": {{Key: make([]byte, MaxKey), Value: make([]byte, MaxValue)}, {Key: []byte("k"), Value: []byte("after")}},
	} {
		b, info := write(t, sampleHeader, entries)
		got, gotInfo, err := read(b)
		if err != nil || !sameEntries(got, entries) || gotInfo != info {
			t.Errorf("%s: %d of %d entries, %+v, want %+v: %v", name, len(got), len(entries), gotInfo, info, err)
		}
		if info.Size != uint64(len(b)) || info.Entries != uint64(len(entries)) || info.Digest != sampleDigest || info.Header != sampleHeader {
			t.Errorf("%s: %+v", name, info)
		}
		if verified, err := Verify(iotest.OneByteReader(bytes.NewReader(b[:min(len(b), 100_000)]))); len(b) <= 100_000 && (err != nil || verified != info) {
			t.Errorf("%s, octet by octet: %+v, %v", name, verified, err)
		}
	}
}

// frames returns where the frames of a snapshot begin, and where the last one ends.
func frames(b []byte) []int {
	at := []int{headerSize}
	for at[len(at)-1] < len(b) {
		last := at[len(at)-1]
		at = append(at, last+frameSize+int(binary.BigEndian.Uint32(b[last+16:])))
	}
	return at
}

// threeFrames is a snapshot small enough to be broken in every way, but not of one frame.
func threeFrames(t testing.TB) []byte {
	var out bytes.Buffer
	w, err := NewWriter(&out, sampleHeader)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range sampleEntries() {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
		if i == 3 || i == 9 {
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Close(sampleDigest); err != nil {
		t.Fatal(err)
	}
	if n := len(frames(out.Bytes())) - 1; n != 4 {
		t.Fatalf("%d frames", n)
	}
	return out.Bytes()
}

func TestCutAnywhere(t *testing.T) {
	whole := threeFrames(t)
	for n := range whole {
		if _, info, err := read(whole[:n]); !errors.Is(err, ErrTruncated) || info.Entries != 0 {
			t.Fatalf("cut to %d of %d octets: %+v, %v", n, len(whole), info, err)
		}
	}
}

func TestFlipAnything(t *testing.T) {
	whole := threeFrames(t)
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			_, info, err := read(b)
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrFormatVersion) || info.Entries != 0 {
				t.Fatalf("octet %d, bit %d: %+v, %v", i, bit, info, err)
			}
		}
	}
}

func TestFramesMoved(t *testing.T) {
	b := threeFrames(t)
	at := frames(b)
	part := func(i int) []byte { return b[at[i]:at[i+1]] }
	head := b[:headerSize]
	other, _ := write(t, sampleHeader, sampleEntries()[:2])
	for name, broken := range map[string][]byte{
		"one missing":              bytes.Join([][]byte{head, part(0), part(2), part(3)}, nil),
		"the first missing":        bytes.Join([][]byte{head, part(1), part(2), part(3)}, nil),
		"only the footer":          bytes.Join([][]byte{head, part(3)}, nil),
		"one twice":                bytes.Join([][]byte{head, part(0), part(0), part(1), part(2), part(3)}, nil),
		"two swapped":              bytes.Join([][]byte{head, part(1), part(0), part(2), part(3)}, nil),
		"footer twice":             bytes.Join([][]byte{b, part(3)}, nil),
		"an octet more":            append(bytes.Clone(b), 0),
		"two snapshots":            append(bytes.Clone(b), b...),
		"another one's footer":     bytes.Join([][]byte{head, part(0), other[frames(other)[1]:]}, nil),
		"another one's first":      bytes.Join([][]byte{head, other[headerSize:frames(other)[1]], part(1), part(2), part(3)}, nil),
		"nothing":                  {},
		"text":                     []byte("this is not a snapshot, but it is long enough to be taken for one"),
		"another partition's head": bytes.Join([][]byte{Header{Partition: 18}.append(nil), b[headerSize:]}, nil),
	} {
		if _, info, err := read(broken); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) || info.Entries != 0 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

func TestNewerVersion(t *testing.T) {
	b := threeFrames(t)
	binary.BigEndian.PutUint16(b[8:], version+1)
	if _, _, err := read(b); !errors.Is(err, ErrFormatVersion) {
		t.Errorf("a newer version: %v", err)
	}
}

// endless is a stream of zeros that counts what was read of it.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	clear(b)
	e.read += len(b)
	return len(b), nil
}

// TestLengthsOverTheLimit follows frames of too large lengths with all the octets they ask for: none may be read.
func TestLengthsOverTheLimit(t *testing.T) {
	for _, f := range []frame{
		{kind: kindEntries, entries: 1, raw: 100, stored: maxStored + 1},
		{kind: kindEntries, entries: 1, raw: maxRaw + 1, stored: 100},
		{kind: kindEntries, entries: 1, raw: 1<<32 - 1, stored: 1<<32 - 1},
		{kind: kindFooter, raw: footerSize, stored: 1<<32 - 1},
	} {
		var rest endless
		_, err := Verify(io.MultiReader(bytes.NewReader(f.append(sampleHeader.append(nil), nil)), &rest))
		if !errors.Is(err, ErrDamaged) || rest.read > 0 {
			t.Errorf("%+v: %d octets were read, %v", f, rest.read, err)
		}
	}
}

// TestLyingFrames makes frames whose checksums are right and whose content is not.
func TestLyingFrames(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(b []byte) []byte { return encoder.EncodeAll(b, nil) }
	entry := func(flags byte, keyLen uint16, valueLen uint32, rest string) []byte {
		b := binary.BigEndian.AppendUint64([]byte{flags}, 1)
		b = binary.BigEndian.AppendUint16(b, keyLen)
		return append(binary.BigEndian.AppendUint32(b, valueLen), rest...)
	}
	good := entry(0, 1, 1, "kv")
	bomb := pack(make([]byte, 1<<28))
	for _, c := range []struct {
		name    string
		f       frame
		payload []byte
	}{
		{"a quarter of a gigabyte", frame{kind: kindEntries, entries: 1, raw: maxRaw}, bomb},
		{"the same, said to be little", frame{kind: kindEntries, entries: 1, raw: 100}, bomb},
		{"stored length over the limit", frame{kind: kindEntries, entries: 1, raw: 100, stored: 1<<32 - 1}, nil},
		{"stored length that does not come", frame{kind: kindEntries, entries: 1, raw: 100, stored: maxStored}, nil},
		{"raw length over the limit", frame{kind: kindEntries, entries: 1, raw: maxRaw + 1}, pack(good)},
		{"longer than said", frame{kind: kindEntries, entries: 1, raw: uint32(len(good) - 1)}, pack(good)},
		{"shorter than said", frame{kind: kindEntries, entries: 1, raw: uint32(len(good) + 1)}, pack(good)},
		{"more entries than octets", frame{kind: kindEntries, entries: 1 << 31, raw: uint32(len(good))}, pack(good)},
		{"fewer entries than there are", frame{kind: kindEntries, entries: 1, raw: uint32(2 * len(good))}, pack(append(bytes.Clone(good), good...))},
		{"no entries", frame{kind: kindEntries, raw: uint32(len(good))}, pack(good)},
		{"not compressed", frame{kind: kindEntries, entries: 1, raw: uint32(len(good))}, good},
		{"value over the end", frame{kind: kindEntries, entries: 1, raw: 17}, pack(entry(0, 1, 1<<32-1, "kv"))},
		{"key over the end", frame{kind: kindEntries, entries: 1, raw: 17}, pack(entry(0, 3, 0, "kv"))},
		{"no key", frame{kind: kindEntries, entries: 1, raw: 17}, pack(entry(0, 0, 2, "kv"))},
		{"unknown flag", frame{kind: kindEntries, entries: 1, raw: 17}, pack(entry(2, 1, 1, "kv"))},
		{"deleted, with a value", frame{kind: kindEntries, entries: 1, raw: 17}, pack(entry(1, 1, 1, "kv"))},
		{"unknown kind", frame{kind: 'X', entries: 1, raw: 17}, pack(good)},
		{"another number", frame{kind: kindEntries, number: 1, entries: 1, raw: 17}, pack(good)},
		{"footer of nothing", frame{kind: kindFooter, raw: footerSize}, make([]byte, footerSize)},
		{"short footer", frame{kind: kindFooter, raw: 10}, make([]byte, 10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.f.stored == 0 {
				c.f.stored = uint32(len(c.payload))
			}
			b := append(c.f.append(sampleHeader.append(nil), c.payload), c.payload...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, info, err := read(b)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) || info.Entries != 0 {
				t.Errorf("%+v, %v", info, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 5*maxRaw {
				t.Errorf("allocated %d MiB", used>>20)
			}
		})
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, e := range map[string]Entry{
		"no key":                {Value: []byte("v")},
		"key too long":          {Key: make([]byte, MaxKey+1)},
		"value too long":        {Key: []byte("k"), Value: make([]byte, MaxValue+1)},
		"deleted, with a value": {Key: []byte("k"), Value: []byte("v"), Deleted: true},
	} {
		w, err := NewWriter(io.Discard, sampleHeader)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(e); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.Close(sampleDigest); err == nil {
			t.Errorf("%s: closed as if whole", name)
		}
	}
	w, err := NewWriter(io.Discard, sampleHeader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(sampleDigest); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(sampleEntries()[0]); err == nil {
		t.Error("written after the footer")
	}
}

// failing is a writer that takes so many octets and then no more.
type failing struct{ room int }

var errNoRoom = errors.New("no room")

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.room {
		return f.room, errNoRoom
	}
	f.room -= len(b)
	return len(b), nil
}

func TestErrorsOfStreams(t *testing.T) {
	whole, _ := write(t, sampleHeader, sampleEntries()[:2])
	for room := 0; room < len(whole); room += 11 {
		w, err := NewWriter(&failing{room}, sampleHeader)
		for _, e := range sampleEntries()[:2] {
			if err == nil {
				err = w.Write(e)
			}
		}
		if err == nil {
			_, err = w.Close(sampleDigest)
		}
		if !errors.Is(err, errNoRoom) {
			t.Fatalf("room for %d octets: %v", room, err)
		}
	}
	for n := range whole {
		r := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(errNoRoom))
		if _, err := Verify(r); !errors.Is(err, errNoRoom) {
			t.Fatalf("reader failing after %d octets: %v", n, err)
		}
	}
	// An error that wraps the end is not the end.
	r := io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(fmt.Errorf("connection lost: %w", io.EOF)))
	if _, err := Verify(r); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a wrapped end after the footer: %v", err)
	}
}

// The golden file was written once, by the first version of the format, and is never written again.
func TestGolden(t *testing.T) {
	b, err := os.ReadFile("../../testdata/formats/v1/snapshot.bin")
	if err != nil {
		t.Fatal(err)
	}
	entries, info, err := read(b)
	if err != nil || !sameEntries(entries, sampleEntries()) {
		t.Errorf("%d entries: %v", len(entries), err)
	}
	want := Info{Header: sampleHeader, Entries: 24, Deleted: 1, Raw: 790, Size: 545, Digest: sampleDigest}
	const sum = "2b4d08323bf819d255c538659a17dfe9168ae9b336ab5e668238ee4181d26a34"
	if fmt.Sprintf("%x", info.SHA256) != sum {
		t.Errorf("the golden file has SHA-256 %x", info.SHA256)
	}
	want.SHA256 = info.SHA256
	if !reflect.DeepEqual(info, want) {
		t.Errorf("got  %+v\nwant %+v", info, want)
	}
	// All but the compressed octets must come out the same today.
	now := threeFrames(t)
	if !bytes.Equal(now[:headerSize], b[:headerSize]) {
		t.Errorf("header %x, was %x", now[:headerSize], b[:headerSize])
	}
	was, is := frames(b), frames(now)
	if len(was) != len(is) {
		t.Fatalf("%d frames, were %d", len(is), len(was))
	}
	for i := range len(was) - 1 {
		if !bytes.Equal(b[was[i]:was[i]+16], now[is[i]:is[i]+16]) {
			t.Errorf("frame %d: %x, was %x", i, now[is[i]:is[i]+16], b[was[i]:was[i]+16])
		}
	}
}

func FuzzRead(f *testing.F) {
	b := threeFrames(f)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(b[:headerSize])
	empty, _ := write(f, Header{}, nil)
	f.Add(empty)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, info, err := read(b)
		if err != nil {
			return
		}
		again, _ := write(t, info.Header, entries)
		same, sameInfo, err := read(again)
		if err != nil || !sameEntries(same, entries) || sameInfo.Entries != info.Entries || sameInfo.Raw != info.Raw {
			t.Errorf("%+v was read, written, and read as %+v: %v", info, sameInfo, err)
		}
	})
}
