package zones

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// Name is an absolute domain name in uncompressed wire form (RFC 1035 §3.1), ASCII letters in lower
// case: length octets and labels, ending in the root's zero octet. It is a string so that names compare,
// key maps and share memory; all Names made by this package are valid. The zero value "" is no name.
//
// A Name may alias a caller's buffer where a function says so (NameView); all others own their bytes.
type Name string

// Root is the name of the root zone.
const Root Name = "\x00"

// Limits of RFC 1035 §3.1 and §2.3.4, in octets of wire form.
const (
	MaxNameLen  = 255
	MaxLabelLen = 63
	MaxLabels   = 127 // without the root label
)

// Errors of malformed names. ParseName wraps them with the text that was refused.
var (
	ErrNameTooLong  = errors.New("name is longer than 255 octets")
	ErrLabelTooLong = errors.New("label is longer than 63 octets")
	ErrEmptyLabel   = errors.New("empty label")
	ErrBadEscape    = errors.New(`bad escape: want \DDD up to \255, or \ and one character`)
	ErrNotWireName  = errors.New("not a name in uncompressed wire form")
)

// lower maps ASCII upper case to lower case, and every other octet to itself (RFC 4343 §3).
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// ParseName reads a name in presentation form (RFC 1035 §5.1, RFC 4343 §2.1). A missing final dot is
// taken as there: the result is always absolute.
func ParseName(text string) (Name, error) { return ParseNameIn(text, Root) }

// ParseNameIn reads a name in presentation form; one without a final dot is relative to origin, and
// "@" is origin itself.
func ParseNameIn(text string, origin Name) (Name, error) {
	if text == "@" {
		return origin, nil
	}
	if text == "." {
		return Root, nil
	}
	if text == "" {
		return "", fmt.Errorf("name %q: %w", text, ErrEmptyLabel)
	}
	var buf [MaxNameLen]byte
	out := buf[:1] // buf[start] will hold the length of the label begun at start
	start, absolute := 0, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '.' {
			if len(out) == start+1 {
				return "", fmt.Errorf("name %q: %w", text, ErrEmptyLabel)
			}
			buf[start] = byte(len(out) - start - 1)
			start = len(out)
			if i == len(text)-1 {
				absolute = true
				break
			}
			if len(out) == MaxNameLen {
				return "", fmt.Errorf("name %q: %w", text, ErrNameTooLong)
			}
			out = append(out, 0)
			continue
		}
		if c == '\\' {
			v, n, ok := unescape(text[i+1:])
			if !ok {
				return "", fmt.Errorf("name %q: %w", text, ErrBadEscape)
			}
			c, i = v, i+n
		}
		if len(out)-start-1 == MaxLabelLen {
			return "", fmt.Errorf("name %q: %w", text, ErrLabelTooLong)
		}
		if len(out) == MaxNameLen {
			return "", fmt.Errorf("name %q: %w", text, ErrNameTooLong)
		}
		out = append(out, lower[c])
	}
	suffix := Root
	if !absolute {
		buf[start] = byte(len(out) - start - 1)
		suffix = origin
	}
	if len(out)+len(suffix) > MaxNameLen {
		return "", fmt.Errorf("name %q: %w", text, ErrNameTooLong)
	}
	return Name(append(out, suffix...)), nil
}

// MustParseName is ParseName for names written in source code; it panics on a malformed one.
func MustParseName(text string) Name {
	n, err := ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

// unescape reads what follows a backslash, and returns the octet and the characters used.
func unescape(s string) (octet byte, used int, ok bool) {
	if s == "" {
		return 0, 0, false
	}
	if s[0] < '0' || s[0] > '9' {
		return s[0], 1, true
	}
	if len(s) < 3 {
		return 0, 0, false
	}
	v := 0
	for _, d := range []byte(s[:3]) {
		if d < '0' || d > '9' {
			return 0, 0, false
		}
		v = v*10 + int(d-'0')
	}
	return byte(v), 3, v <= 255
}

// NameFromWire reads the uncompressed name at the start of b, in any case, and returns it with the
// octets that it took.
func NameFromWire(b []byte) (Name, int, error) {
	n, err := wireLen(b)
	if err != nil {
		return "", 0, err
	}
	low := make([]byte, n)
	for i, c := range b[:n] {
		low[i] = lower[c] // length octets are ≤ 63, below 'A': unchanged
	}
	return NameView(low), n, nil
}

// NameView returns the Name whose octets are b, without copying or checking: b must be a whole, valid,
// lower-case wire-form name, and must not change while the Name is in use.
func NameView(b []byte) Name { return Name(unsafe.String(unsafe.SliceData(b), len(b))) }

// NameViewFromWire reads the uncompressed name at the start of b without copying it: the Name shares b's
// memory, which must not change while it is in use. A name with an upper-case letter is refused.
func NameViewFromWire(b []byte) (Name, int, error) {
	n, err := wireLen(b)
	if err != nil {
		return "", 0, err
	}
	if !isLower(b[:n]) {
		return "", 0, ErrNotWireName
	}
	return NameView(b[:n:n]), n, nil
}

// isLower reports whether b has no ASCII upper-case letter. Length octets of a valid name are none.
func isLower(b []byte) bool {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// wireLen returns the length of the uncompressed name at the start of b.
func wireLen(b []byte) (int, error) {
	for i := 0; i < len(b); {
		l := int(b[i])
		switch {
		case l == 0:
			return i + 1, nil
		case l > MaxLabelLen, i+1+l >= MaxNameLen:
			return 0, ErrNotWireName
		}
		i += 1 + l
	}
	return 0, ErrNotWireName
}

// String returns the presentation form, with a final dot; octets that are not printable ASCII as \DDD.
func (n Name) String() string {
	if n == "" {
		return ""
	}
	if n == Root {
		return "."
	}
	var b strings.Builder
	b.Grow(len(n))
	for rest := n; len(rest) > 1; rest = rest.Parent() {
		writeLabel(&b, rest.Label())
		b.WriteByte('.')
	}
	return b.String()
}

// Relative returns the presentation form of n below apex, without the apex and the final dot; "@" for
// the apex itself, and the absolute form for a name outside it.
func (n Name) Relative(apex Name) string {
	if n == apex {
		return "@"
	}
	s := n.String()
	if !n.IsBelow(apex) {
		return s
	}
	if apex == Root {
		return strings.TrimSuffix(s, ".")
	}
	return strings.TrimSuffix(s, "."+apex.String())
}

func writeLabel(b *strings.Builder, label string) {
	for i := 0; i < len(label); i++ {
		switch c := label[i]; {
		case c <= ' ' || c >= 0x7f:
			fmt.Fprintf(b, `\%03d`, c)
		case strings.IndexByte(`."\();@$`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}

// Label returns the first (leftmost) label, without its length octet; "" for the root.
func (n Name) Label() string { return string(n[1 : 1+int(n[0])]) }

// Parent returns n without its first label; the root's parent is the root. It shares n's memory.
func (n Name) Parent() Name {
	if len(n) <= 1 {
		return n
	}
	return n[1+int(n[0]):]
}

// Labels returns the number of labels, the root label not counted.
func (n Name) Labels() int {
	count := 0
	for i := 0; i < len(n) && n[i] != 0; i += 1 + int(n[i]) {
		count++
	}
	return count
}

// Ancestor returns the suffix of n that has the given number of labels (at most n.Labels()).
func (n Name) Ancestor(labels int) Name {
	for drop := n.Labels() - labels; drop > 0; drop-- {
		n = n.Parent()
	}
	return n
}

// IsAtOrBelow reports whether n is ancestor or a name below it (RFC 9499 "subdomain").
func (n Name) IsAtOrBelow(ancestor Name) bool {
	cut := len(n) - len(ancestor)
	if cut < 0 || n[cut:] != ancestor {
		return false
	}
	// The suffix must begin at a label's start: a length octet may also occur as a label's content.
	i := 0
	for i < cut {
		i += 1 + int(n[i])
	}
	return i == cut
}

// IsBelow reports whether n is a proper subdomain of ancestor.
func (n Name) IsBelow(ancestor Name) bool { return n != ancestor && n.IsAtOrBelow(ancestor) }

// IsWildcard reports whether the first label is a single asterisk (RFC 4592 §2.1.1).
func (n Name) IsWildcard() bool { return len(n) > 2 && n[0] == 1 && n[1] == '*' }

// Child returns label.n. It fails when the label or the result is too long.
func (n Name) Child(label string) (Name, error) {
	switch {
	case label == "":
		return "", ErrEmptyLabel
	case len(label) > MaxLabelLen:
		return "", ErrLabelTooLong
	case len(label)+1+len(n) > MaxNameLen:
		return "", ErrNameTooLong
	}
	b := make([]byte, 0, 1+len(label)+len(n))
	b = append(b, byte(len(label)))
	for i := 0; i < len(label); i++ {
		b = append(b, lower[label[i]])
	}
	return NameView(append(b, n...)), nil
}

// CommonAncestor returns the longest name that a and b are both at or below. It shares a's memory.
func CommonAncestor(a, b Name) Name {
	la, lb := a.Labels(), b.Labels()
	for ; la > lb; la-- {
		a = a.Parent()
	}
	for ; lb > la; lb-- {
		b = b.Parent()
	}
	for a != b {
		a, b = a.Parent(), b.Parent()
	}
	return a
}

// Compare orders names canonically (RFC 4034 §6.1): −1, 0 or 1.
func Compare(a, b Name) int {
	if a == b {
		return 0
	}
	var ka, kb [maxKeyLen]byte
	return bytes.Compare(a.AppendKey(ka[:0]), b.AppendKey(kb[:0]))
}

// maxKeyLen bounds AppendKey: every octet of the labels escaped, and a terminator for each label.
const maxKeyLen = 2 * MaxNameLen

// AppendKey appends n as a sort key to dst: keys of names compare, octet by octet, as the names do
// canonically, and a name's key is a prefix of the keys of all names below it. Labels come from the root
// down, each ended by 0x00; the octets 0x00 and 0x01 inside a label become 0x01 0x01 and 0x01 0x02.
// The root's key is empty.
func (n Name) AppendKey(dst []byte) []byte {
	var at [MaxLabels + 1]uint8
	count := 0
	for i := 0; i < len(n) && n[i] != 0; i += 1 + int(n[i]) {
		at[count] = uint8(i)
		count++
	}
	for count--; count >= 0; count-- {
		i := int(at[count])
		for _, c := range []byte(n[i+1 : i+1+int(n[i])]) {
			if c <= 1 {
				dst = append(dst, 1, c+1)
			} else {
				dst = append(dst, c)
			}
		}
		dst = append(dst, 0)
	}
	return dst
}

// AppendRelativeKey appends the sort key of n without the part that it shares with apex: the apex
// itself has the empty key. n must be at or below apex.
func (n Name) AppendRelativeKey(dst []byte, apex Name) []byte {
	var buf [MaxNameLen]byte
	short := append(buf[:0], n[:len(n)-len(apex)]...)
	return NameView(append(short, 0)).AppendKey(dst)
}

// NameFromKey is the inverse of AppendRelativeKey; with apex Root, of AppendKey.
func NameFromKey(key []byte, apex Name) (Name, error) {
	var buf [MaxNameLen]byte
	at := MaxNameLen - len(apex)
	copy(buf[at:], apex)
	for len(key) > 0 {
		var label [MaxLabelLen]byte
		n := 0
		for {
			if len(key) == 0 || n > MaxLabelLen {
				return "", ErrNotWireName
			}
			c := key[0]
			key = key[1:]
			if c == 0 {
				break
			}
			if c == 1 {
				if len(key) == 0 || key[0] < 1 || key[0] > 2 {
					return "", ErrNotWireName
				}
				c, key = key[0]-1, key[1:]
			}
			if n == MaxLabelLen {
				return "", ErrNotWireName
			}
			label[n] = c
			n++
		}
		if n == 0 || at < n+1 {
			return "", ErrNotWireName
		}
		at -= n + 1
		buf[at] = byte(n)
		copy(buf[at+1:], label[:n])
	}
	return Name(buf[at:]), nil
}
