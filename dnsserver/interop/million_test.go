//go:build million

package interop

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/store/storetest"
	"balefire/zones"
)

// live is what the last garbage collection has found in use, octets.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestMillion: a zone of a million names goes to several at once, and to NSD, without being gathered.
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
	sets = nil
	query, err := new(dns.Msg).SetAxfr(apex).Pack()
	if err != nil {
		t.Fatal(err)
	}
	query = append([]byte{0, byte(len(query))}, query...)
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // so that what is in use is looked at often
	runtime.GC()
	before := live()
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
			peak = max(peak, live())
		}
	}
	t.Logf("%d transfers of %d octets in %s; %d MB more in use at most", clients, octets[0], time.Since(began), (int64(peak)-int64(before))>>20)
	for _, n := range octets {
		if n != octets[0] || n < names*16 {
			t.Errorf("%d octets came, others got %d", n, octets[0])
		}
	}
	if peak > before+32<<20 {
		t.Errorf("what is in use has grown from %d to %d MB", before>>20, peak>>20)
	}
	nsd := startNSD(t, from{addr: p.server.Addrs()[0].String()}, []string{apex})
	follow(t, p, apex, []*secondary{nsd})
	whole := p.awaitSent("zone", clients+1)
	if got := len(nsd.fetch(t, apex)); got != names+3 {
		t.Errorf("NSD has %d records", got)
	}
	if p.sent("zone") != whole {
		t.Error("NSD fetched it more than once")
	}
}
