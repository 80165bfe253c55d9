package relay

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the relay's.
type metrics struct {
	relay *Relay

	asks     *prometheus.CounterVec
	hedges   prometheus.Counter
	dials    *prometheus.CounterVec
	refused  *prometheus.CounterVec
	broken   *prometheus.CounterVec
	requests *prometheus.CounterVec
	// The children of asks and requests, without a look-up.
	answered [statuses]prometheus.Counter
	outcome  map[string]prometheus.Counter

	connections, squeezed *prometheus.Desc
}

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(r *Relay) *metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		relay:    r,
		asks:     vec("balefire_relay_asks_total", "Questions to other nodes: answered, declined, unreachable, closed.", "outcome"),
		hedges:   prometheus.NewCounter(prometheus.CounterOpts{Name: "balefire_relay_hedges_total", Help: "Questions for which a second node was asked, as the first was slower than usual."}),
		dials:    vec("balefire_relay_dials_total", "Connections to other nodes: made, failed.", "result"),
		refused:  vec("balefire_relay_refused_total", "Connections from elsewhere that were refused: handshake, stranger, limit.", "reason"),
		broken:   vec("balefire_relay_broken_total", "Connections from nodes that did not end as they should: malformed, stranger, failed.", "reason"),
		requests: vec("balefire_relay_requests_total", "Questions of other nodes, by how they were answered.", "status"),
		outcome:  map[string]prometheus.Counter{},

		connections: prometheus.NewDesc("balefire_relay_connections", "Connections from elsewhere: unknown (no certificate yet), node.", []string{"who"}, nil),
		squeezed:    prometheus.NewDesc("balefire_relay_squeezed_total", "Connections without a certificate that had to make room for others.", nil, nil),
	}
	for s := range statuses {
		m.answered[s] = m.requests.WithLabelValues(s.String())
	}
	for _, outcome := range []string{"answered", "declined", "unreachable", "closed"} {
		m.outcome[outcome] = m.asks.WithLabelValues(outcome)
	}
	return m
}

func (m *metrics) ask(err error) {
	outcome := "answered"
	switch {
	case err == nil:
	case errors.Is(err, ErrDeclined):
		outcome = "declined"
	case errors.Is(err, ErrClosed):
		outcome = "closed"
	default:
		outcome = "unreachable"
	}
	m.outcome[outcome].Inc()
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.asks, m.hedges, m.dials, m.refused, m.broken, m.requests}
}

// Describe is prometheus.Collector's.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	ch <- m.connections
	ch <- m.squeezed
}

// Collect is prometheus.Collector's.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	unknown, nodes, squeezed := m.relay.admitted.counts()
	ch <- prometheus.MustNewConstMetric(m.connections, prometheus.GaugeValue, float64(unknown), "unknown")
	ch <- prometheus.MustNewConstMetric(m.connections, prometheus.GaugeValue, float64(nodes), "node")
	ch <- prometheus.MustNewConstMetric(m.squeezed, prometheus.CounterValue, float64(squeezed))
}
