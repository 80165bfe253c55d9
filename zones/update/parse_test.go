package update

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/miekg/dns"
)

// fromLibrary makes octets of a message with another program's encoder.
func fromLibrary(t testing.TB, compress bool) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate("Example.")
	m.Compress = compress
	rr := func(text string) dns.RR {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	m.NameUsed([]dns.RR{rr("www.example. 0 A 192.0.2.1")})
	m.RRsetNotUsed([]dns.RR{rr("new.example. 0 A 192.0.2.1")})
	m.Used([]dns.RR{rr("Mail.example. 0 MX 10 mx.EXAMPLE.")})
	m.Insert([]dns.RR{rr("new.example. 60 SRV 1 2 3 srv.example."), rr("new.example. 60 NAPTR 1 2 \"a\" \"b\" \"c\" np.example."), rr("@.example. 60 SOA ns.example. host.example. 1 2 3 4 5")})
	m.Remove([]dns.RR{rr("Old.example. 60 CNAME Www.Example.")})
	m.RemoveName([]dns.RR{rr("gone.example. 60 A 192.0.2.1")})
	m.RemoveRRset([]dns.RR{rr("gone.example. 60 TXT x")})
	m.SetEdns0(1232, false)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestParse(t *testing.T) {
	want := message(t, `
		pre www 0 ANY ANY
		pre new 0 NONE A
		pre mail 0 IN MX 10 mx
		upd new 60 IN SRV 1 2 3 srv
		upd new 60 IN NAPTR 1 2 "a" "b" "c" np
		upd @.example. 60 IN SOA ns host 1 2 3 4 5
		upd old 0 NONE CNAME www
		upd gone 0 ANY ANY
		upd gone 0 ANY TXT
	`)
	for _, compress := range []bool{false, true} {
		packet := fromLibrary(t, compress)
		got, err := Parse(packet)
		if err != nil {
			t.Fatalf("compressed %t: %v", compress, err)
		}
		if got.Zone != apex || got.Class != ClassIN || got.String() != want.String() {
			t.Errorf("compressed %t: got\n%swant\n%s", compress, got, want)
		}
		// Cut off anywhere it is no message, up to where the updates end.
		end := len(packet) - 11 // OPT
		for n := range end {
			if _, err := Parse(packet[:n]); err == nil {
				t.Fatalf("compressed %t: %d of %d octets are a message", compress, n, len(packet))
			}
		}
		if _, err := Parse(packet[:end]); err != nil {
			t.Errorf("what is in the additional section is looked at: %v", err)
		}
		// The message shares no memory with the packet.
		clear(packet)
		if got.String() != want.String() {
			t.Error("the message changes with the packet")
		}
	}
}

// TestParseBack reads back what was written.
func TestParseBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		want := randomMessage(t, rng, 3)
		got, err := Parse(want.packet())
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if got.String() != want.String() || !reflect.DeepEqual(got.Zone, want.Zone) {
			t.Fatalf("got\n%swant\n%s", got, want)
		}
	}
}

// TestMalformed: RFC 2136 §3.1.1, and records that are none.
func TestMalformed(t *testing.T) {
	good := message(t, "upd www 60 IN CNAME new").packet()
	change := func(at int, octets ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[at:], octets)
		return b
	}
	const afterApex = headerLen + 9
	record := afterApex + 4
	rdata := record + len("\x03www\x07example\x00") + recordHeader
	for name, packet := range map[string][]byte{
		"no zone":                       change(4, 0, 0),
		"two zones":                     change(4, 0, 2),
		"ZTYPE is not SOA":              change(afterApex, 0, 1),
		"more updates than there are":   change(8, 0xff, 0xff),
		"a pointer to itself":           change(record, 0xc0, byte(record)),
		"a pointer forward":             change(record, 0xc0, byte(record+20)),
		"a label of a reserved kind":    change(record, 0x41),
		"an RDATA longer than the rest": change(rdata-2, 0xff, 0xff),
		"an RDATA that ends in a name":  change(rdata-2, 0, 3),
		"an octet after the name in RDATA": func() []byte {
			b := append(change(0), 0)
			b[rdata-1]++
			return b
		}(),
		"a CNAME to a pointer to itself in RDATA": func() []byte {
			b := change(rdata-2, 0, 2)
			return append(b[:rdata], 0xc0, byte(rdata))
		}(),
	} {
		if m, err := Parse(packet); err == nil {
			t.Errorf("%s: %s", name, m)
		}
	}
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
}
