package gossip

import "github.com/prometheus/client_golang/prometheus"

// metrics are what is counted, and what is looked up when it is asked for.
type metrics struct {
	g          *Gossip
	statements prometheus.Counter
	maps       prometheus.Counter
	dropped    *prometheus.CounterVec

	sent, received, packets, nodes, rumours, troubles *prometheus.Desc
}

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(g *Gossip) *metrics {
	m := &metrics{
		g: g,
		statements: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "balefire_gossip_statements_total", Help: "Statements about nodes that came in and could be read.",
		}),
		maps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "balefire_gossip_maps_total", Help: "Maps of the region that were made, one for each change.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_gossip_dropped_total", Help: "Statements that came in and were left out: unreadable, or of a newer program.",
		}, []string{"reason"}),
		sent:     prometheus.NewDesc("balefire_gossip_sent_bytes_total", "Octets sent, without the headers of UDP and TCP.", nil, nil),
		received: prometheus.NewDesc("balefire_gossip_received_bytes_total", "Octets received, without the headers of UDP and TCP.", nil, nil),
		packets:  prometheus.NewDesc("balefire_gossip_sent_packets_total", "UDP packets sent.", nil, nil),
		nodes:    prometheus.NewDesc("balefire_gossip_nodes", "Nodes of the region, this one among the living.", []string{"state"}, nil),
		rumours:  prometheus.NewDesc("balefire_gossip_rumours", "Parts of records that are still being passed on.", nil, nil),
		troubles: prometheus.NewDesc("balefire_gossip_troubles", "Things that people should look at; /health names them.", nil, nil),
	}
	m.dropped.WithLabelValues("unreadable")
	m.dropped.WithLabelValues("newer")
	return m
}

// Collector is for the registry of the metrics.
func (g *Gossip) Collector() prometheus.Collector { return g.metrics }

// Stats are totals since the start.
type Stats struct {
	SentOctets, ReceivedOctets, SentPackets uint64 // without the headers of UDP and TCP
}

// Stats returns what has gone over the network.
func (g *Gossip) Stats() Stats {
	return Stats{SentOctets: g.net.sent.Load(), ReceivedOctets: g.net.received.Load(), SentPackets: g.net.sentPackets.Load()}
}

// Describe is for the registry.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.statements.Describe(ch)
	m.maps.Describe(ch)
	m.dropped.Describe(ch)
	for _, d := range []*prometheus.Desc{m.sent, m.received, m.packets, m.nodes, m.rumours, m.troubles} {
		ch <- d
	}
}

// Collect is for the registry.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.statements.Collect(ch)
	m.maps.Collect(ch)
	m.dropped.Collect(ch)
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	stats := m.g.Stats()
	value(m.sent, prometheus.CounterValue, float64(stats.SentOctets))
	value(m.received, prometheus.CounterValue, float64(stats.ReceivedOctets))
	value(m.packets, prometheus.CounterValue, float64(stats.SentPackets))
	alive, gone := 0, 0
	for _, p := range m.g.Map().Peers() {
		if p.Alive {
			alive++
		} else {
			gone++
		}
	}
	value(m.nodes, prometheus.GaugeValue, float64(alive), "alive")
	value(m.nodes, prometheus.GaugeValue, float64(gone), "gone")
	m.g.mu.Lock()
	rumours := m.g.ledger.rumours.len()
	m.g.mu.Unlock()
	value(m.rumours, prometheus.GaugeValue, float64(rumours))
	value(m.troubles, prometheus.GaugeValue, float64(len(m.g.Troubles())))
}
