package main

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"balefire/store"
)

// goCollector has what the runtime knows of itself, what the garbage collector takes among it.
func goCollector() prometheus.Collector {
	return collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
		collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/cpu/classes/(gc/(total|pause|mark/\w+)|scavenge/total):cpu-seconds$`)},
		collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/(heap/(objects:objects|live:bytes)|gogc:percent|scan/total:bytes)$`)},
		collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sched/pauses/(stopping|total)/gc:seconds$`)},
	))
}

// storeMetrics are the store's counters and sizes, asked for when somebody looks.
type storeMetrics struct{ store *store.Store }

var (
	storeZones      = prometheus.NewDesc("balefire_store_zones", "Zones that are hosted, here or elsewhere in the namespace.", nil, nil)
	storeIndexBytes = prometheus.NewDesc("balefire_store_index_bytes", "Memory of the index of all zones.", nil, nil)
	storeHotZones   = prometheus.NewDesc("balefire_store_hot_zones", "Zones that are in memory.", nil, nil)
	storeHotBytes   = prometheus.NewDesc("balefire_store_hot_bytes", "Memory of the zones that are in it.", nil, nil)
	storeHotLimit   = prometheus.NewDesc("balefire_store_hot_limit_bytes", "Memory that zones may take: store.hot-zones.", nil, nil)
	storeColdFinds  = prometheus.NewDesc("balefire_store_cold_finds_total", "Questions for which a zone was read from disk.", nil, nil)
	storeLoads      = prometheus.NewDesc("balefire_store_loads_total", "Zones brought into memory.", nil, nil)
	storeEvictions  = prometheus.NewDesc("balefire_store_evictions_total", "Zones put out of memory for others.", nil, nil)
)

func (storeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		storeZones, storeIndexBytes, storeHotZones, storeHotBytes, storeHotLimit, storeColdFinds, storeLoads, storeEvictions,
	} {
		ch <- d
	}
}

func (m storeMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.store.Stats()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(storeZones, float64(s.Zones))
	gauge(storeIndexBytes, float64(s.IndexBytes))
	gauge(storeHotZones, float64(s.HotZones))
	gauge(storeHotBytes, float64(s.HotBytes))
	gauge(storeHotLimit, float64(s.HotLimit))
	count(storeColdFinds, s.ColdFinds)
	count(storeLoads, s.Loads)
	count(storeEvictions, s.Evictions)
}
