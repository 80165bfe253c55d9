package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/dnsserver/wire"
	"balefire/zones"
	"balefire/zones/answer"
)

// TestPad: whatever an answer's length is, it becomes that of the least number of blocks with room for it, and says the same.
func TestPad(t *testing.T) {
	query := func(padded bool) []byte {
		m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeTXT)
		m.SetEdns0(1232, false)
		if padded {
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 7)}}
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var q wire.Query
	if wire.Parse(query(false), &q); q.Padding {
		t.Error("padding that is not there")
	}
	if wire.Parse(query(true), &q); !q.Padding {
		t.Error("no padding")
	}
	before := []byte("before")
	exact := false
	for n := range 2 * wire.PaddingBlock {
		text := strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, n/201) + `"` + strings.Repeat("y", n%201) + `"`
		a := &answer.Answer{Entries: []answer.Entry{{RRset: set(t, "www.example.com.", zones.TypeTXT, text)}}}
		r := &wire.Reply{ExtendedError: wire.NoExtendedError, Limit: wire.MaxSize, UDPSize: 1232, NSID: []byte("here")}
		plain, _ := wire.Append(bytes.Clone(before), &q, a, r)
		padded := wire.Pad(bytes.Clone(plain), len(before), &q, r)
		size, was := len(padded)-len(before), len(plain)-len(before)
		if size%wire.PaddingBlock != 0 || size < was+4 || size >= was+4+wire.PaddingBlock || !bytes.HasPrefix(padded, before) {
			t.Fatalf("%d octets became %d", was, size)
		}
		exact = exact || size == was+4
		var m, want dns.Msg
		if err := m.Unpack(padded[len(before):]); err != nil {
			t.Fatal(err)
		}
		if err := want.Unpack(plain[len(before):]); err != nil {
			t.Fatal(err)
		}
		options := m.IsEdns0().Option
		if p, ok := options[len(options)-1].(*dns.EDNS0_PADDING); !ok || len(p.Padding) != size-was-4 || !bytes.Equal(p.Padding, make([]byte, len(p.Padding))) {
			t.Fatalf("%v", m.IsEdns0())
		}
		m.IsEdns0().Option = options[:len(options)-1]
		if m.String() != want.String() {
			t.Fatalf("%v\nwant %v", &m, &want)
		}
		// Where there is room for less, less is added, and where there is none, nothing.
		for _, limit := range []int{was, was + 3, was + 4, was + 20} {
			r.Limit = limit
			got := len(wire.Pad(bytes.Clone(plain), len(before), &q, r)) - len(before)
			if room := limit >= was+4; room && got != min(limit, size) || !room && got != was {
				t.Fatalf("%d octets became %d, with a limit of %d", was, got, limit)
			}
		}
	}
	if !exact {
		t.Error("no answer was one that fills its block")
	}
}

// TestPadNeedsOPT: what has no OPT, or has something behind it, is left as it is.
func TestPadNeedsOPT(t *testing.T) {
	m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeTXT)
	plain, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	wire.Parse(plain, &q)
	r := &wire.Reply{ExtendedError: wire.NoExtendedError, Limit: wire.MaxSize, UDPSize: 1232}
	out, _ := wire.Append(nil, &q, nil, r)
	if got := wire.Pad(bytes.Clone(out), 0, &q, r); !bytes.Equal(got, out) {
		t.Errorf("without OPT: %x", got)
	}
	m.SetEdns0(1232, false)
	if plain, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	wire.Parse(plain, &q)
	if got := wire.Pad(bytes.Clone(out), 0, &q, r); !bytes.Equal(got, out) {
		t.Errorf("OPT in the query only: %x", got)
	}
}
