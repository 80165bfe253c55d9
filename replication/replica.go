package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"balefire/replication/backup"
	"balefire/replication/mutationlog"
	"balefire/store"
)

const (
	// retryWait is how long a replica waits before it tries again what may pass: the log out of reach, the disk full.
	retryWait = time.Second
	// firstRetry is how long it waits at first, doubling: a topic that was made just now is not everywhere at once.
	firstRetry = 50 * time.Millisecond
	// quietRetries is how many times it tries before it says so in the log.
	quietRetries = 3
	// maxReopens bounds how often a partition is opened again, after a commit that failed, without having come further.
	maxReopens = 3
)

// errHistory marks a log that is not the one that the copy was made from.
var errHistory = errors.New("the log has another history than the local copy")

// replica is this node's copy of one partition.
type replica struct {
	node   *Node
	number int32
	topic  [16]byte

	waiters waiters
	rebuilt bool // by run alone
	looked  bool // for a backup to begin with; by run alone
	// restored is the offset of the backup that the copy was made from, which increments may follow; -1 for none. By run alone.
	restored int64

	cancel context.CancelFunc // ends run
	ended  chan struct{}      // closed when run has ended
	late   bool               // given to this node when it was ready without it

	scrubbing atomic.Bool // since its digest differs from another's

	outdated atomic.Int64 // an offset that is so old that every node that applies has come to it
	lately   int64        // the next one; by tell alone

	settle  sync.Once
	settled chan struct{} // closed when the log is known to be the copy's, or the partition has halted

	// By maintain alone.
	savedAt time.Time     // when the last snapshot was finished
	savedIn time.Duration // how long it took

	mu            sync.Mutex
	partition     *store.Partition   // nil while it is not open
	trouble       error              // why it is not open, or not applying just now; nil when all is well
	halted        error              // why it stopped for good
	interrupt     context.CancelFunc // ends what follows the log
	contradiction error              // what was found wrong with the copy, until it is rebuilt
	target        int64              // the log's last offset when it was first seen in this process; -2 before
	end           int64              // the log's end, as last heard; -1 before
	letGo         bool               // it is being closed, since another node has it
	leftAt        int64              // where it was when it was given to another node
	caughtAt      time.Time          // when it was last known to have all of the log
	reached       bool               // it has been there, in this process
	caughtUp      bool               // it has been there, in this process or when last up
	assigned      bool               // this node's group has given it to this node
	backedUp      time.Time          // when the newest backup that is known of was made
	backedUpTo    int64              // its offset
	noBackup      error              // why the last one could not be made
}

func newReplica(n *Node, number int32, topic [16]byte) *replica {
	r := &replica{node: n, number: number, topic: topic, target: -2, end: -1, restored: -1, lately: -1, ended: make(chan struct{}), settled: make(chan struct{})}
	r.outdated.Store(-1)
	return r
}

// run takes the partition through its phases until the context ends or it can't go on.
func (r *replica) run(ctx context.Context, slots chan struct{}) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	err := r.open(ctx)
	<-slots
	wait, tries := firstRetry, 0
	for reopens, before := 0, int64(-2); ; {
		if err == nil {
			err = r.followWhole(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if at := r.applied().Offset; at > before {
			reopens, before = 0, at
			wait, tries = firstRetry, 0
		}
		switch {
		case errors.Is(err, store.ErrPoisoned) && reopens < maxReopens:
			// A commit failed: what it left is known only after the database was opened again.
			reopens++
			r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("opening the partition again")
			err = r.reopen(ctx)
			continue
		case errors.Is(err, store.ErrCorrupt):
			if err = r.rebuild(ctx, err); err == nil {
				continue
			}
			if ctx.Err() != nil {
				return
			}
			if !errors.Is(err, errLater) {
				r.halt(err)
				return
			}
		case final(err):
			r.halt(err)
			return
		}
		r.setTrouble(err)
		if tries++; tries == quietRetries {
			r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("partition is not applying just now")
		}
		if !r.node.sleep(ctx, wait+rand.N(wait/4)) {
			return
		}
		wait = min(2*wait, retryWait)
		if errors.Is(err, errUnavailable) {
			wait = backupRetry
		}
		err = nil
		if r.opened() == nil {
			err = r.open(ctx)
		}
	}
}

// final reports whether an error does not pass by waiting.
func final(err error) bool {
	var mismatch *mutationlog.MismatchError
	switch {
	case errors.Is(err, errHistory), errors.Is(err, errPanicked), errors.As(err, &mismatch), errors.Is(err, mutationlog.ErrCorrupt),
		errors.Is(err, store.ErrNewer), errors.Is(err, store.ErrOtherTopic), errors.Is(err, store.ErrGap), errors.Is(err, store.ErrPoisoned),
		errors.Is(err, errUnknownApply):
		return true
	}
	return false
}

var (
	errPanicked = errors.New("applying panicked")
	// errUnknownApply marks an error of Apply that is none of those that are known to pass.
	errUnknownApply = errors.New("apply failed")
)

// open opens the local copy, rebuilding it when it contradicts itself.
func (r *replica) open(ctx context.Context) error {
	// A copy that is made just now has been nowhere, whatever the mark of the one before it says.
	made := !r.node.store.Has(r.number)
	if made && !r.looked {
		r.beginFromBackup(ctx)
	}
	p, err := r.node.store.Open(r.number, r.topic)
	if errors.Is(err, store.ErrCorrupt) {
		r.node.alarm(r.number, "", fmt.Errorf("the local copy of partition %d: %w", r.number, err))
		return r.rebuild(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("open partition %d: %w", r.number, err)
	}
	if err := r.keepVersions(p); err != nil {
		return errors.Join(err, p.Close())
	}
	applied := p.Applied().Offset
	r.mu.Lock()
	r.partition = p
	r.caughtUp = r.caughtUp || !made && r.node.marks.reached(r.topic, r.number, applied)
	if applied < r.node.leastOf(r.number) { // others have answered for it meanwhile
		r.reached, r.caughtUp = false, false
	}
	reached := r.reached
	r.noteHolding()
	r.mu.Unlock()
	if reached {
		p.CaughtUp()
	}
	r.waiters.announce(applied, nil)
	r.node.listeners.tell(r.number, nil)
	return nil
}

// keepVersions has the copy keep, or not keep, what increments need: a node that makes no backups needs none of it.
func (r *replica) keepVersions(p *store.Partition) error {
	restored := r.restored
	r.restored = -1
	switch makes := r.node.backups != nil && r.node.opts.Backup.Create; {
	case !makes && p.Kept() >= 0:
		return p.Verified(-1)
	case makes && restored >= 0:
		return p.Verified(restored)
	}
	return nil
}

// beginFromBackup gives a partition without files those of the newest backup: what came before needs not be read from the
// log. Without one, the log is asked, and says whether it has it all.
func (r *replica) beginFromBackup(ctx context.Context) {
	err := r.restoreBackup(ctx, 0, nil)
	r.looked = err == nil || errors.Is(err, backup.ErrNone)
	if !r.looked && ctx.Err() == nil {
		r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("no backup to begin with; trying the log")
	}
}

func (r *replica) reopen(ctx context.Context) error {
	if err := r.closePartition(); err != nil {
		r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("closing a partition whose commit failed")
	}
	return r.open(ctx)
}

// closePartition closes the copy, whatever comes after it. What is asked of others from now on is not from before it.
func (r *replica) closePartition() error {
	r.node.saw(r.number, r.applied().Offset)
	r.mu.Lock()
	p := r.partition
	r.partition = nil
	r.noteHolding()
	r.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.Close()
}

func (r *replica) opened() *store.Partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.partition
}

// applied returns how far the copy has come.
func (r *replica) applied() store.Applied {
	if p := r.opened(); p != nil {
		return p.Applied()
	}
	return store.Applied{Offset: -1, LeaderEpoch: -1}
}

// wait waits for the outcome at an offset, also while the partition is not open yet.
func (r *replica) wait(ctx context.Context, offset int64) (store.Outcome, error) {
	// First among those who wait, then a look at what is applied: nothing falls between.
	arrived, leave, err := r.waiters.join(offset)
	if err != nil {
		return store.Outcome{}, err
	}
	defer leave()
	var a arrival
	select {
	case a = <-arrived: // halted, say: the copy may have another record there
	default:
		if p := r.opened(); p != nil && p.Applied().Offset >= offset {
			return p.Outcome(offset)
		}
		select {
		case a = <-arrived:
		case <-ctx.Done():
			return store.Outcome{}, ctx.Err()
		}
	}
	switch {
	case a.err != nil:
		return store.Outcome{}, a.err
	case a.outcome != nil:
		return *a.outcome, nil
	}
	if p := r.opened(); p != nil {
		return p.Outcome(offset)
	}
	return store.Outcome{}, ErrNotOpen
}

func (n *Node) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
