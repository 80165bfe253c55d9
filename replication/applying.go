package replication

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"balefire/store"
)

// apply applies records, however long the disk is full, and announces what became of them. whole says that what is missing
// between them is missing in the log, too.
func (r *replica) apply(ctx context.Context, records []store.Record, whole bool) error {
	for {
		p := r.opened()
		outcomes, err := applyRecovered(p, records, whole)
		r.announce(p.Applied().Offset, outcomes)
		if err == nil {
			r.setTrouble(nil)
			return nil
		}
		if errors.Is(err, store.ErrClosed) {
			return err
		}
		if !errors.Is(err, store.ErrDiskReserve) {
			if errors.Is(err, store.ErrPoisoned) || errors.Is(err, store.ErrCorrupt) || final(err) {
				return err
			}
			return fmt.Errorf("%w: %w", errUnknownApply, err)
		}
		if r.setTrouble(err) {
			r.node.alarm(r.number, "", err)
		}
		// Apply skips what it has applied already.
		if !r.node.sleep(ctx, retryWait) {
			return ctx.Err()
		}
	}
}

// applyRecovered turns a panic into an error: one partition stops, not the node.
func applyRecovered(p *store.Partition, records []store.Record, whole bool) (outcomes []store.Outcome, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanicked, v, debug.Stack())
		}
	}()
	if whole {
		return p.ApplyAfter(records)
	}
	return p.Apply(records) // which says what is missing
}

// announce tells those who wait.
func (r *replica) announce(applied int64, outcomes []store.Outcome) {
	r.waiters.announce(applied, outcomes)
	r.tellCatalog(outcomes)
	r.node.listeners.tellOutcomes(r.number, outcomes)
	if len(outcomes) > 0 {
		r.node.progressed()
	}
	r.node.metrics.applied(outcomes)
	r.mu.Lock()
	reached := !r.reached && r.target >= -1 && applied >= r.goal()
	if reached {
		r.reached, r.caughtUp = true, true
		r.noteHolding()
	}
	p := r.partition
	r.mu.Unlock()
	if reached {
		if p != nil {
			p.CaughtUp()
		}
		r.node.mark()
		r.reconcileCatalog()
		r.node.progressed()
		r.node.stateChanged()
	}
}

// goal is where the copy must be to be answered from: where the log ended when it was first seen, and not before what this node has
// answered from elsewhere since; r.mu is held.
func (r *replica) goal() int64 { return max(r.target, r.node.leastOf(r.number)) }

// sawEnd notes where the log ends.
func (r *replica) sawEnd(end int64) {
	r.mu.Lock()
	r.end = max(r.end, end)
	if r.target < -1 {
		r.target = end - 1
	}
	r.mu.Unlock()
	r.announce(r.applied().Offset, nil) // it may be there already
}

// halt stops applying for good. What the partition holds is still answered from.
func (r *replica) halt(err error) {
	err = fmt.Errorf("partition %d: %w: %w", r.number, ErrHalted, err)
	if fault := r.node.log.Status().Fault; fault != nil && errors.Is(err, fault) {
		r.node.alarmOfLog.Do(func() { r.node.alarm(-1, "", fault) }) // it is one, however many partitions it stops
	} else {
		r.node.alarm(r.number, "", err)
	}
	r.mu.Lock()
	r.halted, r.trouble = err, err
	r.mu.Unlock()
	r.settle.Do(func() { close(r.settled) })
	r.waiters.fail(err)
}

// setTrouble notes what is in the way, or that nothing is, and reports whether it is new.
func (r *replica) setTrouble(err error) (fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh = err != nil && r.trouble == nil
	r.trouble = err
	return fresh
}

// mayPublish returns nil when the log is known to be the one that the copy was made from. Until then, or when it is
// another, what is published would get positions that the copy has other records at.
func (r *replica) mayPublish(ctx context.Context) error {
	if r.opened() == nil && !r.node.store.Has(r.number) && !r.node.log.Status().Embedded {
		return nil // there is no copy yet
	}
	select {
	case <-r.settled:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * retryWait):
		return fmt.Errorf("partition %d has not been compared with the log yet", r.number)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halted
}
