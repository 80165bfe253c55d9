package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the API's own. Labels come from closed sets: routes, methods of routes, classes of status.
type metrics struct {
	requests  *prometheus.CounterVec   // route, status
	durations *prometheus.HistogramVec // route
	changes   *prometheus.CounterVec   // result
	imports   *prometheus.CounterVec   // result
	passed    *prometheus.CounterVec   // result
	importing prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_admin_requests_total", Help: "Requests to the HTTP API, by route and class of status.",
		}, []string{"route", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "balefire_admin_request_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"route"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_admin_changes_total", Help: "Change sets sent to the log, by what the client was told.",
		}, []string{"result"}),
		imports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_admin_imports_total", Help: "Zone files taken, by what became of them.",
		}, []string{"result"}),
		passed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_admin_passed_on_total", Help: "Requests passed on to other nodes, one for each node that was tried, by what came of it.",
		}, []string{"result"}),
		importing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "balefire_admin_imports_running", Help: "Zone files that are being taken.",
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.durations, m.changes, m.imports, m.passed, m.importing}
}

// Describe and Collect make metrics one collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *metrics) request(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	class := "cut"
	if status != 0 {
		class = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(route, class).Inc()
	m.durations.WithLabelValues(route).Observe(took.Seconds())
}

func (m *metrics) change(result string) { m.changes.WithLabelValues(result).Inc() }

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	promhttp.HandlerFor(s.opts.Registry, promhttp.HandlerOpts{
		ErrorLog: metricsLog{s}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	}).ServeHTTP(w, r)
	return nil
}

type metricsLog struct{ s *Server }

func (l metricsLog) Println(v ...any) { l.s.log.Warn().Interface("error", v).Msg("collecting metrics") }

// imported counts a zone file that was taken.
func (m *metrics) imported(got imported) {
	result := got.Result
	if got.DryRun {
		result = "dry-run"
	}
	m.imports.WithLabelValues(result).Inc()
}
