package replication

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// metrics are the node's, collected by itself: what is a state is read when it is asked for.
type metrics struct {
	node *Node

	publishSeconds  prometheus.Histogram
	publishFailures *prometheus.CounterVec
	records         *prometheus.CounterVec
	snapshots       *prometheus.CounterVec
	scrubs          *prometheus.CounterVec
	backups         *prometheus.CounterVec
	digests         *prometheus.CounterVec
	questions       *prometheus.CounterVec
	snapshotSeconds prometheus.Gauge
	logSize         prometheus.Gauge
	alarms          prometheus.Counter

	appliedOffset, logEnd, halted, caughtUp *prometheus.Desc
	reachable, fault, complaints            *prometheus.Desc
	backupAge                               *prometheus.Desc
}

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(n *Node) *metrics {
	m := &metrics{
		node: n,
		publishSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "balefire_publish_seconds", Help: "Time until the log acknowledged a change set.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		publishFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_publish_failures_total", Help: "Change sets that the log did not acknowledge: refused (not in the log), unknown, too-large, invalid.",
		}, []string{"kind"}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_records_applied_total", Help: "Records of the log that this node has gone through: applied, rejected, duplicate.",
		}, []string{"outcome"}),
		snapshots: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_local_snapshots_total", Help: "Local snapshots made before the embedded log is trimmed: verified, failed.",
		}, []string{"result"}),
		scrubs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_scrubs_total", Help: "Partitions read whole and compared with their digests: clean, failed.",
		}, []string{"result"}),
		backups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_backups_total", Help: "Backups to the object store: made, fenced (another node was faster), failed.",
		}, []string{"result"}),
		digests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_digests_compared_total", Help: "Digests of partitions compared with those of other nodes of the region: equal, different.",
		}, []string{"result"}),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_questions_passed_on_total", Help: "Questions about zones that this node does not hold: answered by another node, failed, no-holder.",
		}, []string{"result"}),
		snapshotSeconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "balefire_local_snapshot_seconds", Help: "How long the last local snapshot took, verification included.",
		}),
		logSize: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "balefire_embedded_log_bytes", Help: "Size of the embedded log on disk.",
		}),
		alarms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "balefire_alarms_total", Help: "Alarms raised about the log and the partitions.",
		}),
	}
	perPartition := []string{"partition"}
	m.appliedOffset = prometheus.NewDesc("balefire_partition_applied_offset", "Offset of the last record applied; -1 for none.", perPartition, nil)
	m.logEnd = prometheus.NewDesc("balefire_partition_log_end_offset", "Offset after the log's last record, as last heard.", perPartition, nil)
	m.halted = prometheus.NewDesc("balefire_partition_halted", "1 when the partition has stopped applying for good.", perPartition, nil)
	m.caughtUp = prometheus.NewDesc("balefire_partition_ready", "1 when the partition is open and has been near the log's end.", perPartition, nil)
	m.backupAge = prometheus.NewDesc("balefire_partition_backup_age_seconds", "Time since the partition's newest backup was made, as this node knows of it.", perPartition, nil)
	m.reachable = prometheus.NewDesc("balefire_log_reachable", "1 when the log answered the last time it was asked.", nil, nil)
	m.fault = prometheus.NewDesc("balefire_log_fault", "1 when nothing is applied or published until the next start.", nil, nil)
	m.complaints = prometheus.NewDesc("balefire_log_unsafe_settings", "Unsafe settings of the topics.", nil, nil)
	for _, kind := range []string{"refused", "unknown", "too-large", "invalid"} {
		m.publishFailures.WithLabelValues(kind)
	}
	for _, result := range []string{"equal", "different"} {
		m.digests.WithLabelValues(result)
	}
	for _, result := range []string{"answered", "failed", "no-holder"} {
		m.questions.WithLabelValues(result)
	}
	return m
}

func (m *metrics) asked(result string) { m.questions.WithLabelValues(result).Inc() }

func (m *metrics) kept() []prometheus.Collector {
	return []prometheus.Collector{m.publishSeconds, m.publishFailures, m.records, m.snapshots, m.scrubs, m.backups, m.digests, m.questions, m.snapshotSeconds, m.logSize, m.alarms}
}

// Describe is for the registry.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.kept() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.appliedOffset, m.logEnd, m.halted, m.caughtUp, m.reachable, m.fault, m.complaints, m.backupAge} {
		ch <- d
	}
	for _, s := range storeMetrics {
		ch <- s.desc
	}
}

// Collect is for the registry.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.kept() {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	status := m.node.log.Status()
	gauge(m.reachable, number(status.Reachable))
	gauge(m.fault, number(status.Fault != nil))
	gauge(m.complaints, float64(len(status.Complaints)))
	collectStore(ch, m.node.store.Stats())
	for r := range m.node.replicas() {
		label := strconv.Itoa(int(r.number))
		applied := r.applied().Offset
		r.mu.Lock()
		end, halted, backedUp := r.end, r.halted != nil, r.backedUp
		r.mu.Unlock()
		gauge(m.appliedOffset, float64(applied), label)
		if end >= 0 {
			gauge(m.logEnd, float64(max(end, applied+1)), label)
		}
		gauge(m.halted, number(halted), label)
		if !backedUp.IsZero() {
			gauge(m.backupAge, time.Since(backedUp).Seconds(), label)
		}
		gauge(m.caughtUp, number(r.unready() == ""), label)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) published(took time.Duration, err error) {
	var rejection *zones.Rejection
	switch {
	case err == nil:
		m.publishSeconds.Observe(took.Seconds())
	case errors.Is(err, mutationlog.ErrTooLarge):
		m.publishFailures.WithLabelValues("too-large").Inc()
	case errors.Is(err, mutationlog.ErrRefused):
		m.publishFailures.WithLabelValues("refused").Inc()
	case errors.As(err, &rejection):
		m.publishFailures.WithLabelValues("invalid").Inc()
	default:
		m.publishFailures.WithLabelValues("unknown").Inc()
	}
}

func (m *metrics) applied(outcomes []store.Outcome) {
	for _, o := range outcomes {
		kind := "applied"
		switch {
		case o.Duplicate:
			kind = "duplicate"
		case o.Status == store.StatusRejected:
			kind = "rejected"
		}
		m.records.WithLabelValues(kind).Inc()
	}
}

func (m *metrics) saved(took time.Duration, err error) {
	result := "verified"
	if err != nil {
		result = "failed"
	}
	m.snapshots.WithLabelValues(result).Inc()
	m.snapshotSeconds.Set(took.Seconds())
}
