package replication

import (
	"errors"
	"sync"

	"balefire/store"
)

// maxWaiters bounds how many wait for one partition.
const maxWaiters = 100_000

// ErrTooManyWait means that more callers wait for a partition than it keeps track of.
var ErrTooManyWait = errors.New("too many wait for the partition")

// waiters are those who wait for outcomes of one partition.
type waiters struct {
	mu     sync.Mutex
	at     map[int64][]chan arrival // by offset
	count  int
	failed error // why nobody needs to wait any more
}

// arrival is what somebody waited for: the outcome, an error, or, without either, that the offset is applied and its
// outcome to be looked up.
type arrival struct {
	outcome *store.Outcome
	err     error
}

// join adds a waiter. leave must be called once.
func (w *waiters) join(offset int64) (arrived <-chan arrival, leave func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == maxWaiters {
		return nil, nil, ErrTooManyWait
	}
	ch := make(chan arrival, 1)
	if w.failed != nil {
		ch <- arrival{err: w.failed}
		return ch, func() {}, nil
	}
	if w.at == nil {
		w.at = make(map[int64][]chan arrival)
	}
	w.at[offset] = append(w.at[offset], ch)
	w.count++
	return ch, func() { w.leave(offset, ch) }, nil
}

func (w *waiters) leave(offset int64, ch chan arrival) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.at[offset] {
		if c != ch {
			continue
		}
		rest := w.at[offset]
		rest[i] = rest[len(rest)-1]
		if w.at[offset] = rest[:len(rest)-1]; len(rest) == 1 {
			delete(w.at, offset)
		}
		w.count--
		return
	}
}

// announce hands outcomes to those who wait for them.
func (w *waiters) announce(applied int64, outcomes []store.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		return
	}
	for _, o := range outcomes {
		w.tell(o.Offset, arrival{outcome: &o})
	}
	// What was applied before it was waited for, or by whoever made the snapshot that was restored.
	for offset := range w.at {
		if offset <= applied {
			w.tell(offset, arrival{})
		}
	}
}

// fail ends all waiting, now and later.
func (w *waiters) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
	for offset := range w.at {
		w.tell(offset, arrival{err: err})
	}
}

// tell hands something to those who wait for an offset; w.mu is held.
func (w *waiters) tell(offset int64, a arrival) {
	for _, ch := range w.at[offset] {
		ch <- a // has room: each gets one
		w.count--
	}
	delete(w.at, offset)
}
