package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"balefire/dnsserver/wire"
	"balefire/zones"
	"balefire/zones/answer"
)

// TestSharedAnswersAreTheSame: what was made for one name of a family is, with other pointers, what is made for any other of it.
func TestSharedAnswersAreTheSame(t *testing.T) {
	var a, b answer.Answer
	shared, kin := map[answer.Family]int{}, 0
	scripted(t, func(v zones.View, name zones.Name, qtype zones.Type) {
		for _, dnssec := range []bool{false, true} {
			if answer.Begin(v, answer.Question{Name: name, Type: qtype, DNSSEC: dnssec}, &a) != nil {
				continue
			}
			family, encloser := a.Family(), zones.Name(strings.Clone(string(a.Encloser)))
			if a.Finish() != nil || !a.Shared() {
				continue
			}
			var made wire.Sections
			composed(t, name, qtype, dnssec, &a, &made)
			for _, other := range relatives(name, encloser, &a) {
				otherType := qtype
				if family.Type(qtype) == 0 {
					otherType = zones.TypeTXT
				}
				if err := answer.Begin(v, answer.Question{Name: other, Type: otherType, DNSSEC: dnssec}, &b); err != nil {
					t.Fatal(err)
				}
				if b.Family() != family || b.Encloser != encloser {
					continue
				}
				if err := b.Finish(); err != nil {
					t.Fatal(err)
				}
				if labels := wire.KinLabels(&a, name); labels.Has(name, encloser) || labels.Has(other, encloser) {
					kin++
					continue
				}
				shared[family]++
				var fresh wire.Sections
				want := composed(t, other, otherType, dnssec, &b, &fresh)
				made.Shift = len(other) - len(name)
				var q wire.Query
				wire.Parse(question(other, otherType, dnssec, dnssec), &q)
				r := wire.Reply{Limit: 65535, UDPSize: 1232}
				r.FromAnswer(&a)
				if got, ok := wire.Recompose(nil, &q, &made, &r); !ok || !bytes.Equal(got, want) {
					t.Errorf("%s for %s, %s dnssec=%v:\ngot:  %x\nwant: %x", name, other, otherType, dnssec, got, want)
				}
			}
		}
	})
	if kin < 20 {
		t.Errorf("only %d names that the answers speak of", kin)
	}
	for _, f := range []answer.Family{answer.BelowCut, answer.FromWildcard, answer.NoSuchName} {
		if shared[f] < 20 {
			t.Errorf("only %d answers of family %d: are the scripts still there?", shared[f], f)
		}
	}
}

func composed(t *testing.T, name zones.Name, qtype zones.Type, dnssec bool, a *answer.Answer, s *wire.Sections) []byte {
	t.Helper()
	var q wire.Query
	wire.Parse(question(name, qtype, dnssec, dnssec), &q)
	r := wire.Reply{Limit: 65535, UDPSize: 1232}
	r.FromAnswer(a)
	m, _ := wire.Compose(nil, &q, a, &r, s)
	if !s.Whole {
		t.Fatalf("%s %s: left something out", name, qtype)
	}
	return m
}

// relatives returns names below encloser, and itself: some of them those that the answer speaks of.
func relatives(name, encloser zones.Name, a *answer.Answer) []zones.Name {
	all := []zones.Name{encloser, name}
	for _, label := range []string{"x", "other", strings.Repeat("long", 15), "ns", "ns1", "mail", "www", "*"} {
		if n, err := encloser.Child(label); err == nil {
			all = append(all, n)
			if n, err = n.Child("deeper"); err == nil {
				all = append(all, n)
			}
		}
	}
	add := func(n zones.Name) {
		if n.IsAtOrBelow(encloser) {
			all = append(all, n)
		}
	}
	for _, e := range a.Entries {
		add(e.RRset.Owner)
		for rdata := range e.RRset.RDatas() {
			spans, n, err := zones.EmbeddedNames(e.RRset.Type, rdata)
			if err != nil {
				continue
			}
			for _, s := range spans[:n] {
				add(zones.Name(rdata[s.Start:s.End]))
			}
		}
	}
	return all
}
