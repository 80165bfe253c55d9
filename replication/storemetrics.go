package replication

import (
	"github.com/prometheus/client_golang/prometheus"

	"balefire/store"
)

// storeMetric is something that the store counts, read when it is asked for.
type storeMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s store.Stats) float64
}

var storeMetrics = []storeMetric{
	newStoreMetric("balefire_store_zones", "Zones that this node knows of, in its own partitions or in others.", prometheus.GaugeValue,
		func(s store.Stats) float64 { return float64(s.Zones) }),
	newStoreMetric("balefire_store_index_bytes", "Memory of the index of zones.", prometheus.GaugeValue,
		func(s store.Stats) float64 { return float64(s.IndexBytes) }),
	newStoreMetric("balefire_store_hot_zones", "Zones in memory.", prometheus.GaugeValue,
		func(s store.Stats) float64 { return float64(s.HotZones) }),
	newStoreMetric("balefire_store_hot_bytes", "Memory of the zones in memory.", prometheus.GaugeValue,
		func(s store.Stats) float64 { return float64(s.HotBytes) }),
	newStoreMetric("balefire_store_hot_limit_bytes", "Memory that zones may take.", prometheus.GaugeValue,
		func(s store.Stats) float64 { return float64(s.HotLimit) }),
	newStoreMetric("balefire_store_readings_total", "Times that a partition's database was read: for a question about a zone not in memory, to bring one there, for the API.",
		prometheus.CounterValue, func(s store.Stats) float64 { return float64(s.Readings) }),
	newStoreMetric("balefire_store_loads_total", "Zones brought into memory.", prometheus.CounterValue,
		func(s store.Stats) float64 { return float64(s.Loads) }),
	newStoreMetric("balefire_store_evictions_total", "Zones put out of memory to make room for others.", prometheus.CounterValue,
		func(s store.Stats) float64 { return float64(s.Evictions) }),
}

func newStoreMetric(name, help string, kind prometheus.ValueType, value func(s store.Stats) float64) storeMetric {
	return storeMetric{prometheus.NewDesc(name, help, nil, nil), kind, value}
}

func collectStore(ch chan<- prometheus.Metric, s store.Stats) {
	for _, m := range storeMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
}
