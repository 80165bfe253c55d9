package dnsserver

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// transfersWaiting is how many transfers may wait for their turn. Their clients have been found to be allowed to.
	transfersWaiting = 1024
	// transferPatience is how long they wait. Clients wait some time longer.
	transferPatience = 10 * time.Second
	// transferGrace is how long those that have begun may go on when the server ends.
	transferGrace = 2 * time.Second
)

var (
	errTooManyTransfers = errors.New("too many transfers are under way")
	errServerEnds       = errors.New("the server is shutting down")
)

// transferLane bounds how many transfers are made at once.
type transferLane struct {
	ctx    context.Context // of all transfers; ended with the server
	cancel context.CancelCauseFunc
	ending context.Context // done when none may begin
	stop   context.CancelCauseFunc
	places chan struct{}
	relays chan struct{} // for those that another node makes
	// patience is how long a place is waited for.
	patience time.Duration

	waiting  atomic.Int64
	counters transferCounters
}

// transferCounters are sums, for whoever scrapes.
type transferCounters struct {
	done                     [transferForms]atomic.Uint64
	failed, refused, tooMany atomic.Uint64
	messages, octets         atomic.Uint64
}

func (l *transferLane) init(n int) {
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.ending, l.stop = context.WithCancelCause(context.Background())
	l.places, l.relays = make(chan struct{}, n), make(chan struct{}, n)
	l.patience = transferPatience
}

// enter takes a place, and waits a little for one. leave gives it back.
func (l *transferLane) enter(ctx context.Context) error {
	if l.ending.Err() != nil {
		return errServerEnds
	}
	select {
	case l.places <- struct{}{}:
		return nil
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > transfersWaiting {
		l.counters.tooMany.Add(1)
		return errTooManyTransfers
	}
	patience := time.NewTimer(l.patience)
	defer patience.Stop()
	select {
	case l.places <- struct{}{}:
		return nil
	case <-patience.C:
		l.counters.tooMany.Add(1)
		return errTooManyTransfers
	case <-l.ending.Done():
		return errServerEnds
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// relay takes a place for a transfer that another node makes, if there is one. That node has those who wait.
func (l *transferLane) relay() (leave func(), ok bool) {
	select {
	case l.relays <- struct{}{}:
		return func() { <-l.relays }, true
	default:
		return nil, false
	}
}

func (l *transferLane) leave() { <-l.places }

// end has no transfer begin any more, and after a grace ends those that have. What it returns is to be called when there are none.
func (l *transferLane) end() (ended func()) {
	l.stop(errServerEnds)
	late := time.AfterFunc(transferGrace, func() { l.cancel(errServerEnds) })
	return func() {
		late.Stop()
		l.cancel(errServerEnds)
	}
}

var (
	descTransfers        = desc("transfers_total", "Zone transfers that clients got, by what was sent.", "sent")
	descTransfersFailed  = desc("transfers_failed_total", "Zone transfers that were granted, and not made to their end, by whether it was because of too many others.", "too_many")
	descTransfersRefused = desc("transfers_refused_total", "Zone transfers that their client was not allowed to.")
	descTransferMessages = desc("transfer_messages_total", "Messages sent in zone transfers.")
	descTransferOctets   = desc("transfer_octets_total", "Octets sent in zone transfers.")
	descTransfersNow     = desc("transfers", "Zone transfers under way, and those that wait for their turn.", "state")
)

func (l *transferLane) collect(ch chan<- prometheus.Metric) {
	c := &l.counters
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for form := formZone; form < transferForms; form++ {
		counter(descTransfers, c.done[form].Load(), transferFormNames[form])
	}
	tooMany := c.tooMany.Load()
	counter(descTransfersFailed, c.failed.Load()-min(tooMany, c.failed.Load()), "no")
	counter(descTransfersFailed, tooMany, "yes")
	counter(descTransfersRefused, c.refused.Load())
	counter(descTransferMessages, c.messages.Load())
	counter(descTransferOctets, c.octets.Load())
	ch <- prometheus.MustNewConstMetric(descTransfersNow, prometheus.GaugeValue, float64(len(l.places)), "running")
	ch <- prometheus.MustNewConstMetric(descTransfersNow, prometheus.GaugeValue, float64(max(0, l.waiting.Load())), "waiting")
}
