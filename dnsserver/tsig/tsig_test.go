package tsig

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/zones"
)

// keys is a Ring.
type keys map[zones.Name]Key

func (r keys) Key(name zones.Name) (Key, bool) {
	k, ok := r[name]
	return k, ok
}

func ring(all ...Key) keys {
	r := keys{}
	for _, k := range all {
		r[k.Name] = k
	}
	return r
}

func testKey(algorithm zones.Name) Key {
	return Key{Name: zones.MustParseName("some.key."), Algorithm: algorithm, Secret: []byte("a secret that everybody knows")}
}

func query(t testing.TB) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	m.Id = 0x4712 // the same in all processes that fuzz
	m.SetEdns0(1232, true)
	return pack(t, m)
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// at returns where the TSIG record of a message begins.
func at(t testing.TB, msg []byte) int {
	t.Helper()
	at, err := findRecord(msg)
	if err != nil || at == 0 {
		t.Fatalf("no TSIG: %v in %x", err, msg)
	}
	return at
}

// mac returns the MAC of a message, in hexadecimal as the library wants it.
func mac(t testing.TB, msg []byte) string {
	t.Helper()
	r, ok := read(msg, at(t, msg))
	if !ok {
		t.Fatalf("malformed: %x", msg)
	}
	return hex.EncodeToString(r.mac)
}

// TestWithLibrary: what miekg/dns signs is verified, and the other way, for requests, answers and streams. It has no MD5 any more.
func TestWithLibrary(t *testing.T) {
	now := time.Now()
	for _, algorithm := range zones.TSIGAlgorithms() {
		if algorithm == zones.HMACMD5 {
			continue
		}
		t.Run(algorithm.String(), func(t *testing.T) {
			key := testKey(algorithm)
			secret := base64.StdEncoding.EncodeToString(key.Secret)
			m := new(dns.Msg).SetQuestion("WWW.example.com.", dns.TypeAXFR)
			m.SetEdns0(1232, true)
			m.SetTsig("SOME.key.", strings.ToUpper(algorithm.String()), Fudge, now.Unix())
			signed, requestMAC, err := dns.TsigGenerate(m, secret, "", false)
			if err != nil {
				t.Fatal(err)
			}
			binary.BigEndian.PutUint16(signed, 0x4711) // forwarded
			s, fault := Verify(signed, at(t, signed), ring(key), now)
			if fault != (Fault{}) || s.Key != key.Name {
				t.Fatalf("the library's request: %+v", fault)
			}
			plain := AppendStripped([]byte("before"), signed, at(t, signed))
			m.Extra = m.Extra[:1]
			if want := pack(t, m); string(plain) != "before"+string(want) {
				t.Errorf("stripped %x, want %x", plain, want)
			}

			prior := requestMAC
			for i := range 3 {
				answer := pack(t, new(dns.Msg).SetReply(m))
				size := s.Len()
				out := s.Sign(answer, now)
				if len(out) != len(answer)+size || size > MaxLen {
					t.Errorf("message %d: %d octets appended, Len said %d", i, len(out)-len(answer), size)
				}
				next := mac(t, out)
				if err := dns.TsigVerify(bytes.Clone(out), secret, prior, i > 0); err != nil {
					t.Errorf("the library about message %d: %v", i, err)
				}
				prior = next
			}

			c := NewClient(key)
			request := c.SignRequest(query(t), now)
			if err := dns.TsigVerify(bytes.Clone(request), secret, "", false); err != nil {
				t.Errorf("the library about our request: %v", err)
			}
			prior = mac(t, request)
			for i := range 3 {
				a := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
				a.Response = true
				want := pack(t, a)
				a.SetTsig("some.key.", algorithm.String(), Fudge, now.Unix())
				var answer []byte
				if answer, prior, err = dns.TsigGenerate(a, secret, prior, i > 0); err != nil {
					t.Fatal(err)
				}
				got, err := c.VerifyAnswer(answer, now)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("the library's message %d: %v, %x, want %x", i, err, got, want)
				}
			}
			if err := c.Complete(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRealClients verifies what clients signed, when they did.
func TestRealClients(t *testing.T) {
	text, err := os.ReadFile("../../testdata/tsig/requests.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		n++
		f := strings.Split(strings.TrimSpace(line), "\t")
		packet, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		algorithm, err := zones.ParseTSIGAlgorithm(f[1])
		if err != nil {
			t.Fatal(err)
		}
		start := at(t, packet)
		r, ok := read(packet, start)
		if !ok {
			t.Fatalf("%s: malformed", f[0])
		}
		want := Fault{}
		if f[0] == "dig hmac-sha1-80" {
			want = Fault{rcodeNotAuth, BadTrunc}
		}
		keys := ring(testKey(algorithm))
		if _, fault := Verify(packet, start, keys, time.Unix(int64(r.signed)+60, 0)); fault != want {
			t.Errorf("%s, %s: %+v", f[0], f[1], fault)
		}
		if _, fault := Verify(packet, start, keys, time.Unix(int64(r.signed)+400, 0)); fault.Error != BadTime {
			t.Errorf("%s, %s, late: %+v", f[0], f[1], fault)
		}
		packet[start-1] ^= 1
		if _, fault := Verify(packet, start, keys, time.Unix(int64(r.signed), 0)); fault.Error != BadSig {
			t.Errorf("%s, %s, changed: %+v", f[0], f[1], fault)
		}
	}
	if n < 21 {
		t.Errorf("%d requests", n)
	}
}

// request returns a signed request, and the session of who asks.
func request(t testing.TB, key Key, now time.Time) ([]byte, *Session) {
	t.Helper()
	c := NewClient(key)
	return c.SignRequest(query(t), now), c
}

// resigned replaces what r says of the record of a request, signed again with the key.
func resigned(t testing.TB, key Key, now time.Time, change func(r *record)) []byte {
	t.Helper()
	plain := query(t)
	r := record{name: key.Name, algorithm: key.Algorithm, signed: uint64(now.Unix()), fudge: Fudge, id: binary.BigEndian.Uint16(plain)}
	h := newMAC(&key)
	h.Write(plain)
	change(&r)
	h.Write(r.variables())
	whole := h.Sum(nil)
	if r.mac == nil {
		r.mac = whole
	} else {
		r.mac = append(whole, make([]byte, 64)...)[:len(r.mac)]
	}
	binary.BigEndian.PutUint16(plain[10:], binary.BigEndian.Uint16(plain[10:])+1)
	return r.append(plain)
}

// TestFaults has the sentences of RFC 8945 §5.2.
func TestFaults(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	sha256 := testKey(zones.HMACSHA256)
	formErr := Fault{RCode: 1}
	shift := func(seconds int64) func(*record) {
		return func(r *record) { r.signed = uint64(now.Unix() + seconds) }
	}
	cut := func(n int) func(*record) { return func(r *record) { r.mac = make([]byte, n) } }
	tests := []struct {
		name   string
		key    Key
		ring   Ring
		change func(*record)
		want   Fault
	}{
		{"valid", sha256, ring(sha256), func(*record) {}, Fault{}},
		{"no ring", sha256, nil, func(*record) {}, Fault{9, BadKey}},
		{"5.2.1 unknown key", sha256, ring(), func(*record) {}, Fault{9, BadKey}},
		{"5.2.1 unknown algorithm", sha256, ring(sha256), func(r *record) { r.algorithm = zones.MustParseName("hmac-sha3.") }, Fault{9, BadKey}},
		{"5.2.1 another algorithm than the key's", sha256, ring(sha256), func(r *record) { r.algorithm = zones.HMACSHA512 }, Fault{9, BadKey}},
		{"5.2.1 key before time", sha256, ring(), shift(-1000), Fault{9, BadKey}},
		{"5.2.2 another secret", sha256, ring(Key{Name: sha256.Name, Algorithm: sha256.Algorithm, Secret: []byte("another secret")}), func(*record) {}, Fault{9, BadSig}},
		{"5.2.2 MAC before time", sha256, ring(Key{Name: sha256.Name, Algorithm: sha256.Algorithm, Secret: []byte("another secret")}), shift(-1000), Fault{9, BadSig}},
		{"5.2.2.1 MAC too long", sha256, ring(sha256), cut(33), formErr},
		{"5.2.2.1 no MAC", sha256, ring(sha256), cut(0), formErr},
		{"5.2.2.1 SHA-256 cut to half", sha256, ring(sha256), cut(16), Fault{}},
		{"5.2.2.1 SHA-256 below half", sha256, ring(sha256), cut(15), formErr},
		{"5.2.2.1 SHA-512 cut to half", testKey(zones.HMACSHA512), ring(testKey(zones.HMACSHA512)), cut(32), Fault{}},
		{"5.2.2.1 SHA-512 below half", testKey(zones.HMACSHA512), ring(testKey(zones.HMACSHA512)), cut(31), formErr},
		{"5.2.2.1 SHA-1 below 10", testKey(zones.HMACSHA1), ring(testKey(zones.HMACSHA1)), cut(9), formErr},
		{"5.2.4 SHA-1 cut to 10, which is too short for us", testKey(zones.HMACSHA1), ring(testKey(zones.HMACSHA1)), cut(10), Fault{9, BadTrunc}},
		{"5.2.4 SHA-1 cut to 15", testKey(zones.HMACSHA1), ring(testKey(zones.HMACSHA1)), cut(15), Fault{9, BadTrunc}},
		{"5.2.4 SHA-1 cut to 16", testKey(zones.HMACSHA1), ring(testKey(zones.HMACSHA1)), cut(16), Fault{}},
		{"MD5 is whole with 16", testKey(zones.HMACMD5), ring(testKey(zones.HMACMD5)), func(*record) {}, Fault{}},
		{"5.2.4 time before truncation", testKey(zones.HMACSHA1), ring(testKey(zones.HMACSHA1)), func(r *record) { cut(10)(r); shift(-1000)(r) }, Fault{9, BadTime}},
		{"5.2.3 300 s ago", sha256, ring(sha256), shift(-300), Fault{}},
		{"5.2.3 301 s ago", sha256, ring(sha256), shift(-301), Fault{9, BadTime}},
		{"5.2.3 in 300 s", sha256, ring(sha256), shift(300), Fault{}},
		{"5.2.3 in 301 s", sha256, ring(sha256), shift(301), Fault{9, BadTime}},
		{"5.2.3 a small fudge counts", sha256, ring(sha256), func(r *record) { shift(-11)(r); r.fudge = 10 }, Fault{9, BadTime}},
		{"a large fudge does not", sha256, ring(sha256), func(r *record) { shift(-301)(r); r.fudge = 65535 }, Fault{9, BadTime}},
		{"the end of time", sha256, ring(sha256), func(r *record) { r.signed = 1<<48 - 1 }, Fault{9, BadTime}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packet := resigned(t, tt.key, now, tt.change)
			s, fault := Verify(packet, at(t, packet), tt.ring, now)
			if fault != tt.want || (s == nil) != (tt.want == formErr) {
				t.Fatalf("got %+v, want %+v", fault, tt.want)
			}
			if s == nil {
				return
			}
			if (s.Key != "") != (fault == Fault{}) {
				t.Errorf("Key is %q", s.Key)
			}
			checkTold(t, s, tt.key, packet, now, fault.Error)
		})
	}
}

// checkTold looks at the answer that tells of a fault (RFC 8945 §5.3.2).
func checkTold(t *testing.T, s *Session, key Key, packet []byte, now time.Time, fault Error) {
	t.Helper()
	size := s.Len()
	plain := query(t)
	out := s.Sign(bytes.Clone(plain), now)
	if len(out)-len(plain) != size {
		t.Errorf("%d octets appended, Len said %d", len(out)-len(plain), size)
	}
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatal(err)
	}
	told, asked := m.IsTsig(), new(dns.Msg)
	if err := asked.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	if told.Hdr.Name != "some.key." || told.Algorithm != asked.IsTsig().Algorithm || told.OrigId != m.Id || Error(told.Error) != fault {
		t.Errorf("the answer's TSIG is %v", told)
	}
	c := NewClient(key)
	c.asked.mac, _ = hex.DecodeString(asked.IsTsig().MAC)
	_, err := c.VerifyAnswer(bytes.Clone(out), now)
	var refused *RefusedError
	switch fault {
	case BadKey, BadSig:
		if told.MACSize != 0 || told.OtherLen != 0 {
			t.Errorf("must not be signed: %v", told)
		}
		if told.Algorithm == key.Algorithm.String() && (!errors.As(err, &refused) || refused.Reason != fault || refused.Signed) {
			t.Errorf("a client says %v", err)
		}
	case BadTime:
		if told.TimeSigned != asked.IsTsig().TimeSigned || told.Fudge != asked.IsTsig().Fudge || told.OtherData != fmt.Sprintf("%012x", now.Unix()) {
			t.Errorf("times in %v", told)
		}
		// With its own clock it can be verified.
		if _, err := c.VerifyAnswer(out, time.Unix(int64(told.TimeSigned), 0)); !errors.As(err, &refused) || refused.Reason != fault || !refused.Signed || !refused.Time.Equal(now) {
			t.Errorf("a client says %v", err)
		}
	case BadTrunc:
		if !errors.As(err, &refused) || refused.Reason != fault || !refused.Signed {
			t.Errorf("a client says %v", err)
		}
	default:
		if err != nil || told.Fudge != Fudge || told.TimeSigned != uint64(now.Unix()) {
			t.Errorf("a client says %v of %v", err, told)
		}
	}
}

// TestEveryBit: whichever bit of a signed request is changed, it is not taken for the signed one, but for the ID and the letters' case in the record's
// names, which are not signed as they come.
func TestEveryBit(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := testKey(zones.HMACSHA256)
	packet, _ := request(t, key, now)
	start := at(t, packet)
	letters := map[int]bool{}
	for i, c := range packet[start : start+len(key.Name)] {
		letters[start+i] = 'a' <= c && c <= 'z'
	}
	for i, c := range packet[start+len(key.Name)+10:][:len(key.Algorithm)] {
		letters[start+len(key.Name)+10+i] = 'a' <= c && c <= 'z'
	}
	for i := range packet {
		for bit := range 8 {
			changed := bytes.Clone(packet)
			changed[i] ^= 1 << bit
			_, fault := Verify(changed, start, ring(key), now)
			free := i < 2 || letters[i] && bit == 5
			if (fault == Fault{}) != free {
				t.Errorf("bit %d of octet %d (the record is at %d): %+v", bit, i, start, fault)
			}
		}
	}
	for end := range packet {
		if _, fault := Verify(packet[:end], min(start, end), ring(key), now); fault == (Fault{}) {
			t.Errorf("cut to %d octets, and taken for whole", end)
		}
	}
	if _, fault := Verify(append(bytes.Clone(packet), 0), start, ring(key), now); fault.RCode != 1 {
		t.Errorf("an octet more: %+v", fault)
	}
}

// TestOwnerCompressed: the record's owner may be a pointer, and is signed in full.
func TestOwnerCompressed(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := Key{Name: zones.MustParseName("k.example.com."), Algorithm: zones.HMACSHA256, Secret: []byte("a secret that everybody knows")}
	m := new(dns.Msg).SetQuestion("www.Example.com.", dns.TypeA)
	plain := pack(t, m)
	signed := NewClient(key).SignRequest(bytes.Clone(plain), now)
	rest := signed[len(plain)+len(key.Name):]
	packet := append(signed[:len(plain):len(plain)], 1, 'K', 0xc0, 12+4)
	packet = append(packet, rest...)
	if s, fault := Verify(packet, len(plain), ring(key), now); fault != (Fault{}) || s.Key != key.Name {
		t.Errorf("%+v", fault)
	}
	for _, pointer := range []uint16{0xc000 | uint16(len(plain)), 0xc000 | uint16(len(plain)+2), 0xc003, 0xffff} {
		binary.BigEndian.PutUint16(packet[len(plain)+2:], pointer)
		if _, fault := Verify(packet, len(plain), ring(key), now); fault.RCode != 1 {
			t.Errorf("a pointer %x: %+v", pointer, fault)
		}
	}
}

// answers signs n messages as a server's answer to packet. Those for which unsigned is true get no record.
func answers(t testing.TB, packet []byte, key Key, now time.Time, n int, unsigned func(i int) bool) (out [][]byte) {
	t.Helper()
	s, fault := Verify(packet, at(t, packet), ring(key), now)
	if fault != (Fault{}) {
		t.Fatalf("%+v", fault)
	}
	var since [][]byte
	for i := range n {
		m := new(dns.Msg)
		m.Id, m.Response = binary.BigEndian.Uint16(packet), true
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeTXT, Class: 1}, Txt: []string{fmt.Sprint(i)}}}
		b := pack(t, m)
		if unsigned(i) {
			since = append(since, b)
			out = append(out, b)
			continue
		}
		if len(since) > 0 { // a server of ours never does that, so that it is done here by hand
			b = signAfter(s, since, b, now)
			since = nil
		} else {
			b = s.Sign(b, now)
		}
		out = append(out, b)
	}
	return out
}

func signAfter(s *Session, since [][]byte, m []byte, now time.Time) []byte {
	r := record{name: s.key.Name, algorithm: s.key.Algorithm, signed: uint64(now.Unix()), fudge: Fudge, id: binary.BigEndian.Uint16(m)}
	h := newMAC(&s.key)
	digestMAC(h, s.prior)
	for _, b := range since {
		h.Write(b)
	}
	h.Write(m)
	h.Write(r.appendTimers(nil))
	r.mac = h.Sum(nil)
	s.prior = r.mac
	s.count++
	binary.BigEndian.PutUint16(m[10:], binary.BigEndian.Uint16(m[10:])+1)
	return r.append(m)
}

// TestStreams: what a client takes for an answer of several messages, and what not.
func TestStreams(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := testKey(zones.HMACSHA256)
	all := func(int) bool { return false }
	every := func(n int) func(int) bool { return func(i int) bool { return i%n != 0 } }
	swap := func(i, j int) func([][]byte) [][]byte {
		return func(m [][]byte) [][]byte { m[i], m[j] = m[j], m[i]; return m }
	}
	flip := func(i int) func([][]byte) [][]byte {
		return func(m [][]byte) [][]byte { m[i][len(m[i])-1] ^= 1; return m }
	}
	same := func(m [][]byte) [][]byte { return m }
	tests := []struct {
		name     string
		n        int
		unsigned func(int) bool
		change   func([][]byte) [][]byte
		fails    int   // the message that is refused, −1: none
		end      error // of Complete
	}{
		{"one", 1, all, same, -1, nil},
		{"many", 20, all, same, -1, nil},
		{"none", 0, all, same, -1, ErrUnsigned},
		{"99 unsigned between", 101, every(100), same, -1, nil},
		{"100 unsigned between", 102, every(101), same, 100, ErrUnsigned},
		{"the first unsigned", 3, func(i int) bool { return i == 0 }, same, 0, ErrUnsigned},
		{"the last unsigned", 3, func(i int) bool { return i == 2 }, same, -1, ErrUnsigned},
		{"cut", 20, every(5), func(m [][]byte) [][]byte { return m[:14] }, -1, ErrUnsigned},
		{"an unsigned one lost", 21, every(5), func(m [][]byte) [][]byte { return append(m[:7:7], m[8:]...) }, 9, ErrSignature},
		{"a signed one lost", 20, all, func(m [][]byte) [][]byte { return append(m[:7:7], m[8:]...) }, 7, ErrSignature},
		{"two unsigned swapped", 21, every(5), swap(6, 7), 10, ErrSignature},
		{"two signed swapped", 20, all, swap(6, 7), 6, ErrSignature},
		{"an unsigned one changed", 21, every(5), flip(8), 10, ErrSignature},
		{"one twice", 20, all, func(m [][]byte) [][]byte { return append(m[:8:8], m[7:]...) }, 8, ErrSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packet, c := request(t, key, now)
			failed := -1
			for i, m := range tt.change(answers(t, packet, key, now, tt.n, tt.unsigned)) {
				if _, err := c.VerifyAnswer(bytes.Clone(m), now); err != nil {
					failed = i
					if i == 0 {
						break
					}
					if _, again := c.VerifyAnswer(bytes.Clone(m), now); !errors.Is(again, err) {
						t.Errorf("after %v the stream goes on: %v", err, again)
					}
					break
				}
			}
			if failed != tt.fails {
				t.Errorf("message %d is refused, want %d", failed, tt.fails)
			}
			if err := c.Complete(); !errors.Is(err, tt.end) {
				t.Errorf("in the end: %v, want %v", err, tt.end)
			}
		})
	}
}

// TestForgedFirst: what somebody else sends before the server's answer does no harm to it.
func TestForgedFirst(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := testKey(zones.HMACSHA256)
	packet, c := request(t, key, now)
	right := answers(t, packet, key, now, 1, func(int) bool { return false })[0]
	other, _ := request(t, key, now.Add(time.Second))
	stranger := Key{Name: zones.MustParseName("other.key."), Algorithm: key.Algorithm, Secret: key.Secret}
	strangers, _ := request(t, stranger, now)
	flipped := bytes.Clone(right)
	flipped[15] ^= 1
	for name, tt := range map[string]struct {
		msg  []byte
		when time.Time
		want error
	}{
		"empty":                         {nil, now, ErrMalformed},
		"a header that lies":            {[]byte("\x00\x01\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00"), now, ErrMalformed},
		"not signed":                    {query(t), now, ErrUnsigned},
		"the answer to another request": {answers(t, other, key, now, 1, func(int) bool { return false })[0], now, ErrSignature},
		"the request itself":            {packet, now, ErrSignature},
		"another key":                   {answers(t, strangers, stranger, now, 1, func(int) bool { return false })[0], now, ErrOtherKey},
		"changed":                       {flipped, now, ErrSignature},
		"late":                          {right, now.Add(301 * time.Second), ErrTime},
		"early":                         {right, now.Add(-301 * time.Second), ErrTime},
	} {
		if _, err := c.VerifyAnswer(bytes.Clone(tt.msg), tt.when); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := c.VerifyAnswer(right, now); err != nil {
		t.Errorf("the right answer after all: %v", err)
	}
	if err := c.Complete(); err != nil {
		t.Error(err)
	}
}

func TestErrorText(t *testing.T) {
	for e, want := range map[Error]string{0: "NOERROR", BadSig: "BADSIG", BadKey: "BADKEY", BadTime: "BADTIME", BadTrunc: "BADTRUNC", 65535: "TSIG error 65535"} {
		if e.String() != want {
			t.Errorf("%d is %q", e, e)
		}
	}
	e := &RefusedError{Reason: BadTime, Signed: true, Time: time.Unix(1_700_000_000, 0)}
	if want := "the server refuses the signature: BADTIME, its clock says 2023-11-14T22:13:20Z"; e.Error() != want {
		t.Errorf("%q", e)
	}
}

// FuzzTSIG: no octets panic, neither as a request nor as an answer, and none but those that were signed are taken for it.
func FuzzTSIG(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	key := testKey(zones.HMACSHA256)
	packet, _ := request(f, key, now)
	f.Add(packet, uint16(at(f, packet)))
	f.Add(packet, uint16(0))
	f.Add([]byte(nil), uint16(12))
	f.Fuzz(func(t *testing.T, p []byte, start uint16) {
		before := bytes.Clone(p)
		s, fault := Verify(p, int(start), ring(key), now)
		if !bytes.Equal(p, before) {
			t.Fatal("the packet was changed")
		}
		if fault == (Fault{}) && !sameButForFree(p, packet, int(start)) {
			t.Fatalf("taken for signed: %x", p)
		}
		if s != nil {
			out := s.Sign(query(t), now)
			if at, err := findRecord(out); err != nil || at == 0 {
				t.Fatalf("answered with %x: %v", out, err)
			}
		}
		c := NewClient(key)
		c.SignRequest(query(t), now)
		if _, err := c.VerifyAnswer(bytes.Clone(p), now); err == nil {
			t.Fatalf("taken for a signed answer: %x", p)
		}
	})
}

// sameButForFree compares a packet with the signed one, but for what is not signed: the ID, and how the record's names are written.
func sameButForFree(p, signed []byte, start int) bool {
	at, err := findRecord(signed)
	if err != nil || start < headerLen || start > len(p) || !bytes.Equal(p[2:start], signed[2:at]) {
		return false
	}
	got, ok := read(p, start)
	want, _ := read(signed, at)
	return ok && got.name == want.name && got.algorithm == want.algorithm && got.signed == want.signed && bytes.Equal(got.mac, want.mac[:min(len(got.mac), len(want.mac))])
}
