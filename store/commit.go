package store

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// finish commits a batch, and publishes it: data, offset, outcomes, history and digest are one synced transaction.
func (p *Partition) finish(b *batch) error {
	b.over.set(keyApplied, b.now.packApplied())
	b.over.set(keyState, b.now.packState())
	p.crash(CrashCommitBefore)
	if err := p.commit(b.over, b.now.ts()); err != nil {
		return err
	}
	p.crash(CrashCommitAfter)
	p.expiry, p.trim = b.expiry, b.trim
	p.publish(b)
	p.boundKept(b.over.size)
	p.crash(CrashPublished)
	if b.died {
		select {
		case p.wakeCollector <- struct{}{}:
		default: // it is awake
		}
	}
	return nil
}

// commit writes an overlay in one synced transaction. After an error nobody knows what is on disk: the value
// may even be readable. So the handle is not written through again.
func (p *Partition) commit(over *overlay, ts uint64) error {
	err := writeOverlay(p, over, ts)
	if err != nil {
		p.poison(fmt.Errorf("commit at %d: %w", ts, err))
		return p.poisoned
	}
	return nil
}

func writeOverlay(p *Partition, over *overlay, ts uint64) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("badger panicked: %v", r)
		}
	}()
	if p.store.opts.FailCommit != nil {
		if err := p.store.opts.FailCommit(); err != nil {
			return err
		}
	}
	txn := p.db.NewTransactionAt(ts, true)
	defer txn.Discard()
	entries := make([]badger.Entry, 0, over.len()) // Badger keeps them, and their octets, which are never written to again
	over.tree.Ascend(func(w write) bool {
		if w.value == nil {
			err = txn.Delete(octetsOf(w.key))
			return err == nil
		}
		entries = append(entries, badger.Entry{Key: octetsOf(w.key), Value: w.value})
		err = txn.SetEntry(&entries[len(entries)-1])
		return err == nil
	})
	if err != nil {
		return err
	}
	return txn.CommitAt(ts, nil)
}

// poison stops applying until the partition is opened again. The caller holds applyMu.
func (p *Partition) poison(err error) {
	p.poisoned = errors.Join(ErrPoisoned, err)
	p.log.Error().Err(err).Msg("applying has stopped")
	p.store.alarm(Alarm{Partition: p.number, Err: p.poisoned})
}

// publish lets readers see a committed batch. Under viewMu no zone can be installed in memory as it was
// before, and each zone in memory goes from one position to the other by one atomic store.
func (p *Partition) publish(b *batch) {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	p.published.Store(&publication{b.now})
	for _, e := range b.effects {
		switch e.kind {
		case effectPatched:
			p.store.hot.patch(p, e.apex, e.delta, e.changed)
		case effectReplaced, effectWithheld:
			p.store.hot.drop(e.apex)
		case effectCreated:
			p.store.hot.create(p, e.apex)
		case effectDeleted:
			p.store.hot.remove(e.apex)
		}
	}
	p.settled.Store(b.now.offset)
	p.discard()
}
