package store

import "runtime"

// turns are taken by partitions that go through records: there are half as many as processors. All partitions of a node may have
// something to apply at once, and each would keep a processor busy; those who answer would then wait in a queue for one, for as long
// as the scheduler lets each run. A turn is short, and they are given in the order in which they were asked for, so
// a partition with one change does not wait for another's thousands.
type turns chan struct{}

// turnRecords is how many records a partition goes through before another's turn.
const turnRecords = 16

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

func (t turns) take() { t <- struct{}{} }

func (t turns) give() { <-t }

// next gives the turn to who waits for it, and takes another.
func (t turns) next() {
	t.give()
	t.take()
}
