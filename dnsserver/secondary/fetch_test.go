package secondary

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/store/storetest"
	"balefire/zones"
)

// version is a zone of some names at a serial.
func version(serial uint32, names ...string) []zones.RRset {
	sets := storetest.Apex(apexText, serial)
	for _, n := range names {
		owner, addr, _ := strings.Cut(n, "=")
		if addr == "" {
			addr = "192.0.2.1"
		}
		sets = append(sets, storetest.Set(owner+"."+apexText, 300, zones.TypeA, strings.Split(addr, ",")...))
	}
	return sets
}

// refresh refreshes once.
func (r *rig) refresh(s *Secondary) result {
	return s.refresh(context.Background(), task{apex: apex})
}

func (r *rig) mustRefresh(s *Secondary) result {
	r.t.Helper()
	got := r.refresh(s)
	if got.err != nil {
		r.t.Fatal(got.err)
	}
	return got
}

// TestFollowsPrimary goes with a zone from nothing, by AXFR and IXFR.
func TestFollowsPrimary(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s := r.secondary()

	v1 := version(10, "a", "b=192.0.2.1,192.0.2.2", "gone")
	p.serveVersions(v1)
	if got := r.mustRefresh(s); got.transfer == nil || got.transfer.Form != Whole || got.transfer.Serial != 10 || got.info.Serial != 10 {
		t.Fatalf("%+v", got)
	}
	r.must(apex, v1)
	if h, err := r.store.History(apex, 0, 1); err != nil || len(h) != 1 || !strings.Contains(h[0].Author+h[0].Reason, "AXFR from "+p.remote.Addr.String()) {
		t.Errorf("history: %+v %v", h, err)
	}

	// As it is: nothing is fetched, and nothing is published.
	records := len(r.log.Records)
	if got := r.mustRefresh(s); got.transfer != nil || !got.answered || got.primary != 10 || len(r.log.Records) != records {
		t.Errorf("%+v", got)
	}

	v2, v3 := version(11, "a", "b=192.0.2.2,192.0.2.3", "gone"), version(13, "a", "b=192.0.2.2,192.0.2.3", "new")
	p.serveVersions(v1, v2, v3)
	if got := r.mustRefresh(s); got.transfer == nil || got.transfer.Form != Differences || got.transfer.Before != 10 || got.transfer.Serial != 13 || got.transfer.Staged {
		t.Fatalf("%+v", got)
	}
	r.must(apex, v3)
	if len(r.log.Records) != records+1 {
		t.Errorf("%d records for differences", len(r.log.Records)-records)
	}

	// A primary that answers IXFR with the zone.
	v4 := version(14, "other")
	p.serveVersions(v4)
	p.set(func() { p.ixfr = p.axfr })
	if got := r.mustRefresh(s); got.transfer == nil || got.transfer.Form != Whole {
		t.Fatalf("%+v", got)
	}
	r.must(apex, v4)

	// A TTL changes, as servers tell of that: all records go, and come.
	v5 := slices.Clone(v4)
	v5[1] = v5[1].WithSOASerial(15)
	v5[2] = v5[2].WithTTL(7)
	p.serveVersions(v4, v5)
	if got := r.mustRefresh(s); got.transfer == nil || got.transfer.Form != Differences {
		t.Fatalf("%+v", got)
	}
	r.must(apex, v5)
}

// TestCutAtEveryOctet: whatever a primary sends of a transfer before it goes away, nothing changes, and the reason is shown.
func TestCutAtEveryOctet(t *testing.T) {
	for name, newer := range map[string][][]zones.RRset{
		"AXFR": {version(11, "a", "c")},
		"IXFR": {version(10, "a", "b"), version(11, "a", "c")},
	} {
		for _, perMessage := range []int{0, 1} {
			t.Run(fmt.Sprint(name, perMessage), func(t *testing.T) {
				r, p := newRig(t), newFakePrimary(t)
				r.create(apex, p.remote)
				s := r.secondary()
				before := version(10, "a", "b")
				p.serveVersions(before)
				r.mustRefresh(s)
				records := len(r.log.Records)

				p.serveVersions(newer...)
				p.set(func() { p.perMessage = perMessage })
				if name == "IXFR" {
					p.set(func() { p.axfr = nil }) // so that it is not mended by the whole zone
				}
				p.set(func() { p.cut = 0 })
				r.refresh(s)
				whole := int(p.octs.Load())
				if name == "IXFR" {
					p.set(func() { p.cut = -1; p.axfr = nil })
					whole = 0
					for _, m := range p.answer(ixfrQuery(t), false) {
						whole += 2 + len(m)
					}
				}
				for cut := range whole {
					p.set(func() { p.cut = cut })
					got := r.refresh(s)
					if got.err == nil || got.transfer != nil {
						t.Fatalf("cut at octet %d of %d: %+v", cut, whole, got)
					}
					if !strings.Contains(got.err.Error(), "closed the connection") {
						t.Fatalf("cut at octet %d of %d: %v", cut, whole, got.err)
					}
				}
				if len(r.log.Records) != records {
					t.Fatalf("%d records were published", len(r.log.Records)-records)
				}
				r.must(apex, before)
				p.set(func() { p.cut = whole })
				r.mustRefresh(s)
				r.must(apex, newer[len(newer)-1])
			})
		}
	}
}

func ixfrQuery(t *testing.T) []byte {
	m := new(dns.Msg)
	m.SetIxfr(apexText, 10, "a.", "b.")
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// TestLies: what a primary must not send changes nothing, and the reason is shown.
func TestLies(t *testing.T) {
	before := version(10, "a", "b")
	after := version(11, "a", "c")
	soa := func(serial uint32) dns.RR { return rrs(soaOf(version(serial)))[0] }
	rr := func(text string) dns.RR {
		got, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	with := func(all []dns.RR, at int, more ...dns.RR) []dns.RR {
		return slices.Insert(slices.Clone(all), at, more...)
	}
	axfr := axfrOf(after)
	for _, test := range []struct {
		name       string
		soa        dns.RR // what is said beforehand; nil: serial 11
		axfr, ixfr []dns.RR
		edit       func(n int, m *dns.Msg)
		want       string
	}{
		{name: "out of the zone", axfr: with(axfr, 2, rr("elsewhere. 60 A 192.0.2.1")), want: "not in the zone"},
		{name: "another class", axfr: with(axfr, 2, rr("x.example. 60 CH TXT x")), want: "class 3"},
		{name: "a SOA inside", axfr: with(axfr, 2, rr("x.example. 60 SOA a. b. 1 1 1 1 1")), want: "a SOA at"},
		{name: "two serials", axfr: with(axfr[:len(axfr)-1], len(axfr)-1, soa(12)), want: "ends with another"},
		{name: "more behind the end", axfr: with(axfr, len(axfr), rr("x.example. 60 A 192.0.2.1")), want: "after the closing"},
		{name: "no NS", axfr: []dns.RR{soa(11), rr("x.example. 60 A 192.0.2.1"), soa(11)}, want: "apex-ns"},
		{name: "CNAME and others", axfr: with(axfr, 2, rr("a.example. 60 CNAME b.")), want: "cname-and-other"},
		{name: "below a DNAME", axfr: with(axfr, 2, rr("d.example. 60 DNAME b."), rr("x.d.example. 60 A 192.0.2.1")), want: "below-dname"},
		{name: "a type of messages", axfr: with(axfr, 2, &dns.ANY{Hdr: dns.RR_Header{Name: "x.example.", Rrtype: dns.TypeANY, Class: dns.ClassINET}}), want: "no zone has this type"},
		{name: "serial that goes back", axfr: axfrOf(version(9, "x")), want: "behind ours"},
		{name: "the same serial", axfr: axfrOf(version(10, "x")), want: "behind ours"},
		{name: "another question", axfr: axfr, edit: func(_ int, m *dns.Msg) { m.Question[0].Name = "other." }, want: "another question"},
		{name: "no question", axfr: axfr, edit: func(_ int, m *dns.Msg) { m.Question = nil }, want: "no question"},
		{name: "another ID", axfr: axfr, edit: func(_ int, m *dns.Msg) { m.Id++ }, want: "its ID is another"},
		{name: "a query", axfr: axfr, edit: func(_ int, m *dns.Msg) { m.Response = false }, want: "no answer to a query"},
		{name: "truncated", axfr: axfr, edit: func(_ int, m *dns.Msg) { m.Truncated = true }, want: "truncated"},
		{name: "an error in the middle", axfr: axfr, edit: func(n int, m *dns.Msg) {
			if n == 2 {
				m.Rcode = dns.RcodeServerFailure
			}
		}, want: "SERVFAIL"},
		{name: "an empty message", axfr: axfr, edit: func(n int, m *dns.Msg) {
			if n == 2 {
				m.Answer = nil
			}
		}, want: "without a record"},
		{name: "refused", want: "REFUSED"},
		{name: "says newer, and is not", axfr: axfrOf(before), ixfr: []dns.RR{soa(10)}, want: ""},

		{name: "IXFR deletes what is not there", ixfr: []dns.RR{soa(11), soa(10), rr("x.example. 60 A 192.0.2.1"), soa(11), soa(11)}, want: "lacks a record"},
		{name: "IXFR adds what is there", ixfr: []dns.RR{soa(11), soa(10), soa(11), rr("a.example. 300 A 192.0.2.1"), soa(11)}, want: "has a record"},
		{name: "IXFR from another serial", ixfr: []dns.RR{soa(11), soa(9), soa(11), soa(11)}, want: "begin at serial 9"},
		{name: "IXFR from another SOA", ixfr: []dns.RR{soa(11), rr("example. 60 SOA x. y. 10 1 1 1 1"), soa(11), soa(11)}, want: "another SOA"},
		{name: "IXFR with a gap", ixfr: []dns.RR{soa(13), soa(10), soa(11), soa(12), soa(13), soa(13)}, want: "lead to serial 11"},
		{name: "IXFR breaks a rule", ixfr: []dns.RR{soa(11), soa(10), soa(11), rr("a.example. 60 CNAME b."), soa(11)}, want: "cname-and-other"},
		{name: "IXFR takes all NS", ixfr: []dns.RR{soa(11), soa(10), rr("example. 3600 NS ns1.test."), rr("example. 3600 NS ns2.test."), soa(11), soa(11)}, want: "apex-ns"},
		{name: "IXFR twice the same", ixfr: []dns.RR{soa(11), soa(10), soa(11), rr("x.example. 60 A 192.0.2.1"), rr("x.example. 60 A 192.0.2.1"), soa(11)}, want: "twice"},
		{name: "wrong ZONEMD", axfr: with(axfr, 2, rr("example. 60 ZONEMD 11 1 1 "+strings.Repeat("00", 48))), want: "ZONEMD"},
		{name: "ZONEMD of another serial", axfr: with(axfr, 2, rr("example. 60 ZONEMD 10 1 1 "+strings.Repeat("00", 48))), want: "serial 10"},
		{name: "IXFR with a wrong ZONEMD", ixfr: []dns.RR{soa(11), soa(10), soa(11), rr("example. 60 ZONEMD 11 1 1 " + strings.Repeat("00", 48)), soa(11)}, want: "ZONEMD"},
	} {
		for _, perMessage := range []int{1, 100} {
			if perMessage == 100 && (strings.Contains(test.name, "middle") || test.name == "an empty message") {
				continue // there is only one
			}
			if perMessage == 1 && test.name == "more behind the end" {
				continue // nobody reads that
			}
			t.Run(fmt.Sprint(test.name, " ", perMessage), func(t *testing.T) {
				r, p := newRig(t), newFakePrimary(t)
				r.create(apex, p.remote)
				s := r.secondary()
				p.serveVersions(before)
				r.mustRefresh(s)
				records := len(r.log.Records)
				p.set(func() {
					p.soa, p.axfr, p.ixfr, p.edit, p.perMessage = []dns.RR{soa(11)}, test.axfr, test.ixfr, test.edit, perMessage
				})
				got := r.refresh(s)
				if test.want != "" && (got.err == nil || !strings.Contains(got.err.Error(), test.want)) {
					t.Errorf("%v, want %q", got.err, test.want)
				}
				if got.transfer != nil {
					t.Errorf("%+v", got.transfer)
				}
				r.must(apex, before)
				if test.want != "" && strings.HasPrefix(test.want, "ZONEMD") && len(r.log.Records) != records {
					t.Errorf("%d records were published", len(r.log.Records)-records)
				}
				// The primary comes to its senses.
				p.set(func() { p.edit = nil })
				p.serveVersions(before, after)
				r.mustRefresh(s)
				r.must(apex, after)
			})
		}
	}
}

// TestPrimaries: they are asked in their order, the one that told of a change first; and what one can't do, the next does.
func TestPrimaries(t *testing.T) {
	r, a, b := newRig(t), newFakePrimary(t), newFakePrimary(t)
	r.create(apex, a.remote, b.remote)
	s := r.secondary()
	v1, v2, v3 := version(1, "a"), version(2, "b"), version(3, "c")
	a.serveVersions(v1)
	b.serveVersions(v2)
	if got := r.mustRefresh(s); got.transfer.From != a.remote || b.asked[0].Load() != 0 {
		t.Errorf("%+v", got.transfer)
	}
	r.must(apex, v1)

	// The first breaks off: the second is asked.
	a.serveVersions(v3)
	a.set(func() { a.cut = 50 })
	got := r.mustRefresh(s)
	if got.transfer == nil || got.transfer.From != b.remote {
		t.Errorf("%+v %v", got.transfer, got.err)
	}
	r.must(apex, v2)

	// The second is behind the first by now; the first works again.
	a.set(func() { a.cut = -1 })
	b.serveVersions(v1)
	if got := r.mustRefresh(s); got.transfer == nil || got.transfer.From != a.remote {
		t.Errorf("%+v", got.transfer)
	}
	r.must(apex, v3)

	// Only one that is behind: no refresh, and nothing changes.
	a.serveVersions(v2)
	if got := r.refresh(s); !errors.Is(got.err, errBehind) || got.transfer != nil {
		t.Errorf("%+v", got)
	}
	r.must(apex, v3)

	// Who told of a change is asked first.
	v4 := version(4, "d")
	a.serveVersions(v4)
	b.serveVersions(v4)
	if got := order([]zones.Remote{a.remote, at("192.0.2.9:53"), b.remote}, at("192.0.2.9:1").Addr.Addr()); got[0] != at("192.0.2.9:53") || got[1] != a.remote {
		t.Errorf("%v", got)
	}
}

// TestOvertaken: of two that transfer the same zone, one does, and the other finds out.
func TestOvertaken(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s, other := r.secondary(), r.secondary()
	v1, v2 := version(1, "a"), version(2, "b")
	p.serveVersions(v1)
	r.mustRefresh(s)
	p.serveVersions(v1, v2)
	r.before = func(*zones.ChangeSet) error {
		r.before = nil
		r.mustRefresh(other)
		return nil
	}
	if got := r.refresh(s); got.err != nil || got.transfer != nil || !got.soon {
		t.Errorf("%+v", got)
	}
	r.must(apex, v2)
}

// TestRetransfer fetches a zone whole, whose serial has gone back.
func TestRetransfer(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s := r.secondary()
	p.serveVersions(version(1000, "a"))
	r.mustRefresh(s)
	back := version(5, "b")
	p.serveVersions(back)
	if got := r.refresh(s); got.err == nil {
		t.Error("the serial went back by itself")
	}
	if got := s.refresh(context.Background(), task{apex: apex, anew: true}); got.err != nil || got.transfer == nil {
		t.Errorf("%+v", got)
	}
	r.must(apex, back)
}

// TestRandomDifferences: zones after IXFR are what they are after AXFR, however they changed, in one record of the log or in many.
func TestRandomDifferences(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r, p := newRig(t), newFakePrimary(t)
		r.create(apex, p.remote)
		s := r.secondary()
		size := 30
		if seed >= 3 {
			size = 3000
		}
		versions := [][]zones.RRset{randomZone(rng, 1, size, nil)}
		p.serveVersions(versions...)
		p.set(func() { p.perMessage = 100 })
		r.mustRefresh(s)
		for n := range 1 + rng.IntN(4) {
			versions = append(versions, randomZone(rng, uint32(n+2), size, versions[n]))
		}
		p.serveVersions(versions...)
		p.set(func() { p.axfr = nil })
		got := r.mustRefresh(s)
		if got.transfer == nil || got.transfer.Form != Differences || got.transfer.Staged != (size == 3000) {
			t.Errorf("seed %d: %+v", seed, got.transfer)
		}
		r.must(apex, versions[len(versions)-1])
	}
}

// randomZone changes about half of a zone.
func randomZone(rng *rand.Rand, serial uint32, size int, before []zones.RRset) []zones.RRset {
	keep := map[string]zones.RRset{}
	for _, s := range before {
		keep[s.Owner.String()+s.Key.String()] = s
	}
	sets := storetest.Apex(apexText, serial)
	for i := range size {
		owner := fmt.Sprintf("n%d.%s", i, apexText)
		for _, kind := range []zones.Type{zones.TypeA, zones.TypeTXT, zones.TypeMX} {
			if old, ok := keep[owner+kind.String()]; ok && rng.IntN(2) == 0 {
				sets = append(sets, old)
				continue
			}
			n := rng.IntN(4)
			if n == 0 {
				continue
			}
			var texts []string
			for range n {
				v := rng.IntN(8)
				texts = append(texts, map[zones.Type]string{
					zones.TypeA: fmt.Sprintf("192.0.2.%d", v), zones.TypeTXT: fmt.Sprintf(`"%d" "x"`, v), zones.TypeMX: fmt.Sprintf("%d MX%d.Example.", v, v),
				}[kind])
			}
			sets = append(sets, storetest.Set(owner, uint32(60*(1+rng.IntN(2))), kind, texts...))
		}
	}
	return sets
}

// TestMixedTTLs: of records with different TTLs the RRset has the lowest, whether they come whole or as differences.
func TestMixedTTLs(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s := r.secondary()
	v1 := version(1, "a=192.0.2.1")
	p.serveVersions(v1)
	r.mustRefresh(s)
	for serial, ttl := range []uint32{60, 900} {
		added := storetest.Set("a."+apexText, ttl, zones.TypeA, fmt.Sprintf("192.0.2.%d", 10+serial))
		from, to := uint32(serial+1), uint32(serial+2)
		last := rrs(soaOf(version(to)))
		p.set(func() {
			p.soa = last
			p.ixfr = slices.Concat(last, rrs(soaOf(version(from))), last, rrs(added), last)
		})
		r.mustRefresh(s)
	}
	want := version(3, "a=192.0.2.1,192.0.2.10,192.0.2.11")
	want[2] = want[2].WithTTL(60)
	r.must(apex, want)
}

// TestOddServers: octets behind a message, one that is not authoritative for the zone, and one that answers over TCP alone.
func TestOddServers(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s := r.secondary()
	p.serveVersions(version(1, "a"))
	p.set(func() { p.tail = []byte{0} })
	if got := r.refresh(s); !errors.Is(got.err, ErrMalformed) || !strings.Contains(got.err.Error(), "too many") {
		t.Errorf("%v", got.err)
	}
	p.set(func() { p.tail, p.lame = nil, true })
	if got := r.refresh(s); got.err == nil || !strings.Contains(got.err.Error(), "authoritative") {
		t.Errorf("%v", got.err)
	}
	if !r.info(apex).Standing.Awaiting {
		t.Error("something was taken")
	}
	p.set(func() { p.lame = false })
	r.mustRefresh(s)
	p.set(func() { p.streams = true })
	p.serveVersions(version(2, "b"))
	r.mustRefresh(s)
	if got := r.info(apex).Serial; got != 2 {
		t.Errorf("serial %d of a primary that answers over TCP alone", got)
	}
}

// TestEndlessTransfer: a primary that does not come to an end is given up, by its records or by its octets, and nothing changes.
func TestEndlessTransfer(t *testing.T) {
	for want, limits := range map[error]Limits{ErrManyRecords: {Records: 20}, ErrManyOctets: {Octets: 1000}} {
		r, p := newRig(t), newFakePrimary(t)
		r.create(apex, p.remote)
		s := r.secondary(func(o *Options) { o.Client.Limits = limits })
		before := version(10, "a", "b")
		p.serveVersions(before)
		r.mustRefresh(s)
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprint("n", i))
		}
		p.serveVersions(version(11, names...))
		p.set(func() { p.ixfr, p.perMessage = nil, 1 })
		if got := r.refresh(s); !errors.Is(got.err, want) {
			t.Errorf("%v, want %v", got.err, want)
		}
		r.must(apex, before)
	}
}

// TestSilentPrimary: one that accepts and says nothing ends by its time-out; one that is not there is asked less, and does not keep others waiting.
func TestSilentPrimary(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s := r.secondary(func(o *Options) { o.Client.Limits.Idle = 50 * time.Millisecond })
	p.serveVersions(version(1, "a"))
	p.set(func() { p.cut, p.stall = 20, true })
	if got := r.refresh(s); !errors.Is(got.err, errSilent) {
		t.Errorf("%v", got.err)
	}
	if info := r.info(apex); !info.Standing.Awaiting {
		t.Errorf("%+v", info.Standing)
	}
}

// TestStopsAtOnce: the end of the node is not held up by a primary.
func TestStopsAtOnce(t *testing.T) {
	r, p := newRig(t), newFakePrimary(t)
	r.create(apex, p.remote)
	s := r.secondary(func(o *Options) { o.Client.Limits.Idle = time.Hour })
	p.serveVersions(version(1, "a"))
	asked := make(chan struct{})
	p.set(func() {
		p.cut, p.stall = 20, true
		p.edit = func(int, *dns.Msg) { close(asked) }
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan result)
	go func() { done <- s.refresh(ctx, task{apex: apex}) }()
	select {
	case <-asked:
	case got := <-done:
		t.Fatal(got.err)
	}
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) {
		t.Errorf("%v", got.err)
	}
}
