package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/dnsserver/wire"
	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/zonefile"
)

// set makes an RRset of presentation forms.
func set(t testing.TB, owner string, kind zones.Type, texts ...string) zones.RRset {
	t.Helper()
	var rdatas [][]byte
	for _, text := range texts {
		rd, err := zonefile.ParseRData(kind, text, zones.Root)
		if err != nil {
			t.Fatal(err)
		}
		rdatas = append(rdatas, rd)
	}
	s, err := zones.NewRRset(zones.MustParseName(owner), kind, 300, rdatas...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// many returns n texts made of a format with one %d.
func many(n int, format string) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf(format, i))
	}
	return texts
}

// reply answers a query for www.example.com with the entries and reads the answer.
func reply(t testing.TB, query packet, limit int, entries ...answer.Entry) (*dns.Msg, int) {
	t.Helper()
	var q wire.Query
	wire.Parse(query, &q)
	out, _ := wire.Append(nil, &q, &answer.Answer{Entries: entries}, &wire.Reply{ExtendedError: wire.NoExtendedError, Limit: limit, UDPSize: 1232})
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%v in %x", err, out)
	}
	if len(out) > limit {
		t.Errorf("%d octets, with a limit of %d", len(out), limit)
	}
	return m, len(out)
}

const (
	inAnswer     = answer.SectionAnswer
	inAuthority  = answer.SectionAuthority
	inAdditional = answer.SectionAdditional
)

// TestTruncation has the rows of ANSWERS.md 4.4 by number.
func TestTruncation(t *testing.T) {
	mx := set(t, "www.example.com.", zones.TypeMX, many(40, "%d a-mail-exchanger-with-a-name.example.net.")...)
	cname := set(t, "www.example.com.", zones.TypeCNAME, "target.example.com.")
	big := set(t, "target.example.com.", zones.TypeA, many(60, "192.0.2.%d")...)
	soa := set(t, "example.com.", zones.TypeSOA, "ns. hostmaster. 1 2 3 4 5")
	fat := set(t, "example.com.", zones.TypeTXT, `"`+strings.Repeat("x", 250)+`"`, `"`+strings.Repeat("y", 190)+`"`)
	ns := set(t, "child.example.com.", zones.TypeNS, many(12, "name-server-%d.child.example.com.")...)
	sig := set(t, "www.example.com.", zones.TypeRRSIG, "A 8 3 300 20300101000000 20200101000000 1 example.com. "+strings.Repeat("QUJD", 100))
	a := set(t, "www.example.com.", zones.TypeA, "192.0.2.1")
	var glue []answer.Entry
	for i := range 12 {
		glue = append(glue, answer.Entry{Section: inAdditional, RRset: set(t, fmt.Sprintf("name-server-%d.child.example.com.", i), zones.TypeAAAA, "2001:db8::1")})
	}
	optional := func(entries []answer.Entry) (out []answer.Entry) {
		for _, e := range entries {
			e.Optional = true
			out = append(out, e)
		}
		return out
	}

	tests := []struct {
		row                    string
		query                  packet
		entries                []answer.Entry
		tc                     bool
		answer, authority, add int // records; OPT not counted
	}{
		{"66 no part of an RRset", plain(), []answer.Entry{{RRset: mx}}, true, 0, 0, 0},
		{"66 OPT stays", edns(""), []answer.Entry{{RRset: set(t, "www.example.com.", zones.TypeTXT, many(9, `"%d`+strings.Repeat("z", 200)+`"`)...)}}, true, 0, 0, 0},
		{"66 nothing after the cut", plain(), []answer.Entry{{RRset: mx}, {Section: inAuthority, RRset: soa}, {Section: inAdditional, RRset: a, Optional: true}}, true, 0, 0, 0},
		{"67 CNAME and its target", plain(), []answer.Entry{{RRset: cname}, {RRset: big}}, true, 1, 0, 0},
		{"68 negative SOA", plain(), []answer.Entry{{RRset: fat}, {Section: inAuthority, RRset: soa}}, true, 2, 0, 0},
		{"69 optional additional", plain(), append([]answer.Entry{{Section: inAuthority, RRset: ns}}, optional(glue)...), false, 0, 12, 4},
		{"70 required glue", plain(), append([]answer.Entry{{Section: inAuthority, RRset: ns}}, glue...), true, 0, 12, 4},
		{"70 all fits in 1232", edns(""), append([]answer.Entry{{Section: inAuthority, RRset: ns}}, glue...), false, 0, 12, 12},
		{"signatures with their RRset", plain(), []answer.Entry{{RRset: cname}, {RRset: a, Signatures: sig}}, false, 3, 0, 0},
		{"no RRset without its signatures", plain(), []answer.Entry{{RRset: fat}, {RRset: a, Signatures: sig}}, true, 2, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			limit := 512
			if tt.query[11] != 0 {
				limit = 1232
			}
			m, _ := reply(t, tt.query, limit, tt.entries...)
			add := len(m.Extra)
			if m.IsEdns0() != nil {
				add--
			}
			if (m.IsEdns0() != nil) != (tt.query[11] != 0) {
				t.Errorf("OPT: %v", m.IsEdns0())
			}
			if m.Truncated != tt.tc || len(m.Answer) != tt.answer || len(m.Ns) != tt.authority || add != tt.add || len(m.Question) != 1 {
				t.Errorf("TC %v, %d + %d + %d records; want %v, %d + %d + %d", m.Truncated, len(m.Answer), len(m.Ns), add, tt.tc, tt.answer, tt.authority, tt.add)
			}
		})
	}
}

// TestCompression: row 71, by the octets.
func TestCompression(t *testing.T) {
	question := len(plain())
	tests := []struct {
		name   string
		set    zones.RRset
		octets int // of one record beyond owner (a pointer) and fixed fields
	}{
		{"owner only", set(t, "www.example.com.", zones.TypeA, "192.0.2.1"), 4},
		{"NS", set(t, "www.example.com.", zones.TypeNS, "ns.example.com."), 3 + 2},
		{"CNAME", set(t, "www.example.com.", zones.TypeCNAME, "example.com."), 2},
		{"PTR to the root", set(t, "www.example.com.", zones.TypePTR, "."), 1},
		{"MX", set(t, "www.example.com.", zones.TypeMX, "10 mx.com."), 2 + 3 + 2},
		{"SOA, both names", set(t, "www.example.com.", zones.TypeSOA, "ns.example.com. me.ns.example.com. 1 2 3 4 5"), 3 + 2 + 3 + 2 + 20},
		{"never DNAME", set(t, "www.example.com.", zones.TypeDNAME, "example.com."), 13},
		{"never SRV", set(t, "www.example.com.", zones.TypeSRV, "1 2 3 example.com."), 6 + 13},
		{"never NAPTR", set(t, "www.example.com.", zones.TypeNAPTR, `1 2 "" "" "" example.com.`), 4 + 3 + 13},
		{"never SVCB", set(t, "www.example.com.", zones.TypeSVCB, "1 example.com."), 2 + 13},
		{"never NSEC", set(t, "www.example.com.", zones.TypeNSEC, "example.com. A"), 13 + 3},
		{"never RRSIG", set(t, "www.example.com.", zones.TypeRRSIG, "A 8 3 300 20300101000000 20200101000000 1 example.com. QUJD"), 18 + 13 + 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, n := reply(t, plain(), 512, answer.Entry{RRset: tt.set})
			if want := question + 12 + tt.octets; n != want {
				t.Errorf("%d octets, want %d: %v", n, want, m.Answer)
			}
		})
	}
}

// TestCompressionAndCase: row 64. A query in mixed case gets an answer of the same length, its question
// as it came.
func TestCompressionAndCase(t *testing.T) {
	s := set(t, "www.example.com.", zones.TypeCNAME, "other.example.com.")
	_, plainLen := reply(t, plain(), 512, answer.Entry{RRset: s})
	m, mixedLen := reply(t, header(rd, 1).question("\x03wWw\x07ExAmPlE\x03CoM\x00", 1, 1), 512, answer.Entry{RRset: s})
	if plainLen != mixedLen {
		t.Errorf("%d octets in lower case, %d in mixed", plainLen, mixedLen)
	}
	if m.Question[0].Name != "wWw.ExAmPlE.CoM." || m.Answer[0].Header().Name != "wWw.ExAmPlE.CoM." {
		t.Errorf("question %v, owner %v", m.Question[0].Name, m.Answer[0].Header().Name)
	}
}

// TestPointersStayBelow16K: a name that begins where no pointer reaches is written again (row 71), and
// a message of 64 KiB can be read (row 72).
func TestPointersStayBelow16K(t *testing.T) {
	filler := set(t, "example.com.", zones.TypeTXT, many(64, `"%d`+strings.Repeat("x", 245)+`"`)...)
	last := set(t, "example.net.", zones.TypeNS, many(40, "ns%d.example.net.")...)
	m, n := reply(t, plain(), 65535, answer.Entry{RRset: filler}, answer.Entry{RRset: last})
	if n < 16384 || len(m.Answer) != 104 || m.Truncated {
		t.Fatalf("%d octets, %d records", n, len(m.Answer))
	}
	for i, rr := range m.Answer[64:] {
		if !strings.HasSuffix(rr.(*dns.NS).Ns, ".example.net.") {
			t.Errorf("record %d: %v", i, rr)
		}
	}
}

// TestEveryLimit cuts one message at every length.
func TestEveryLimit(t *testing.T) {
	fresh := "a-name-that-was-not-there-before.example.org."
	entries := []answer.Entry{
		{RRset: set(t, "www.example.com.", zones.TypeTXT, `"`+strings.Repeat("x", 200)+`"`, `"`+strings.Repeat("y", 90)+`"`)},
		{RRset: set(t, "www.example.com.", zones.TypeMX, many(9, "%d mail.example.net.")...)},
		{Section: inAuthority, RRset: set(t, "example.com.", zones.TypeNS, many(3, "ns%d.example.com.")...)},
		// This one leaves no trace when it does not fit, so that the next one can't point into it.
		{Section: inAdditional, Optional: true, RRset: set(t, fresh, zones.TypeTXT, `"`+strings.Repeat("z", 100)+`"`)},
		{Section: inAdditional, Optional: true, RRset: set(t, fresh, zones.TypeA, "192.0.2.1")},
		{Section: inAdditional, RRset: set(t, "ns1.example.com.", zones.TypeA, "192.0.2.1")},
	}
	for limit := 512; limit < 900; limit++ {
		checkAppend(t, entries, limit, true)
		checkAppend(t, entries, limit, false)
	}
}

// TestFlags: row 63.
func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags uint16
		want  uint16
	}{
		{"none", 0, 0x8000},
		{"RD", 0x0100, 0x8100},
		{"all but QR", 0x07ff, 0x8100},
		{"opcode", 0x2000, 0xa000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q wire.Query
			wire.Parse(header(tt.flags, 1).question(www, 1, 1), &q)
			out, _ := wire.Append(nil, &q, nil, &wire.Reply{ExtendedError: wire.NoExtendedError, Limit: 512})
			if got := uint16(out[2])<<8 | uint16(out[3]); got != tt.want || out[0] != 0x12 || out[1] != 0x34 {
				t.Errorf("flags %04x, want %04x", got, tt.want)
			}
		})
	}
}

func TestOPT(t *testing.T) {
	var q wire.Query
	wire.Parse(header(rd, 1, 0, 0, 1).question(www, 1, 1).opt(512, 0x7fff|do, option(3, "")), &q)
	cookie := []byte("0123456789abcdefghijklmn")
	out, _ := wire.Append(nil, &q, nil, &wire.Reply{
		RCode: wire.BadCookie, ExtendedError: 18, ExtraText: "no", Limit: 512, UDPSize: 1400, NSID: []byte("node"), Cookie: cookie,
	})
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatal(err)
	}
	opt := m.IsEdns0()
	if opt.UDPSize() != 1400 || !opt.Do() || opt.Version() != 0 || opt.Z() != 0 || m.Rcode != 23 || len(opt.Option) != 3 {
		t.Fatalf("%v, rcode %d", opt, m.Rcode)
	}
	if nsid := opt.Option[0].(*dns.EDNS0_NSID); nsid.Nsid != fmt.Sprintf("%x", "node") {
		t.Errorf("NSID %v", nsid)
	}
	if c := opt.Option[1].(*dns.EDNS0_COOKIE); c.Cookie != fmt.Sprintf("%x", cookie) {
		t.Errorf("COOKIE %v", c)
	}
	if ede := opt.Option[2].(*dns.EDNS0_EDE); ede.InfoCode != 18 || ede.ExtraText != "no" {
		t.Errorf("EDE %v", ede)
	}

	wire.Parse(plain(), &q)
	out, _ = wire.Append(nil, &q, nil, &wire.Reply{RCode: wire.BadCookie, ExtendedError: 18, Limit: 512, Cookie: cookie})
	if m = (dns.Msg{}); m.Unpack(out) != nil || m.IsEdns0() != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("row 62: without OPT in the query: %v", &m)
	}
}

func TestForcedTruncation(t *testing.T) {
	var q wire.Query
	wire.Parse(plain(), &q)
	a := answer.Answer{Entries: []answer.Entry{{RRset: set(t, "www.example.com.", zones.TypeA, "192.0.2.1")}}}
	out, cut := wire.Append(nil, &q, &a, &wire.Reply{ExtendedError: wire.NoExtendedError, Truncated: true, Limit: 512})
	if !cut || out[2]&2 == 0 || len(out) != len(plain()) {
		t.Errorf("%v %x", cut, out)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	var q wire.Query
	wire.Parse(edns(""), &q)
	a, r, buf := positive(t)
	if n := testing.AllocsPerRun(1000, func() { wire.Append(buf, &q, a, r) }); n != 0 {
		t.Errorf("%v allocations for an answer", n)
	}
}

func positive(t testing.TB) (*answer.Answer, *wire.Reply, []byte) {
	return &answer.Answer{Entries: []answer.Entry{
		{RRset: set(t, "www.example.com.", zones.TypeA, "192.0.2.1", "192.0.2.2")},
	}}, &wire.Reply{ExtendedError: wire.NoExtendedError, Limit: 1232, UDPSize: 1232}, make([]byte, 0, 1232)
}

func BenchmarkAppend(b *testing.B) {
	var q wire.Query
	wire.Parse(edns(""), &q)
	a, r, buf := positive(b)
	referral := &answer.Answer{Entries: []answer.Entry{{Section: inAuthority, RRset: set(b, "example.com.", zones.TypeNS, many(4, "ns%d.example.com.")...)}}}
	for i := range 4 {
		referral.Entries = append(referral.Entries, answer.Entry{Section: inAdditional, RRset: set(b, fmt.Sprintf("ns%d.example.com.", i), zones.TypeA, "192.0.2.1")})
	}
	for name, a := range map[string]*answer.Answer{"positive": a, "referral": referral} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				wire.Append(buf, &q, a, r)
			}
		})
	}
}
