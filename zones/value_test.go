package zones

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// RFC 1982 §3.2 and its examples of §5.2.
func TestSerialIsAfter(t *testing.T) {
	const half = 1 << 31
	tests := []struct {
		a, b Serial
		want bool
	}{
		{1, 0, true},
		{0, 1, false},
		{5, 5, false},
		{44, 0, true},
		{100, 44, true},
		{half + 99, 100, true},
		{half + 100, 100, false},
		{100, half + 100, false}, // exactly half apart: neither
		{0, half + 1, true},
		{0, 0xffffffff, true},
		{0xffffffff, 0, false},
		{100, half + 101, true},
	}
	for _, test := range tests {
		if got := test.a.IsAfter(test.b); got != test.want {
			t.Errorf("%d after %d: %t", test.a, test.b, got)
		}
	}
}

func TestSerialPolicies(t *testing.T) {
	at := time.Date(2026, 3, 4, 23, 30, 0, 0, time.FixedZone("", -3600)) // 5 March in UTC
	tests := []struct {
		policy        SerialPolicy
		current, want Serial
	}{
		{SerialIncrement, 7, 8},
		{SerialIncrement, 0xffffffff, 0},
		{SerialUnixTime, 7, Serial(at.Unix())},
		{SerialUnixTime, Serial(at.Unix()), Serial(at.Unix()) + 1},
		{SerialUnixTime, Serial(at.Unix()) + 9, Serial(at.Unix()) + 10},
		{SerialDate, 7, 2026030500},
		{SerialDate, 2026030500, 2026030501},
		{SerialDate, 2026030599, 2026030600},
		{SerialDate, 2027010100, 2027010101},
		{SerialKeep, 7, 8},
	}
	for _, test := range tests {
		if got := test.policy.Next(test.current, at); got != test.want {
			t.Errorf("%s after %d: %d, want %d", test.policy, test.current, got, test.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := SerialPolicy(rapid.IntRange(0, 3).Draw(t, "policy"))
		current := Serial(rapid.Uint32().Draw(t, "serial"))
		when := time.Unix(rapid.Int64Range(-1<<33, 1<<37).Draw(t, "time"), 0)
		if next := p.Next(current, when); !next.IsAfter(current) {
			t.Fatalf("%s at %v: %d is not after %d", p, when, next, current)
		}
		if back, err := ParseSerialPolicy(p.String()); err != nil || back != p || !p.Valid() {
			t.Fatalf("%s came back as %s, %v", p, back, err)
		}
	})
	if _, err := ParseSerialPolicy("never"); err == nil || SerialPolicy(4).Valid() {
		t.Error("a policy that is none")
	}
}

// The digest is a sum modulo 2²⁵⁶, so that entries come and go in any order.
func TestDigest(t *testing.T) {
	mod := new(big.Int).Lsh(big.NewInt(1), 256)
	number := func(d Digest) *big.Int {
		n := new(big.Int)
		for i := 3; i >= 0; i-- {
			n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(d[i]))
		}
		return n
	}
	draw := func(t *rapid.T) (d Digest) {
		for i := range d {
			d[i] = rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1<<64 - 1})).Draw(t, "word")
		}
		return d
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		sum := a
		sum.Add(b)
		want := new(big.Int).Add(number(a), number(b))
		if number(sum).Cmp(want.Mod(want, mod)) != 0 {
			t.Fatalf("%s and %s make %s", a, b, sum)
		}
		back := sum
		back.Sub(b)
		if back != a {
			t.Fatalf("%s and %s make %s, which less the second is %s", a, b, sum, back)
		}
		if DigestFromBytes(a.Bytes()) != a {
			t.Fatalf("%s does not survive its octets", a)
		}
	})
	if Entry([]byte("ab"), []byte("c")) == Entry([]byte("a"), []byte("bc")) {
		t.Error("key and value run together")
	}
}

func TestEntryOf(t *testing.T) {
	apex := MustParseName("example.")
	base := mustRRset(t, "www.example.", TypeTXT, 300, "\x01a")
	d := EntryOf(base, apex)
	for name, other := range map[string]RRset{
		"owner": base.WithOwner(MustParseName("ww.example.")), "TTL": base.WithTTL(301),
		"RDATA": mustRRset(t, "www.example.", TypeTXT, 300, "\x01b"),
		"type":  mustRRset(t, "www.example.", 65280, 300, "\x01a"),
	} {
		if EntryOf(other, apex) == d {
			t.Errorf("another %s has the same digest", name)
		}
	}
	// It is relative to the apex: the same zone under another name has the same digest.
	if EntryOf(mustRRset(t, "www.example.net.", TypeTXT, 300, "\x01a"), MustParseName("example.net.")) != d {
		t.Error("the apex is in the digest")
	}
	longest := Root
	for range 126 {
		longest, _ = longest.Child("\x00")
	}
	_ = EntryOf(base.WithOwner(longest), Root) // every octet of the key escaped: it must fit
}

func TestTypes(t *testing.T) {
	for v := range 1 << 16 {
		ty := Type(v)
		back, err := ParseType(ty.String())
		if err != nil || back != ty {
			t.Fatalf("type %d is written %s, which reads as %d, %v", v, ty, back, err)
		}
	}
	for text, want := range map[string]Type{"aaaa": TypeAAAA, "type257": TypeCAA, "TYPE0": 0, "Https": TypeHTTPS} {
		if got, err := ParseType(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "TYPE", "TYPE65536", "TYPE-1", "TYPE+1", "A ", "NOPE"} {
		if got, err := ParseType(text); err == nil {
			t.Errorf("%q is type %d", text, got)
		}
	}
	for ty, want := range map[Type]bool{0: true, TypeOPT: true, TypeANY: true, TypeAXFR: true, TypeNXNAME: true, 127: false, 256: false, TypeA: false} {
		if ty.IsMeta() != want {
			t.Errorf("%s is meta: %t", ty, !want)
		}
	}
}
