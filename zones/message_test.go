package zones_test

import (
	"bytes"
	"errors"
	"testing"

	"balefire/zones"
)

// TestNameFromMessage: names with and without pointers, and what is none.
func TestNameFromMessage(t *testing.T) {
	// 12: example., 21: www. and a pointer to that, 27: a pointer to that.
	msg := append(make([]byte, 12), "\x07eXample\x00\x03WWW\xc0\x0c\xc0\x15"...)
	for _, test := range []struct {
		at   int
		want string
		next int
	}{{12, "example.", 21}, {21, "www.example.", 27}, {27, "www.example.", 29}} {
		name, next, err := zones.NameFromMessage(msg, test.at)
		if err != nil || name.String() != test.want || next != test.next {
			t.Errorf("at %d: %s, up to %d, %v; want %s, up to %d", test.at, name, next, err, test.want, test.next)
		}
	}
	for what, bad := range map[string][]byte{
		"cut":              []byte("\x03ww"),
		"without an end":   []byte("\x03www"),
		"half a pointer":   []byte("\x03www\xc0"),
		"a pointer ahead":  []byte("\xc0\x02\x00"),
		"a pointer to it":  []byte("\xc0\x00"),
		"an unknown label": []byte("\x40\x00"),
		"too long a name":  append(bytes.Repeat([]byte("\x3f"+string(bytes.Repeat([]byte("a"), 63))), 4), 0),
	} {
		if name, _, err := zones.NameFromMessage(bad, 0); !errors.Is(err, zones.ErrNotWireName) {
			t.Errorf("%s: %s, %v", what, name, err)
		}
	}
}

// TestPointersToPointers: a name that leads through a whole message of pointers is none, however each of them goes back. Reading thousands of such
// names would take as many steps each.
func TestPointersToPointers(t *testing.T) {
	msg := make([]byte, 1, 1<<14) // the root, and pointers each to the one before
	for at := 0; len(msg) < 1<<14-2; {
		next := len(msg)
		msg = append(msg, 0xc0|byte(at>>8), byte(at))
		at = next
	}
	pointer := func(n int) int { return 1 + 2*(n-1) }
	if name, _, err := zones.NameFromMessage(msg, pointer(zones.MaxLabels)); err != nil || name != zones.Root {
		t.Errorf("through %d pointers: %s, %v", zones.MaxLabels, name, err)
	}
	for _, n := range []int{zones.MaxLabels + 1, 8000} {
		if name, _, err := zones.NameFromMessage(msg, pointer(n)); !errors.Is(err, zones.ErrNotWireName) {
			t.Errorf("through %d pointers: %s, %v", n, name, err)
		}
	}
}

// FuzzMessage: names and RDATA are read off any octets without a panic; what is read is a name, in lower case, and RDATA in canonical form, which is the
// same when it is read again.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x07eXample\x00\x03WWW\xc0\x00"), uint16(9), uint16(2), uint16(6))
	f.Add([]byte("\x07example\x00\x00\x0a\x04mail\xc0\x00"), uint16(9), uint16(15), uint16(9))
	f.Fuzz(func(t *testing.T, msg []byte, at, kind, size uint16) {
		if name, next, err := zones.NameFromMessage(msg, int(at)); err == nil {
			again, n, err := zones.NameFromWire([]byte(name))
			if err != nil || again != name || n != len(name) || next <= int(at) || next > len(msg) {
				t.Fatalf("%x, up to %d, %v", name, next, err)
			}
		}
		rdata, err := zones.RDataFromMessage(zones.Type(kind), msg, min(int(at), len(msg)), int(size))
		if err != nil {
			return
		}
		again, err := zones.RDataFromMessage(zones.Type(kind), rdata, 0, len(rdata))
		if err != nil || !bytes.Equal(again, rdata) || zones.CheckCanonicalRData(zones.Type(kind), rdata) != nil {
			t.Fatalf("%x was read as %x, %v", rdata, again, err)
		}
	})
}
