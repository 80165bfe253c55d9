package dnsserver

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"balefire/store"
	"balefire/store/hotzone"
	"balefire/zones"
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
		"fat.example.com.", "fatter.example.com.", "huge.example.com.", "x.wild.example.com.", "child.example.com.", "www.child.example.com.",
		"ns.child.example.com.", "x.ns.child.example.com.", "a-longer-name.child.example.com.", "y.y.wild.example.com.", "wild.example.com.",
		"z.www.example.com.", "zz.www.example.com.", "ns1.wild.example.com.", "nope.ns1.example.com.", "ns1.ns1.example.com.",
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
// put nothing out. They share an answer.
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
	if shared := gather(t, s)["balefire_dns_answers_shared_total"]; shared < 270 || shared > 301 {
		t.Errorf("%v answers were shared, want most of 301", shared)
	}
}

// renewed is zones that are replaced, with their stamp.
type renewed struct {
	*hosted
	stamp atomic.Uint64
	now   atomic.Pointer[hotzone.Zone]
}

func (r *renewed) stampNow() store.Stamp { return store.StampOf([3]uint64{2, r.stamp.Load(), 0}) }

func (r *renewed) Current(at store.Stamp) bool { return at == r.stampNow() }

func (r *renewed) FindHot(zones.Name, zones.Type) (store.Holding, bool) {
	return store.Holding{Status: store.Here, Apex: zones.MustParseName("example.com."), View: r.now.Load(), Stamp: r.stampNow()}, true
}

// TestNothingOldIsGiven: of a zone that changed, neither the answers that were kept are given nor those that were shared.
func TestNothingOldIsGiven(t *testing.T) {
	r := &renewed{hosted: newHosted(t)}
	text := exampleZone + "*.w MX 5 mail.w\n"
	names := []string{"www.example.com.", "NAME.child.example.com.", "NAME.wild.example.com.", "NAME.w.example.com.", "NAME.example.com."}
	replace := func(version int) {
		r.now.Store(loadZone(t, strings.ReplaceAll(text, "3600", itoa(3600+version))))
		r.stamp.Add(2)
	}
	replace(0)
	keeps, plain := start(t, Options{Zones: r}), start(t, Options{Zones: r, AnswerCache: -1})
	a, b := dial(t, "udp", keeps.testAddr()), dial(t, "udp", plain.testAddr())
	for version := range 20 {
		for i := range 30 {
			for _, name := range names {
				// Some names come twice, some three times: shared and kept.
				q := pack(t, question(strings.ReplaceAll(name, "NAME", "n"+itoa(i/3)+"-"+itoa(version%2)), dns.TypeMX))
				a.send(q)
				b.send(q)
				if got, want := a.receive(), b.receive(); !bytes.Equal(got, want) {
					t.Fatalf("version %d: %v\ngot  %x\nwant %x", version, unpack(t, q), got, want)
				}
			}
		}
		replace(version + 1)
	}
	stop(t, keeps)
	for _, name := range []string{"balefire_dns_answers_kept_total", "balefire_dns_answers_shared_total"} {
		if n := gather(t, keeps)[name]; n < 500 {
			t.Errorf("%s is %v", name, n)
		}
	}
}
