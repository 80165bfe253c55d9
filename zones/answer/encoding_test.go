package answer_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/zonefile"
)

// golden was written by the first version of Encode, and is never written again.
const golden = "../../testdata/formats/v1/answer.bin"

func rrset(t testing.TB, owner string, kind zones.Type, ttl uint32, texts ...string) zones.RRset {
	t.Helper()
	var rdatas [][]byte
	for _, text := range texts {
		rdata, err := zonefile.ParseRData(kind, text, zones.Root)
		if err != nil {
			t.Fatal(err)
		}
		rdatas = append(rdatas, rdata)
	}
	s, err := zones.NewRRset(zones.MustParseName(owner), kind, ttl, rdatas...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everyPart is an answer with all that the encoding has a place for, which no zone gives at once.
func everyPart(t testing.TB) *answer.Answer {
	signature := " 8 2 300 20300101000000 20200101000000 1 example. QUJD"
	return &answer.Answer{
		RCode: answer.NXDomain, Authoritative: true, ExtendedError: 0x0102, Kind: answer.NameError, Encloser: zones.MustParseName("b.example."),
		Entries: []answer.Entry{
			{RRset: rrset(t, "a.b.example.", zones.TypeCNAME, 300, "c.b.example."), Signatures: rrset(t, "a.b.example.", zones.TypeRRSIG, 300, "CNAME"+signature)},
			{Section: answer.SectionAuthority, RRset: rrset(t, "example.", zones.TypeSOA, 60, "ns.example. host.example. 1 2 3 4 5")},
			{Section: answer.SectionAuthority, RRset: rrset(t, "example.", zones.TypeRRSIG, zones.MaxTTL, "SOA"+signature)},
			{Section: answer.SectionAdditional, RRset: rrset(t, "ns.example.", zones.TypeA, 0, "192.0.2.2", "192.0.2.1")},
			{Section: answer.SectionAdditional, Optional: true, RRset: rrset(t, ".", 65280, 1, `\# 0`, `\# 2 4142`)},
		},
	}
}

func TestEncodingIsGolden(t *testing.T) {
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Encode(nil, everyPart(t)); !bytes.Equal(got, want) {
		t.Errorf("the format has changed:\ngot:  %x\nwant: %x", got, want)
	}
	var a answer.Answer
	if err := answer.Decode(want, &a); err != nil {
		t.Fatal(err)
	}
	if !sameAnswer(&a, everyPart(t)) {
		t.Errorf("decoded %+v", a)
	}
}

func sameAnswer(a, b *answer.Answer) bool {
	return a.RCode == b.RCode && a.Authoritative == b.Authoritative && a.ExtendedError == b.ExtendedError && a.Kind == b.Kind &&
		a.Encloser == b.Encloser && len(a.Entries) == len(b.Entries) && (len(a.Entries) == 0 || reflect.DeepEqual(a.Entries, b.Entries))
}

func TestEncodeAppends(t *testing.T) {
	a := everyPart(t)
	if got, want := answer.Encode([]byte("before"), a), append([]byte("before"), answer.Encode(nil, a)...); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// TestDecodeTakesNothingElse changes an encoded answer in the ways that must be noticed.
func TestDecodeTakesNothingElse(t *testing.T) {
	encode := func(change func(a *answer.Answer)) []byte {
		a := everyPart(t)
		change(a)
		return answer.Encode(nil, a)
	}
	set := func(at int, v byte) []byte {
		b := encode(func(*answer.Answer) {})
		b[at] = v
		return b
	}
	one := func(s zones.RRset) func(a *answer.Answer) {
		return func(a *answer.Answer) { a.Entries = []answer.Entry{{RRset: s}} }
	}
	a1 := rrset(t, "a.example.", zones.TypeA, 1, "192.0.2.1", "192.0.2.2")
	packed := func(change func(b []byte)) func(*answer.Answer) {
		b := a1.AppendPacked(nil)
		change(b)
		s, _, err := zones.ReadPacked(a1.Owner, b)
		if err != nil {
			t.Fatal(err)
		}
		return one(s)
	}
	retyped := func(kind zones.Type) func(b []byte) {
		return func(b []byte) { binary.BigEndian.PutUint16(b, uint16(kind)) }
	}
	tests := map[string]struct {
		src  []byte
		says string
	}{
		"nothing":                 {nil, "it is empty"},
		"a later version":         {set(0, 2), "unknown version"},
		"version zero":            {set(0, 0), "unknown version"},
		"a short header":          {[]byte{1, 0, 0}, "3 octets"},
		"an unknown flag":         {set(1, 1<<3|1), "header"},
		"a long RCODE":            {set(2, 16), "header"},
		"an unknown kind":         {set(3, 4), "header"},
		"an INFO-CODE unsaid":     {set(1, 1|1<<2), "header"},
		"more after the end":      {append(encode(func(*answer.Answer) {}), 0), "1 octets after its end"},
		"fewer entries said":      {set(7, 4), "octets after its end"},
		"more entries said":       {set(7, 6), "entry 5: it ends too early"},
		"many entries said":       {set(6, 255), "entry 5: it ends too early"},
		"encloser in upper case":  {set(9, 'B'), "encloser: not a name"},
		"encloser with a pointer": {set(8, 0xc0), "encloser: not a name"},
		"section four":            {set(8+11, 3|1<<3), "entry 0: unknown flags"},
		"an unknown entry flag":   {set(8+11, 1<<4), "entry 0: unknown flags"},
		"owner in upper case":     {set(8+11+2, 'A'), "entry 0: not a name"},
		"sections out of order": {
			encode(func(a *answer.Answer) { a.Entries[0], a.Entries[1] = a.Entries[1], a.Entries[0] }),
			"entry 1: the answer section after the authority section",
		},
		"an optional answer": {encode(func(a *answer.Answer) { a.Entries[0].Optional = true }), "entry 0: unknown flags"},
		"signatures of something else": {
			encode(func(a *answer.Answer) { a.Entries[3].Signatures = a.Entries[0].Signatures }),
			"entry 3: signatures of something else",
		},
		"a TTL too large":          {encode(one(a1.WithTTL(zones.MaxTTL + 1))), "entry 0: TTL"},
		"a type that no zone has":  {encode(packed(retyped(zones.TypeOPT))), "entry 0: a type"},
		"a covered type for an A":  {encode(packed(func(b []byte) { b[3] = 1 })), "entry 0: a type"},
		"an address of four for 6": {encode(packed(retyped(zones.TypeAAAA))), "entry 0: malformed RDATA"},
		"an RRSIG of four octets":  {encode(packed(retyped(zones.TypeRRSIG))), "entry 0: malformed RDATA"},
		"RDATA out of order":       {encode(packed(func(b []byte) { b[19], b[25] = b[25], b[19] })), "entry 0: RDATA out of"},
		"RDATA twice":              {encode(packed(func(b []byte) { b[19] = b[25] })), "entry 0: RDATA out of"},
		"an RRSIG under another type": {encode(func(a *answer.Answer) {
			b := a.Entries[2].RRset.AppendPacked(nil)
			b[3] = byte(zones.TypeA)
			a.Entries[2].RRset, _, _ = zones.ReadPacked(a.Entries[2].RRset.Owner, b)
		}), "entry 2: a type"},
		"RDATA with capitals": {bytes.Replace(encode(func(*answer.Answer) {}), []byte("\x01c\x01b"), []byte("\x01C\x01b"), 1), "entry 0: malformed RDATA"},
	}
	var a answer.Answer
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			err := answer.Decode(tt.src, &a)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
			if want := strings.Contains(tt.says, "version"); errors.Is(err, answer.ErrVersion) != want || errors.Is(err, answer.ErrEncoding) == want {
				t.Errorf("error %v is of the wrong kind", err)
			}
			if len(a.Entries) != 0 || a.Encloser != "" || a.ExtendedError != answer.NoExtendedError {
				t.Errorf("something is left of it: %+v", a)
			}
		})
	}
}

// TestDecodeNoticesEveryCut cuts an encoded answer everywhere.
func TestDecodeNoticesEveryCut(t *testing.T) {
	whole := answer.Encode(nil, everyPart(t))
	var a answer.Answer
	for n := range whole {
		if err := answer.Decode(whole[:n:n], &a); err == nil {
			t.Errorf("the first %d octets of %d were taken", n, len(whole))
		}
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	from, buf := everyPart(t), []byte(nil)
	var to answer.Answer
	if n := testing.AllocsPerRun(100, func() {
		buf = answer.Encode(buf[:0], from)
		if err := answer.Decode(buf, &to); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecode: whatever comes, Decode ends, and what it takes it would write again octet by octet, unless it is more than fits a message.
func FuzzDecode(f *testing.F) {
	whole := answer.Encode(nil, everyPart(f))
	f.Add(whole)
	f.Add(whole[:20])
	f.Add(answer.Encode(nil, &answer.Answer{ExtendedError: answer.NoExtendedError}))
	f.Fuzz(func(t *testing.T, src []byte) {
		var a answer.Answer
		before := bytes.Clone(src)
		err := answer.Decode(src, &a)
		if !bytes.Equal(src, before) {
			t.Fatal("the octets were changed")
		}
		if err != nil {
			return
		}
		again := answer.Encode(nil, &a)
		if !bytes.Equal(again, src) && len(src) < 0xffff {
			t.Fatalf("%x came back as %x", src, again)
		}
		var b answer.Answer
		if err := answer.Decode(again, &b); err != nil {
			t.Fatalf("what Encode wrote is refused: %v", err)
		}
	})
}
