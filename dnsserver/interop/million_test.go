//go:build million

package interop

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/store/storetest"
	"balefire/zones"
)

// TestMillion: a zone of a million names goes to several at once, while it is changed, and to NSD, without being gathered.
func TestMillion(t *testing.T) {
	const apex, names, clients = "example.org.", 1_000_000, 8
	p := startPrimary(t)
	sets := storetest.Apex(apex, 1)
	for i := range names {
		sets = append(sets, storetest.Set(fmt.Sprintf("n%07d.%s", i, apex), 60, zones.TypeA, "192.0.2.1"))
	}
	for _, cs := range storetest.Stage(apex, p.log.NextID(), sets, 1500) {
		p.apply(cs)
	}
	sets, p.log.Records = nil, nil
	query, err := new(dns.Msg).SetAxfr(apex).Pack()
	if err != nil {
		t.Fatal(err)
	}
	query = append([]byte{0, byte(len(query))}, query...)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var wait sync.WaitGroup
	octets := make([]int64, clients)
	began := time.Now()
	for i := range clients {
		wait.Go(func() {
			c, err := net.Dial("tcp", p.server.Addrs()[0].String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write(query); err != nil {
				t.Error(err)
			}
			_ = c.(*net.TCPConn).CloseWrite() // so that the server closes when it has sent all
			octets[i], _ = io.Copy(io.Discard, c)
		})
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	var peak uint64
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for open := true; open; {
		select {
		case <-done:
			open = false
		case <-tick.C:
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
	}
	t.Logf("%d transfers of %d octets in %s; %d MB more on the heap at most", clients, octets[0], time.Since(began), (int64(peak)-int64(before.HeapAlloc))>>20)
	for _, n := range octets {
		if n != octets[0] || n < names*16 {
			t.Errorf("%d octets came, others got %d", n, octets[0])
		}
	}
	if peak > before.HeapAlloc+128<<20 {
		t.Errorf("the heap has grown from %d to %d MB", before.HeapAlloc>>20, peak>>20)
	}
	nsd := startNSD(t, from{addr: p.server.Addrs()[0].String()}, []string{apex})
	follow(t, p, apex, []*secondary{nsd})
	whole := p.sent("zone")
	p.log.Records = p.log.Records[:0]
	if got := len(nsd.fetch(t, apex)); got != names+3 {
		t.Errorf("NSD has %d records", got)
	}
	if p.sent("zone") != whole {
		t.Error("NSD fetched it more than once")
	}
}
