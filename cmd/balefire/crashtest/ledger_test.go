package crashtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// The load: each writer owns one name, and counts up in its TXT record.
const (
	writers   = 24
	zoneCount = 4
)

func apexOf(writer int) string { return fmt.Sprintf("c%d.test.", writer%zoneCount) }
func nameOf(writer int) string { return fmt.Sprintf("w%d.%s", writer, apexOf(writer)) }

// ledger is what the writers were told. Each line belongs to its writer.
type ledger struct {
	lines    [writers]line
	inflight atomic.Int64
	acked    atomic.Int64
}

type line struct {
	next  int            // the number that is written next
	acked map[int]string // number → position, as acknowledged
	open  map[int]bool   // numbers whose fate is unknown
	last  int            // the highest acknowledged number
}

func newLedger() *ledger {
	l := new(ledger)
	for i := range l.lines {
		l.lines[i] = line{next: 1, acked: map[int]string{}, open: map[int]bool{}}
	}
	return l
}

// write runs all writers against p until ctx is done or the server is gone.
func (l *ledger) write(ctx context.Context, t *testing.T, p *process) *sync.WaitGroup {
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			line := &l.lines[w]
			for ctx.Err() == nil {
				n := line.next
				line.next++
				path := fmt.Sprintf("/v1/zones/%s/rrsets/w%d/TXT", apexOf(w), w)
				l.inflight.Add(1)
				a, err := p.send(ctx, "PUT", path, "application/json", fmt.Sprintf(`{"ttl":60,"records":["\"%d\""]}`, n))
				l.inflight.Add(-1)
				switch {
				case err == nil && a.Status == "applied":
					line.acked[n] = a.ID
					line.last = n
					l.acked.Add(1)
				case errors.Is(err, errRefused):
					t.Error(err)
					return
				case err == nil, errors.Is(err, errFailed):
					line.open[n] = true // what comes after it is after it in the log too
				default:
					line.open[n] = true
					return // killed: the fate of n is unknown
				}
			}
		})
	}
	return &all
}

// checkDNS asks the restarted server: each name must show the last acknowledged number, or a later one
// whose fate was unknown.
func (l *ledger) checkDNS(t *testing.T, p *process) {
	t.Helper()
	for w := range l.lines {
		line := &l.lines[w]
		got := p.text(nameOf(w))
		if got == "" && line.last == 0 {
			continue
		}
		n, err := strconv.Atoi(got)
		if err != nil || n != line.last && !(n > line.last && line.open[n]) {
			t.Errorf("%s shows %q after the restart; acknowledged up to %d, unknown %v", nameOf(w), got, line.last, line.open)
		}
	}
}
