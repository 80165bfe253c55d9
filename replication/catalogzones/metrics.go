package catalogzones

import (
	"github.com/prometheus/client_golang/prometheus"

	"balefire/zones"
)

// metrics are what is measured. Catalogs are those that this node keeps.
type metrics struct {
	changes *prometheus.CounterVec
	kept    *prometheus.Desc
	broken  *prometheus.Desc
	clashes *prometheus.Desc
}

func newMetrics() metrics {
	return metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "balefire_catalog_changes_total",
			Help: "What this node has done to keep catalogs and hosted zones in step: zones by what was done to them, and RRsets of produced catalogs as action list.",
		}, []string{"action"}),
		kept:    prometheus.NewDesc("balefire_catalogs", "Catalog zones that this node keeps.", []string{"role"}, nil),
		broken:  prometheus.NewDesc("balefire_catalogs_in_trouble", "Catalog zones that this node can't keep as they should be.", nil, nil),
		clashes: prometheus.NewDesc("balefire_catalog_clashes", "Zones that a consumed catalog lists and that belong to something else.", nil, nil),
	}
}

func (m metrics) did(action string, n int) { m.changes.WithLabelValues(action).Add(float64(n)) }

// Describe and Collect make a Keeper a Prometheus collector.
func (k *Keeper) Describe(ch chan<- *prometheus.Desc) {
	k.metrics.changes.Describe(ch)
	ch <- k.metrics.kept
	ch <- k.metrics.broken
	ch <- k.metrics.clashes
}

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(ch chan<- prometheus.Metric) {
	k.metrics.changes.Collect(ch)
	k.mu.Lock()
	defer k.mu.Unlock()
	roles := map[zones.CatalogRole]int{}
	broken, clashes := 0, 0
	for _, e := range k.catalogs {
		roles[e.catalog.Role]++
		clashes += e.found.clashes
		if e.found.problem != "" {
			broken++
		}
	}
	for role, n := range roles {
		ch <- prometheus.MustNewConstMetric(k.metrics.kept, prometheus.GaugeValue, float64(n), role.String())
	}
	ch <- prometheus.MustNewConstMetric(k.metrics.broken, prometheus.GaugeValue, float64(broken))
	ch <- prometheus.MustNewConstMetric(k.metrics.clashes, prometheus.GaugeValue, float64(clashes))
}
