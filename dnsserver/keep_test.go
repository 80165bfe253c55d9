package dnsserver

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestKeptAnswers: asked again and again, in all the ways that an answer does not depend on, a server that keeps answers says the very
// octets that one says which doesn't.
func TestKeptAnswers(t *testing.T) {
	h := newHosted(t)
	plain := start(t, Options{Zones: h, AnswerCache: -1})
	keeps := start(t, Options{Zones: h})
	a, b := dial(t, "udp", plain.testAddr()), dial(t, "udp", keeps.testAddr())
	names := []string{
		"www.example.com.", "WWW.eXample.com.", "example.com.", "nope.example.com.", "a.nope.example.com.", "alias.example.com.",
		"fat.example.com.", "fatter.example.com.", "huge.example.com.", "x.wild.example.com.", "sub.example.com.", "www.sub.example.com.",
		"example.net.", "broken.", "unavailable.",
	}
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSOA, dns.TypeNS, dns.TypeMX, dns.TypeTXT, dns.TypeDS, dns.TypeANY}
	var queries [][]byte
	for _, name := range names {
		for _, qtype := range types {
			for _, change := range []func(*dns.Msg){
				func(*dns.Msg) {},
				func(m *dns.Msg) { m.RecursionDesired = true },
				func(m *dns.Msg) { m.SetEdns0(1232, false) },
				func(m *dns.Msg) { m.SetEdns0(512, false) },
				func(m *dns.Msg) { m.SetEdns0(4096, true) },
				func(m *dns.Msg) { withEDNS(m, 1232, false, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}) },
			} {
				m := question(name, qtype)
				change(m)
				queries = append(queries, pack(t, m))
			}
		}
	}
	for round := range 4 {
		for i, q := range queries {
			binary.BigEndian.PutUint16(q, uint16(round*len(queries)+i))
			a.send(q)
			b.send(q)
			want, got := a.receive(), b.receive()
			if !bytes.Equal(want, got) {
				t.Fatalf("round %d: %v\ngot  %x\nwant %x", round, unpack(t, q), got, want)
			}
		}
	}
	stop(t, keeps)
	if kept := gather(t, keeps)["balefire_dns_answers_kept_total"]; kept < float64(len(queries)) {
		t.Errorf("%v answers of %d rounds of %d came from what was kept", kept, 4, len(queries))
	}
}

// TestRandomNamesAreNotKept: names that don't exist are kept at their second question soon after, so that those which are asked for once
// put nothing out.
func TestRandomNamesAreNotKept(t *testing.T) {
	s := start(t, Options{})
	c := dial(t, "udp", s.testAddr())
	for i := range 300 {
		c.ask(question(strings.Repeat("r", 1+i%40)+itoa(i)+".example.com.", dns.TypeA))
	}
	for range 3 {
		c.ask(question("typo.example.com.", dns.TypeA))
	}
	stop(t, s)
	if kept := gather(t, s)["balefire_dns_answers_kept_total"]; kept != 1 {
		t.Errorf("%v answers came from what was kept, want the third of typo.example.com.", kept)
	}
}
