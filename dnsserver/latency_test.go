package dnsserver

import (
	"testing"

	"github.com/miekg/dns"
)

// TestLatency: one batch in so many is timed, and each query that was put off.
func TestLatency(t *testing.T) {
	h := newHosted(t)
	slow := []string{"a.slow.example.com.", "b.slow.example.com."}
	release := []func(){h.wait(slow[0]), h.wait(slow[1])}
	s := start(t, Options{Zones: h})
	c := dial(t, "udp", s.testAddr())
	for range 2 * sampleEvery {
		c.ask(question("www.example.com.", dns.TypeA)) // each is a batch of its own
	}
	for i, name := range slow {
		c.send(pack(t, question(name, dns.TypeA)))
		<-h.waiting
		release[i]()
		c.receive()
	}
	stop(t, s)
	got := gather(t, s)
	if n := got[`balefire_dns_answer_seconds{lane="fast"}`]; n != 2 {
		t.Errorf("%v answers were timed of %d", n, 2*sampleEvery)
	}
	if n := got[`balefire_dns_answer_seconds{lane="slow"}`]; n != 2 {
		t.Errorf("%v answers of the slow lane were timed, want 2", n)
	}
}

func TestLatencyBuckets(t *testing.T) {
	for _, tt := range []struct {
		nanos  int64
		bucket int
	}{{-5, 0}, {0, 0}, {999, 0}, {1000, 1}, {1999, 1}, {2000, 2}, {131_071_000, 17}, {131_072_000, 18}, {1 << 62, 18}} {
		var l latency
		l.observe(tt.nanos, 3)
		if l.counts[tt.bucket] != 3 {
			t.Errorf("%d ns: %v, want bucket %d", tt.nanos, l.counts, tt.bucket)
		}
	}
}
