package dnsserver

import (
	"math/bits"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// sampleEvery is how many batches of the receiving loops one is timed of.
const sampleEvery = 64

// lane is where a query over UDP was answered.
type lane uint8

const (
	fastLane  lane = iota // in the loop that read it
	otherLane             // by one that may wait
	lanes
)

var laneNames = [lanes]string{"fast", "slow"}

// latencyBuckets are the times below 1, 2, 4 … µs, to 131 ms, and all that took longer.
const latencyBuckets = 19

// latency is a histogram of one goroutine.
type latency struct {
	counts [latencyBuckets]uint64
	nanos  uint64
}

func (l *latency) observe(nanos int64, n int) {
	nanos = max(nanos, 0) // a clock may be set back
	l.counts[min(bits.Len64(uint64(nanos)/1000), latencyBuckets-1)] += uint64(n)
	l.nanos += uint64(nanos) * uint64(n)
}

// latencySums are the sums of latencies, for whoever scrapes.
type latencySums struct {
	counts [latencyBuckets]atomic.Uint64
	nanos  atomic.Uint64
}

func (s *latencySums) add(l *latency) {
	addAll(s.counts[:], l.counts[:])
	add(&s.nanos, l.nanos)
}

// sum adds s to l.
func (l *latency) sum(s *latencySums) {
	sumAll(l.counts[:], s.counts[:])
	l.nanos += s.nanos.Load()
}

var descLatency = desc("answer_seconds",
	"From when a query over UDP was read until its answer, or its batch's, was sent: in the fast lane, of one batch in 64; in the slow lanes, of each.", "lane")

// metric returns the histogram as it is scraped.
func (l *latency) metric(of lane) prometheus.Metric {
	buckets, total := make(map[float64]uint64, latencyBuckets-1), uint64(0)
	for i, n := range l.counts {
		total += n
		if i < latencyBuckets-1 {
			buckets[float64(uint64(1)<<i)/1e6] = total
		}
	}
	return prometheus.MustNewConstHistogram(descLatency, total, float64(l.nanos)/1e9, buckets, laneNames[of])
}
