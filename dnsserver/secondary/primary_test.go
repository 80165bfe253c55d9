package secondary

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"balefire/replication/porttest"
	"balefire/zones"
	"balefire/zones/zonefile"
)

// fakePrimary answers what a test says: it is for what real servers can't be made to do.
type fakePrimary struct {
	t      testing.TB
	remote zones.Remote

	mu sync.Mutex
	// soa, axfr and ixfr are the records of the answers; nil: REFUSED. perMessage is how many go into one message; 0: all.
	soa, axfr, ixfr []dns.RR
	perMessage      int
	// cut is how many octets of the answers over TCP are sent before the connection is closed; negative: all.
	cut int
	// edit changes a message before it is sent; nil: it is sent as it is.
	edit func(n int, m *dns.Msg)
	// tail follows each message over TCP, inside of its frame; lame answers are not authoritative.
	tail []byte
	lame bool
	// streams: over UDP all is refused, as Knot does for its catalogs.
	streams bool
	// stall keeps a connection open, and says no more, after what cut says.
	stall bool

	asked [3]atomic.Int64 // for a SOA, AXFR and IXFR
	octs  atomic.Int64    // octets of the last answer over TCP
}

func newFakePrimary(t testing.TB) *fakePrimary {
	p := &fakePrimary{t: t, cut: -1}
	addr := porttest.Free(t, "127.0.0.1")
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p.remote = at(addr)
	var work sync.WaitGroup
	stop := make(chan struct{})
	work.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, m := range p.answer(buf[:n], true) {
				_, _ = udp.WriteTo(m, from)
			}
		}
	})
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				p.serve(conn, stop)
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = ln.Close()
		_ = udp.Close()
		work.Wait()
	})
	return p
}

func (p *fakePrimary) serve(conn net.Conn, stop chan struct{}) {
	buf := make([]byte, 65537)
	for {
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return
		}
		query := buf[2 : 2+int(binary.BigEndian.Uint16(buf))]
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		var out []byte
		for _, m := range p.answer(query, false) {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
		}
		p.mu.Lock()
		cut, stall := p.cut, p.stall
		p.mu.Unlock()
		p.octs.Store(int64(len(out)))
		if cut < 0 || cut > len(out) {
			cut = len(out)
		}
		if _, err := conn.Write(out[:cut]); err != nil {
			return
		}
		if cut < len(out) {
			if stall {
				<-stop
			}
			return
		}
	}
}

// answer makes the messages of an answer.
func (p *fakePrimary) answer(packet []byte, udp bool) (out [][]byte) {
	var q dns.Msg
	if err := q.Unpack(packet); err != nil {
		p.t.Errorf("a query that can't be read: %v", err)
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var rrs []dns.RR
	switch q.Question[0].Qtype {
	case dns.TypeSOA:
		p.asked[0].Add(1)
		rrs = p.soa
	case dns.TypeAXFR:
		p.asked[1].Add(1)
		rrs = p.axfr
	case dns.TypeIXFR:
		p.asked[2].Add(1)
		rrs = p.ixfr
	}
	if udp && p.streams {
		rrs = nil
	}
	per := p.perMessage
	if per == 0 {
		per = max(len(rrs), 1)
	}
	for n := 0; n == 0 || len(rrs) > 0; n++ {
		m := new(dns.Msg)
		m.SetReply(&q)
		m.Authoritative, m.Compress = !p.lame, true
		if len(rrs) == 0 {
			m.Rcode = dns.RcodeRefused
		}
		take := min(per, len(rrs))
		m.Answer, rrs = rrs[:take], rrs[take:]
		if p.edit != nil && !udp {
			p.edit(n, m)
		}
		packed, err := m.Pack()
		if err != nil {
			p.t.Errorf("pack: %v", err)
			return nil
		}
		if !udp {
			packed = append(packed, p.tail...)
		}
		out = append(out, packed)
	}
	return out
}

// set changes what is answered.
func (p *fakePrimary) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// rrs makes records of RRsets.
func rrs(sets ...zones.RRset) (all []dns.RR) {
	for _, s := range sets {
		for rd := range s.RDatas() {
			h := dns.RR_Header{Name: s.Owner.String(), Rrtype: uint16(s.Type), Class: dns.ClassINET, Ttl: s.TTL, Rdlength: uint16(len(rd))}
			rr, _, err := dns.UnpackRRWithHeader(h, rd, 0)
			if err != nil {
				panic(err)
			}
			all = append(all, rr)
		}
	}
	return all
}

// axfrOf are the records of AXFR of a zone.
func axfrOf(sets []zones.RRset) []dns.RR {
	soa := rrs(soaOf(sets))
	all := append([]dns.RR{}, soa...)
	for _, s := range sets {
		if s.Type != zones.TypeSOA {
			all = append(all, rrs(s)...)
		}
	}
	return append(all, soa...)
}

func soaOf(sets []zones.RRset) zones.RRset {
	for _, s := range sets {
		if s.Type == zones.TypeSOA {
			return s
		}
	}
	return zones.RRset{}
}

// ixfrOf are the records of IXFR over versions of a zone, the oldest first.
func ixfrOf(versions ...[]zones.RRset) []dns.RR {
	last := rrs(soaOf(versions[len(versions)-1]))
	all := append([]dns.RR{}, last...)
	for i := range len(versions) - 1 {
		all = append(all, differenceOf(versions[i], versions[i+1])...)
	}
	return append(all, last...)
}

// differenceOf is one difference sequence.
func differenceOf(before, after []zones.RRset) []dns.RR {
	side := func(from, to []zones.RRset) []dns.RR {
		out := rrs(soaOf(from))
		other := map[string]bool{}
		for _, rr := range axfrOf(to) {
			other[rr.String()] = true
		}
		for _, rr := range axfrOf(from) {
			if !other[rr.String()] && rr.Header().Rrtype != dns.TypeSOA {
				out = append(out, rr)
			}
		}
		return out
	}
	return append(side(before, after), side(after, before)...)
}

// serveVersions answers with the last of some versions of a zone, and with differences from all others.
func (p *fakePrimary) serveVersions(versions ...[]zones.RRset) {
	last := versions[len(versions)-1]
	p.set(func() {
		p.soa, p.axfr, p.ixfr = rrs(soaOf(last)), axfrOf(last), nil
		if len(versions) > 1 {
			p.ixfr = ixfrOf(versions...)
		}
	})
}

// recordsOf makes records as they are read from messages.
func recordsOf(all []dns.RR) (out []zonefile.Record) {
	for _, rr := range all {
		buf := make([]byte, 4096)
		end, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			panic(err)
		}
		name, n, err := zones.NameFromWire(buf)
		if err != nil {
			panic(err)
		}
		out = append(out, zonefile.Record{Owner: name, Type: zones.Type(rr.Header().Rrtype), TTL: rr.Header().Ttl, RData: buf[n+10 : end]})
	}
	return out
}
