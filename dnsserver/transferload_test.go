package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/store/storetest"
	"balefire/zones"
)

// TestTransferBesideQueries: a client that takes a large zone slowly, over a connection, gets answers to other queries meanwhile.
func TestTransferBesideQueries(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Idle: waitLimit, Write: waitLimit}}})
			p.heavy("example.org.", 1000) // more than the kernel takes
			p.www("example.org.", 1)
			c := p.dial(network)
			c.send(pack(t, axfr("example.org.")))
			await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() > maxPendingConn })
			q := question("www.example.org.", dns.TypeA)
			c.send(pack(t, q))
			await(t, "the query is answered, though the client takes nothing", func() bool {
				return metricOf(t, p.Server, "queries_total", network) == 2
			})
			second := axfr("example.org.")
			c.send(pack(t, second))
			var order []string
			var other []dns.RR
			got, err := c.tryReceiveTransfer(func(m *dns.Msg) {
				if m.Id == q.Id {
					order = append(order, "answer")
					if len(m.Answer) != 1 {
						t.Errorf("%v", m)
					}
					return
				}
				other = append(other, m.Answer...)
			})
			if err != nil {
				t.Fatal(err)
			}
			if order = append(order, "zone"); order[0] != "answer" {
				t.Error("the answer came after the zone")
			}
			p.wantZone("example.org.", got)
			for len(other) == 0 || !transferEnded(other) {
				m := c.receiveMsg()
				if m.Id != second.Id {
					t.Fatalf("%v", m.MsgHdr)
				}
				other = append(other, m.Answer...)
			}
			p.wantZone("example.org.", other)
			c.send(pack(t, q)) // and the connection is as it was
			if m := c.receiveMsg(); len(m.Answer) != 1 {
				t.Errorf("%v", m)
			}
			await(t, "two transfers are counted", func() bool { return metricOf(t, p.Server, "transfers_total", "zone") == 2 })
		})
	}
}

// TestTransferToWhoDoesNotRead: it is cut, its place is free again, and little was kept for it meanwhile.
func TestTransferToWhoDoesNotRead(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			p := startPrimary(t, Options{Transfers: 1, Settings: Settings{TCP: TCPSettings{Write: 20 * time.Millisecond}}})
			p.heavy("example.org.", 1000)
			c := p.dial(network)
			c.send(pack(t, axfr("example.org.")))
			var most int64
			await(t, "the client is cut", func() bool {
				most = max(most, p.tcp.pending.Load())
				return p.tcp.cut.Load() == 1
			})
			if most > 2*maxPendingConn {
				t.Errorf("%d octets were kept for the client", most)
			}
			await(t, "the transfer is over", func() bool { return metricOf(t, p.Server, "transfers_failed_total", "no") == 1 })
			await(t, "nothing is kept", func() bool { return p.tcp.pending.Load() == 0 && p.tcp.open() == 0 })
			if n := metricOf(t, p.Server, "transfers", "running"); n != 0 {
				t.Errorf("%v run", n)
			}
			p.mustSet(t, Settings{})
			c = p.dial(network) // and others are served
			c.send(pack(t, axfr("example.org.")))
			p.wantZone("example.org.", c.receiveTransfer())
		})
	}
}

// TestManyTransfers: of a thousand clients at once each gets the zone whole, though few of them at the same time, or, when its turn does not come soon, is told so; and
// queries are answered meanwhile.
func TestManyTransfers(t *testing.T) {
	const clients, records = 1000, 500
	p := startPrimary(t, Options{Transfers: 3, Settings: Settings{TCP: TCPSettings{PerNetwork: 2 * clients, Idle: waitLimit, Write: waitLimit}}})
	var more []zones.RRset
	for i := range records {
		more = append(more, storetest.Set(fmt.Sprintf("h%d.example.org.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	p.apply(storetest.Create("example.org.", more...))
	conns := make([]*wireConn, clients)
	for i := range conns {
		conns[i] = p.dial("tcp")
	}
	query := pack(t, axfr("example.org."))
	for _, c := range conns {
		c.send(query)
	}
	var most float64
	whole, refused := 0.0, 0.0
	asks := p.dial("udp")
	for i, c := range conns {
		if i%100 == 0 {
			most = max(most, metricOf(t, p.Server, "transfers", "running"))
			if m := asks.ask(question("h7.example.org.", dns.TypeA)); len(m.Answer) != 1 {
				t.Fatalf("%v", m)
			}
		}
		got, err := c.tryReceiveTransfer(nil)
		switch {
		case err == nil && len(got) == records+4:
			whole++
		case err != nil && err.Error() == "SERVFAIL after 0 records":
			refused++
		default:
			t.Fatalf("client %d gets %d records: %v", i, len(got), err)
		}
	}
	if most > 3 {
		t.Errorf("%v at once", most)
	}
	if whole < 3 {
		t.Errorf("%v have it whole", whole)
	}
	// The last is counted when its client has it.
	await(t, fmt.Sprintf("%v transfers", whole), func() bool { return metricOf(t, p.Server, "transfers_total", "zone") == whole })
	if n := metricOf(t, p.Server, "transfers_failed_total", "yes"); n != refused {
		t.Errorf("%v were refused, and %v transfers too many", refused, n)
	}
	if m := metricOf(t, p.Server, "transfers", "waiting"); m != 0 {
		t.Errorf("%v wait", m)
	}
}

// TestTransferLane: who waits for too long, or among too many, is told; and waiting ends with the server.
func TestTransferLane(t *testing.T) {
	var l transferLane
	l.init(1)
	l.patience = waitLimit
	if err := l.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := l.enter(ctx); !errors.Is(err, gone) {
		t.Errorf("whose context ended: %v", err)
	}
	results := make(chan error, transfersWaiting)
	for range transfersWaiting {
		go func() { results <- l.enter(t.Context()) }()
	}
	await(t, "they wait", func() bool { return l.waiting.Load() == transfersWaiting })
	if err := l.enter(t.Context()); !errors.Is(err, errTooManyTransfers) {
		t.Errorf("one too many: %v", err)
	}
	l.leave()
	if err := <-results; err != nil {
		t.Errorf("the next: %v", err)
	}
	ended := l.end()
	for range transfersWaiting - 1 {
		if err := <-results; !errors.Is(err, errServerEnds) {
			t.Fatalf("when the server ends: %v", err)
		}
	}
	ended()
	if l.ctx.Err() == nil || l.waiting.Load() != 0 {
		t.Error("it has not ended")
	}
}

// TestTransferEndsWithPartition: a partition that is to be closed does not wait for a client.
func TestTransferEndsWithPartition(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Write: waitLimit}}})
	p.heavy("example.org.", 1000)
	c := p.dial("tcp")
	c.send(pack(t, axfr("example.org.")))
	await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() >= maxPendingConn })
	within(t, "the partition is closed, though the client takes nothing", p.part.Close)
	got, err := c.tryReceiveTransfer(nil)
	if err == nil || !strings.HasPrefix(err.Error(), "SERVFAIL after") || len(got) == 0 {
		t.Errorf("after %d records: %v", len(got), err)
	}
}

// TestTransferEndsWithServer: nor does a server.
func TestTransferEndsWithServer(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Write: waitLimit}}})
	p.heavy("example.org.", 1000)
	c := p.dial("tcp")
	c.send(pack(t, axfr("example.org.")))
	await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() >= maxPendingConn })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		done <- p.Shutdown(ctx)
	}()
	await(t, "the transfer is ended", func() bool { return p.out.counters.failed.Load() == 1 })
	if got, err := c.tryReceiveTransfer(nil); err == nil || !strings.HasPrefix(err.Error(), "SERVFAIL after") {
		t.Errorf("after %d records: %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTransferMemory: a zone is not gathered, however large.
func TestTransferMemory(t *testing.T) {
	p := startPrimary(t, Options{Settings: Settings{TCP: TCPSettings{Write: waitLimit}}})
	p.heavy("example.org.", 4000) // 32 MB
	c := p.dial("tcp")
	c.send(pack(t, axfr("example.org.")))
	await(t, "the client has more than it takes", func() bool { return p.tcp.pending.Load() >= maxPendingConn })
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	octets := 0
	buf := make([]byte, 1<<16)
	for octets < 4000*8000 {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		octets += n
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d octets more are in use", grown)
	}
}
