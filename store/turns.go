package store

import "runtime"

// turns are taken by partitions that go through records: there are half as many as processors. All partitions of a node may have
// something to apply at once, and each would keep a processor busy; those who answer would then wait in a queue for one, for as long
// as the scheduler lets each run. A turn is short, and they are given in the order in which they were asked for, so
// a partition with one change does not wait for another's thousands.
type turns chan struct{}

// turnRecords is how many records a partition goes through before another's turn. The commit of more than that belongs to the turn, too:
// it is work.
const turnRecords = 16

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// take waits for a turn, which must be ended.
func (t turns) take() *turn {
	t <- struct{}{}
	return &turn{t, false}
}

// turn is for one goroutine.
type turn struct {
	of    turns
	ended bool
}

// end gives the turn back, once.
func (t *turn) end() {
	if !t.ended {
		t.ended = true
		<-t.of
	}
}

// pass lets another who waits have the turn, and waits for the next.
func (t *turn) pass() {
	<-t.of
	t.of <- struct{}{}
}
