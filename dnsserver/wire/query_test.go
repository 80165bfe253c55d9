package wire_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"balefire/dnsserver/wire"
	"balefire/zones"
)

// packet builds messages, malformed ones too.
type packet []byte

// header returns a header with the ID 0x1234, the given flags and counts.
func header(flags uint16, counts ...uint16) packet {
	p := packet{0x12, 0x34}
	p = binary.BigEndian.AppendUint16(p, flags)
	for i := range 4 {
		var n uint16
		if i < len(counts) {
			n = counts[i]
		}
		p = binary.BigEndian.AppendUint16(p, n)
	}
	return p
}

func (p packet) raw(octets string) packet { return append(p[:len(p):len(p)], octets...) }

func (p packet) question(name string, t, class uint16) packet {
	p = p.raw(name)
	p = binary.BigEndian.AppendUint16(p, t)
	return binary.BigEndian.AppendUint16(p, class)
}

func (p packet) record(owner string, t, class uint16, ttl uint32, rdata string) packet {
	p = p.question(owner, t, class)
	p = binary.BigEndian.AppendUint32(p, ttl)
	p = binary.BigEndian.AppendUint16(p, uint16(len(rdata)))
	return p.raw(rdata)
}

func (p packet) opt(size uint16, ttl uint32, options string) packet {
	return p.record("\x00", 41, size, ttl, options)
}

func option(code uint16, data string) string {
	b := binary.BigEndian.AppendUint16(nil, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return string(b) + data
}

const (
	www    = "\x03www\x07example\x03com\x00"
	rd     = 0x0100
	opcode = 1 << 11
	do     = 0x8000
)

// plain is an ordinary query.
func plain() packet { return header(rd, 1).question(www, 1, 1) }

// edns is an ordinary query with OPT.
func edns(options string) packet {
	return header(rd, 1, 0, 0, 1).question(www, 1, 1).opt(1232, 0, options)
}

func longName(last int) string {
	l63 := "\x3f" + strings.Repeat("a", 63)
	return l63 + l63 + l63 + string(rune(last)) + strings.Repeat("b", last) + "\x00"
}

// TestParse has the rows of ANSWERS.md 4.2 and 4.3 that a message's own content decides, by number.
func TestParse(t *testing.T) {
	const (
		drop   = wire.Drop
		fail   = wire.Fail
		ask    = wire.Ask
		slow   = wire.Slow
		none   = wire.EchoHeader
		quest  = wire.EchoQuestion
		all    = wire.EchoAll
		cookie = "\x01\x02\x03\x04\x05\x06\x07\x08"
	)
	tests := []struct {
		row     string
		packet  packet
		verdict wire.Verdict
		rcode   wire.RCode
		echo    wire.Echo
	}{
		{"38 TYPE0", header(0, 1).question(www, 0, 1), fail, wire.NotImp, all},
		{"39 OPT", header(0, 1).question(www, 41, 1), fail, wire.FormErr, all},
		{"39 TSIG", header(0, 1).question(www, 250, 1), fail, wire.FormErr, all},
		{"39 TKEY", header(0, 1).question(www, 249, 1), fail, wire.FormErr, all},
		{"40 MAILA", header(0, 1).question(www, 254, 1), fail, wire.NotImp, all},
		{"40 MAILB", header(0, 1).question(www, 253, 1), fail, wire.NotImp, all},
		{"41 NXNAME", header(0, 1).question(www, 128, 1), fail, wire.FormErr, all},
		{"42 AXFR", header(0, 1).question(www, 252, 1), slow, 0, all},
		{"43 IXFR", header(0, 1, 0, 1).question(www, 251, 1).record(www, 6, 1, 0, "\x00\x00"+strings.Repeat("x", 20)), slow, 0, all},
		{"44 CH", header(0, 1).question("\x02id\x06server\x00", 16, 3), wire.Chaos, 0, all},
		{"45 HS", header(0, 1).question(www, 1, 4), fail, wire.Refused, all},
		{"45 NONE", header(0, 1).question(www, 1, 254), fail, wire.Refused, all},
		{"45 class 0", header(0, 1).question(www, 1, 0), fail, wire.Refused, all},
		{"46 class ANY", header(0, 1).question(www, 1, 255), fail, wire.Refused, all},
		{"47 opcode 1", header(1*opcode, 1).question(www, 1, 1), fail, wire.NotImp, all},
		{"47 opcode 2, with OPT", header(2*opcode, 1, 0, 0, 1).question(www, 1, 1).opt(512, 0, ""), fail, wire.NotImp, all},
		{"47 opcode 3", header(3*opcode, 1).question(www, 1, 1), fail, wire.NotImp, all},
		{"47 opcode 6, no question", header(6 * opcode), fail, wire.NotImp, all},
		{"47 opcode 15, malformed question", header(15*opcode, 1).raw("\x40"), fail, wire.NotImp, none},
		{"47 opcode 15, malformed OPT", header(15*opcode, 1, 0, 0, 1).question(www, 1, 1).opt(512, 0, "x"), fail, wire.NotImp, quest},
		{"48 NOTIFY", header(4*opcode, 1).question(www, 6, 1), slow, 0, all},
		{"49 UPDATE", header(5*opcode, 1, 0, 1).question(www, 6, 1).record(www, 1, 1, 60, "\x01\x02\x03\x04"), slow, 0, all},

		{"50 empty", packet{}, drop, 0, none},
		{"50 eleven octets", plain()[:11], drop, 0, none},
		{"50 QR", header(0x8000, 1).question(www, 1, 1), drop, 0, none},
		{"51 no question", header(rd), fail, wire.FormErr, all},
		{"51 no question, OPT without cookie", header(rd, 0, 0, 0, 1).opt(512, 0, option(3, "")), fail, wire.FormErr, all},
		{"51 no question, cookie", header(rd, 0, 0, 0, 1).opt(512, 0, option(10, cookie)), wire.Cookie, 0, all},
		{"52 two questions", header(rd, 2).question(www, 1, 1).question(www, 28, 1), fail, wire.FormErr, none},
		{"52 65535 questions", header(rd, 65535).question(www, 1, 1), fail, wire.FormErr, none},
		{"53 no room for class", plain()[:len(plain())-1], fail, wire.FormErr, none},
		{"53 header only", header(rd, 1), fail, wire.FormErr, none},
		{"53 cut in the name", plain()[:18], fail, wire.FormErr, none},
		{"53 label of 64", header(rd, 1).question("\x40"+strings.Repeat("a", 64)+"\x00", 1, 1), fail, wire.FormErr, none},
		{"53 pointer to itself", header(rd, 1).question("\xc0\x0c", 1, 1), fail, wire.FormErr, none},
		{"53 pointer into the header", header(rd, 1).question("\xc0\x00", 1, 1), fail, wire.FormErr, none},
		{"53 name of 256", header(rd, 1).question(longName(62), 1, 1), fail, wire.FormErr, none},
		{"53 name of 255", header(rd, 1).question(longName(61), 1, 1), ask, 0, all},
		{"54 trailing octet", plain().raw("\x00"), fail, wire.FormErr, quest},
		{"54 trailing octet after OPT", edns("").raw("\x00"), fail, wire.FormErr, quest},
		{"55 answer", header(rd, 1, 1).question(www, 1, 1).record("\xc0\x0c", 1, 1, 1, "abcd"), fail, wire.FormErr, quest},
		{"55 authority", header(rd, 1, 0, 1).question(www, 1, 1).record("\xc0\x0c", 1, 1, 1, "abcd"), fail, wire.FormErr, quest},
		{"56 RCODE", header(rd|0xf, 1).question(www, 1, 1), ask, 0, all},
		{"57 ARCOUNT lies", header(rd, 1, 0, 0, 1).question(www, 1, 1), fail, wire.FormErr, quest},
		{"57 ARCOUNT too large", header(rd, 1, 0, 0, 2).question(www, 1, 1).opt(512, 0, ""), fail, wire.FormErr, quest},
		{"57 ARCOUNT too small", header(rd, 1).question(www, 1, 1).opt(512, 0, ""), fail, wire.FormErr, quest},
		{"57 two OPT", header(rd, 1, 0, 0, 2).question(www, 1, 1).opt(512, 0, "").opt(512, 0, ""), fail, wire.FormErr, quest},
		{"57 OPT as authority", header(opcode*5, 1, 0, 1).question(www, 6, 1).opt(512, 0, ""), fail, wire.FormErr, quest},
		{"57 option longer than OPT", edns("\x00\x03\x00\x01"), fail, wire.FormErr, quest},
		{"57 option header cut", edns("\x00\x03\x00"), fail, wire.FormErr, quest},
		{"57 cookie of 7", edns(option(10, cookie[:7])), fail, wire.FormErr, quest},
		{"57 cookie of 15", edns(option(10, cookie+cookie[:7])), fail, wire.FormErr, quest},
		{"57 cookie of 41", edns(option(10, strings.Repeat("x", 41))), fail, wire.FormErr, quest},
		{"57 RDATA longer than the packet", edns("")[:len(edns(""))-1].raw("\x01"), fail, wire.FormErr, quest},
		{"58 OPT owner", header(rd, 1, 0, 0, 1).question(www, 1, 1).record("\x01a\x00", 41, 512, 0, ""), fail, wire.FormErr, quest},
		{"58 OPT owner is a pointer to the root", header(rd, 1, 0, 0, 1).question(www, 1, 1).record("\xc0\x1c", 41, 512, 0, ""), fail, wire.FormErr, quest},
		{"59 EDNS version 1", header(rd, 1, 0, 0, 1).question(www, 1, 1).opt(1232, 1<<16, ""), fail, wire.BadVers, all},
		{"59 EDNS version 255, odd options", header(rd, 1, 0, 0, 1).question(www, 1, 1).opt(1232, 255<<16, "x"), fail, wire.BadVers, all},
		{"60 unknown option", edns(option(65001, "anything")), ask, 0, all},
		{"60 empty option", edns(option(19, "")), ask, 0, all},
		{"60 Z flags", header(rd|0x70, 1, 0, 0, 1).question(www, 1, 1).opt(1232, 0x7fff, ""), ask, 0, all},
		{"62 no OPT", plain(), ask, 0, all},
		{"65 octets", header(rd, 1).question("\x05a\x00.\xff \x00", 1, 1), ask, 0, all},
		{"65 the root", header(rd, 1).question("\x00", 2, 1), ask, 0, all},

		{"records beside OPT are passed over", header(rd, 1, 0, 0, 2).question(www, 1, 1).record(www, 1, 1, 0, "abcd").opt(512, 0, ""), ask, 0, all},
		{"owner pointing forward", header(rd, 1, 0, 0, 1).question(www, 1, 1).record("\xc0\xff", 1, 1, 0, ""), fail, wire.FormErr, quest},
		{"owner pointing at itself", header(rd, 1, 0, 0, 1).question(www, 1, 1).record("\xc0\x21", 1, 1, 0, ""), fail, wire.FormErr, quest},
		{"TSIG at the end", header(rd, 1, 0, 0, 1).question(www, 1, 1).record(www, 250, 255, 0, "x"), slow, 0, all},
		{"TSIG before OPT", header(rd, 1, 0, 0, 2).question(www, 1, 1).record(www, 250, 255, 0, "x").opt(512, 0, ""), fail, wire.FormErr, quest},
		{"TSIG as answer", header(opcode*4, 1, 1).question(www, 6, 1).record(www, 250, 255, 0, "x"), fail, wire.FormErr, quest},
		{"NOTIFY without a question", header(4 * opcode), fail, wire.FormErr, all},
		{"reserved meta type", header(0, 1).question(www, 200, 1), ask, 0, all},
		{"type above 256", header(0, 1).question(www, 65280, 1), ask, 0, all},
	}
	var q wire.Query
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			wire.Parse(tt.packet, &q)
			if q.Verdict != tt.verdict || q.RCode != tt.rcode || q.Echo != tt.echo {
				t.Errorf("got %v, rcode %d, echo %d; want %v, %d, %d", q.Verdict, q.RCode, q.Echo, tt.verdict, tt.rcode, tt.echo)
			}
		})
	}
}

// TestJudgeVerified: whatever has TSIG is for the slow lane, so that its answer can be signed, and is judged there as if it had none.
func TestJudgeVerified(t *testing.T) {
	tests := []struct {
		row     string
		packet  packet
		verdict wire.Verdict
		rcode   wire.RCode
	}{
		{"an ordinary question", header(rd, 1, 0, 0, 1).question(www, 1, 1), wire.Ask, 0},
		{"TYPE0", header(0, 1, 0, 0, 1).question(www, 0, 1), wire.Fail, wire.NotImp},
		{"class HS", header(0, 1, 0, 0, 1).question(www, 1, 4), wire.Fail, wire.Refused},
		{"class CH", header(0, 1, 0, 0, 1).question(www, 16, 3), wire.Chaos, 0},
		{"AXFR", header(0, 1, 0, 0, 1).question(www, 252, 1), wire.Slow, 0},
		{"opcode 1", header(1*opcode, 1, 0, 0, 1).question(www, 1, 1), wire.Fail, wire.NotImp},
		{"NOTIFY", header(4*opcode, 1, 0, 0, 1).question(www, 6, 1), wire.Slow, 0},
		{"UPDATE", header(5*opcode, 1, 0, 0, 1).question(www, 6, 1), wire.Slow, 0},
		{"no question", header(0, 0, 0, 0, 1), wire.Fail, wire.FormErr},
		{"no question, cookie", header(0, 0, 0, 0, 2).opt(512, 0, option(10, "\x01\x02\x03\x04\x05\x06\x07\x08")), wire.Cookie, 0},
		{"EDNS version 1", header(0, 1, 0, 0, 2).question(www, 1, 1).opt(1232, 1<<16, ""), wire.Fail, wire.BadVers},
	}
	var q wire.Query
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			wire.Parse(tt.packet.record(www, 250, 255, 0, "x"), &q)
			if q.Verdict != wire.Slow || q.RCode != 0 || q.TSIG != len(tt.packet) {
				t.Errorf("parsed as %v, rcode %d, TSIG at %d", q.Verdict, q.RCode, q.TSIG)
			}
			if q.JudgeVerified(); q.Verdict != tt.verdict || q.RCode != tt.rcode {
				t.Errorf("judged as %v, rcode %d; want %v, %d", q.Verdict, q.RCode, tt.verdict, tt.rcode)
			}
		})
	}
}

func TestParseFields(t *testing.T) {
	var q wire.Query
	wire.Parse(header(rd, 1, 0, 0, 1).question("\x03WwW\x07eXample\x03com\x00", 28, 1).
		opt(4000, do, option(3, "")+option(10, "\x01\x02\x03\x04\x05\x06\x07\x08")+option(10, "bad")), &q)
	if q.Verdict != wire.Ask || q.ID != 0x1234 || !q.RD || q.Opcode != wire.OpQuery {
		t.Fatalf("header: %+v", q)
	}
	if q.Name != zones.MustParseName("www.example.com.") || q.Type != zones.TypeAAAA || q.Class != wire.ClassIN {
		t.Errorf("question: %v %v %d", q.Name, q.Type, q.Class)
	}
	if got := string(q.Question()); got != "\x03WwW\x07eXample\x03com\x00\x00\x1c\x00\x01" {
		t.Errorf("row 64: the question as it came: %q", got)
	}
	if !q.EDNS || q.UDPSize != 4000 || !q.DO || !q.NSID || string(q.CookieOption) != "\x01\x02\x03\x04\x05\x06\x07\x08" {
		t.Errorf("EDNS: %v %d %v %v %x", q.EDNS, q.UDPSize, q.DO, q.NSID, q.CookieOption)
	}

	for _, size := range []struct{ offered, want uint16 }{{0, 512}, {511, 512}, {512, 512}, {1000, 1000}, {1232, 1232}, {4096, 1232}, {65535, 1232}} {
		wire.Parse(header(rd, 1, 0, 0, 1).question(www, 1, 1).opt(size.offered, 0, ""), &q)
		if got := q.Limit(wire.DefaultUDPSize); got != int(size.want) {
			t.Errorf("row 61: payload %d is limited to %d, want %d", size.offered, got, size.want)
		}
	}

	wire.Parse(plain(), &q) // nothing of the earlier queries is left
	if q.EDNS || q.DO || q.NSID || q.CookieOption != nil || q.Limit(wire.DefaultUDPSize) != 512 {
		t.Errorf("row 62: %+v", q)
	}
	wire.Parse(header(rd, 1, 0, 0, 1).question(www, 1, 1).record(www, 250, 255, 0, "x"), &q)
	if q.TSIG != len(plain()) {
		t.Errorf("TSIG at %d, want %d", q.TSIG, len(plain()))
	}
}

// TestParseEveryCut cuts and flips a full query everywhere: no panic, and no cut is taken for whole.
func TestParseEveryCut(t *testing.T) {
	whole := edns(option(3, "") + option(10, "\x01\x02\x03\x04\x05\x06\x07\x08"))
	var q wire.Query
	for end := range whole {
		wire.Parse(whole[:end], &q)
		if q.Verdict != wire.Drop && q.Verdict != wire.Fail {
			t.Errorf("cut to %d octets: %v", end, q.Verdict)
		}
	}
	for i := range whole {
		for bit := range 8 {
			flipped := append(packet(nil), whole...)
			flipped[i] ^= 1 << bit
			wire.Parse(flipped, &q)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	p := edns(option(3, "") + option(10, "\x01\x02\x03\x04\x05\x06\x07\x08"))
	var q wire.Query
	if n := testing.AllocsPerRun(1000, func() { wire.Parse(p, &q) }); n != 0 {
		t.Errorf("%v allocations for a query", n)
	}
}

func BenchmarkParse(b *testing.B) {
	var q wire.Query
	for name, p := range map[string]packet{"plain": plain(), "edns": edns(option(10, "\x01\x02\x03\x04\x05\x06\x07\x08"))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				wire.Parse(p, &q)
			}
		})
	}
}
