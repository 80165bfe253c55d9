package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	randv2 "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// waitLimit ends a test that waits for what never comes.
const waitLimit = 60 * time.Second

// loopbackOrKey lets those transfer who are on this machine, but one zone only those who have a key.
type loopbackOrKey struct{}

func (loopbackOrKey) Allows(d zones.Deed, apex zones.Name, _ zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	return d == zones.DeedTransfer && from.IsLoopback() && (key == keyName || apex != keyedApex)
}

func (loopbackOrKey) Grants(_ zones.Name, settings zones.ZoneSettings) []zones.Grant {
	return settings.Grants
}

// keyedApex is a zone that only those may transfer who have the key.
var (
	keyedApex = zones.MustParseName("keyed.org.")
	keyName   = zones.MustParseName("to.secondaries.")
	theKey    = key{"to.secondaries", base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two octets ..."))}
)

// ring has the key.
type ring struct{}

func (ring) Key(name zones.Name) (zones.TSIGKey, bool) {
	secret, err := base64.StdEncoding.DecodeString(theKey.secret)
	return zones.TSIGKey{Name: keyName, Algorithm: zones.HMACSHA256, Secret: secret}, err == nil && name == keyName
}

// primary is Balefire, of what a log makes.
type primary struct {
	t      *testing.T
	server *dnsserver.Server
	store  *store.Store
	part   *store.Partition
	log    storetest.Log
}

func startPrimary(t *testing.T) *primary {
	p := &primary{t: t}
	p.store, p.part = storetest.Open(t, storetest.Options(t, t.TempDir()))
	certificate := selfSigned(t)
	s, err := dnsserver.New(dnsserver.Options{
		Listen: []string{"127.0.0.1:0"}, ListenTLS: []string{"127.0.0.1:0"}, Certificate: func() *tls.Certificate { return certificate },
		Zones: p.store, Contents: p.store, Access: loopbackOrKey{}, Keys: ring{}, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	p.server = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func selfSigned(t *testing.T) *tls.Certificate {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"primary.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func (p *primary) apply(all ...*zones.ChangeSet) {
	p.t.Helper()
	begin := int64(len(p.log.Records))
	for _, cs := range all {
		p.log.Add(p.t, cs)
	}
	outcomes, err := p.part.Apply(p.log.From(begin))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Rejection != nil {
			p.t.Fatalf("%s: %v", o.Zone, o.Rejection)
		}
	}
}

func (p *primary) serial(apex string) uint32 {
	p.t.Helper()
	z, err := p.store.Zone(zones.MustParseName(apex))
	if err != nil {
		p.t.Fatal(err)
	}
	return uint32(z.Serial)
}

// content is the zone's records, the SOA once.
func (p *primary) content(apex string) (all []string) {
	p.t.Helper()
	r, err := p.store.Read(zones.MustParseName(apex))
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	for s, err := range r.All(p.t.Context()) {
		if err != nil {
			p.t.Fatal(err)
		}
		for rdata := range s.RDatas() {
			b := binary.BigEndian.AppendUint16([]byte(s.Owner), uint16(s.Type))
			b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
			b = binary.BigEndian.AppendUint32(b, s.TTL)
			b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
			rr, _, err := dns.UnpackRR(append(b, rdata...), 0)
			if err != nil {
				p.t.Fatal(err)
			}
			all = append(all, rr.String())
		}
	}
	slices.Sort(all)
	return all
}

// sent is how many transfers of a form there were.
func (p *primary) sent(form string) (n int) {
	p.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(p.server)
	families, err := r.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "balefire_dns_transfers_total" && m.GetLabel()[0].GetValue() == form {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

// awaitSent waits until there were n transfers of a form, and returns how many there were: one is counted when the secondary has it.
func (p *primary) awaitSent(form string, n int) int {
	p.t.Helper()
	late := time.Now().Add(waitLimit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got := p.sent(form)
		if got >= n {
			return got
		}
		if time.Now().After(late) {
			p.t.Fatalf("%d transfers of a %s, want %d", got, form, n)
		}
		<-tick.C
	}
}

// serial asks the secondary.
func (s *secondary) serial(apex string) (uint32, bool) {
	client := &dns.Client{Timeout: time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(apex, dns.TypeSOA), s.addr)
	if err != nil || reply.Rcode != 0 || !reply.Authoritative || len(reply.Answer) != 1 {
		return 0, false
	}
	soa, ok := reply.Answer[0].(*dns.SOA)
	return soa.Serial, ok
}

// notify tells it of a change; what does not arrive is told again by who waits.
func (s *secondary) notify(apex string) {
	client := &dns.Client{Timeout: time.Second}
	m := new(dns.Msg).SetNotify(apex)
	_, _, _ = client.Exchange(m, s.addr)
}

// follow tells secondaries of a change until they have it.
func follow(t *testing.T, p *primary, apex string, all []*secondary) {
	t.Helper()
	want := p.serial(apex)
	late := time.Now().Add(waitLimit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, s := range all {
		for n := 0; ; n++ {
			if got, ok := s.serial(apex); ok && got == want {
				break
			}
			if time.Now().After(late) {
				got, _ := s.serial(apex)
				t.Fatalf("%s has serial %d of %s, not %d", s.name, got, apex, want)
			}
			if n%10 == 0 {
				s.notify(apex)
			}
			<-tick.C
		}
	}
}

// fetch is the zone as the secondary has it.
func (s *secondary) fetch(t *testing.T, apex string) (all []string) {
	t.Helper()
	tr := dns.Transfer{DialTimeout: waitLimit, ReadTimeout: waitLimit, WriteTimeout: waitLimit}
	in, err := tr.In(new(dns.Msg).SetAxfr(apex), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	for e := range in {
		if e.Error != nil {
			t.Fatalf("%s: %v", s.name, e.Error)
		}
		for _, rr := range e.RR {
			all = append(all, rr.String())
		}
	}
	if len(all) < 2 || all[0] != all[len(all)-1] {
		t.Fatalf("%s sends %d records", s.name, len(all))
	}
	all = all[1:]
	slices.Sort(all)
	return all
}

// anyChange changes some RRsets of a zone.
func anyChange(apex string, rng *randv2.Rand) *zones.ChangeSet {
	cs := storetest.Change(apex)
	for range 1 + rng.IntN(4) {
		owner := fmt.Sprintf("h%d.%s", rng.IntN(60), apex)
		switch rng.IntN(6) {
		case 0:
			cs.Ops = append(cs.Ops, zones.OpDeleteName{Owner: zones.MustParseName(owner)})
		case 1:
			cs.Ops = append(cs.Ops, zones.OpDeleteRRset{Owner: zones.MustParseName(owner), Type: zones.TypeTXT})
		case 2:
			cs.Ops = append(cs.Ops, zones.OpAddRecords{RRset: storetest.Set(owner, 300, zones.TypeMX, fmt.Sprintf("%d mx.%s", rng.IntN(50), apex))})
		case 3:
			cs.Ops = append(cs.Ops, zones.OpPutRRset{RRset: storetest.Set(owner, uint32(60+rng.IntN(3)), zones.TypeA, "192.0.2.1", fmt.Sprintf("192.0.2.%d", rng.IntN(250)))})
		case 4:
			cs.Ops = append(cs.Ops, zones.OpPutRRset{RRset: storetest.Set(owner, 60, zones.TypeTXT, `"`+strings.Repeat("t", rng.IntN(250))+`"`)})
		case 5:
			cs.Ops = append(cs.Ops, zones.OpPutRRset{RRset: storetest.Set("sub."+owner, 60, zones.TypeSRV, "1 2 53 "+owner)})
		}
	}
	// There is always something that changes.
	cs.Ops = append(cs.Ops, zones.OpPutRRset{RRset: storetest.Set("last."+apex, 60, zones.TypeTXT, fmt.Sprintf(`"%d"`, rng.Uint64()))})
	return cs
}

// TestSecondaries: real servers fetch a zone, follow a hundred changes of it by differences, and have it then as it is here.
func TestSecondaries(t *testing.T) {
	const apex, changes, step = "example.org.", 100, 5
	p := startPrimary(t)
	rng := randv2.New(randv2.NewPCG(1, 2))
	var sets []zones.RRset
	for i := range 2000 {
		sets = append(sets, storetest.Set(fmt.Sprintf("n%05d.%s", i, apex), 60, zones.TypeA, "192.0.2.1", "192.0.2.2"))
	}
	sets = append(storetest.Apex(apex, 1), sets...)
	p.apply(storetest.Stage(apex, p.log.NextID(), sets, 400)...)
	plain, secure := from{addr: p.server.Addrs()[0].String()}, from{addr: p.server.TLSAddrs()[0].String(), tls: true}
	all := []*secondary{
		startNSD(t, plain, []string{apex}), startKnot(t, plain, []string{apex}), startBIND(t, plain, []string{apex}), startBIND(t, secure, []string{apex}),
	}
	all[3].name = "BIND over TLS"
	follow(t, p, apex, all)
	whole := p.awaitSent("zone", len(all))
	for i := range changes {
		p.apply(anyChange(apex, rng))
		if i%step == step-1 {
			follow(t, p, apex, all)
		}
	}
	if n := p.sent("zone"); n != whole {
		t.Errorf("%d whole zones more", n-whole)
	}
	p.awaitSent("difference", len(all)*changes/step)
	want := p.content(apex)
	for _, s := range all {
		if got := s.fetch(t, apex); !slices.Equal(got, want) {
			t.Errorf("%s has %d records, not %d: %v", s.name, len(got), len(want), firstDifference(got, want))
		}
	}
	// Made anew, there is no difference: they get the whole zone instead.
	p.apply(storetest.Change(apex, zones.OpReplaceZone{RRsets: storetest.Apex(apex, p.serial(apex)+10)}))
	follow(t, p, apex, all)
	p.awaitSent("zone", whole+len(all))
	for _, s := range all {
		if got := s.fetch(t, apex); !slices.Equal(got, p.content(apex)) {
			t.Errorf("%s has %v", s.name, got)
		}
	}
}

// TestSecondariesWithKeys: and so they do when every message is signed.
func TestSecondariesWithKeys(t *testing.T) {
	const changes = 20
	p := startPrimary(t)
	apex := keyedApex.String()
	rng := randv2.New(randv2.NewPCG(3, 4))
	sets := storetest.Apex(apex, 1)
	for i := range 3000 { // several messages
		sets = append(sets, storetest.Set(fmt.Sprintf("n%05d.%s", i, apex), 60, zones.TypeA, "192.0.2.1", "192.0.2.2"))
	}
	p.apply(storetest.Stage(apex, p.log.NextID(), sets, 400)...)
	plain, secure := from{addr: p.server.Addrs()[0].String(), key: &theKey}, from{addr: p.server.TLSAddrs()[0].String(), tls: true, key: &theKey}
	all := []*secondary{
		startNSD(t, plain, []string{apex}), startKnot(t, plain, []string{apex}), startBIND(t, plain, []string{apex}), startBIND(t, secure, []string{apex}),
	}
	all[3].name = "BIND over TLS"
	follow(t, p, apex, all)
	whole := p.awaitSent("zone", len(all))
	for range changes {
		p.apply(anyChange(apex, rng))
		follow(t, p, apex, all)
	}
	if n := p.sent("zone"); n != whole {
		t.Errorf("%d whole zones more", n-whole)
	}
	for _, s := range all {
		if got, want := s.fetch(t, apex), p.content(apex); !slices.Equal(got, want) {
			t.Errorf("%s has %d records, not %d: %v", s.name, len(got), len(want), firstDifference(got, want))
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("%q, want %q", got[i], want[i])
		}
	}
	return "one has more"
}
