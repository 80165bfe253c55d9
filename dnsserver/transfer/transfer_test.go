package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/zones"
)

var apex = zones.MustParseName("example.com.")

func set(t testing.TB, owner string, kind zones.Type, ttl uint32, rdata ...string) zones.RRset {
	t.Helper()
	var all [][]byte
	for _, text := range rdata {
		rr, err := dns.NewRR(fmt.Sprintf(". %d IN %s %s", ttl, kind, text))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		end, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, buf[11:end])
	}
	s, err := zones.NewRRset(zones.MustParseName(owner), kind, ttl, all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func soa(t testing.TB, serial int) zones.RRset {
	return set(t, "example.com.", zones.TypeSOA, 3600, fmt.Sprintf("ns1.example.com. hostmaster.example.com. %d 7200 900 1209600 300", serial))
}

// taken is what a client took.
type taken struct {
	t        testing.TB
	messages [][]byte
	room     int
}

func (k *taken) send(framed []byte) error {
	k.t.Helper()
	if n := int(binary.BigEndian.Uint16(framed)); n != len(framed)-2 {
		k.t.Fatalf("a frame says %d octets, of %d", n, len(framed)-2)
	}
	if cap(framed)-len(framed) < k.room || len(framed)-2+k.room > maxMessage {
		k.t.Fatalf("a message of %d octets leaves no room for %d", len(framed)-2, k.room)
	}
	k.messages = append(k.messages, bytes.Clone(framed[2:]))
	return nil
}

// records returns the records of all messages, and looks at what is around them.
func (k *taken) records() (all []dns.RR) {
	k.t.Helper()
	for i, b := range k.messages {
		var m dns.Msg
		if err := m.Unpack(b); err != nil {
			k.t.Fatalf("message %d: %v", i, err)
		}
		if m.Id != 4711 || !m.Response || m.Opcode != dns.OpcodeQuery || !m.Authoritative || m.Truncated || m.Rcode != 0 || len(m.Ns)+len(m.Extra) > 0 {
			k.t.Fatalf("message %d: %v", i, m.MsgHdr)
		}
		if (len(m.Question) == 1) != (i == 0) || len(m.Answer) == 0 {
			k.t.Fatalf("message %d has %d questions, %d answers", i, len(m.Question), len(m.Answer))
		}
		if len(b)+k.room > MessageSize && len(m.Answer) > 1 {
			k.t.Fatalf("message %d has %d octets, and %d records", i, len(b), len(m.Answer))
		}
		all = append(all, m.Answer...)
	}
	return all
}

func question(t testing.TB, name string, kind uint16) []byte {
	m := new(dns.Msg).SetQuestion(name, kind)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b[headerLen:]
}

func query(t testing.TB, k *taken) Query {
	return Query{ID: 4711, Question: question(t, "example.com.", dns.TypeAXFR), Name: apex, Room: k.room, Send: k.send}
}

func seq(sets []zones.RRset) iter.Seq2[zones.RRset, error] {
	return func(yield func(zones.RRset, error) bool) {
		for _, s := range sets {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// texts are the records of RRsets in the library's form.
func texts(t testing.TB, sets ...zones.RRset) (all []string) {
	t.Helper()
	for _, s := range sets {
		for rdata := range s.RDatas() {
			buf := append([]byte(s.Owner), 0, 0, 0, 1)
			binary.BigEndian.PutUint16(buf[len(s.Owner):], uint16(s.Type))
			buf = binary.BigEndian.AppendUint32(buf, s.TTL)
			buf = binary.BigEndian.AppendUint16(buf, uint16(len(rdata)))
			rr, _, err := dns.UnpackRR(append(buf, rdata...), 0)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rr.String())
		}
	}
	return all
}

func sameRecords(t *testing.T, got []dns.RR, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].String() != want[i] {
			t.Fatalf("record %d is\n%s, want\n%s", i, got[i], want[i])
		}
	}
}

// anyZone is a zone of some size, of names that share and don't share their ends.
func anyZone(t testing.TB, rng *rand.Rand, n int) []zones.RRset {
	sets := []zones.RRset{soa(t, 7), set(t, "example.com.", zones.TypeNS, 3600, "ns1.example.com.", "ns.elsewhere.net.")}
	for i := range n {
		owner := fmt.Sprintf("h%d.%c.example.com.", i, 'a'+rune(rng.IntN(20)))
		switch rng.IntN(6) {
		case 0:
			sets = append(sets, set(t, owner, zones.TypeMX, 60, fmt.Sprintf("10 mx%d.%c.example.com.", rng.IntN(100), 'a'+rune(rng.IntN(20))), "20 h1.example.com."))
		case 1:
			sets = append(sets, set(t, owner, zones.TypeTXT, 60, `"`+strings.Repeat("x", rng.IntN(200))+`"`, `"y"`))
		case 2:
			sets = append(sets, set(t, owner, zones.TypeSRV, 60, "1 2 3 h1.example.com."))
		case 3:
			sets = append(sets, set(t, `a\000b\.`+owner, zones.TypeCNAME, 60, "h1.example.com."))
		default:
			sets = append(sets, set(t, owner, zones.TypeA, 300, "192.0.2.1", "192.0.2.2"))
		}
	}
	slices.SortFunc(sets, zones.CompareRRsets)
	return sets
}

func TestZone(t *testing.T) {
	var w Writer
	for _, n := range []int{0, 3, 200, 5000} {
		for _, room := range []int{0, 300} {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(room)))
			sets := anyZone(t, rng, n)
			k := &taken{t: t, room: room}
			w.Begin(query(t, k))
			if err := w.Zone(soa(t, 7), seq(sets)); err != nil {
				t.Fatal(err)
			}
			first := soa(t, 7)
			rest := slices.DeleteFunc(slices.Clone(sets), func(s zones.RRset) bool { return s.Type == zones.TypeSOA })
			want := append(texts(t, append([]zones.RRset{first}, rest...)...), texts(t, first)...)
			sameRecords(t, k.records(), want)
			if messages, records := w.Sent(); messages != len(k.messages) || records != len(want) {
				t.Errorf("it says that it has sent %d messages and %d records, not %d and %d", messages, records, len(k.messages), len(want))
			}
			if n == 5000 && len(k.messages) < 5 {
				t.Errorf("%d messages are few", len(k.messages))
			}
		}
	}
}

// TestCompression: names come once in a message, as far as pointers reach.
func TestCompression(t *testing.T) {
	k := &taken{t: t}
	var w Writer
	w.Begin(query(t, k))
	sets := []zones.RRset{
		set(t, "example.com.", zones.TypeNS, 1, "ns1.example.com."),
		set(t, "www.example.com.", zones.TypeMX, 1, "1 www.example.com.", "2 ns1.example.com."),
		set(t, "ns1.example.com.", zones.TypeSRV, 1, "1 2 3 www.example.com."), // RFC 3597 §4: not compressed
		set(t, "ns2.www.example.com.", zones.TypeA, 1, "192.0.2.1"),
	}
	if err := w.Zone(soa(t, 7), seq(sets)); err != nil {
		t.Fatal(err)
	}
	k.records()
	whole := k.messages[0]
	for text, times := range map[string]int{"\x07example\x03com\x00": 2, "\x03www": 2, "\x03ns1": 1, "\x03ns2": 1, "hostmaster": 1} {
		if n := bytes.Count(whole, []byte(text)); n != times {
			t.Errorf("%q is in the message %d times, not %d", text, n, times)
		}
	}
}

// TestQuestionsCase: what was asked for in capitals is not what owners are written in.
func TestQuestionsCase(t *testing.T) {
	k := &taken{t: t}
	q := query(t, k)
	q.Question = question(t, "ExAmple.com.", dns.TypeAXFR)
	var w Writer
	w.Begin(q)
	if err := w.Current(soa(t, 7)); err != nil {
		t.Fatal(err)
	}
	got := k.records()
	if got[0].Header().Name != "example.com." || !bytes.Contains(k.messages[0], []byte("ExAmple")) {
		t.Errorf("%v in %q", got, k.messages[0])
	}
}

// TestLargeRecords: a record that is larger than a message is filled to has one of its own.
func TestLargeRecords(t *testing.T) {
	octets := func(n int) zones.RRset {
		s, err := zones.NewRRset(zones.MustParseName("large.example.com."), 65280, 1, make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const head = headerLen + 19 + 10 // and the owner
	for _, room := range []int{0, 500} {
		k := &taken{t: t, room: room}
		var w Writer
		w.Begin(query(t, k))
		sets := []zones.RRset{octets(MessageSize), octets(maxMessage - head - room), set(t, "z.example.com.", zones.TypeA, 1, "192.0.2.1")}
		if err := w.Zone(soa(t, 7), seq(sets)); err != nil {
			t.Fatal(err)
		}
		sameRecords(t, k.records(), append(texts(t, append([]zones.RRset{soa(t, 7)}, sets...)...), texts(t, soa(t, 7))...))
		if len(k.messages) != 4 {
			t.Errorf("%d messages", len(k.messages))
		}
		w.Begin(query(t, k))
		if err := w.Zone(soa(t, 7), seq([]zones.RRset{octets(maxMessage - head - room + 1)})); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a record that is an octet too long: %v", err)
		}
	}
}

func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	k := &taken{t: t}
	var w Writer
	w.Begin(query(t, k))
	err := w.Zone(soa(t, 7), func(yield func(zones.RRset, error) bool) {
		if yield(set(t, "a.example.com.", zones.TypeA, 1, "192.0.2.1"), nil) {
			yield(zones.RRset{}, broken)
		}
	})
	if !errors.Is(err, broken) || len(k.messages) != 0 {
		t.Fatalf("a zone that can't be read: %v, after %d messages", err, len(k.messages))
	}
	if err := w.Abort(2); err != nil {
		t.Fatal(err)
	}
	var m dns.Msg
	if err := m.Unpack(k.messages[0]); err != nil || m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 || len(m.Question) != 1 {
		t.Errorf("%v %v", err, &m)
	}
	q := query(t, k)
	q.Send = func([]byte) error { return broken }
	w.Begin(q)
	if err := w.Current(soa(t, 7)); !errors.Is(err, broken) {
		t.Errorf("a client that is gone: %v", err)
	}
	if err := w.Abort(2); !errors.Is(err, broken) {
		t.Errorf("telling a client that is gone: %v", err)
	}
}

// TestOnly: what must fit a message of a length fits it, or is not sent.
func TestOnly(t *testing.T) {
	sets := anyZone(t, rand.New(rand.NewPCG(1, 1)), 10)
	k := &taken{t: t, room: 11}
	var w Writer
	w.Begin(query(t, k))
	if err := w.Zone(soa(t, 7), seq(sets)); err != nil {
		t.Fatal(err)
	}
	size := len(k.messages[0])
	for only := size + 10; only < size+13; only++ {
		k := &taken{t: t, room: 11}
		q := query(t, k)
		q.Only = only
		w.Begin(q)
		err := w.Zone(soa(t, 7), seq(sets))
		if fits := only >= size+11; fits != (err == nil) || !fits && !errors.Is(err, ErrTooLarge) || len(k.messages) > 1 || fits != (len(k.messages) == 1) {
			t.Errorf("%d octets in %d: %v, %d messages", size, only, err, len(k.messages))
		}
	}
}

// edited is a zone and what has been done to it.
type edited struct {
	sets    map[place]zones.RRset
	history [][]zones.RRsetChange
}

func (e *edited) change(sets ...zones.RRset) {
	var changes []zones.RRsetChange
	for _, s := range sets {
		at := place{s.Owner, s.Key}
		before := e.sets[at]
		after := s
		if s.TTL == 0 { // gone
			after = zones.RRset{}
			delete(e.sets, at)
		} else {
			e.sets[at] = s
		}
		changes = append(changes, zones.RRsetChange{Owner: s.Owner, Key: s.Key, Before: before, After: after})
	}
	e.history = append(e.history, changes)
}

// apply is a secondary: it does to records what an IXFR says (RFC 1995 §4).
func apply(t *testing.T, zone map[string]bool, rrs []dns.RR) {
	t.Helper()
	if len(rrs) < 4 || rrs[0].String() != rrs[len(rrs)-1].String() {
		t.Fatalf("not a difference: %v", rrs)
	}
	removing := false
	removed := map[string]bool{}
	for _, rr := range rrs[1 : len(rrs)-1] {
		if rr.Header().Rrtype == dns.TypeSOA {
			removing = !removing
		}
		text := rr.String()
		if zone[text] != removing {
			t.Fatalf("%s: is there: %v, to be removed: %v", text, zone[text], removing)
		}
		if removing {
			delete(zone, text)
			removed[text] = true
		} else {
			if removed[text] {
				t.Fatalf("%s was removed for nothing", text)
			}
			zone[text] = true
		}
	}
	if removing {
		t.Fatal("it ends while removing")
	}
}

// TestDifference: whatever was done, a secondary that was at any step of it comes to the zone that it is now.
func TestDifference(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		e := edited{sets: map[place]zones.RRset{}}
		e.change(soa(t, 1), set(t, "example.com.", zones.TypeNS, 1, "ns1.example.com."))
		e.history = nil
		var versions []map[string]bool
		const steps = 12
		for step := range steps {
			version := map[string]bool{}
			for _, s := range e.sets {
				for _, text := range texts(t, s) {
					version[text] = true
				}
			}
			versions = append(versions, version)
			if step == steps-1 {
				break
			}
			sets := []zones.RRset{soa(t, step+2)}
			for i := range rng.IntN(5) {
				var addresses []string
				for j := range 8 {
					if rng.IntN(2) == 0 {
						addresses = append(addresses, fmt.Sprintf("192.0.2.%d", j))
					}
				}
				owner := fmt.Sprintf("h%d.example.com.", 4*rng.IntN(4)+i)
				ttl := uint32(rng.IntN(3)) // 0: gone
				if len(addresses) == 0 {
					addresses, ttl = []string{"192.0.2.1"}, 0
				}
				sets = append(sets, set(t, owner, zones.TypeA, ttl, addresses...))
			}
			e.change(sets...)
		}
		now := soa(t, steps)
		var d Difference
		for back := 1; back < steps; back++ {
			from := steps - 1 - back
			d.Precede(e.history[from])
			k := &taken{t: t}
			var w Writer
			w.Begin(query(t, k))
			octets, ok := d.Sent(now, zones.Serial(from+1))
			if !ok {
				t.Fatalf("seed %d: no difference from %d", seed, from+1)
			}
			if err := w.Difference(now, &d); err != nil {
				t.Fatal(err)
			}
			if len(k.messages[0]) > octets+headerLen+17+4*(10+13+soa(t, 1).Size()) {
				t.Errorf("%d octets are more than the %d that were said", len(k.messages[0]), octets)
			}
			zone := map[string]bool{}
			for text := range versions[from] {
				zone[text] = true
			}
			apply(t, zone, k.records())
			if fmt.Sprint(zone) != fmt.Sprint(versions[steps-1]) {
				t.Fatalf("seed %d, from %d: %v, want %v", seed, from+1, zone, versions[steps-1])
			}
		}
		if _, ok := d.Sent(now, 3); ok {
			t.Error("a difference from another serial")
		}
		if _, ok := d.Sent(soa(t, steps+1), 1); ok {
			t.Error("a difference to another serial")
		}
	}
}

func TestSince(t *testing.T) {
	m := new(dns.Msg).SetIxfr("example.com.", 4711, "ns1.example.com.", "hostmaster.example.com.")
	m.SetEdns0(1232, false)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	m.Compress = true
	compressed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	at := headerLen + len(question(t, "example.com.", dns.TypeIXFR))
	for _, b := range [][]byte{b, compressed} {
		if serial, ok := Since(b, at); !ok || serial != 4711 {
			t.Errorf("%d %v", serial, ok)
		}
		for end := range len(b) { // and never beyond the end
			Since(b[:end:end], at)
		}
	}
	m.Ns = nil
	if b, err = m.Pack(); err != nil {
		t.Fatal(err)
	}
	if _, ok := Since(b, at); ok {
		t.Error("a serial from nowhere")
	}
}

// TestManyNames: what a message can't remember is written out.
func TestManyNames(t *testing.T) {
	k := &taken{t: t}
	var w Writer
	w.Begin(query(t, k))
	var sets []zones.RRset
	for i := range 3000 { // of one label each, one octet long: as many names as octets allow
		sets = append(sets, set(t, fmt.Sprintf("%c.%c.%c.example.com.", 'a'+i%26, 'a'+i/26%26, 'a'+i/676), zones.TypeNS, 1, "a.", "b.c.d.e.f.g.h.i.j.k.l."))
	}
	if err := w.Zone(soa(t, 7), seq(sets)); err != nil {
		t.Fatal(err)
	}
	sameRecords(t, k.records(), append(texts(t, append([]zones.RRset{soa(t, 7)}, sets...)...), texts(t, soa(t, 7))...))
	for range 1 << 16 { // rounds wrap
		w.names.forget()
	}
	if w.names.round == 0 {
		t.Error("the round of free slots")
	}
}

func BenchmarkZone(b *testing.B) {
	sets := anyZone(b, rand.New(rand.NewPCG(1, 1)), 100_000)
	var w Writer
	octets := 0
	records := 0
	for b.Loop() {
		octets = 0
		w.Begin(Query{ID: 1, Name: apex, Send: func(framed []byte) error { octets += len(framed); return nil }})
		if err := w.Zone(soa(b, 7), seq(sets)); err != nil {
			b.Fatal(err)
		}
		_, records = w.Sent()
	}
	b.SetBytes(int64(octets))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
}
