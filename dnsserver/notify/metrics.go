package notify

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// result is what became of a message.
type result uint8

const (
	resultSent result = iota
	resultAnswered
	resultRefused
	resultNoAnswer
	resultGivenUp
	resultNoMatch
	results
)

var resultNames = [results]string{"sent", "answered", "refused", "no-answer", "given-up", "no-match"}

// metrics are counted without a lock, and what is a state is looked at when it is asked for.
type metrics struct {
	notifier *Notifier
	counts   [results]atomic.Uint64

	messages, waiting, servers *prometheus.Desc
}

func (m *metrics) init(n *Notifier) {
	m.notifier = n
	m.messages = prometheus.NewDesc("balefire_notify_messages_total",
		"NOTIFY messages to other servers: sent; answered; refused (answered with an error); no-answer in time; given-up after several; no-match: came without having been asked for, or not signed as it should be.",
		[]string{"result"}, nil)
	m.waiting = prometheus.NewDesc("balefire_notify_waiting", "Servers that are yet to be notified of a change, each zone counted by itself.", nil, nil)
	m.servers = prometheus.NewDesc("balefire_notify_servers", "Servers that are notified of zones for which this node is on duty.", []string{"state"}, nil)
}

func (m *metrics) count(r result) { m.counts[r].Add(1) }

func (m *metrics) describe(ch chan<- *prometheus.Desc) {
	ch <- m.messages
	ch <- m.waiting
	ch <- m.servers
}

func (m *metrics) collect(ch chan<- prometheus.Metric) {
	for r, name := range resultNames {
		ch <- prometheus.MustNewConstMetric(m.messages, prometheus.CounterValue, float64(m.counts[r].Load()), name)
	}
	n := m.notifier
	n.mu.Lock()
	waiting, silent := 0, 0
	for _, p := range n.peers {
		waiting += p.waiting
		if p.silent {
			silent++
		}
	}
	answering := len(n.peers) - silent
	n.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting))
	ch <- prometheus.MustNewConstMetric(m.servers, prometheus.GaugeValue, float64(answering), "answering")
	ch <- prometheus.MustNewConstMetric(m.servers, prometheus.GaugeValue, float64(silent), "silent")
}
