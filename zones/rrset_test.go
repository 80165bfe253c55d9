package zones

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

func mustRRset(t testing.TB, owner string, ty Type, ttl uint32, rdatas ...string) RRset {
	t.Helper()
	var b [][]byte
	for _, rd := range rdatas {
		b = append(b, []byte(rd))
	}
	s, err := NewRRset(MustParseName(owner), ty, ttl, b...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rdatasOf(s RRset) (out []string) {
	for rd := range s.RDatas() {
		out = append(out, string(rd))
	}
	return out
}

func TestNewRRset(t *testing.T) {
	// RFC 4034 §6.3: as octet strings, the shorter first.
	s := mustRRset(t, "a.", 65280, 300, "b", "", "ab", "a", "b", "\xff")
	if got, want := rdatasOf(s), []string{"", "a", "ab", "b", "\xff"}; !slices.Equal(got, want) || s.Len() != len(want) {
		t.Errorf("RDATA %q, want %q", got, want)
	}
	// Names that differ in case only are one, once in canonical form.
	if s := mustRRset(t, "a.", TypeNS, 1, "\x01A\x00", "\x01a\x00"); s.Len() != 1 || string(s.First()) != "\x01a\x00" {
		t.Errorf("NS %q", rdatasOf(s))
	}
	given := []byte("\x01A\x00")
	if _, err := NewRRset(Root, TypeNS, 1, given); err != nil || string(given) != "\x01A\x00" {
		t.Errorf("the caller's RDATA became %q, %v", given, err)
	}
	sig := func(covered byte) []byte { return append([]byte{0, covered}, make([]byte, 17)...) }
	if s, err := NewRRset(Root, TypeRRSIG, 1, sig(6)); err != nil || s.Key != (Key{TypeRRSIG, TypeSOA}) {
		t.Errorf("RRSIG: %v, %v", s.Key, err)
	}
	many := make([][]byte, 0x10000)
	for i := range many {
		many[i] = []byte{byte(i >> 8), byte(i)}
	}
	if s, err := NewRRset(Root, 65280, 1, many[1:]...); err != nil || s.Len() != 0xffff {
		t.Errorf("65535 RDATA: %v", err)
	}
	for _, test := range []struct {
		name   string
		ty     Type
		ttl    uint32
		rdatas [][]byte
		want   error
	}{
		{"none", 1, 0, nil, ErrNoRData},
		{"TTL", 1, MaxTTL + 1, [][]byte{{1, 2, 3, 4}}, ErrTTLOutOfRange},
		{"long", 65280, 0, [][]byte{make([]byte, 65536)}, ErrRDataTooLong},
		{"many", 65280, 0, many, ErrTooManyRData},
		{"covered", TypeRRSIG, 0, [][]byte{sig(1), sig(2)}, ErrMixedCovered},
		{"address", TypeA, 0, [][]byte{{1, 2, 3}}, ErrRData},
		{"address", TypeAAAA, 0, [][]byte{{1, 2, 3, 4}}, ErrRData},
	} {
		if _, err := NewRRset(Root, test.ty, test.ttl, test.rdatas...); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func drawRRset(t *rapid.T) RRset {
	rdatas := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 255}), 0, 3), 1, 6).Draw(t, "rdata")
	s, err := NewRRset(drawName(t), Type(rapid.SampledFrom([]int{10, 16, 65280}).Draw(t, "type")), rapid.Uint32Range(0, MaxTTL).Draw(t, "ttl"), rdatas...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPacking(t *testing.T) {
	s := mustRRset(t, "a.", 16, 0x01020304, "\x01b", "\x01a")
	want := "\x00\x10\x00\x00\x01\x02\x03\x04\x00\x02\x00\x00\x00\x08" + "\x00\x02\x01a" + "\x00\x02\x01b"
	if got := string(s.AppendPacked(nil)); got != want {
		t.Errorf("packed as %q, want %q", got, want)
	}
	for cut := range want {
		if _, _, err := ReadPacked(s.Owner, []byte(want[:cut])); !errors.Is(err, ErrPacked) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for at, name := range map[int]string{9: "count", 13: "length", 15: "first length", 19: "second length", 10: "huge length"} {
		bad := []byte(want)
		bad[at]++
		if at == 10 {
			bad[at] = 255
		}
		if _, _, err := ReadPacked(s.Owner, bad); !errors.Is(err, ErrPacked) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRRset(t), drawRRset(t)
		packed := b.AppendPacked(a.AppendPacked(nil))
		gotA, rest, err := ReadPacked(a.Owner, packed)
		if err != nil || !gotA.Equal(a) || gotA.Len() != a.Len() || gotA.Size() != a.Size() {
			t.Fatalf("%v came back as %v, %v", a, gotA, err)
		}
		gotB, rest, err := ReadPacked(b.Owner, rest)
		if err != nil || !gotB.Equal(b) || len(rest) != 0 {
			t.Fatalf("%v came back as %v, %v", b, gotB, err)
		}
	})
}

func TestUnionAndMinus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRRset(t), drawRRset(t)
		b.Key = a.Key
		union, err := a.Union(b)
		if err != nil {
			t.Fatal(err)
		}
		both := append(rdatasOf(a), rdatasOf(b)...)
		slices.Sort(both)
		if got := rdatasOf(union); !slices.Equal(got, slices.Compact(both)) || union.Len() != len(got) || union.Owner != a.Owner || union.TTL != a.TTL {
			t.Fatalf("%q and %q make %q", rdatasOf(a), rdatasOf(b), got)
		}
		rest := a.Minus(b)
		want := slices.DeleteFunc(rdatasOf(a), func(rd string) bool { return b.Contains([]byte(rd)) })
		if got := rdatasOf(rest); !slices.Equal(got, want) || rest.Len() != len(got) || rest.IsZero() != (len(want) == 0) {
			t.Fatalf("%q without %q leaves %q", rdatasOf(a), rdatasOf(b), got)
		}
	})
	var all [2][][]byte
	for i := range 0x10001 {
		all[i&1] = append(all[i&1], []byte{byte(i >> 16), byte(i >> 8), byte(i)})
	}
	even, err1 := NewRRset(Root, 65280, 1, all[0]...)
	odd, err2 := NewRRset(Root, 65280, 1, all[1]...)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, err := even.Union(odd); !errors.Is(err, ErrTooManyRData) {
		t.Errorf("more than 65535 RDATA: %v", err)
	}
}

func TestNode(t *testing.T) {
	owner := MustParseName("a.")
	sig := func(covered byte) string { return string(append([]byte{0, covered}, make([]byte, 17)...)) }
	sets := []RRset{
		mustRRset(t, "a.", TypeTXT, 1, "\x01x"),
		mustRRset(t, "a.", TypeRRSIG, 1, sig(16)),
		mustRRset(t, "a.", TypeA, 1, "\x01\x02\x03\x04"),
		mustRRset(t, "a.", TypeRRSIG, 1, sig(1)),
	}
	n := NewNode(owner, slices.Clone(sets))
	var keys []Key
	for s := range n.RRsets() {
		keys = append(keys, s.Key)
		if s.Owner != owner {
			t.Errorf("owner %s", s.Owner)
		}
	}
	if want := []Key{{TypeA, 0}, {TypeTXT, 0}, {TypeRRSIG, TypeA}, {TypeRRSIG, TypeTXT}}; !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	for _, s := range sets {
		got, ok := n.RRset(s.Type)
		if s.Type == TypeRRSIG {
			got, ok = n.Signatures(s.Covered)
		}
		if !ok || !got.Equal(s) {
			t.Errorf("%v is %v, %t", s.Key, got, ok)
		}
	}
	if n.Has(TypeNS) || n.Has(TypeRRSIG) || n.Has(TypeCAA) {
		t.Error("it has what it has not")
	}
	if _, ok := n.Signatures(TypeNS); ok {
		t.Error("signatures of what it has not")
	}
	if again := NodeView(owner, n.Packed()); !again.Has(TypeTXT) || again.IsEmpty() || again.IsZero() {
		t.Error("a view of its octets is another")
	}
	if !NodeView(owner, nil).IsEmpty() || !(Node{}).IsZero() {
		t.Error("empty or zero nodes are not")
	}
}

func TestCompareRRsets(t *testing.T) {
	hash := "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example."
	sig := func(covered byte) string { return string(append([]byte{0, covered}, make([]byte, 17)...)) }
	sorted := []RRset{
		mustRRset(t, "example.", TypeNS, 1, "\x00"),
		mustRRset(t, "example.", TypeSOA, 1, "\x00\x00"+string(make([]byte, 20))),
		mustRRset(t, "example.", TypeRRSIG, 1, sig(2)),
		mustRRset(t, "example.", TypeRRSIG, 1, sig(6)),
		mustRRset(t, "example.", 65280, 1, ""),
		mustRRset(t, "*.example.", TypeA, 1, "1234"),
		mustRRset(t, "a.example.", TypeA, 1, "1234"),
		mustRRset(t, "b.a.example.", TypeA, 1, "1234"),
		mustRRset(t, "ab.example.", TypeA, 1, "1234"),
		mustRRset(t, "www.example.", TypeA, 1, "1234"),
		mustRRset(t, hash, TypeRRSIG, 1, sig(50)),
		mustRRset(t, hash, TypeNSEC3, 1, "\x01"),
	}
	shuffled := slices.Clone(sorted)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	slices.SortFunc(shuffled, CompareRRsets)
	if !slices.EqualFunc(shuffled, sorted, RRset.Equal) {
		t.Errorf("sorted as %v", shuffled)
	}
}

func TestSOASerial(t *testing.T) {
	numbers := "\x00\x00\x00\x0a\x00\x00\x1c\x20\x00\x00\x03\x84\x00\x01\x51\x80\x00\x00\x01\x2c"
	s := mustRRset(t, "example.", TypeSOA, 1, "\x01a\x00\x01b\x00"+numbers)
	if s.SOASerial() != 10 {
		t.Errorf("serial %d", s.SOASerial())
	}
	next := s.WithSOASerial(0xfffefdfc)
	if want := "\x01a\x00\x01b\x00\xff\xfe\xfd\xfc" + numbers[4:]; string(next.First()) != want || s.SOASerial() != 10 {
		t.Errorf("SOA %q, want %q; it was %d", next.First(), want, s.SOASerial())
	}
	other := mustRRset(t, "example.", TypeA, 1, "1234")
	if other.SOASerial() != 0 || !other.WithSOASerial(5).Equal(other) || (RRset{}).SOASerial() != 0 {
		t.Error("an A has a serial")
	}
}

// EmbeddedNames finds the names that miekg/dns puts there.
func TestEmbeddedNames(t *testing.T) {
	tests := []struct {
		record    string
		names     []string
		canonical string // the RDATA's names once canonical
	}{
		{"a. 1 NS B.C.", []string{"B.C."}, "b.c."},
		{"a. 1 CNAME B.", []string{"B."}, "b."},
		{"a. 1 SOA M. R. 1 2 3 4 5", []string{"M.", "R."}, "m.r."},
		{"a. 1 MX 10 B.", []string{"B."}, "b."},
		{"a. 1 RP B. C.", []string{"B.", "C."}, "b.c."},
		{"a. 1 SRV 1 2 3 B.", []string{"B."}, "b."},
		{`a. 1 NAPTR 1 2 "u" "sip+E2U" "!^.*$!sip:X@y!" B.`, []string{"B."}, "b."},
		{`a. 1 NAPTR 1 2 "" "" "" .`, []string{"."}, "."},
		{"a. 1 KX 1 B.", []string{"B."}, "b."},
		{"a. 1 PX 1 B. C.", []string{"B.", "C."}, "b.c."},
		{"a. 1 AFSDB 1 B.", []string{"B."}, "b."},
		{"a. 1 DNAME B.", []string{"B."}, "b."},
		{"a. 1 RRSIG A 8 1 1 20300101000000 20260101000000 1 B. AAAA", []string{"B."}, "b."},
		{"a. 1 NSEC B. A", []string{"B."}, "B."}, // RFC 6840 §5.1
		{"a. 1 SVCB 1 B. alpn=h2", []string{"B."}, "B."},
		{"a. 1 HTTPS 0 B.", []string{"B."}, "B."},
		{"a. 1 LP 1 B.", []string{"B."}, "B."},
		{"a. 1 TXT B.", nil, ""},
		{"a. 1 A 192.0.2.1", nil, ""},
	}
	for _, test := range tests {
		rr, err := dns.NewRR(test.record)
		if err != nil {
			t.Fatal(err)
		}
		wire := make([]byte, 512)
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		ty, rdata := Type(rr.Header().Rrtype), wire[3+10:n]
		names := func() (out []string, joined string) {
			spans, n, err := EmbeddedNames(ty, rdata)
			if err != nil {
				t.Fatalf("%s: %v", test.record, err)
			}
			for _, s := range spans[:n] {
				text, _, err := dns.UnpackDomainName(rdata[s.Start:s.End], 0)
				if err != nil {
					t.Fatalf("%s: %v", test.record, err)
				}
				out = append(out, text)
				joined += text
			}
			return out, joined
		}
		if got, _ := names(); !slices.Equal(got, test.names) {
			t.Errorf("%s: names %q, want %q", test.record, got, test.names)
		}
		if err := CanonicalRData(ty, rdata); err != nil {
			t.Errorf("%s: %v", test.record, err)
		}
		if _, got := names(); got != test.canonical {
			t.Errorf("%s: canonical %q, want %q", test.record, got, test.canonical)
		}
		if len(test.names) == 0 {
			continue
		}
		// Cut anywhere up to the end of the last name, it is malformed.
		spans, n, _ := EmbeddedNames(ty, rdata)
		for cut := range spans[n-1].End {
			if _, _, err := EmbeddedNames(ty, rdata[:cut]); !errors.Is(err, ErrRData) {
				t.Errorf("%s cut at %d: %v", test.record, cut, err)
			}
		}
	}
	if _, _, err := EmbeddedNames(TypeNS, []byte("\x01a\x00more")); !errors.Is(err, ErrRData) {
		t.Errorf("NS with more after the name: %v", err)
	}
	if _, _, err := EmbeddedNames(TypeMX, []byte("\x00\x0a\xc0\x0c")); !errors.Is(err, ErrRData) {
		t.Errorf("a compressed name: %v", err)
	}
}

func TestTarget(t *testing.T) {
	if n, ok := Target(TypeMX, []byte("\x00\x0a\x01b\x00")); !ok || n != "\x01b\x00" {
		t.Errorf("MX: %s, %t", n, ok)
	}
	if n, ok := Target(TypeSVCB, []byte("\x00\x01\x01B\x00")); !ok || n != "\x01b\x00" {
		t.Errorf("SVCB: %s, %t", n, ok)
	}
	for _, test := range []struct {
		ty    Type
		rdata string
	}{{TypeSOA, "\x00\x00" + string(make([]byte, 20))}, {TypeA, "1234"}, {TypeNS, "\x01"}, {TypeNSEC, "\x00"}} {
		if n, ok := Target(test.ty, []byte(test.rdata)); ok {
			t.Errorf("%s has the target %s", test.ty, n)
		}
	}
}

func FuzzReadPacked(f *testing.F) {
	f.Add(mustRRset(f, "a.", TypeTXT, 1, "\x01x", "\x01y").AppendPacked(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := ReadPacked(Root, b)
		if err != nil {
			return
		}
		if again := s.AppendPacked(nil); !bytes.Equal(append(again, rest...), b) {
			t.Fatalf("%x is written again as %x", b, again)
		}
	})
}
