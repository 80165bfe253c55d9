package zones

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

func TestParseName(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	long := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61) + "." // 255 octets in all
	tests := []struct {
		text string
		want Name
		err  error
	}{
		{".", Root, nil},
		{"example.", "\x07example\x00", nil},
		{"Example", "\x07example\x00", nil},
		{"WWW.Example.", "\x03www\x07example\x00", nil},
		{`a\.b.c.`, "\x03a.b\x01c\x00", nil},
		{`\097\046.`, "\x02a.\x00", nil},
		{`\065.`, "\x01a\x00", nil}, // an escaped letter is a letter
		{`\000\255.`, "\x02\x00\xff\x00", nil},
		{`\@\$\;\(\"\\.`, "\x06@$;(\"\\\x00", nil},
		{`a b.`, "\x03a b\x00", nil},
		{"*.a.", "\x01*\x01a\x00", nil},
		{label63 + ".", Name("\x3f" + label63 + "\x00"), nil},
		{long, Name(strings.Repeat("\x3f"+label63, 3) + "\x3d" + strings.Repeat("b", 61) + "\x00"), nil},
		{"", "", ErrEmptyLabel},
		{"..", "", ErrEmptyLabel},
		{".a", "", ErrEmptyLabel},
		{"a..b", "", ErrEmptyLabel},
		{"a..", "", ErrEmptyLabel},
		{label63 + "a.", "", ErrLabelTooLong},
		{"b." + long, "", ErrNameTooLong},
		{strings.Repeat("a.", 128), "", ErrNameTooLong},
		{`a\`, "", ErrBadEscape},
		{`a\25.`, "", ErrBadEscape},
		{`a\256.`, "", ErrBadEscape},
		{`a\2x6.`, "", ErrBadEscape},
	}
	for _, test := range tests {
		got, err := ParseName(test.text)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("ParseName(%q) = %q, %v; want %q, %v", test.text, got, err, test.want, test.err)
		}
	}
}

func TestParseNameIn(t *testing.T) {
	origin := MustParseName("example.")
	tests := []struct{ text, want string }{
		{"@", "example."}, {"www", "www.example."}, {"www.", "www."}, {".", "."}, {`a\.`, `a\..example.`}, {"a.b", "a.b.example."},
	}
	for _, test := range tests {
		got, err := ParseNameIn(test.text, origin)
		if err != nil || got.String() != test.want {
			t.Errorf("ParseNameIn(%q) = %s, %v; want %s", test.text, got, err, test.want)
		}
	}
	if _, err := ParseNameIn(strings.Repeat("a.", 124)+"a", origin); !errors.Is(err, ErrNameTooLong) {
		t.Errorf("a name that its origin makes too long: %v", err)
	}
}

// drawName draws names that are often near each other: few labels, of few and odd octets.
func drawName(t *rapid.T) Name {
	name := Root
	for range rapid.IntRange(0, 4).Draw(t, "labels") {
		label := rapid.SliceOfN(rapid.SampledFrom([]byte("\x00\x01\x02ab.\\-\xff")), 1, 3).Draw(t, "label")
		child, err := name.Child(string(label))
		if err != nil {
			t.Fatal(err)
		}
		name = child
	}
	return name
}

// compareLabels orders names as RFC 4034 §6.1 says it: label by label, from the root.
func compareLabels(a, b Name) int {
	labels := func(n Name) (out []string) {
		for ; n != Root; n = n.Parent() {
			out = append(out, n.Label())
		}
		slices.Reverse(out)
		return out
	}
	return slices.Compare(labels(a), labels(b))
}

func TestNameProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawName(t), drawName(t)

		want := compareLabels(a, b)
		ka, kb := a.AppendKey(nil), b.AppendKey(nil)
		if got := bytes.Compare(ka, kb); got != want || Compare(a, b) != want {
			t.Fatalf("%s and %s: keys compare %d, names %d, labels %d", a, b, got, Compare(a, b), want)
		}
		if got := bytes.HasPrefix(kb, ka); got != b.IsAtOrBelow(a) {
			t.Fatalf("%s at or below %s: by key %t", b, a, got)
		}
		if back, err := NameFromKey(ka, Root); err != nil || back != a {
			t.Fatalf("%s came back from its key as %s, %v", a, back, err)
		}
		if b.IsAtOrBelow(a) {
			back, err := NameFromKey(b.AppendRelativeKey(nil, a), a)
			if err != nil || back != b {
				t.Fatalf("%s below %s came back as %s, %v", b, a, back, err)
			}
			if back, err := ParseNameIn(b.Relative(a), a); err != nil || back != b {
				t.Fatalf("%s is %q below %s, which is %s, %v", b, b.Relative(a), a, back, err)
			}
		}

		if back, err := ParseName(a.String()); err != nil || back != a {
			t.Fatalf("%q came back from %q as %q, %v", string(a), a, string(back), err)
		}
		wire := make([]byte, 300)
		n, err := dns.PackDomainName(a.String(), wire, 0, nil, false)
		if err != nil || string(wire[:n]) != string(a) {
			t.Fatalf("%s packs to %x, %v", a, wire[:n], err)
		}
		if back, used, err := NameFromWire([]byte(a + "more")); err != nil || back != a || used != len(a) {
			t.Fatalf("%s came back from the wire as %s, %d, %v", a, back, used, err)
		}

		c := CommonAncestor(a, b)
		if !a.IsAtOrBelow(c) || !b.IsAtOrBelow(c) {
			t.Fatalf("%s is no ancestor of %s and %s", c, a, b)
		}
		if more := c.Labels() + 1; a.Labels() >= more && b.Labels() >= more && a.Ancestor(more) == b.Ancestor(more) {
			t.Fatalf("%s is not the longest ancestor of %s and %s", c, a, b)
		}
		if a != Root && (!a.IsBelow(a.Parent()) || a.Parent().Labels() != a.Labels()-1) {
			t.Fatalf("the parent of %s is %s", a, a.Parent())
		}
	})
}

func TestNameFromWireRefuses(t *testing.T) {
	longest := strings.Repeat("\x01a", 127) + "\x00"
	if n, used, err := NameFromWire([]byte(longest)); err != nil || used != 255 || n.Labels() != MaxLabels {
		t.Errorf("255 octets: %s, %d, %v", n, used, err)
	}
	for _, wire := range []string{"", "\x01", "\x01a", "\x40" + strings.Repeat("a", 64) + "\x00", "\xc0\x00", "\x02aa" + longest, "\x01a" + longest} {
		if n, _, err := NameFromWire([]byte(wire)); !errors.Is(err, ErrNotWireName) {
			t.Errorf("%q: %q, %v", wire, string(n), err)
		}
	}
	if n, _, _ := NameFromWire([]byte("\x01A\x3f" + strings.Repeat("Z", 63) + "\x00")); n != Name("\x01a\x3f"+strings.Repeat("z", 63)+"\x00") {
		t.Errorf("not in lower case: %q", string(n))
	}
}

func TestNameFromKeyRefuses(t *testing.T) {
	apex := MustParseName("example.")
	label := func(n int) string { return strings.Repeat("a", n) + "\x00" }
	for _, key := range []string{
		"a", "\x00", "a\x00\x00", "\x01", "\x01\x00\x00", "\x01\x03\x00", label(64), strings.Repeat(label(1), 124), strings.Repeat(label(63), 4),
		strings.Repeat("\x01\x01", 64) + "\x00",
	} {
		if n, err := NameFromKey([]byte(key), apex); err == nil {
			t.Errorf("%q: %s", key, n)
		}
	}
	full := strings.Repeat(label(1), 123)
	if n, err := NameFromKey([]byte(full), apex); err != nil || len(n) != MaxNameLen {
		t.Errorf("the longest name: %d octets, %v", len(n), err)
	}
}

func TestNameRelations(t *testing.T) {
	// The content of a label may look like the end of a name.
	trap := Name("\x0axx\x07example\x00")
	if trap.IsAtOrBelow(MustParseName("example.")) {
		t.Errorf("%s counts as below example.", trap)
	}
	tests := []struct {
		name     string
		labels   int
		wildcard bool
	}{{".", 0, false}, {"*.", 1, true}, {"*.a.", 2, true}, {"**.a.", 2, false}, {"a.*.", 2, false}, {`\*.a.`, 2, true}}
	for _, test := range tests {
		n := MustParseName(test.name)
		if n.Labels() != test.labels || n.IsWildcard() != test.wildcard {
			t.Errorf("%s: %d labels, wildcard %t", test.name, n.Labels(), n.IsWildcard())
		}
	}
	if n := MustParseName("a.b.c."); n.Ancestor(2) != MustParseName("b.c.") || n.Ancestor(0) != Root || n.Ancestor(3) != n {
		t.Error("wrong ancestors")
	}
	if Root.Label() != "" || Root.Parent() != Root {
		t.Error("the root has a label, or a parent")
	}
	for _, test := range []struct {
		label string
		want  error
	}{{"", ErrEmptyLabel}, {strings.Repeat("a", 64), ErrLabelTooLong}, {strings.Repeat("a", 63), ErrNameTooLong}} {
		if _, err := MustParseName(strings.Repeat("a.", 100)).Child(test.label); !errors.Is(err, test.want) {
			t.Errorf("child %.5q: %v, want %v", test.label, err, test.want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{".", "a.b.", `\000\..`, "@", `a\`, strings.Repeat("a.", 127)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseName(text)
		if err != nil {
			return
		}
		if _, used, err := NameFromWire([]byte(n)); err != nil || used != len(n) {
			t.Fatalf("%q makes the invalid name %q", text, string(n))
		}
		if back, err := ParseName(n.String()); err != nil || back != n {
			t.Fatalf("%q is written %q, which reads as %q, %v", string(n), n, string(back), err)
		}
	})
}
