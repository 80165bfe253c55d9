package main

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// records reads a zone's file with another's reader.
func records(t *testing.T, z zone) map[string][]dns.RR {
	t.Helper()
	f, err := os.Open(z.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]dns.RR{}
	p := dns.NewZoneParser(f, "", z.file)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		all[rr.Header().Name] = append(all[rr.Header().Name], rr)
	}
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestMixesFitTheirZone asks for what the zone has: each mix's questions are of the kind that its name says.
func TestMixesFitTheirZone(t *testing.T) {
	const names = 3000
	z, err := writeLarge(t.TempDir(), largeApex, names)
	if err != nil {
		t.Fatal(err)
	}
	all := records(t, z)
	first := func(name string) uint16 {
		if rrs := all[name]; len(rrs) > 0 {
			return rrs[0].Header().Rrtype
		}
		return dns.TypeNone
	}
	exists := func(name string) bool { return first(name) == dns.TypeA }
	fits := map[string]func(name string) bool{
		"existing names": exists, "with EDNS": exists, "random case": exists, "cookies": exists,
		"30% NXDOMAIN": func(name string) bool { return exists(name) || first(name) == dns.TypeNone },
		"wildcards": func(name string) bool {
			_, parent, _ := strings.Cut(name, ".")
			return first(name) == dns.TypeNone && exists("*."+parent)
		},
		"referrals with glue": func(name string) bool {
			_, child, _ := strings.Cut(name, ".")
			if first(name) != dns.TypeNone || len(all[child]) != 2 {
				return false
			}
			for _, rr := range all[child] {
				if ns, ok := rr.(*dns.NS); !ok || !strings.HasSuffix(ns.Ns, "."+child) || !exists(ns.Ns) {
					return false
				}
			}
			return true
		},
		"CNAME chains of two": func(name string) bool {
			for range 2 {
				if first(name) != dns.TypeCNAME {
					return false
				}
				name = all[name][0].(*dns.CNAME).Target
			}
			return exists(name)
		},
	}
	for _, m := range mixes {
		absent := 0
		for i, q := range m.queries(2000, names, 1, []byte("clientclientserverserver")) {
			var msg dns.Msg
			if err := msg.Unpack(q); err != nil {
				t.Fatalf("%s: %v", m.name, err)
			}
			name := strings.ToLower(msg.Question[0].Name)
			if fit := fits[m.name]; fit == nil || !fit(name) {
				t.Fatalf("%s: question %d is %s", m.name, i, name)
			}
			if first(name) == dns.TypeNone {
				absent++
			}
			if m.shuffle != (msg.Question[0].Name != name) && i == 0 {
				t.Errorf("%s: asks for %s", m.name, msg.Question[0].Name)
			}
			if (msg.IsEdns0() != nil) != m.options.present {
				t.Fatalf("%s: OPT %v", m.name, msg.IsEdns0())
			}
		}
		if m.name == "30% NXDOMAIN" && (absent < 500 || absent > 700) {
			t.Errorf("%d of 2000 do not exist", absent)
		}
	}
}

func TestFleet(t *testing.T) {
	all, err := writeFleet(t.TempDir(), 50)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, z := range all {
		known[z.apex] = true
		rrs := records(t, z)
		if n := len(rrs[z.apex]) + len(rrs["www."+z.apex]); len(rrs) != 2 || n != 6 {
			t.Fatalf("%s has %d names and %d records, want 2 and 6", z.apex, len(rrs), n)
		}
	}
	if len(known) != len(all) {
		t.Errorf("%d different names of %d zones", len(known), len(all))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		if name := fleetMix.question(rng, len(all)); !known[strings.TrimPrefix(name, "www.")] {
			t.Fatalf("asks for %s, which is in no zone", name)
		}
	}
}

func TestMessages(t *testing.T) {
	tests := map[string]struct {
		options edns
		cookie  []byte
		do      bool
		want    string // the cookie in hexadecimal
	}{
		"plain":         {},
		"EDNS":          {options: edns{present: true}},
		"DO":            {options: edns{present: true, do: true}, do: true},
		"client cookie": {options: edns{present: true}, cookie: []byte("12345678"), want: "3132333435363738"},
		"cookie":        {options: edns{present: true, cookie: true}, cookie: []byte("12345678abcdefgh"), want: "31323334353637386162636465666768"},
	}
	for name, tt := range tests {
		var m dns.Msg
		if err := m.Unpack(appendQuery([]byte{1, 2, 3}, []byte("\x01a\x04test\x00"), 28, tt.options, tt.cookie)[3:]); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if q := m.Question[0]; len(m.Question) != 1 || q.Name != "a.test." || q.Qtype != dns.TypeAAAA || q.Qclass != dns.ClassINET || m.RecursionDesired {
			t.Errorf("%s: %v", name, &m)
		}
		opt := m.IsEdns0()
		if (opt != nil) != tt.options.present || serverCookie(&m) != tt.want {
			t.Errorf("%s: OPT %v", name, opt)
		}
		if opt != nil && (opt.Do() != tt.do || opt.UDPSize() != 1232) {
			t.Errorf("%s: OPT %v", name, opt)
		}
	}
}

func TestQueriesAreTheSameForASeed(t *testing.T) {
	a, b, c := mixes[2].queries(100, 50, 1, nil), mixes[2].queries(100, 50, 1, nil), mixes[2].queries(100, 50, 2, nil)
	same := 0
	for i := range a {
		if string(a[i]) != string(b[i]) {
			t.Fatal("two of a seed differ")
		}
		if string(a[i]) == string(c[i]) {
			same++
		}
	}
	if same == len(a) {
		t.Error("another seed makes the same questions")
	}
}

func TestUpdateMessage(t *testing.T) {
	m, err := updateMessage("w0.test.", 3, 200)
	if err != nil {
		t.Fatal(err)
	}
	if m.Opcode != dns.OpcodeUpdate || len(m.Question) != 1 || m.Question[0].Name != "w0.test." || len(m.Ns) != 2 {
		t.Fatalf("%v", m)
	}
	remove, insert := m.Ns[0].Header(), m.Ns[1].Header()
	if remove.Class != dns.ClassANY || insert.Class != dns.ClassINET || remove.Name != host(3)+".w0.test." || insert.Name != remove.Name {
		t.Errorf("%v", m)
	}
	if a, ok := m.Ns[1].(*dns.A); !ok || a.A.String() != changedAddress(3, 200) {
		t.Errorf("%v", m.Ns[1])
	}
	for i := range 300 { // always an address
		if _, err := netip.ParseAddr(changedAddress(i*257, i)); err != nil {
			t.Error(err)
		}
	}
}
