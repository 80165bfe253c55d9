package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
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
	reached       bool               // it has been there, in this process
	caughtUp      bool               // it has been there, in this process or when last up
	holding       bool               // as counted in the node: open, and has caught up
	backedUp      time.Time          // when the newest backup that is known of was made
	backedUpTo    int64              // its offset
}

func newReplica(n *Node, number int32, topic [16]byte) *replica {
	return &replica{node: n, number: number, topic: topic, target: -2, end: -1, settled: make(chan struct{})}
}

// run takes the partition through its phases until the context ends or it can't go on.
func (r *replica) run(ctx context.Context, slots chan struct{}) {
	defer r.waiters.fail(ErrClosed)
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
	applied := p.Applied().Offset
	r.mu.Lock()
	r.partition = p
	r.caughtUp = r.caughtUp || !made && r.node.marks.reached(r.topic, r.number, applied)
	reached := r.reached
	r.noteHolding()
	r.mu.Unlock()
	if reached {
		p.CaughtUp()
	}
	r.waiters.announce(applied, nil)
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

// noteHolding counts the partition among those that the node holds, or no longer; r.mu is held.
func (r *replica) noteHolding() {
	holding := r.partition != nil && r.caughtUp
	switch {
	case holding && !r.holding:
		r.node.held.Add(1)
	case !holding && r.holding:
		r.node.held.Add(-1)
	}
	r.holding = holding
}

func (r *replica) reopen(ctx context.Context) error {
	if err := r.closePartition(); err != nil {
		r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("closing a partition whose commit failed")
	}
	return r.open(ctx)
}

func (r *replica) closePartition() error {
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

// followWhole is follow, which ends when the copy is found to contradict itself, whoever found it.
func (r *replica) followWhole(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.interrupt = cancel
	if r.contradiction != nil {
		cancel()
	}
	r.mu.Unlock()
	err := r.follow(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contradiction != nil {
		err, r.contradiction = r.contradiction, nil
	}
	return err
}

// contradicted has the copy rebuilt, if it can be. It may be called from anywhere.
func (r *replica) contradicted(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contradiction == nil {
		r.contradiction = err
	}
	if r.interrupt != nil {
		r.interrupt()
	}
}

// follow makes sure that the log is the copy's, and applies it until something is in the way.
func (r *replica) follow(ctx context.Context) error {
	select {
	case <-r.node.log.Established():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(retryWait): // why is in the log's status
		s := r.node.log.Status()
		if s.Fault != nil {
			return s.Fault
		}
		return fmt.Errorf("%w: %v", mutationlog.ErrNotEstablished, s.Trying)
	}
	bounds, err := r.node.log.Bounds(ctx)
	if err != nil {
		return err
	}
	b, ok := bounds[r.number]
	if !ok {
		return fmt.Errorf("partition %d: its broker does not answer", r.number)
	}
	if mark, ok := r.node.marks.at(r.topic, r.number); ok && mark >= b.End {
		// Copy and log may both have lost it.
		return fmt.Errorf("%w: it ends at offset %d, and this node had applied it up to %d", errHistory, b.End-1, mark)
	}
	if err := r.reachesBack(ctx, b); err != nil {
		return err
	}
	r.sawEnd(b.End)
	stream, compare, err := r.consume(b)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		if !compare {
			r.settle.Do(func() { close(r.settled) })
		}
		batch, err := stream.Next(ctx)
		if err != nil {
			return ofHistory(err)
		}
		records := convert(batch.Records)
		if compare && len(records) > 0 {
			if err := r.compareLast(records[0]); err != nil {
				return err
			}
			compare = false
		}
		if err := r.apply(ctx, records, contiguous(r.applied().Offset, batch.Records)); err != nil {
			return err
		}
		r.passed(batch.Next)
		r.sawEnd(batch.End)
	}
}

// ofHistory marks the errors of a stream that say that the log is another one than it was. Out of range is none: the log
// may only begin later than it did, which it is asked for again.
func ofHistory(err error) error {
	var diverged *mutationlog.DivergedError
	if errors.As(err, &diverged) {
		return fmt.Errorf("%w: %w", errHistory, err)
	}
	return err
}

// reachesBack requires that the log goes on where the copy ends. A copy that the log no longer reaches is replaced by a
// snapshot that it does.
func (r *replica) reachesBack(ctx context.Context, b mutationlog.Bounds) error {
	applied := r.applied()
	switch {
	case applied.Offset >= b.End:
		return fmt.Errorf("%w: it ends at offset %d, the copy at %d", errHistory, b.End-1, applied.Offset)
	case b.Start <= applied.Offset+1:
		return nil
	}
	gap := fmt.Errorf("%w: it begins at offset %d, the copy ends at %d: what was between is gone", errHistory, b.Start, applied.Offset)
	if err := r.restoreFrom(ctx, b.Start-1, gap); err != nil {
		if r.node.backups != nil && r.node.opts.Backup.Restore {
			return fmt.Errorf("%w: %v", errUnavailable, err) // there may be a backup later
		}
		return err
	}
	if applied := r.applied(); b.Start > applied.Offset+1 || applied.Offset >= b.End {
		return gap
	}
	return nil
}

// consume begins to read the log. compare says that the first record is the copy's last, to be compared.
func (r *replica) consume(b mutationlog.Bounds) (stream *mutationlog.Stream, compare bool, err error) {
	applied := r.applied()
	from, epoch := applied.Offset+1, applied.LeaderEpoch
	if compare = applied.Offset >= 0 && applied.Offset >= b.Start; compare {
		from = applied.Offset
	}
	if applied.Offset < 0 {
		epoch = -1
	}
	stream, err = r.node.log.Consume(r.number, from, epoch)
	return stream, compare, err
}

// compareLast compares the copy's last record with the log's at the same offset.
func (r *replica) compareLast(record store.Record) error {
	applied := r.applied()
	if record.Offset != applied.Offset {
		return fmt.Errorf("%w: offset %d, the copy's last, is not in it", errHistory, applied.Offset)
	}
	if store.HashRecord(record.Key, record.Value) != applied.RecordHash {
		return fmt.Errorf("%w: another record at offset %d", errHistory, applied.Offset)
	}
	return nil
}

func convert(records []mutationlog.Record) []store.Record {
	converted := make([]store.Record, len(records))
	for i, r := range records {
		converted[i] = store.Record{Offset: r.Offset, LeaderEpoch: r.LeaderEpoch, Time: r.Time, Key: r.Key, Value: r.Value}
	}
	return converted
}

// contiguous reports whether nothing is missing between what is applied and the records, nor between these, but what is
// the brokers' own.
func contiguous(applied int64, records []mutationlog.Record) bool {
	for _, r := range records {
		if r.Offset > applied && r.After > applied {
			return false
		}
		applied = max(applied, r.Offset)
	}
	return true
}

// passed notes that all before an offset was read. What follows the last record applied was the brokers' own, and nobody waits
// for it to be applied.
func (r *replica) passed(next int64) {
	applied := r.applied().Offset
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target < next && r.target > applied {
		r.target = applied
	}
}

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
	r.node.metrics.applied(outcomes)
	r.mu.Lock()
	reached := !r.reached && r.target >= -1 && applied >= r.target
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
	}
}

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
	r.mu.Lock()
	r.halted, r.trouble = err, err
	r.mu.Unlock()
	r.settle.Do(func() { close(r.settled) })
	r.waiters.fail(err)
	r.node.alarm(r.number, "", err)
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
