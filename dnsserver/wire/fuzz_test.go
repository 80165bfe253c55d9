package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/dnsserver/wire"
	"balefire/zones"
	"balefire/zones/answer"
)

// corpus returns the packets of testdata/wire/odd.txt.
func corpus(t testing.TB) (packets [][]byte) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/wire/odd.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSpace(line), "\t")
		p, err := hex.DecodeString(fields[len(fields)-1])
		if err != nil && len(fields) == 4 {
			t.Fatalf("%s: %v", fields[0], err)
		}
		packets = append(packets, p)
	}
	return packets
}

// FuzzParse: no packet panics, none that is taken for a question is one that miekg/dns can't read, and
// both read the same.
func FuzzParse(f *testing.F) {
	for _, p := range corpus(f) {
		f.Add(p)
	}
	f.Add([]byte(plain()))
	f.Add([]byte(edns(option(3, "") + option(10, "\x01\x02\x03\x04\x05\x06\x07\x08"))))
	f.Fuzz(func(t *testing.T, p []byte) {
		var q wire.Query
		before := bytes.Clone(p)
		wire.Parse(p, &q)
		if !bytes.Equal(p, before) {
			t.Fatal("the packet was changed")
		}
		if q.Verdict == wire.Drop {
			if len(p) >= wire.HeaderLen && p[2] < 0x80 {
				t.Fatal("a query was dropped")
			}
			return
		}
		if reply, _ := wire.Append(nil, &q, nil, &wire.Reply{RCode: q.RCode, ExtendedError: -1, Limit: 512}); len(reply) > 512 ||
			binary.BigEndian.Uint16(reply) != binary.BigEndian.Uint16(p) {
			t.Fatalf("bad reply %x", reply)
		}
		if q.Verdict == wire.Fail {
			return
		}
		var m dns.Msg
		if err := m.Unpack(p); err != nil {
			// miekg/dns also looks into the RDATA and options that this server passes over.
			if binary.BigEndian.Uint16(p[10:]) == 0 && q.Verdict == wire.Ask {
				t.Fatalf("taken for a question, but: %v", err)
			}
			return
		}
		if len(m.Question) > 1 || q.Verdict == wire.Cookie && len(m.Question) != 0 {
			t.Fatalf("%d questions", len(m.Question))
		}
		if len(m.Question) == 1 {
			question := m.Question[0]
			if name := packName(t, question.Name); !strings.EqualFold(string(q.Name), name) && string(q.Name) != lowerASCII(name) {
				t.Fatalf("name %q, want %q", q.Name, name)
			}
			if uint16(q.Type) != question.Qtype || uint16(q.Class) != question.Qclass || q.ID != m.Id || int(q.Opcode) != m.Opcode || q.RD != m.RecursionDesired {
				t.Fatalf("%+v read as %v %d", question, q.Type, q.Class)
			}
		}
		opt := m.IsEdns0()
		if (opt != nil) != q.EDNS {
			t.Fatalf("EDNS %v, want %v", q.EDNS, opt != nil)
		}
		if opt != nil && (opt.Do() != q.DO || max(512, opt.UDPSize()) != q.UDPSize || opt.Version() != q.Version) {
			t.Fatalf("OPT %v read as %v %d %d", opt, q.DO, q.UDPSize, q.Version)
		}
	})
}

func packName(t testing.TB, name string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// dice turns fuzzed octets into choices.
type dice struct{ data []byte }

func (d *dice) roll(n int) int {
	if len(d.data) == 0 {
		return 0
	}
	v := int(d.data[0])
	d.data = d.data[1:]
	return v % n
}

var (
	fuzzNames = names("example.com.", "www.example.com.", "a.b.www.example.com.", "example.net.", ".", "com.", `\000\.\255.example.com.`,
		"mail.example.com.", "ns1.example.net.", "xexample.com.", strings.Repeat("abcdefghi.", 24)+"com.", "www.example.com.example.com.")
	fuzzTypes = []zones.Type{
		zones.TypeA, zones.TypeNS, zones.TypeCNAME, zones.TypeSOA, zones.TypePTR, zones.TypeMX, zones.TypeTXT, zones.TypeAAAA,
		zones.TypeSRV, zones.TypeDNAME, zones.TypeNSEC, zones.TypeRRSIG, zones.TypeNAPTR, zones.TypeHTTPS, 65280,
	}
)

func names(texts ...string) (out []zones.Name) {
	for _, text := range texts {
		out = append(out, zones.MustParseName(text))
	}
	return out
}

// rdata makes RDATA of a type, with embedded names.
func (d *dice) rdata(t zones.Type, covered byte) []byte {
	name := string(fuzzNames[d.roll(len(fuzzNames))])
	switch t {
	case zones.TypeA:
		return []byte{192, 0, 2, byte(d.roll(256))}
	case zones.TypeAAAA:
		return append(make([]byte, 15), byte(d.roll(256)))
	case zones.TypeNS, zones.TypeCNAME, zones.TypePTR, zones.TypeDNAME:
		return []byte(name)
	case zones.TypeMX:
		return []byte("\x00" + string(rune(d.roll(100))) + name)
	case zones.TypeSOA:
		return []byte(name + string(fuzzNames[d.roll(len(fuzzNames))]) + strings.Repeat("\x00\x00\x00\x01", 5))
	case zones.TypeSRV:
		return []byte("\x00\x01\x00\x02\x00\x35" + name)
	case zones.TypeNAPTR:
		return []byte("\x00\x01\x00\x02\x01s\x00\x00" + name)
	case zones.TypeHTTPS:
		return []byte("\x00\x01" + name)
	case zones.TypeNSEC:
		return []byte(name + "\x00\x01\x40")
	case zones.TypeRRSIG:
		return []byte("\x00" + string(rune(covered)) + "\x08\x02" + strings.Repeat("\x00\x01\x02\x03", 3) + "\x00\x07" + name + "signature")
	case zones.TypeTXT:
		n := d.roll(256)
		return append([]byte{byte(n)}, bytes.Repeat([]byte{'t'}, n)...)
	}
	return bytes.Repeat([]byte{0xc0}, d.roll(256))
}

func (d *dice) rrset(t testing.TB, owner zones.Name, kind zones.Type, covered byte) zones.RRset {
	t.Helper()
	var rdatas [][]byte
	for range 1 + d.roll(12) {
		rdatas = append(rdatas, d.rdata(kind, covered))
	}
	s, err := zones.NewRRset(owner, kind, uint32(d.roll(256))<<16, rdatas...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// records returns an RRset in miekg/dns's words.
func records(t testing.TB, s zones.RRset, class wire.Class) (out []string) {
	t.Helper()
	for rdata := range s.RDatas() {
		b := []byte(s.Owner)
		b = binary.BigEndian.AppendUint16(b, uint16(s.Type))
		b = binary.BigEndian.AppendUint16(b, uint16(class))
		b = binary.BigEndian.AppendUint32(b, s.TTL)
		b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
		rr, n, err := dns.UnpackRR(append(b, rdata...), 0)
		if err != nil || n != len(b)+len(rdata) {
			t.Fatalf("%s %s: %v", s.Owner, s.Type, err)
		}
		out = append(out, rr.String())
	}
	return out
}

// FuzzAppend: what is written of a random answer can be read by miekg/dns and means the same, fits the
// limit, and what is left out is left out whole, in order, and said.
func FuzzAppend(f *testing.F) {
	f.Add([]byte("0"), uint16(512), false)
	f.Add([]byte("a positive answer with a few records of each kind, perhaps"), uint16(1232), true)
	f.Add(bytes.Repeat([]byte("\x03\x01\x04\x01\x05\x09\x02\x06"), 40), uint16(512), true)
	f.Add(bytes.Repeat([]byte("\x01\x05\x0b\x02\x07"), 400), uint16(65535), false)
	f.Fuzz(func(t *testing.T, data []byte, limit uint16, withEDNS bool) {
		if len(data) > 4096 {
			data = data[:4096]
		}
		d := &dice{data}
		var entries []answer.Entry
		for section := range answer.Section(3) {
			for range d.roll(8) {
				e := answer.Entry{Section: section, RRset: d.rrset(t, fuzzNames[d.roll(len(fuzzNames))], fuzzTypes[d.roll(len(fuzzTypes))], 1)}
				if d.roll(3) == 0 {
					e.Signatures = d.rrset(t, e.RRset.Owner, zones.TypeRRSIG, byte(e.RRset.Type))
				}
				e.Optional = section == answer.SectionAdditional && d.roll(2) == 0
				entries = append(entries, e)
			}
		}
		checkAppend(t, entries, max(512, int(limit)), withEDNS)
	})
}

func checkAppend(t *testing.T, entries []answer.Entry, limit int, withEDNS bool) {
	t.Helper()
	p := header(rd, 1).question("\x03WwW\x07exAMple\x03cOM\x00", 1, 1)
	if withEDNS {
		p = header(rd, 1, 0, 0, 1).question("\x03WwW\x07exAMple\x03cOM\x00", 1, 1).opt(1232, do, option(3, ""))
	}
	var q wire.Query
	wire.Parse(p, &q)
	r := wire.Reply{RCode: wire.NXDomain, Authoritative: true, ExtendedError: 22, ExtraText: "why", Limit: limit, UDPSize: 1232, NSID: []byte("here")}
	prefix := []byte("before")
	out, cut := wire.Append(prefix, &q, &answer.Answer{Entries: entries}, &r)
	if !bytes.HasPrefix(out, prefix) {
		t.Fatal("what was there before is gone")
	}
	out = out[len(prefix):]
	if len(out) > limit {
		t.Fatalf("%d octets, with a limit of %d", len(out), limit)
	}
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%v in %x", err, out)
	}
	if m.Truncated != cut || m.Id != 0x1234 || !m.Response || !m.Authoritative || !m.RecursionDesired || m.RecursionAvailable || m.Rcode != 3 {
		t.Fatalf("header %+v", m.MsgHdr)
	}
	if m.Question[0].Name != "WwW.exAMple.cOM." {
		t.Fatalf("question %v", m.Question)
	}
	if opt := m.IsEdns0(); (opt != nil) != withEDNS || opt != nil && (len(opt.Option) != 2 || !opt.Do() || opt.UDPSize() != 1232) {
		t.Fatalf("OPT %v", opt)
	}

	// Walk the message along the entries: each is there whole, or left out for a reason.
	sections := [3][]dns.RR{m.Answer, m.Ns, m.Extra}
	stopped := false
	for _, e := range entries {
		want := append(records(t, e.RRset, wire.ClassIN), records(t, e.Signatures, wire.ClassIN)...)
		got := sections[e.Section]
		n := 0
		for n < len(want) && n < len(got) && sameRecord(got[n].String(), want[n]) {
			n++
		}
		switch {
		case n == len(want) && !stopped:
			sections[e.Section] = got[n:]
		case e.Optional:
		default:
			stopped = true
		}
	}
	if stopped != cut {
		t.Fatalf("left out what was needed: %v, TC: %v", stopped, cut)
	}
	for _, rest := range sections {
		for _, rr := range rest {
			if rr.Header().Rrtype != dns.TypeOPT {
				t.Fatalf("not asked for: %v", rr)
			}
		}
	}
}

// sameRecord compares but for the owner's case, which is the question's where it compresses to that.
func sameRecord(got, want string) bool { return strings.EqualFold(got, want) }
