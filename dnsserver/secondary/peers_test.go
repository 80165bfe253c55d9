package secondary

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/zones"
)

// peersZone has what servers could write differently: letters in both cases, wildcards, delegations, empty non-terminals, names in RDATA, unknown
// types, and records that fill more than one message.
func peersZone(serial int, hosts int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `$ORIGIN example.
$TTL 300
@ SOA ns1 hostmaster %d 3600 600 86400 60
@ NS ns1
@ NS NS2
@ MX 10 Mail.Example.
@ TXT "v=spf1 -all" "two"
@ CAA 0 issue "ca.test"
ns1 A 192.0.2.53
NS2 AAAA 2001:db8::53
*.wild TXT "wildcard"
deep.er.name A 192.0.2.9
sub NS ns.sub
ns.sub A 192.0.2.54
alias CNAME WWW.Example.
_sip._tcp SRV 1 2 5060 Sip.Example.
_naptr NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:info@example!" .
ptr PTR Target.Elsewhere.Test.
hinfo HINFO "cpu" "os"
rp RP Box.Example. Text.Example.
svc HTTPS 1 . alpn=h2
tlsa TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
unknown TYPE65280 \# 4 01020304
dname DNAME other.test.
long TXT "%s" "%s"
`, serial, strings.Repeat("x", 255), strings.Repeat("y", 255))
	for i := range hosts {
		fmt.Fprintf(&b, "host-%d A 192.0.2.%d\nhost-%d A 198.51.100.%d\n", i, i%250, i, i%250)
	}
	return b.String()
}

// fetched is a zone as miekg/dns fetches it, which is no client of ours.
func fetched(t *testing.T, p *realPrimary) []zones.RRset {
	t.Helper()
	m := new(dns.Msg)
	m.SetAxfr(apexText)
	envelopes, err := (&dns.Transfer{DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute}).In(m, p.addr)
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		owner zones.Name
		key   zones.Key
	}
	rdatas, ttls := map[key][][]byte{}, map[key]uint32{}
	for e := range envelopes {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rec := range recordsOf(e.RR) {
			k := key{rec.Owner, zones.Key{Type: rec.Type}}
			if rec.Type == zones.TypeRRSIG {
				k.key.Covered = zones.CoveredType(rec.RData)
			}
			rdatas[k], ttls[k] = append(rdatas[k], rec.RData), rec.TTL
		}
	}
	var sets []zones.RRset
	for k, all := range rdatas {
		set, err := zones.NewRRset(k.owner, k.key.Type, ttls[k], all...)
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, set)
	}
	return sets
}

// update changes the zone of a primary that takes updates.
func (p *realPrimary) update(t *testing.T, change func(m *dns.Msg)) {
	t.Helper()
	m := new(dns.Msg)
	m.SetUpdate(apexText)
	change(m)
	reply, _, err := (&dns.Client{Net: "tcp", Timeout: time.Minute}).Exchange(m, p.addr)
	if err != nil || reply.Rcode != dns.RcodeSuccess {
		t.Fatalf("update of %s: %v %v", p.name, err, reply)
	}
}

func rr(t *testing.T, text string) dns.RR {
	t.Helper()
	got, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// follow brings the secondary zone to where its primary is, and compares them.
func follow(t *testing.T, r *rig, s *Secondary, p *realPrimary, want Form) *Transfer {
	t.Helper()
	before := r.info(apex).Serial
	got := r.mustRefresh(s)
	// NSD's old processes may answer beside its new ones for a while.
	for late := time.Now().Add(startTimeout); got.transfer == nil && got.primary == before && time.Now().Before(late); got = r.mustRefresh(s) {
		time.Sleep(20 * time.Millisecond)
	}
	if got.transfer == nil || got.transfer.Form != want || got.primary != got.info.Serial {
		t.Fatalf("%s: %+v, want %s", p.name, got, want)
	}
	r.must(apex, fetched(t, p))
	return got.transfer
}

// TestRealPrimaries: zones of NSD, Knot, BIND and PowerDNS are here what they are there, after AXFR, and after changes by IXFR.
func TestRealPrimaries(t *testing.T) {
	for _, start := range []func(*testing.T, string) *realPrimary{
		startNSD, func(t *testing.T, zone string) *realPrimary { return startKnot(t, zone) }, startBIND, startPowerDNS,
	} {
		zone := peersZone(1, 3000)
		p := start(t, zone)
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t)
			r.create(apex, at(p.addr))
			s := r.secondary()
			if first := follow(t, r, s, p, Whole); first.Messages < 2 || first.Records < 6000 || !first.Staged {
				t.Errorf("%+v", first)
			}
			if got := r.mustRefresh(s); got.transfer != nil {
				t.Errorf("%+v", got.transfer)
			}
			if p.updates {
				for i := range 20 {
					before := uint32(r.info(apex).Serial)
					p.update(t, func(m *dns.Msg) {
						m.Insert([]dns.RR{rr(t, fmt.Sprintf("new-%d.example. 60 A 203.0.113.%d", i, i)), rr(t, fmt.Sprintf("host-%d.example. 300 A 203.0.113.1", i))})
						m.RemoveRRset([]dns.RR{rr(t, fmt.Sprintf("host-%d.example. 300 A 203.0.113.1", 100+i))})
						m.Remove([]dns.RR{rr(t, fmt.Sprintf("host-%d.example. 300 A 192.0.2.%d", 200+i, 200+i))})
					})
					if i%4 == 3 { // one difference, or four
						p.await(t, before)
						if last := follow(t, r, s, p, Differences); last.Staged {
							t.Errorf("%+v", last)
						}
					}
				}
				return
			}
			// The others have their zones from files.
			for serial := 2; serial < 5; serial++ {
				text := strings.Replace(peersZone(serial, 3000), fmt.Sprintf("host-%d A 192", serial), fmt.Sprintf("other-%d A 192", serial), 1)
				if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				p.reload(t)
				p.await(t, uint32(serial-1))
				follow(t, r, s, p, Whole)
			}
		})
	}
}

// TestSignedByKnot: a zone that Knot signs, with NSEC3 and a ZONEMD, comes whole and follows it; its digest is checked both times.
func TestSignedByKnot(t *testing.T) {
	p := startKnot(t, peersZone(1, 300), "dnssec-signing: on", "dnssec-policy: nsec3", "zonemd-generate: zonemd-sha384")
	r := newRig(t)
	r.create(apex, at(p.addr))
	s := r.secondary()
	follow(t, r, s, p, Whole)
	if info := r.info(apex); !info.Signed || !info.NSEC3 {
		t.Errorf("%+v", info)
	}
	hasZONEMD := func() bool {
		return slices.ContainsFunc(r.present(apex), func(s zones.RRset) bool { return s.Type == zones.TypeZONEMD })
	}
	if !hasZONEMD() {
		t.Error("there is no ZONEMD: nothing was compared")
	}
	for i := range 5 {
		before := uint32(r.info(apex).Serial)
		p.update(t, func(m *dns.Msg) {
			m.Insert([]dns.RR{rr(t, fmt.Sprintf("new-%d.example. 60 A 203.0.113.%d", i, i))})
			m.RemoveName([]dns.RR{rr(t, fmt.Sprintf("host-%d.example. 300 A 203.0.113.1", i))})
		})
		p.await(t, before)
		follow(t, r, s, p, Differences)
	}
	if !hasZONEMD() {
		t.Error("the ZONEMD went away")
	}
}

// TestOverTLS: BIND's zone over TLS (RFC 9103).
func TestOverTLS(t *testing.T) {
	p := startBIND(t, peersZone(1, 10))
	r := newRig(t)
	remote := at(p.tls)
	remote.TLS = true
	r.create(apex, remote)
	s := r.secondary()
	follow(t, r, s, p, Whole)
	p.update(t, func(m *dns.Msg) { m.Insert([]dns.RR{rr(t, "new.example. 60 A 203.0.113.1")}) })
	follow(t, r, s, p, Differences)

	// A name that the certificate is not for.
	remote.TLSName = "primary.test"
	l := look{info: r.info(apex)}
	if _, err := s.askOne(context.Background(), task{apex: apex}, l, remote); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}
