package dnsserver

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"balefire/dnsserver/wire"
)

// updateCounts counts what became of UPDATEs. They wait for a log, so that an atomic operation for each costs nothing.
type updateCounts struct {
	results     [len(rcodeNames)]atomic.Uint64 // by RCODE, of those that clients sent here
	repeated    atomic.Uint64                  // came again over UDP
	crowded     atomic.Uint64                  // too many were under way
	overtaken   atomic.Uint64                  // others changed the same, again and again
	forwarded   atomic.Uint64                  // messages that another node has served
	unforwarded atomic.Uint64                  // that no node has
	logger      zerolog.Logger                 // a few each second
}

func (u *updateCounts) init(logger zerolog.Logger) {
	u.logger = logger.Sample(&zerolog.BurstSampler{Burst: 4, Period: time.Second})
}

func (u *updateCounts) count(r Result) {
	if int(r.RCode) < len(u.results) {
		u.results[r.RCode].Add(1)
	}
}

var (
	descUpdates         = desc("updates_total", "UPDATEs served, by RCODE. Those that came again over UDP are not among them.", "rcode")
	descUpdatesRepeated = desc("updates_repeated_total", "UPDATEs over UDP that had come before, and were not made again.")
	descUpdatesCrowded  = desc("updates_crowded_total", "UPDATEs that were answered with SERVFAIL since too many were under way.")
	descOvertaken       = desc("updates_overtaken_total", "UPDATEs that were answered with SERVFAIL since others changed the same again and again.")
	descForwarded       = desc("forwarded_total", "UPDATEs and NOTIFYs of zones that other nodes have, by whether one of them answered.", "answered")
)

func (u *updateCounts) collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for i := range u.results {
		if n := u.results[i].Load(); rcodeNames[i] != "" && (n > 0 || wire.RCode(i) == wire.NoError) {
			counter(descUpdates, n, rcodeNames[i])
		}
	}
	counter(descUpdatesRepeated, u.repeated.Load())
	counter(descUpdatesCrowded, u.crowded.Load())
	counter(descOvertaken, u.overtaken.Load())
	counter(descForwarded, u.forwarded.Load(), "yes")
	counter(descForwarded, u.unforwarded.Load(), "no")
}
