package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/dnsserver/transfer"
	"balefire/dnsserver/tsig"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestTransferPadding: over TLS, the messages for a client that pads are whole blocks long, signed or not, whether the zone is here or elsewhere; and say
// what they would say otherwise.
func TestTransferPadding(t *testing.T) {
	key := tsig.Key{Name: zones.MustParseName("padded."), Algorithm: zones.HMACSHA256, Secret: []byte("a secret of thirty-two octets ...")}
	keys := testKeys{key.Name: key}
	p := startPrimary(t, Options{Keys: keys})
	sets := storetest.Apex("example.org.", 1)
	for i := range 3000 {
		sets = append(sets, storetest.Set(fmt.Sprintf("h%04d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	sets = append(sets, storetest.Set("long.example.org.", 60, zones.TypeTXT, strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 250))))
	p.apply(storetest.Stage("example.org.", p.log.NextID(), sets, 1000)...)
	p.www("example.org.", 1)
	front := startTLS(t, Options{Zones: elsewhereZones{newHosted(t)}, Contents: p.store, Access: everybody{}, DistantTransfers: &distant{to: p}, Keys: keys})
	padding := &dns.EDNS0_PADDING{Padding: make([]byte, 10)}
	for what, s := range map[string]*Server{"here": p.Server, "elsewhere": front} {
		for _, signed := range []bool{false, true} {
			for _, query := range []*dns.Msg{axfr("example.org."), ixfr("example.org.", 1), ixfr("example.org.", 2)} {
				for network, c := range map[string]*wireConn{"tls": dialTLS(t, s, nil), "tcp": dial(t, "tcp", s.testAddr())} {
					packet := pack(t, withEDNS(query.Copy(), 1232, false, padding))
					session := tsig.NewClient(key)
					if signed {
						packet = session.SignRequest(packet, p.opts.Now())
					}
					c.send(packet)
					var all []dns.RR
					for n := 0; !(len(all) > 0 && transferEnded(all)); n++ {
						message := c.receive()
						blocks := len(message)%wire.PaddingBlock == 0
						if !blocks && network == "tls" || len(message) > transfer.MessageSize && len(all) < 3000 {
							t.Fatalf("%s over %s, signed: %v: message %d has %d octets", what, network, signed, n, len(message))
						}
						if signed {
							var err error
							if message, err = session.VerifyAnswer(message, p.opts.Now()); err != nil {
								t.Fatal(err)
							}
						}
						m := unpack(t, message)
						all = append(all, m.Answer...)
						if opt := m.IsEdns0(); opt == nil || (len(opt.Option) > 0) != (network == "tls") {
							t.Errorf("%s over %s: %v", what, network, opt)
						}
						if n == 0 && query.Question[0].Qtype == dns.TypeIXFR && len(all) == 1 {
							break
						}
					}
					switch {
					case query.Question[0].Qtype == dns.TypeAXFR:
						p.wantZone("example.org.", all)
					case query.Ns[0].(*dns.SOA).Serial == 1 && len(all) != 5, query.Ns[0].(*dns.SOA).Serial == 2 && len(all) != 1:
						t.Errorf("%s over %s: %v", what, network, all)
					}
				}
			}
		}
	}
}

// countingSigner signs with the number of the message.
type countingSigner struct{ n int }

func (s *countingSigner) Len() int { return 20 }
func (s *countingSigner) SignAt(m []byte, base int, _ time.Time) []byte {
	s.n++
	m[base+11]++
	return append(m, fmt.Sprintf("%020d", s.n)...)
}

type sink struct {
	framed [][]byte
	waited int
}

func (k *sink) wait(ctx context.Context) error {
	k.waited++
	return ctx.Err()
}

func (k *sink) write(b []byte) error {
	k.framed = append(k.framed, bytes.Clone(b))
	return nil
}

// TestTransferOut: messages get what belongs to them, are signed in their order, and say how long they are. One that is not sent is not signed.
func TestTransferOut(t *testing.T) {
	var k sink
	signer := &countingSigner{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &transferOut{to: &k, ctx: ctx, opt: []byte("an OPT record"), sign: signer, now: time.Now}
	if room := out.room(); room != 33 {
		t.Errorf("room for %d", room)
	}
	for i := range 3 {
		buf := make([]byte, 14, 100)
		if i == 2 {
			cancel()
			if err := out.send(buf); err == nil {
				t.Error("sent though its time is over")
			}
			out.last = true
		}
		if err := out.send(buf); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range k.framed {
		if want := fmt.Sprintf("an OPT record%020d", i+1); string(b[14:]) != want || int(binary.BigEndian.Uint16(b)) != len(b)-2 || b[13] != 2 {
			t.Errorf("message %d is %q", i, b)
		}
	}
	// A full message stays one record of TLS when it is padded.
	full := &transferOut{to: &k, ctx: t.Context(), opt: wire.AppendOPT(nil, &wire.Query{EDNS: true, Echo: wire.EchoAll}, &wire.Reply{ExtendedError: wire.NoExtendedError}), padded: true, sign: signer, now: time.Now}
	if err := full.send(make([]byte, 2+transfer.MessageSize-full.room(), 1<<16)); err != nil {
		t.Fatal(err)
	}
	if n := len(k.framed[3]) - 2; n > transfer.MessageSize || n%wire.PaddingBlock != 0 {
		t.Errorf("a full message has %d octets", n)
	}
	if k.waited != 4 || out.messages != 3 || len(k.framed) != 4 {
		t.Errorf("it has waited %d times, and sent %d messages", k.waited, out.messages)
	}
}

// distant passes transfers to another server of this process.
type distant struct {
	to   *primary
	cut  atomic.Int64 // octets after which the other node is lost; 0: never
	gone atomic.Bool  // the zone is not hosted any more
}

func (d *distant) Transfer(ctx context.Context, _ store.Holding, q TransferQuery) (*DistantTransfer, error) {
	if d.gone.Load() {
		return nil, store.ErrNoZone
	}
	in, out := io.Pipe()
	verdict := make(chan TransferVerdict, 1)
	failed := make(chan error, 1)
	go func() {
		sent, cut := 0, int(d.cut.Load())
		err := d.to.AnswerTransfer(ctx, q, func(v TransferVerdict) error { verdict <- v; return nil }, func(framed []byte) error {
			if sent += len(framed); cut > 0 && sent > cut {
				framed = framed[:len(framed)/2]
			}
			_, err := out.Write(framed)
			if cut > 0 && sent > cut {
				return io.ErrUnexpectedEOF
			}
			return err
		})
		failed <- err // there is room for it
		if err == nil {
			err = io.EOF
		}
		_ = out.CloseWithError(err)
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case v := <-verdict:
		return &DistantTransfer{TransferVerdict: v, Messages: in}, nil
	case err := <-failed:
		if err != nil {
			return nil, err
		}
		return &DistantTransfer{TransferVerdict: <-verdict, Messages: in}, nil
	}
}

// elsewhereZones says of every zone that another node has it.
type elsewhereZones struct{ *hosted }

func (elsewhereZones) Find(q zones.Name, _ zones.Type) store.Holding {
	return store.Holding{Status: store.Elsewhere, Apex: q}
}

// TestTransferElsewhere: a zone that another node has is transferred as one that is here.
func TestTransferElsewhere(t *testing.T) {
	access := &grantsTo{may: true, not: zones.MustParseName("secret.org.")}
	p := startPrimary(t, Options{Access: access})
	p.apply(storetest.Create("example.org."), storetest.Create("secret.org."))
	p.www("example.org.", 1)
	p.www("example.org.", 2)
	p.heavy("heavy.org.", 300)
	d := &distant{to: p}
	front := startTLS(t, Options{
		Zones: elsewhereZones{newHosted(t)}, Contents: p.store, Access: everybody{}, DistantTransfers: d, Settings: Settings{NSID: "front"},
	})
	nsid := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}
	for _, c := range []*wireConn{dial(t, "tcp", front.testAddr()), dialTLS(t, front, nil)} {
		c.send(pack(t, withEDNS(axfr("heavy.org."), 1232, false, nsid)))
		p.wantZone("heavy.org.", c.receiveTransfer())
		c.send(pack(t, withEDNS(ixfr("example.org.", 2), 1232, false, nsid)))
		m := c.receiveMsg()
		if text, want := shorts(m.Answer), []string{"SOA 3", "SOA 2", "www 192.0.2.1", "SOA 3", "www 192.0.2.2", "SOA 3"}; !slices.Equal(text, want) {
			t.Errorf("%v, want %v", text, want)
		}
		if opt := m.IsEdns0(); opt == nil || len(opt.Option) != 1 || !strings.Contains(opt.Option[0].String(), fmt.Sprintf("%x", "front")) {
			t.Errorf("%v", m)
		}
		if m := c.ask(withEDNS(axfr("secret.org."), 1232, false)); m.Rcode != dns.RcodeRefused || ede(m) != 18 {
			t.Errorf("%v", m)
		}
		if m := c.ask(axfr("unknown.org.")); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%v", m)
		}
	}
	c := dial(t, "udp", front.testAddr())
	if text := shorts(c.ask(withEDNS(ixfr("example.org.", 2), 1232, false, nsid)).Answer); len(text) != 6 {
		t.Errorf("over UDP: %v", text)
	}
	if text := shorts(c.ask(ixfr("example.org.", 77)).Answer); !slices.Equal(text, []string{"SOA 3"}) {
		t.Errorf("over UDP: %v", text)
	}
	if m := c.ask(withEDNS(ixfr("secret.org.", 1), 1232, false)); m.Rcode != dns.RcodeRefused || ede(m) != 18 {
		t.Errorf("over UDP: %v", m)
	}
	if got := access.asked(); got != "127.0.0.1" {
		t.Errorf("asked for %s", got)
	}
	// The other node is lost in the middle: the client learns that this is not all.
	d.cut.Store(1 << 20)
	c = dial(t, "tcp", front.testAddr())
	c.send(pack(t, axfr("heavy.org.")))
	if got, err := c.tryReceiveTransfer(nil); err == nil || !strings.HasPrefix(err.Error(), "SERVFAIL after") || len(got) == 0 {
		t.Errorf("after %d records: %v", len(got), err)
	}
	d.gone.Store(true)
	if m := c.ask(axfr("example.org.")); m.Rcode != dns.RcodeNotAuth {
		t.Errorf("%v", m)
	}
	await(t, "no place is taken", func() bool { return len(front.out.relays) == 0 && len(p.out.places) == 0 })
}

// TestTransferClients: what dig and kdig make of it.
func TestTransferClients(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{CookieSecrets: []CookieSecret{{1}}, NSID: "node"}})
	p.apply(storetest.Create("example.org.", storetest.Set("www.example.org.", 60, zones.TypeA, "192.0.2.99"), storetest.Set("big.example.org.", 60, zones.TypeTXT, strings.Repeat(`"`+strings.Repeat("y", 250)+`" `, 200))))
	p.www("example.org.", 1)
	_, port, err := net.SplitHostPort(p.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	_, tlsPort, err := net.SplitHostPort(p.testTLSAddr())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		command string
		want    []string
	}{
		{"dig @127.0.0.1 -p PORT example.org AXFR", []string{"XFR size: 6 records (messages 3", "192.0.2.1"}},
		{"dig @127.0.0.1 -p PORT +nsid +noall +answer +stats EXAMPLE.org AXFR", []string{"XFR size: 6 records", "www.example.org."}},
		{"dig @127.0.0.1 -p PORT example.org IXFR=1", []string{"192.0.2.99", "192.0.2.1", "XFR size: 6 records (messages 1"}},
		{"dig @127.0.0.1 -p PORT +notcp example.org IXFR=1", []string{"192.0.2.99", "192.0.2.1"}},
		{"dig @127.0.0.1 -p PORT example.org IXFR=2", []string{"XFR size: 1 records"}},
		{"dig @127.0.0.1 -p TLS +tls example.org AXFR", []string{"XFR size: 6 records"}}, // fails without ALPN
		{"dig @127.0.0.1 -p TLS +tls +padding=64 example.org AXFR", []string{"XFR size: 6 records (messages 3, bytes 51480)"}},
		{"dig @127.0.0.1 -p TLS +tls +padding=64 example.org IXFR=1", []string{"XFR size: 6 records (messages 1, bytes 468)"}},
		{"kdig @127.0.0.1 -p PORT example.org AXFR", []string{"3 messages, 6 records", "192.0.2.1"}},
		{"kdig @127.0.0.1 -p PORT example.org IXFR=1", []string{"6 records", "192.0.2.99"}},
		{"kdig @127.0.0.1 -p TLS +tls example.org AXFR", []string{"6 records", "192.0.2.1"}},
		{"kdig @127.0.0.1 -p TLS +tls +padding example.org IXFR=1", []string{"6 records", "192.0.2.99", "468 B"}},
	}
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			args := patient(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(tt.command, "PORT", port), "TLS +", tlsPort+" +")))
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%.3000s", want, out)
				}
			}
			for _, not := range []string{"WARNING", "malformed", "failed", "expected opt"} {
				if strings.Contains(string(out), not) {
					t.Errorf("%q in\n%.3000s", not, out)
				}
			}
		})
	}
}
