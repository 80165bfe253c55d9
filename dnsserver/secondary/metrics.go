package secondary

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what came of looking at a zone.
type outcome uint8

const (
	outcomeCurrent outcome = iota
	outcomeWhole
	outcomeDifferences
	outcomeFailed
	outcomes
)

var outcomeNames = [outcomes]string{"current", "axfr", "ixfr", "failed"}

// counts are what happened since the start.
type counts struct {
	refreshes       [outcomes]atomic.Uint64
	records, octets atomic.Uint64
}

func (c *counts) note(r result) {
	o := outcomeCurrent
	switch {
	case r.err != nil:
		o = outcomeFailed
	case r.transfer != nil && r.transfer.Form == Differences:
		o = outcomeDifferences
	case r.transfer != nil:
		o = outcomeWhole
	}
	c.refreshes[o].Add(1)
	if r.transfer != nil {
		c.records.Add(uint64(r.transfer.Records))
		c.octets.Add(uint64(r.transfer.Octets))
	}
}

var (
	refreshesDesc = prometheus.NewDesc("balefire_secondary_refreshes_total",
		"Looks at secondary zones: current, as their primaries have them; axfr and ixfr, fetched whole or as differences; failed.", []string{"result"}, nil)
	recordsDesc = prometheus.NewDesc("balefire_secondary_transfer_records_total", "Records of transfers from primaries that were published.", nil, nil)
	octetsDesc  = prometheus.NewDesc("balefire_secondary_transfer_bytes_total", "Octets of their messages.", nil, nil)
	zonesDesc   = prometheus.NewDesc("balefire_secondary_zones",
		"Secondary zones for which this node is on duty: served; awaiting their first transfer; expired.", []string{"standing"}, nil)
	failingDesc = prometheus.NewDesc("balefire_secondary_failing_zones", "Those of them whose last refresh failed.", nil, nil)
	runningDesc = prometheus.NewDesc("balefire_secondary_running", "Those of them that are worked on.", nil, nil)
)

var _ prometheus.Collector = (*Secondary)(nil)

// Describe implements prometheus.Collector.
func (s *Secondary) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{refreshesDesc, recordsDesc, octetsDesc, zonesDesc, failingDesc, runningDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Secondary) Collect(ch chan<- prometheus.Metric) {
	for o, name := range outcomeNames {
		ch <- prometheus.MustNewConstMetric(refreshesDesc, prometheus.CounterValue, float64(s.counts.refreshes[o].Load()), name)
	}
	ch <- prometheus.MustNewConstMetric(recordsDesc, prometheus.CounterValue, float64(s.counts.records.Load()))
	ch <- prometheus.MustNewConstMetric(octetsDesc, prometheus.CounterValue, float64(s.counts.octets.Load()))
	duties := map[int32]bool{}
	var served, awaiting, expired, failing int
	s.mu.Lock()
	for _, e := range s.zones {
		onDuty, known := duties[e.partition]
		if !known {
			onDuty = s.onDuty(e.partition)
			duties[e.partition] = onDuty
		}
		switch {
		case !onDuty:
			continue
		case e.status.Standing.Awaiting:
			awaiting++
		case e.status.Standing.Expired:
			expired++
		default:
			served++
		}
		if e.failures > 0 {
			failing++
		}
	}
	running := s.running
	s.mu.Unlock()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(zonesDesc, served, "served")
	gauge(zonesDesc, awaiting, "awaiting")
	gauge(zonesDesc, expired, "expired")
	gauge(failingDesc, failing)
	gauge(runningDesc, running)
}
