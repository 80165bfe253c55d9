package dnsserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/dnsserver/tsig"
	"balefire/store"
	"balefire/zones"
)

// testKeys are a ring with a key of each algorithm, named as it, one whose name is as long as names are, and two whose secrets the clients of
// tests don't know.
type testKeys map[zones.Name]tsig.Key

func (r testKeys) Key(name zones.Name) (tsig.Key, bool) {
	k, ok := r[name]
	return k, ok
}

const testSecret = "a secret that everybody knows"

var longKeyName = zones.MustParseName(strings.Repeat("abcdefghijklmnopqrstuvwxyz0123456789.", 6))

func newTestKeys() testKeys {
	ring := testKeys{}
	add := func(name zones.Name, algorithm zones.Name, secret string) {
		ring[name] = tsig.Key{Name: name, Algorithm: algorithm, Secret: []byte(secret)}
	}
	for _, a := range zones.TSIGAlgorithms() {
		add(zones.MustParseName(zones.TSIGAlgorithmText(a)+"."), a, testSecret)
	}
	add(longKeyName, zones.HMACSHA512, testSecret)
	add(zones.MustParseName("ours."), zones.HMACSHA256, "another secret")
	return ring
}

func sha256Key() tsig.Key {
	return tsig.Key{Name: zones.HMACSHA256, Algorithm: zones.HMACSHA256, Secret: []byte(testSecret)}
}

// askSigned sends a query with the session's signature, and returns the answer after it was verified.
func (c *wireConn) askSigned(session *tsig.Session, m *dns.Msg, now time.Time) (*dns.Msg, error) {
	c.t.Helper()
	c.send(session.SignRequest(pack(c.t, m), now))
	reply := c.receive()
	stripped, err := session.VerifyAnswer(reply, time.Now())
	if err != nil {
		return unpack(c.t, reply), err
	}
	return unpack(c.t, stripped), nil
}

// TestSignedMessages: whatever is asked with a signature is answered as without, and signed.
func TestSignedMessages(t *testing.T) {
	zone := newHosted(t)
	zone.views[zones.MustParseName("elsewhere.")] = store.Holding{Status: store.Elsewhere, Apex: zones.MustParseName("elsewhere.")}
	s := start(t, Options{Zones: zone, Keys: newTestKeys(), Settings: Settings{Identity: "node", CookieSecrets: []CookieSecret{{1}}, RequireCookies: true}})
	plain := start(t, Options{Zones: zone, Settings: Settings{Identity: "node"}})
	chaos := question("id.server.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	hesiod := question("www.example.com.", dns.TypeA)
	hesiod.Question[0].Qclass = dns.ClassHESIOD
	version := withEDNS(question("www.example.com.", dns.TypeA), 1232, false)
	version.IsEdns0().SetVersion(1)
	status := question("www.example.com.", dns.TypeA)
	status.Opcode = dns.OpcodeStatus
	empty := new(dns.Msg)
	empty.Id = 77
	notify := new(dns.Msg).SetNotify("example.com.")
	update := new(dns.Msg).SetUpdate("example.com.")
	for name, q := range map[string]*dns.Msg{
		"exact":           question("wWw.example.com.", dns.TypeA),
		"with EDNS":       withEDNS(question("www.example.com.", dns.TypeA), 1232, true),
		"NXDOMAIN":        question("no.example.com.", dns.TypeA),
		"not hosted":      withEDNS(question("example.org.", dns.TypeA), 1232, false),
		"unavailable":     withEDNS(question("unavailable.", dns.TypeA), 1232, false),
		"elsewhere":       question("elsewhere.", dns.TypeA),
		"id.server":       chaos,
		"class HS":        hesiod,
		"BADVERS":         version,
		"opcode STATUS":   status,
		"no question":     empty,
		"TYPE0":           question("www.example.com.", 0),
		"NXNAME":          withEDNS(question("www.example.com.", 128), 1232, false),
		"AXFR":            question("example.com.", dns.TypeAXFR),
		"IXFR":            question("example.com.", dns.TypeIXFR),
		"NOTIFY":          notify,
		"UPDATE":          update,
		"fits 512 hardly": question("fat.example.com.", dns.TypeTXT),
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(network+"/"+name, func(t *testing.T) {
				want := dial(t, network, plain.testAddr()).ask(q)
				got, err := dial(t, network, s.testAddr()).askSigned(tsig.NewClient(sha256Key()), q, time.Now())
				if err != nil {
					t.Fatalf("%v\n%v", err, got)
				}
				slices.SortFunc(got.Answer, byText)
				slices.SortFunc(want.Answer, byText)
				if got.String() != want.String() {
					t.Errorf("signed:\n%v\nunsigned:\n%v", got, want)
				}
			})
		}
	}
	// A client that knows cookies is not sent away first, unsigned.
	q := withEDNS(question("www.example.com.", dns.TypeA), 1232, false, &dns.EDNS0_COOKIE{Cookie: "0102030405060708"})
	if m, err := dial(t, "udp", s.testAddr()).askSigned(tsig.NewClient(sha256Key()), q, time.Now()); err != nil || m.Rcode != dns.RcodeSuccess {
		t.Errorf("with a cookie: %v\n%v", err, m)
	}
}

func byText(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) }

// TestSignatureFaults: what is wrong is said, and signed when it may be (RFC 8945 §5.3.2); nothing else is done.
func TestSignatureFaults(t *testing.T) {
	s := start(t, Options{Keys: newTestKeys()})
	none := start(t, Options{})
	key := sha256Key()
	named := func(name string) tsig.Key {
		k := key
		k.Name = zones.MustParseName(name)
		return k
	}
	for name, tt := range map[string]struct {
		server *Server
		key    tsig.Key
		ago    time.Duration
		want   tsig.Error
		signed bool
	}{
		"BADKEY, no keys":     {none, key, 0, tsig.BadKey, false},
		"BADKEY, another key": {s, named("no.such.key."), 0, tsig.BadKey, false},
		"BADKEY, algorithm":   {s, named("hmac-sha512."), 0, tsig.BadKey, false},
		"BADSIG":              {s, named("ours."), 0, tsig.BadSig, false},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(network+"/"+name, func(t *testing.T) {
				for _, q := range []*dns.Msg{question("www.example.com.", dns.TypeA), new(dns.Msg).SetUpdate("example.com.")} {
					m, err := dial(t, network, tt.server.testAddr()).askSigned(tsig.NewClient(tt.key), q, time.Now().Add(-tt.ago))
					var refused *tsig.RefusedError
					if !errors.As(err, &refused) || refused.Reason != tt.want || refused.Signed != tt.signed {
						t.Errorf("the client says %v", err)
					}
					if m.Rcode != dns.RcodeNotAuth || len(m.Answer)+len(m.Ns) != 0 || m.Id != q.Id || m.IsTsig() == nil {
						t.Errorf("answered %v", m)
					}
				}
			})
		}
	}
	// BADTIME is signed, and verified by the time that the request was signed at.
	old := time.Now().Add(-10 * time.Minute)
	client := tsig.NewClient(key)
	c := dial(t, "udp", s.testAddr())
	c.send(client.SignRequest(pack(t, question("www.example.com.", dns.TypeA)), old))
	_, err := client.VerifyAnswer(c.receive(), old)
	var refused *tsig.RefusedError
	if !errors.As(err, &refused) || refused.Reason != tsig.BadTime || !refused.Signed || time.Since(refused.Time).Abs() > time.Minute {
		t.Errorf("the client says %v", err)
	}
}

// TestSignedSizes: with a signature, answers over UDP are not longer than without.
func TestSignedSizes(t *testing.T) {
	s := start(t, Options{Keys: newTestKeys()})
	long := tsig.Key{Name: longKeyName, Algorithm: zones.HMACSHA512, Secret: []byte(testSecret)}
	unknown := tsig.Key{Name: zones.MustParseName(strings.Repeat("zbcdefghijklmnopqrstuvwxyz0123456789.", 6)), Algorithm: zones.HMACSHA512, Secret: []byte(testSecret)}
	longQuestion := strings.Repeat("abcdefghijklmnopqrstuvwxyz0123456789.", 6) + "example.com."
	for name, tt := range map[string]struct {
		key  tsig.Key
		name string
		edns uint16
		tc   bool
	}{
		"fits 512":                      {sha256Key(), "www.example.com.", 0, false},
		"does not fit with it":          {long, "fat.example.com.", 0, true},
		"does not fit":                  {sha256Key(), "fatter.example.com.", 0, true},
		"does not fit 1232":             {sha256Key(), "fatter.example.com.", 1232, true},
		"the question does not fit 512": {long, longQuestion, 0, true},
		"the question fits 1232":        {long, longQuestion, 1232, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := question(tt.name, dns.TypeTXT)
			if tt.edns > 0 {
				withEDNS(q, tt.edns, false)
			}
			client := tsig.NewClient(tt.key)
			c := dial(t, "udp", s.testAddr())
			c.send(client.SignRequest(pack(t, q), time.Now()))
			reply := c.receive()
			if len(reply) > int(max(512, tt.edns)) {
				t.Errorf("%d octets", len(reply))
			}
			stripped, err := client.VerifyAnswer(reply, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if m := unpack(t, stripped); m.Truncated != tt.tc || tt.tc && (len(m.Answer) > 0 || m.Rcode != 0) {
				t.Errorf("TC %v, want %v: %v", m.Truncated, tt.tc, m)
			}
		})
	}
	c := dial(t, "udp", s.testAddr())
	c.send(tsig.NewClient(unknown).SignRequest(pack(t, question(longQuestion, dns.TypeTXT)), time.Now()))
	if reply := c.receive(); len(reply) > 512 || unpack(t, reply).Rcode != dns.RcodeNotAuth {
		t.Errorf("an unknown key with a long name: %x", reply)
	}
}

// TestSignedPipeline: queries with and without signatures on one connection, all at once.
func TestSignedPipeline(t *testing.T) {
	s := start(t, Options{Keys: newTestKeys()})
	c := dial(t, "tcp", s.testAddr())
	sessions := map[uint16]*tsig.Session{}
	for id := range uint16(30) {
		q := question("www.example.com.", dns.TypeA)
		q.Id = id
		packet := pack(t, q)
		if id%3 > 0 {
			sessions[id] = tsig.NewClient(sha256Key())
			packet = sessions[id].SignRequest(packet, time.Now())
		}
		c.send(packet)
	}
	for range 30 {
		reply := c.receive()
		id := binary.BigEndian.Uint16(reply)
		if session := sessions[id]; session != nil {
			stripped, err := session.VerifyAnswer(reply, time.Now())
			if err != nil {
				t.Fatalf("query %d: %v", id, err)
			}
			reply = stripped
		}
		if m := unpack(t, reply); len(m.Answer) != 2 || len(m.Extra) != 0 {
			t.Errorf("query %d: %v", id, m)
		}
	}
}

// TestSignedAndPadded: over TLS the padding is inside the signature (RFC 8467 §4.1).
func TestSignedAndPadded(t *testing.T) {
	s := startTLS(t, Options{Keys: newTestKeys()})
	c := dialTLS(t, s, nil)
	m, err := c.askSigned(tsig.NewClient(sha256Key()), withEDNS(question("www.example.com.", dns.TypeA), 1232, false, &dns.EDNS0_PADDING{Padding: make([]byte, 8)}), time.Now())
	if err != nil || len(m.Answer) != 2 {
		t.Fatalf("%v: %v", err, m)
	}
	if !slices.ContainsFunc(m.IsEdns0().Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0PADDING }) {
		t.Errorf("not padded: %v", m)
	}
}

// TestRealSigners asks with dig, kdig and nsupdate, which verify what comes back.
func TestRealSigners(t *testing.T) {
	s := start(t, Options{Keys: newTestKeys()})
	_, port, err := net.SplitHostPort(s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	secret := base64.StdEncoding.EncodeToString([]byte(testSecret))
	type command struct {
		line, input string
		want, not   []string
		fails       bool
	}
	var tests []command
	bad := []string{"Couldn't verify", "BADSIG", "BADKEY", "BADTIME", "failed"}
	for _, a := range zones.TSIGAlgorithms() {
		name := zones.TSIGAlgorithmText(a)
		key := name + ":" + name + ":" + secret
		tests = append(
			tests,
			command{line: "dig @127.0.0.1 -p PORT -y " + key + " www.example.com A", want: []string{"status: NOERROR", "192.0.2.80", "TSIG PSEUDOSECTION", " NOERROR 0"}, not: bad},
			command{line: "dig @127.0.0.1 -p PORT +tcp -y " + key + " no.example.com A", want: []string{"status: NXDOMAIN", "TSIG PSEUDOSECTION"}, not: bad},
			command{line: "kdig @127.0.0.1 -p PORT -y " + key + " www.example.com A", want: []string{"status: NOERROR", "192.0.2.80", "NOERROR"}, not: bad},
			command{line: "kdig @127.0.0.1 -p PORT +tcp -y " + key + " other.example.org A", want: []string{"status: REFUSED"}, not: bad},
			command{
				line: "nsupdate -y " + key, input: "server 127.0.0.1 PORT\nzone example.com\nupdate add new.example.com 60 A 192.0.2.1\nsend\n",
				want: []string{"REFUSED"}, not: []string{"TSIG", "tsig", "verify"}, fails: true,
			},
		)
	}
	sha256 := "hmac-sha256:hmac-sha256:"
	other := base64.StdEncoding.EncodeToString([]byte("yet another one"))
	tests = append(
		tests,
		command{line: "dig @127.0.0.1 -p PORT -y hmac-sha256-128:hmac-sha256:" + secret + " www.example.com A", want: []string{"status: NOERROR", "192.0.2.80"}, not: bad},
		command{line: "dig @127.0.0.1 -p PORT -y hmac-sha512-256:hmac-sha512:" + secret + " www.example.com A", want: []string{"status: NOERROR", "192.0.2.80"}, not: bad},
		command{line: "dig @127.0.0.1 -p PORT -y hmac-sha1-80:hmac-sha1:" + secret + " www.example.com A", want: []string{"status: NOTAUTH", "BADTRUNC"}},
		command{line: "dig @127.0.0.1 -p PORT -y " + sha256 + other + " www.example.com A", want: []string{"status: NOTAUTH", "BADSIG"}, not: []string{"192.0.2.80"}},
		command{line: "dig @127.0.0.1 -p PORT -y hmac-sha256:nobody:" + other + " www.example.com A", want: []string{"status: NOTAUTH", "BADKEY"}, not: []string{"192.0.2.80"}},
		command{line: "kdig @127.0.0.1 -p PORT -y hmac-sha256:nobody:" + other + " www.example.com A", want: []string{"status: BADKEY"}, not: []string{"192.0.2.80"}},
		command{line: "dig @127.0.0.1 -p PORT -y " + sha256 + secret + " huge.example.com A", want: []string{"Truncated, retrying in TCP", "ANSWER: 3000"}, not: bad},
		command{line: "dig @127.0.0.1 -p PORT -y " + sha256 + secret + " +noedns fatter.example.com TXT", want: []string{"Truncated, retrying in TCP", "ANSWER: 1"}, not: bad},
	)
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			args := patient(strings.Fields(strings.ReplaceAll(tt.line, "PORT", port)))
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Stdin = strings.NewReader(strings.ReplaceAll(tt.input, "PORT", port))
			out, err := cmd.CombinedOutput()
			if (err != nil) != tt.fails && tt.want[0] != "NOTAUTH" {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%.2000s", want, out)
				}
			}
			for _, not := range tt.not {
				if bytes.Contains(out, []byte(not)) {
					t.Errorf("%q in\n%.2000s", not, out)
				}
			}
		})
	}
}
