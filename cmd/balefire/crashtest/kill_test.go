package crashtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"balefire/store"
)

var (
	kills = flag.Int("kills", 100, "rounds of kill -9 under load")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of what is random; printed at the start")
)

const (
	// minInflight is how many changes must be on their way when the process is killed.
	minInflight = 16
	// minAcked is how many must have been acknowledged in the round.
	minAcked = 50
)

// An acknowledged change survives kill -9 at any point, any number of times: it is there exactly once, in
// order, and what is on disk is what a replay of the log comes to.
func TestKillUnderLoad(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	dir := t.TempDir()
	l := newLedger()
	p := start(t, dir)
	for z := range zoneCount {
		p.createZone(apexOf(z))
	}
	for round := range *kills {
		before := l.acked.Load()
		ctx, cancel := context.WithCancel(t.Context())
		done := l.write(ctx, t, p)
		l.awaitKillMoment(t, before, time.Duration(rng.IntN(40_000))*time.Microsecond)
		p.Kill()
		cancel()
		done.Wait()
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, p.Log())
		}
		p = start(t, dir)
		l.checkDNS(t, p)
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, p.Log())
		}
	}
	p.Kill()
	t.Logf("%d changes acknowledged over %d kills", l.acked.Load(), *kills)
	l.checkLog(t, dir)
}

// awaitKillMoment returns when some changes have been acknowledged since before, a random while has
// passed, and enough are in flight.
func (l *ledger) awaitKillMoment(t *testing.T, before int64, while time.Duration) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	random := time.After(while)
	tick := time.NewTicker(50 * time.Microsecond)
	defer tick.Stop()
	for passed := false; ; {
		select {
		case <-random:
			passed = true
		case <-tick.C:
			if passed && l.inflight.Load() >= minInflight && l.acked.Load() >= before+minAcked {
				return
			}
		case <-limit:
			t.Fatalf("after 2 minutes: %d in flight, %d acknowledged", l.inflight.Load(), l.acked.Load()-before)
		}
	}
}

// crashPoints are those of the apply path. Those of snapshots are reached in the store's own tests.
var crashPoints = []string{
	store.CrashApplyRecord, store.CrashApplyChunk, store.CrashApplySwitch, store.CrashCommitBefore, store.CrashCommitAfter,
	store.CrashPublished, store.CrashCollectBefore, store.CrashCollectAfter,
}

// provoke makes the server pass the points that single changes don't: it replaces a zone that is too large for
// one record, again and again, until the server is gone. That it fails, as on a slow disk, does not end it.
func provoke(p *process) {
	for round := 0; ; round++ {
		var zone strings.Builder
		fmt.Fprintf(&zone, "$ORIGIN large.test.\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n")
		for i := range 9000 {
			fmt.Fprintf(&zone, "h%d A 192.0.%d.%d\n", i, round&255, i&255)
		}
		if _, err := p.send(p.t.Context(), "PUT", "/v1/zones/large.test./file", "text/dns", zone.String()); err != nil && !errors.Is(err, errFailed) {
			return
		}
	}
}

// A crash at each named point of the apply path loses nothing either.
func TestCrashPoints(t *testing.T) {
	for _, point := range crashPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := newLedger()
			p := start(t, dir)
			for z := range zoneCount {
				p.createZone(apexOf(z))
			}
			p.Kill()
			for _, count := range []int{1, 2, 7} {
				p = launch(t, dir, fmt.Sprintf("BALEFIRE_CRASH_AT=%s:%d", point, count))
				// It may crash before it is ready, when the point is on the way up.
				if err := p.AwaitReady(2 * time.Minute); err == nil {
					ctx, cancel := context.WithCancel(t.Context())
					done := l.write(ctx, t, p)
					go provoke(p)
					select {
					case <-p.Done():
					case <-time.After(2 * time.Minute):
						t.Errorf("crash point %s:%d was never reached", point, count)
					}
					cancel()
					p.Kill()
					done.Wait()
				} else {
					p.Kill()
				}
				if t.Failed() {
					t.Fatalf("%s", p.Log())
				}
				p = start(t, dir)
				l.checkDNS(t, p)
				p.Kill()
			}
			l.checkLog(t, dir)
		})
	}
}
