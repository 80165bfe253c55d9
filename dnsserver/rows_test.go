package dnsserver

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestOddPackets sends each packet of testdata/wire/odd.txt, the rows of ANSWERS.md 4.2 and 4.3, over UDP and TCP. After each
// comes an ordinary query on the same socket, so that silence is noticed without waiting, and damage at once.
func TestOddPackets(t *testing.T) {
	s := start(t, Options{Settings: Settings{Identity: "node", CookieSecrets: []CookieSecret{{1}}}})
	slow := map[string]int{ // what the slow lane answers
		"42 AXFR": dns.RcodeNotImplemented, "43 IXFR": dns.RcodeRefused, "48 NOTIFY": dns.RcodeRefused, "49 UPDATE": dns.RcodeRefused,
		"TSIG at the end": dns.RcodeFormatError,
	}
	rcodes := map[string]int{"formerr": 1, "notimp": 4, "refused": 5, "badvers": 16, "cookie": 0, "chaos": 0, "ask": 0}
	for _, network := range []string{"udp", "tcp"} {
		for _, odd := range oddPackets(t) {
			t.Run(network+"/"+odd.row, func(t *testing.T) {
				c := dial(t, network, s.testAddr())
				c.send(odd.packet)
				after := question("www.example.com.", dns.TypeA)
				after.Id = 0x4321
				if odd.want == "drop" {
					if network == "tcp" && len(odd.packet) < 12 {
						if b, err := c.tryReceive(); err == nil {
							t.Errorf("the connection should have been closed, got %x", b)
						}
						return
					}
					if m := c.ask(after); m.Id != after.Id {
						t.Errorf("row 50: answered with %v", m)
					}
					return
				}
				reply := c.receive()
				rcode, ok := rcodes[odd.want]
				if odd.want == "slow" {
					if rcode, ok = slow[odd.row]; odd.row == "42 AXFR" && network == "tcp" {
						rcode = dns.RcodeRefused
					}
				}
				if !ok {
					t.Fatalf("no expectation for %s", odd.row)
				}
				m := unpack(t, reply)
				if m.Rcode != rcode && !(odd.want == "ask" && m.Rcode == dns.RcodeSuccess) || m.Id != 0x1234 || !m.Response || m.RecursionAvailable || m.CheckingDisabled {
					t.Errorf("got %v, want RCODE %d", m, rcode)
				}
				if odd.want != "ask" && (m.Authoritative || odd.want != "chaos" && len(m.Answer) > 0) {
					t.Errorf("AA or records in %v", m)
				}
				hasOPT := odd.packet[11] > 0 && bytes.Contains(odd.packet, []byte("\x00\x00\x29"))
				switch odd.echo {
				case "header":
					if len(reply) != 12 {
						t.Errorf("more than a header: %x", reply)
					}
				case "question":
					if len(m.Question) != 1 || m.IsEdns0() != nil {
						t.Errorf("want the question, without OPT: %v", m)
					}
				case "all":
					if (m.IsEdns0() != nil) != hasOPT {
						t.Errorf("row 62: OPT in the query %v, in the answer %v", hasOPT, m.IsEdns0())
					}
				}
				if m := c.ask(after); m.Id != after.Id || len(m.Answer) != 2 {
					t.Errorf("afterwards: %v", m)
				}
			})
		}
	}
}

// TestRows has the rows of ANSWERS.md that need zones, or are plainer with a library's client.
func TestRows(t *testing.T) {
	s := start(t, Options{Settings: Settings{Identity: "node-1.example", Version: "balefire", NSID: "node-1"}})
	chaos := func(name string, qtype uint16) *dns.Msg {
		m := question(name, qtype)
		m.Question[0].Qclass = dns.ClassCHAOS
		return m
	}
	flags := question("www.example.com.", dns.TypeA)
	flags.RecursionDesired, flags.CheckingDisabled, flags.AuthenticatedData, flags.Zero, flags.Rcode = true, true, true, true, 3
	tests := []struct {
		row   string
		query *dns.Msg
		want  func(m *dns.Msg) bool
	}{
		{"1 not hosted", withEDNS(question("example.org.", dns.TypeA), 1232, false), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeRefused && !m.Authoritative && len(m.Question) == 1 && ede(m) == 20
		}},
		{"1 not hosted, without EDNS", question("example.org.", dns.TypeA), func(m *dns.Msg) bool { return m.Rcode == dns.RcodeRefused && m.IsEdns0() == nil }},
		{"2 unavailable", withEDNS(question("unavailable.", dns.TypeA), 1232, false), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeServerFailure && ede(m) == 14 && !m.Authoritative
		}},
		{"2 awaiting", withEDNS(question("awaiting.", dns.TypeA), 1232, false), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeServerFailure && ede(m) == 14 && !m.Authoritative
		}},
		{"2 expired", withEDNS(question("expired.", dns.TypeA), 1232, false), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeServerFailure && ede(m) == 24 && !m.Authoritative
		}},
		{"2 unreadable", withEDNS(question("x.broken.", dns.TypeA), 1232, false), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeServerFailure && ede(m) == 0 && !m.Authoritative
		}},
		{"2 panic", withEDNS(question("x.panics.", dns.TypeA), 1232, false), func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeServerFailure && !m.Authoritative && len(m.Question) == 1 && m.IsEdns0() != nil
		}},
		{"3 exact", question("www.example.com.", dns.TypeA), func(m *dns.Msg) bool {
			return m.Authoritative && len(m.Answer) == 2 && len(m.Ns) == 0 && len(m.Extra) == 0
		}},
		{"4 NODATA", question("www.example.com.", dns.TypeAAAA), func(m *dns.Msg) bool { return m.Rcode == 0 && len(m.Ns) == 1 && m.Ns[0].Header().Ttl == 300 }},
		{"5 NXDOMAIN", question("no.example.com.", dns.TypeA), func(m *dns.Msg) bool { return m.Rcode == dns.RcodeNameError && len(m.Ns) == 1 }},
		{"7 wildcard", question("a.b.wild.example.com.", dns.TypeTXT), func(m *dns.Msg) bool {
			return len(m.Answer) == 1 && m.Answer[0].Header().Name == "a.b.wild.example.com."
		}},
		{"10 CNAME", question("alias.example.com.", dns.TypeA), func(m *dns.Msg) bool { return len(m.Answer) == 3 && m.Authoritative }},
		{"23 delegation", question("x.child.example.com.", dns.TypeA), func(m *dns.Msg) bool {
			return !m.Authoritative && len(m.Ns) == 1 && len(m.Extra) == 1
		}},
		{"41 NXNAME", withEDNS(question("www.example.com.", 128), 1232, false), func(m *dns.Msg) bool { return m.Rcode == dns.RcodeFormatError && ede(m) == 30 }},
		{"44 id.server", chaos("id.server.", dns.TypeTXT), func(m *dns.Msg) bool {
			return m.Rcode == 0 && !m.Authoritative && len(m.Answer) == 1 && m.Answer[0].(*dns.TXT).Txt[0] == "node-1.example" &&
				m.Answer[0].Header().Class == dns.ClassCHAOS && m.Answer[0].Header().Name == "id.server."
		}},
		{"44 hostname.bind", chaos("HostName.BIND.", dns.TypeTXT), func(m *dns.Msg) bool { return len(m.Answer) == 1 && m.Answer[0].Header().Name == "HostName.BIND." }},
		{"44 version.server", chaos("version.server.", dns.TypeTXT), func(m *dns.Msg) bool { return m.Answer[0].(*dns.TXT).Txt[0] == "balefire" }},
		{"44 version.bind", chaos("version.bind.", dns.TypeTXT), func(m *dns.Msg) bool { return m.Answer[0].(*dns.TXT).Txt[0] == "balefire" }},
		{"44 other CH name", chaos("authors.bind.", dns.TypeTXT), func(m *dns.Msg) bool { return m.Rcode == dns.RcodeRefused && len(m.Answer) == 0 }},
		{"44 other CH type", chaos("id.server.", dns.TypeA), func(m *dns.Msg) bool { return m.Rcode == dns.RcodeRefused && len(m.Answer) == 0 }},
		{"56 and 63 flags", flags, func(m *dns.Msg) bool {
			return m.RecursionDesired && !m.RecursionAvailable && !m.CheckingDisabled && !m.AuthenticatedData && !m.Zero && m.Rcode == 0 && m.Authoritative
		}},
		{"60 unknown option", withEDNS(question("www.example.com.", dns.TypeA), 1232, true, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}), func(m *dns.Msg) bool {
			return len(m.Answer) == 2 && len(m.IsEdns0().Option) == 0 && m.IsEdns0().Do()
		}},
		{"NSID", withEDNS(question("www.example.com.", dns.TypeA), 1232, false, &dns.EDNS0_NSID{}), func(m *dns.Msg) bool {
			return m.IsEdns0().Option[0].(*dns.EDNS0_NSID).Nsid == fmt.Sprintf("%x", "node-1")
		}},
		{"NSID not asked for", withEDNS(question("www.example.com.", dns.TypeA), 1232, false), func(m *dns.Msg) bool { return len(m.IsEdns0().Option) == 0 }},
		{"cookies without secrets are ignored", withEDNS(question("www.example.com.", dns.TypeA), 1232, false, &dns.EDNS0_COOKIE{Cookie: "0102030405060708"}), func(m *dns.Msg) bool {
			return len(m.Answer) == 2 && len(m.IsEdns0().Option) == 0
		}},
		{"64 case", question("wWw.eXaMpLe.CoM.", dns.TypeA), func(m *dns.Msg) bool {
			return m.Question[0].Name == "wWw.eXaMpLe.CoM." && m.Answer[0].Header().Name == "wWw.eXaMpLe.CoM." && len(m.Answer) == 2
		}},
		{"65 odd octets", question(`\000\.\255.example.com.`, dns.TypeA), func(m *dns.Msg) bool { return m.Rcode == dns.RcodeNameError }},
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range tests {
			t.Run(network+"/"+tt.row, func(t *testing.T) {
				m := dial(t, network, s.testAddr()).ask(tt.query)
				if m.Id != tt.query.Id || !m.Response || !tt.want(m) {
					t.Errorf("got %v", m)
				}
			})
		}
	}
	if got := s.panics.Load(); got != 2 {
		t.Errorf("%d panics counted, want 2", got)
	}
}

// TestSizes: rows 61, 62, 66 and 72: what a client says it can take, over sockets.
func TestSizes(t *testing.T) {
	s := start(t, Options{})
	tests := []struct {
		row, network, name string
		edns               int // payload; 0: no OPT
		limit              int
		tc                 bool
	}{
		{"62 no OPT, fits", "udp", "fat.example.com.", 0, 512, false},
		{"62 no OPT, too big", "udp", "fatter.example.com.", 0, 512, true},
		{"61 payload of 100 is 512", "udp", "fat.example.com.", 100, 512, false},
		{"61 payload of 512", "udp", "fatter.example.com.", 512, 512, true},
		{"61 payload of 65535 is 1232", "udp", "fatter.example.com.", 65535, 1232, true},
		{"66 huge", "udp", "huge.example.com.", 1232, 1232, true},
		{"72 over TCP all fits", "tcp", "fatter.example.com.", 0, 65535, false},
		{"72 nearly 64 KiB", "tcp", "huge.example.com.", 1232, 65535, false},
	}
	for _, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			qtype := dns.TypeTXT
			if strings.HasPrefix(tt.name, "huge") {
				qtype = dns.TypeA
			}
			q := question(tt.name, qtype)
			if tt.edns > 0 {
				withEDNS(q, uint16(tt.edns), false)
			}
			c := dial(t, tt.network, s.testAddr())
			c.send(pack(t, q))
			b := c.receive()
			m := unpack(t, b)
			if len(b) > tt.limit || m.Truncated != tt.tc || (len(m.Answer) == 0) != tt.tc {
				t.Errorf("%d octets, TC %v, %d records", len(b), m.Truncated, len(m.Answer))
			}
			if (m.IsEdns0() != nil) != (tt.edns > 0) || len(m.Question) != 1 {
				t.Errorf("OPT %v, question %v", m.IsEdns0(), m.Question)
			}
			if opt := m.IsEdns0(); opt != nil && opt.UDPSize() != 1232 {
				t.Errorf("offers %d octets", opt.UDPSize())
			}
		})
	}
}
