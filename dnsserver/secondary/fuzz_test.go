package secondary

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/miekg/dns"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// ours is a zone that differences are applied to.
type ours []zones.RRset

func (z ours) RRset(owner zones.Name, key zones.Key) (zones.RRset, bool, error) {
	for _, s := range z {
		if s.Owner == owner && s.Key == key {
			return s, true, nil
		}
	}
	return zones.RRset{}, false, nil
}

// FuzzTransfer: whatever a primary sends, nothing panics, and what is taken for a transfer is one: it begins and ends with the same SOA, nothing in
// it is out of the zone, and differences lead forward from what is there, each record that they delete having been there.
func FuzzTransfer(f *testing.F) {
	const id = 0x0102
	have, then := version(10, "a", "b"), version(12, "b", "c")
	soaNow := func(sets []zones.RRset) zones.RRset {
		soa, _, _ := ours(sets).RRset(apex, zones.Key{Type: zones.TypeSOA})
		return soa
	}
	add := func(qtype uint16, messages ...[]dns.RR) {
		var stream []byte
		for _, rrs := range messages {
			m := new(dns.Msg)
			m.SetQuestion("example.", qtype)
			m.Id, m.Response, m.Authoritative, m.Compress, m.Answer = id, true, true, true, rrs
			packed, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(packed))), packed...)
		}
		f.Add(stream, qtype == dns.TypeIXFR)
	}
	whole := axfrOf(then)
	add(dns.TypeAXFR, whole)
	add(dns.TypeIXFR, whole)
	add(dns.TypeAXFR, whole[:2], whole[2:])
	soa := func(serial uint32) dns.RR { return rrs(soaOf(version(serial)))[0] }
	rr := func(text string) dns.RR {
		got, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		return got
	}
	add(dns.TypeIXFR, []dns.RR{soa(12), soa(10), rr("a.example. 300 A 192.0.2.1"), soa(11), soa(11), soa(12), rr("c.example. 300 A 192.0.2.1"), soa(12)})
	add(dns.TypeIXFR, []dns.RR{soa(10)})
	f.Fuzz(func(t *testing.T, octets []byte, ixfr bool) {
		records, soas := 0, 0
		s := stream{apex: apex, maxRecords: 1000, maxDifferences: 1 << 20, whole: func(r zonefile.Record) error {
			if !r.Owner.IsAtOrBelow(apex) || records == 0 != (r.Type == zones.TypeSOA) {
				t.Fatalf("%s %s as record %d", r.Owner, r.Type, records)
			}
			if r.Type == zones.TypeSOA {
				soas++
			}
			records++
			return nil
		}}
		kind := zones.TypeAXFR
		if ixfr {
			kind, s.ixfr, s.have = zones.TypeIXFR, true, 10
		}
		for first := true; len(octets) >= 2 && !s.ended(); first = false {
			size := min(int(binary.BigEndian.Uint16(octets)), len(octets)-2)
			err := s.message(octets[2:2+size], id, kind, first)
			if err != nil {
				return
			}
			octets = octets[2+size:]
		}
		switch {
		case !s.ended():
		case s.form == Whole && soas != 1:
			t.Fatalf("%d SOAs", soas)
		case s.form == Differences && !s.serial.IsAfter(10), s.form == Differences && records > 0, s.form == Current && s.serial.IsAfter(10):
			t.Fatalf("%s to serial %d", s.form, s.serial)
		case s.form == Differences:
			p, err := newPatch(ours(have), soaNow(have), s.steps, s.soa)
			if err != nil {
				if !errors.Is(err, errInexact) && !errors.Is(err, ErrLying) && !errors.Is(err, ErrMalformed) && err.Error() == "" {
					t.Fatal(err)
				}
				return
			}
			for _, c := range p.changes() {
				if c.before.IsZero() && c.after.IsZero() || !c.either().Owner.IsAtOrBelow(apex) {
					t.Fatalf("%+v", c)
				}
			}
			operations(p.changes())
		}
	})
}
