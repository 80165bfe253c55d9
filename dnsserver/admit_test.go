package dnsserver

import (
	"encoding/hex"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/dnsserver/wire"
)

// TestSipHash: the key and the outputs of the reference implementation's test for messages 00, 00 01, ….
func TestSipHash(t *testing.T) {
	var key CookieSecret
	for i := range key {
		key[i] = byte(i)
	}
	message := make([]byte, 15)
	for i := range message {
		message[i] = byte(i)
	}
	// The worked example of the SipHash paper, appendix A.
	if got := sipHash(&key, message); got != 0xa129ca6149be45e5 {
		t.Errorf("SipHash of 15 octets is %x", got)
	}
	if got := sipHash(&key, nil); got != 0x726fdb47dd0e0e31 {
		t.Errorf("SipHash of nothing is %x", got)
	}
}

func secretOf(t testing.TB, text string) (s CookieSecret) {
	t.Helper()
	if n, err := hex.Decode(s[:], []byte(text)); err != nil || n != len(s) {
		t.Fatalf("secret %q: %v", text, err)
	}
	return s
}

// TestCookieVectors: RFC 9018, appendix A.
func TestCookieVectors(t *testing.T) {
	const (
		first  = "e5e973e5a6b2a43f48e7dc849e37bfcf"
		older  = "dd3bdf9344b678b185a6f5cb60fca715"
		rolled = "445536bcd2513298075a5d379663c962"
	)
	tests := []struct {
		name    string
		secrets []string
		from    string
		now     int64
		got     string
		valid   bool
		want    string
	}{
		{"A.1 a new cookie", []string{first}, "198.51.100.100", 1559731985, "2464c4abcf10c957", false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		{"A.2 renewed", []string{first}, "198.51.100.100", 1559734385, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", true, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"},
		{"young: the same", []string{first}, "198.51.100.100", 1559731985 + 1800, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", true, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		{"A.3 reserved octets count", []string{first}, "203.0.113.203", 1559727985 + 600, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", true, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5"},
		{"A.3 too old", []string{first}, "203.0.113.203", 1559734700, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", false, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"},
		{"A.4 secret rolled over", []string{rolled, older}, "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", true, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
		{"the older secret is gone", []string{rolled}, "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", false, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
		{"another address", []string{first}, "198.51.100.101", 1559731985, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", false, ""},
		{"another client cookie", []string{first}, "198.51.100.100", 1559731985, "2464c4abcf10c958010000005cf79f111f8130c3eee29480", false, ""},
		{"one bit of the hash", []string{first}, "198.51.100.100", 1559731985, "2464c4abcf10c957010000005cf79f111f8130c3eee29481", false, ""},
		{"another version", []string{first}, "198.51.100.100", 1559731985, "2464c4abcf10c957020000005cf79f111f8130c3eee29480", false, ""},
		{"too far ahead", []string{first}, "198.51.100.100", 1559731985 - 301, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", false, ""},
		{"a little ahead", []string{first}, "198.51.100.100", 1559731985 - 299, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", true, ""},
		{"an hour and a second", []string{first}, "198.51.100.100", 1559731985 + 3601, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", false, ""},
		{"another length", []string{first}, "198.51.100.100", 1559731985, "2464c4abcf10c9570100000011111111", false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var secrets []CookieSecret
			for _, text := range tt.secrets {
				secrets = append(secrets, secretOf(t, text))
			}
			x := exchange{settings: &settings{Settings: Settings{CookieSecrets: secrets}}, nanos: tt.now * 1e9, query: new(wire.Query)}
			got, err := hex.DecodeString(tt.got)
			if err != nil {
				t.Fatal(err)
			}
			x.query.CookieOption = got
			if valid := x.checkCookie(netip.MustParseAddr(tt.from)); valid != tt.valid {
				t.Errorf("valid: %v, want %v", valid, tt.valid)
			}
			if back := hex.EncodeToString(x.cookie[:]); tt.want != "" && back != tt.want {
				t.Errorf("back goes %s, want %s", back, tt.want)
			}
		})
	}
}

func cookieOf(t testing.TB, m *dns.Msg) string {
	t.Helper()
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

const clientCookie = "0102030405060708"

func withCookie(m *dns.Msg, cookie string) *dns.Msg {
	return withEDNS(m, 1232, false, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
}

// TestCookies learns and uses a cookie over sockets, with cookies required, while secrets are rolled over.
func TestCookies(t *testing.T) {
	old, fresh := CookieSecret{1}, CookieSecret{2}
	s := start(t, Options{Settings: Settings{CookieSecrets: []CookieSecret{old}, RequireCookies: true}})
	c := dial(t, "udp", s.testAddr())
	www := func() *dns.Msg { return question("www.example.com.", dns.TypeA) }

	m := c.ask(withCookie(www(), clientCookie))
	learned := cookieOf(t, m)
	if m.Rcode != dns.RcodeBadCookie || len(m.Answer) != 0 || len(learned) != 2*wire.CookieLen || learned[:16] != clientCookie {
		t.Fatalf("a client cookie alone should get BADCOOKIE and a server cookie: %v", m)
	}
	if m = c.ask(withCookie(www(), learned)); m.Rcode != 0 || len(m.Answer) != 2 || cookieOf(t, m) != learned {
		t.Errorf("with the cookie: %v", m)
	}
	if m = c.ask(www()); len(m.Answer) != 2 {
		t.Errorf("a client without cookies: %v", m)
	}
	if m = dial(t, "tcp", s.testAddr()).ask(withCookie(www(), clientCookie)); len(m.Answer) != 2 || cookieOf(t, m) == "" {
		t.Errorf("over TCP no cookie is required: %v", m)
	}

	// RFC 7873 §5.4: row 51.
	bare := func(cookie string) *dns.Msg {
		m := new(dns.Msg)
		m.Id = dns.Id()
		return withCookie(m, cookie)
	}
	s.mustSet(t, Settings{CookieSecrets: []CookieSecret{old}})
	if m = c.ask(bare(clientCookie)); m.Rcode != 0 || len(m.Question) != 0 || cookieOf(t, m) != learned {
		t.Errorf("row 51: asking for a cookie: %v", m)
	}
	if m = c.ask(bare(learned)); m.Rcode != 0 || cookieOf(t, m) != learned {
		t.Errorf("row 51: confirming a cookie: %v", m)
	}
	if m = c.ask(bare(learned[:46] + "00")); m.Rcode != dns.RcodeBadCookie && m.Rcode != 0 || cookieOf(t, m) == "" {
		t.Errorf("row 51: a wrong cookie: %v", m)
	}
	if m = c.ask(withCookie(www(), clientCookie)); m.Rcode != 0 || len(m.Answer) != 2 || cookieOf(t, m) == "" {
		t.Errorf("not required: %v", m)
	}

	// Rolling over: accepted before it makes any, then makes them, then the old one goes.
	s.mustSet(t, Settings{CookieSecrets: []CookieSecret{old, fresh}, RequireCookies: true})
	if m = c.ask(withCookie(www(), learned)); m.Rcode != 0 || cookieOf(t, m) != learned {
		t.Errorf("staged: %v", m)
	}
	s.mustSet(t, Settings{CookieSecrets: []CookieSecret{fresh, old}, RequireCookies: true})
	m = c.ask(withCookie(www(), learned))
	renewed := cookieOf(t, m)
	if m.Rcode != 0 || renewed == learned {
		t.Errorf("rolled over: %v", m)
	}
	s.mustSet(t, Settings{CookieSecrets: []CookieSecret{fresh}, RequireCookies: true})
	if m = c.ask(withCookie(www(), learned)); m.Rcode != dns.RcodeBadCookie {
		t.Errorf("the old secret is gone: %v", m)
	}
	if m = c.ask(withCookie(www(), renewed)); m.Rcode != 0 {
		t.Errorf("the new one: %v", m)
	}
}

func (s *Server) mustSet(t testing.TB, settings Settings) {
	t.Helper()
	if err := s.SetSettings(settings); err != nil {
		t.Fatal(err)
	}
}

func TestRateLimiter(t *testing.T) {
	at := func(seconds float64) int64 { return int64(1.7e18) + int64(seconds*1e9) }
	r := newRate(RateLimit{PerSecond: 10, Burst: 5})
	l := newRateLimiter()
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("192.0.3.1")
	for i := range 5 {
		if !l.allow(&r, a, at(0)) {
			t.Fatalf("answer %d of a burst of 5 was refused", i+1)
		}
	}
	if l.allow(&r, a, at(0)) || l.allow(&r, b, at(0)) {
		t.Error("a sixth answer to the same /24")
	}
	if !l.allow(&r, c, at(0)) {
		t.Error("another /24 was refused")
	}
	if !l.allow(&r, a, at(0.1)) || l.allow(&r, a, at(0.1)) {
		t.Error("after 0.1 s at 10 a second there is one more, and only one")
	}
	if !l.allow(&r, a, at(-1000)) {
		t.Error("a clock that goes back must not lock clients out")
	}
	for i := range 5 {
		if !l.allow(&r, a, at(3600)) {
			t.Fatalf("answer %d after an hour was refused", i+1)
		}
	}
	v6 := []netip.Addr{netip.MustParseAddr("2001:db8:0:0::1"), netip.MustParseAddr("2001:db8:0:ff::2"), netip.MustParseAddr("2001:db8:0:100::1")}
	for i := range 5 {
		if !l.allow(&r, v6[i%2], at(0)) {
			t.Fatalf("IPv6 answer %d was refused", i+1)
		}
	}
	if l.allow(&r, v6[0], at(0)) || !l.allow(&r, v6[2], at(0)) {
		t.Error("a /56 is a network, and the next one another")
	}
}

// TestRateLimiterRace: with many goroutines, exactly the burst is allowed.
func TestRateLimiterRace(t *testing.T) {
	r := newRate(RateLimit{PerSecond: 100, Burst: 500})
	l := newRateLimiter()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if l.allow(&r, netip.MustParseAddr("192.0.2.1"), 1.7e18) {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != 500 {
		t.Errorf("%d answers, want 500", got)
	}
}

// TestRateLimit: over the limit every second query gets TC, the others nothing; TCP and valid cookies have
// no limit.
func TestRateLimit(t *testing.T) {
	now := time.Unix(1.7e9, 0)
	s := start(t, Options{
		Now:      func() time.Time { return now },
		Settings: Settings{CookieSecrets: []CookieSecret{{1}}, RateLimit: RateLimit{PerSecond: 5, Slip: 2}},
	})
	c := dial(t, "udp", s.testAddr())
	www := func() *dns.Msg { return question("www.example.com.", dns.TypeA) }
	for i := range 5 {
		if m := c.ask(www()); m.Truncated || len(m.Answer) != 2 {
			t.Fatalf("query %d: %v", i, m)
		}
	}
	for range 3 {
		c.send(pack(t, www())) // nothing comes for this one
		if m := c.ask(www()); !m.Truncated || len(m.Answer) != 0 || m.Rcode != 0 {
			t.Errorf("over the limit: %v", m)
		}
	}
	c.send(pack(t, www()))
	m := c.ask(withCookie(www(), clientCookie))
	if m.Rcode != dns.RcodeBadCookie || cookieOf(t, m) == "" {
		t.Errorf("over the limit, a client that knows cookies: %v", m)
	}
	for i := range 5 {
		if m := c.ask(withCookie(www(), cookieOf(t, m))); len(m.Answer) != 2 {
			t.Errorf("query %d with a valid cookie: %v", i, m)
		}
		if m := dial(t, "tcp", s.testAddr()).ask(www()); len(m.Answer) != 2 {
			t.Errorf("query %d over TCP: %v", i, m)
		}
	}
	s.mustSet(t, Settings{RateLimit: RateLimit{PerSecond: 5, Exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	for i := range 10 {
		if m := c.ask(www()); len(m.Answer) != 2 {
			t.Errorf("query %d of an exempt network: %v", i, m)
		}
	}
	got := gather(t, s)
	for name, want := range map[string]float64{
		"balefire_dns_rate_limited_total": 8, "balefire_dns_rate_limit_slipped_total": 3,
		`balefire_dns_dropped_total{reason="rate-limited"}`: 4, `balefire_dns_cookies_total{valid="yes"}`: 5,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
