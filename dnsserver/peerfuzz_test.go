package dnsserver

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/dnsserver/tsig"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// noLog refuses every change.
type noLog struct{ *store.Store }

func (noLog) Change(context.Context, *zones.ChangeSet) (store.Outcome, error) {
	return store.Outcome{}, errors.New("there is no log")
}
func (noLog) CatchUp(context.Context, int32) error { return nil }

// FuzzPeers: whatever comes as NOTIFY, UPDATE, AXFR or IXFR, signed or not, nothing panics, and what is answered can be read, fits, and is signed
// when it must be.
func FuzzPeers(f *testing.F) {
	keys := newTestKeys()
	key := sha256Key()
	var seconds atomic.Int64 // time goes on with each packet, so that none is over a limit
	seconds.Store(1_700_000_000)
	now := func() time.Time { return time.Unix(seconds.Load(), 0) }
	p := startPrimary(f, Options{
		Keys: keys, Now: now,
		Notifies: &notifies{known: map[string]zones.ZoneSettings{"example.org.": from("192.0.2.1")}},
	})
	p.opts.Updates = noLog{p.store}
	p.apply(storetest.Create("example."), storetest.Create("example.org."))
	p.www("example.org.", 1)
	p.www("example.org.", 2)
	signed := func(packet []byte) ([]byte, *tsig.Session) {
		session := tsig.NewClient(key)
		return session.SignRequest(packet, now()), session
	}
	for _, m := range []*dns.Msg{
		notice("example.org.", 7), notice("other.org.", 7), axfr("example.org."), ixfr("example.org.", 1), ixfr("example.org.", 3),
		updateMessage(f, "pre example. 0 ANY ANY", "upd www.example. 60 IN A 192.0.2.1"),
	} {
		for _, sign := range []bool{false, true} {
			f.Add(pack(f, m), sign)
			f.Add(pack(f, withEDNS(m.Copy(), 1232, true)), sign)
		}
	}
	packet, _ := signed(pack(f, axfr("example.org.")))
	f.Add(packet, false)
	x := &exchange{server: p.Server, mayWait: true, mayAsk: true, again: true}
	f.Fuzz(func(t *testing.T, packet []byte, sign bool) {
		for _, via := range []transport{overUDP, overTCP, overTLS} {
			x.via = via
			seconds.Add(10)
			x.begin()
			var session *tsig.Session
			request := packet
			if sign && len(packet) >= 12 && len(packet) < 60_000 {
				request, session = signed(append([]byte(nil), packet...))
			}
			var q wire.Query
			wire.Parse(request, &q)
			reply, _ := x.serve(request, netip.MustParseAddr("192.0.2.1"), nil)
			replies := [][]byte{reply}
			if j := x.transfer; j != nil {
				x.transfer = nil
				var k sink
				j.run(&k)
				replies = nil
				for _, framed := range k.framed {
					replies = append(replies, framed[2:])
				}
			}
			if p.panics.Load() != 0 {
				t.Fatal("it panicked")
			}
			for _, reply := range replies {
				if len(reply) == 0 {
					continue
				}
				if via == overUDP && len(reply) > 1232 {
					t.Fatalf("%d octets over UDP", len(reply))
				}
				var m dns.Msg
				if err := m.Unpack(reply); err != nil {
					t.Fatalf("%v in %x", err, reply)
				}
				if session == nil || q.TSIG == 0 || q.Verdict != wire.Slow { // what is malformed has no signature that is found
					continue
				}
				// A message that goes on where its counts say that it ends has another signature, or one that is wrong.
				unsigned := m.Rcode == dns.RcodeNotAuth || m.Rcode == dns.RcodeFormatError
				if _, err := session.VerifyAnswer(reply, now()); err != nil && !unsigned {
					t.Fatalf("%v: %v", err, &m)
				}
			}
		}
	})
}
