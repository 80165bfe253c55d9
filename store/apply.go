package store

import (
	"errors"
	"fmt"
	"runtime/debug"

	"balefire/zones"
	"balefire/zones/change"
)

// The named points at which a test may end the process. Each says what a crash there leaves; what
// follows is always the same: Open reads the applied offset, and the log is read on from there.
const (
	// CrashApplyRecord: records are in memory only. A crash leaves the state before the batch.
	CrashApplyRecord = "apply-record"
	// CrashApplyChunk: as CrashApplyRecord, with a chunk of a staged generation among the records.
	CrashApplyChunk = "apply-chunk"
	// CrashApplySwitch: as CrashApplyRecord, with the switch to a staged generation among the records.
	CrashApplySwitch = "apply-switch"
	// CrashCommitBefore: a crash leaves the state before the batch.
	CrashCommitBefore = "commit-before"
	// CrashCommitAfter: a crash leaves the state after the batch, which nobody has read, and whose outcomes
	// nobody was told: they are asked for by position.
	CrashCommitAfter = "commit-after"
	// CrashPublished: a crash leaves the state after the batch; hot zones were being patched, which is lost with the memory.
	CrashPublished = "published"
	// CrashCollectBefore and CrashCollectAfter: a crash leaves a dead generation, some of whose keys are gone.
	CrashCollectBefore = "collect-before"
	CrashCollectAfter  = "collect-after"
	// CrashSnapshot: a crash leaves a snapshot without its footer, which is none.
	CrashSnapshot = "snapshot-write"
	// CrashRestore: a crash leaves a directory under a temporary name, which New, or the next restore, removes.
	CrashRestore = "restore-load"
	// CrashRestoreVerified: as CrashRestore; the content is whole, but not under its name.
	CrashRestoreVerified = "restore-before-rename"
)

// CrashPoints are all named points, for tests that go through them.
var CrashPoints = []string{
	CrashApplyRecord, CrashApplyChunk, CrashApplySwitch, CrashCommitBefore, CrashCommitAfter, CrashPublished,
	CrashCollectBefore, CrashCollectAfter, CrashSnapshot, CrashRestore, CrashRestoreVerified,
}

func (s *Store) crash(point string) {
	if s.opts.CrashPoint != nil {
		s.opts.CrashPoint(point)
	}
}

func (p *Partition) crash(point string) { p.store.crash(point) }

// Limits of one transaction beside those of Badger: the longest that outcomes are held back.
const maxBatchRecords = 4096

// duplicateWindow is how long, in seconds of partition time, the ID of a change set is remembered that
// does not say it itself. It is part of format level 1.
const duplicateWindow = 3600

// expireStep is how many expired things each record removes, at most. It is part of format level 1, since
// what has expired and is still there is in the digest.
const expireStep = 4

// Apply applies records, in order, and returns an outcome for each that was not skipped; records at or
// below the applied offset are skipped. A record that can't be decoded, or is rejected, is an outcome, not an
// error. A gap before or inside recs is ErrGap; see ApplyAfter.
//
// It commits in as few synced transactions as limits allow. When it fails, outcomes of what is committed
// are returned with the error: ErrDiskReserve (try again later), ErrPoisoned (reopen), ErrNewer (upgrade the
// program), or one marked ErrCorrupt (rebuild).
func (p *Partition) Apply(recs []Record) ([]Outcome, error) { return p.apply(recs, false) }

// ApplyAfter is Apply for records that follow others which carry no data: control records, or compacted
// ones. The caller vouches that the offsets from the applied one to the first record of recs, and those
// missing between records, hold no change set.
func (p *Partition) ApplyAfter(recs []Record) ([]Outcome, error) { return p.apply(recs, true) }

func (p *Partition) apply(recs []Record, gaps bool) ([]Outcome, error) {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	var outcomes []Outcome
	for len(recs) > 0 {
		did, used, err := p.transaction(recs, gaps)
		if outcomes == nil {
			outcomes = did
		} else {
			outcomes = append(outcomes, did...)
		}
		if err != nil {
			return outcomes, err
		}
		recs = recs[used:]
	}
	return outcomes, nil
}

// transaction applies as many of recs as fit a transaction, and commits them. An error is about the commit, and nothing is applied, or
// about the record after those that were applied.
func (p *Partition) transaction(recs []Record, gaps bool) (outcomes []Outcome, used int, err error) {
	turn := p.store.turns.take()
	defer turn.end()
	b, used, err := p.batch(recs, gaps, turn)
	if b == nil {
		return nil, used, err
	}
	if len(b.outcomes) <= turnRecords {
		turn.end() // what is left is to wait for the disk
	}
	if err := p.finish(b); err != nil {
		return nil, 0, err
	}
	return b.outcomes, used, err
}

// batch applies as many of recs as fit a transaction, in memory. It returns nil when there is nothing to
// commit. An error is about the record after those in the batch.
func (p *Partition) batch(recs []Record, gaps bool, turn *turn) (b *batch, used int, err error) {
	if p.poisoned != nil {
		return nil, 0, p.poisoned
	}
	if err := p.store.guard.mayApply(); err != nil {
		return nil, 0, err
	}
	pub := p.published.Load()
	b = &batch{p: p, now: pub.progress, expiry: p.expiry, trim: p.trim}
	b.reader = openReader(p.db, pub.ts(), newOverlay())
	defer b.close()
	for i := range recs {
		if i > 0 && i%turnRecords == 0 {
			turn.pass()
		}
		rec := &recs[i]
		if rec.Offset <= b.now.offset {
			continue
		}
		if rec.Offset != b.now.offset+1 && !gaps {
			err = fmt.Errorf("record %s after offset %d: %w", Position{p.number, rec.Offset}, b.now.offset, ErrGap)
			return b.orNothing(), i, err
		}
		before, mark := *b, b.over.mark()
		err := b.record(rec)
		full := b.over.len() >= p.maxEntries || b.over.size >= p.maxBytes || len(b.outcomes) >= maxBatchRecords
		if err == nil && !(full && len(before.outcomes) > 0) {
			continue
		}
		// Either the record failed, or it is the one too many, and begins the next transaction.
		b.over.rollback(mark)
		*b = before
		if err != nil {
			err = fmt.Errorf("apply %s: %w", Position{p.number, rec.Offset}, err)
			switch {
			case errors.Is(err, change.ErrUnknownLevel):
				err = fmt.Errorf("%w: %w", ErrNewer, err)
			case errors.Is(err, errPanic):
				p.poison(err)
			case errors.Is(err, ErrCorrupt):
				err = p.suspect("", err)
			}
		}
		return b.orNothing(), i, err
	}
	return b.orNothing(), len(recs), nil
}

// batch is records applied in memory, over the state on disk.
type batch struct {
	p *Partition
	*reader
	now      progress
	outcomes []Outcome
	effects  []effect
	expiry   expiryCursor
	trim     trimCursor
	died     bool // a generation died
	scratch
}

// scratch is room for keys and values on their way into the overlay, which copies them.
type scratch struct {
	key, value []byte
	state      stateEntry
}

// stateEntry is what the digest has of a level and a time, which are mostly those of the record before.
type stateEntry struct {
	level uint32
	time  int64
	entry zones.Digest
}

// stateEntry is progress.stateEntry.
func (b *batch) stateEntry() zones.Digest {
	if s := &b.scratch.state; s.level != b.now.level || s.time != b.now.time {
		*s = stateEntry{b.now.level, b.now.time, b.now.stateEntry()}
	}
	return b.scratch.state.entry
}

func (b *batch) orNothing() *batch {
	if len(b.outcomes) == 0 {
		return nil
	}
	return b
}

// effect is what a record did to one zone, for those who hold it in memory.
type effect struct {
	apex    zones.Name
	kind    effectKind
	delta   zones.Delta // effectPatched
	changed int64       // offset
	// peering is of a zone that has or had primaries, or servers that are notified.
	peering    *Peering
	resettled  bool  // its settings are others
	generation int64 // effectCreated
}

type effectKind uint8

const (
	effectPatched  effectKind = iota // RRset by RRset
	effectReplaced                   // by another generation
	effectCreated
	effectDeleted
	effectWithheld // it is not answered from any more
)

// add makes a value pending for a key that is known not to be there, and keeps the digest.
func (b *batch) add(key, value []byte) {
	b.now.digest.Add(zones.Entry(key, value))
	b.over.set(key, value)
}

// put makes a value pending, and keeps the digest.
func (b *batch) put(key, value []byte) error {
	if digested(key) {
		if err := b.undigest(key); err != nil {
			return err
		}
		b.now.digest.Add(zones.Entry(key, value))
	}
	b.over.set(key, value)
	return nil
}

// drop makes a deletion pending, and keeps the digest.
func (b *batch) drop(key []byte) error {
	if digested(key) {
		if err := b.undigest(key); err != nil {
			return err
		}
	}
	b.over.remove(key)
	return nil
}

// undigest takes what is stored under the key out of the digest.
func (b *batch) undigest(key []byte) error {
	old, ok, err := b.get(key)
	if ok {
		b.now.digest.Sub(zones.Entry(key, old))
	}
	return err
}

// errPanic marks a panic while applying: a bug, which must stop the partition and nothing else.
var errPanic = errors.New("applying panicked")

// record applies one record. After an error the batch must be rolled back to what it was.
func (b *batch) record(rec *Record) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, r, debug.Stack())
		}
	}()
	b.now.digest.Sub(b.stateEntry())
	b.rememberDigest(rec.Offset - 1)
	if b.now.level > change.MaxLevel {
		return fmt.Errorf("format level %d: %w", b.now.level, change.ErrUnknownLevel)
	}
	b.now.time = max(b.now.time, millis(rec.Time))
	if err := b.expire(); err != nil {
		return err
	}
	out := Outcome{
		Position: Position{b.p.number, rec.Offset}, Status: StatusApplied, First: rec.Offset, Time: fromMillis(b.now.time),
	}
	effects := len(b.effects)
	hash := HashRecord(rec.Key, rec.Value)
	if err := b.changeSet(rec, hash, &out); err != nil {
		return err
	}
	for _, e := range b.effects[effects:] {
		out.Changed, out.Created, out.Deleted, out.Peering = true, e.kind == effectCreated, e.kind == effectDeleted, e.peering
		out.Resettled, out.Generation = e.resettled, e.generation
	}
	v := packer(b.value[:0])
	out.pack(&v, true)
	b.key, b.value = outcomeKey(b.key[:0], rec.Offset), v
	b.over.set(b.key, v)
	if err := b.trimHistory(); err != nil {
		return err
	}
	b.now.offset, b.now.epoch, b.now.hash = rec.Offset, rec.LeaderEpoch, hash
	b.now.digest.Add(b.stateEntry())
	if rec.Offset%CheckpointEvery == 0 {
		b.checkpoint(rec.Offset, b.now.digest)
	}
	b.outcomes = append(b.outcomes, out)
	b.p.crash(CrashApplyRecord)
	return nil
}

// rememberDigest remembers the digest for the last round offset that a gap before a record has skipped.
func (b *batch) rememberDigest(upTo int64) {
	round := upTo - upTo%CheckpointEvery
	if round > b.now.offset && b.now.offset >= 0 {
		digest := b.now.digest
		digest.Add(b.stateEntry()) // which record has taken out
		b.checkpoint(round, digest)
	}
}

func (b *batch) checkpoint(offset int64, digest zones.Digest) {
	sum := digest.Bytes()
	b.over.set(checkpointKey(nil, offset), sum[:])
	if old := offset - checkpointsKept*CheckpointEvery; old >= 0 {
		b.over.remove(checkpointKey(nil, old))
	}
}

// changeSet decodes and applies what a record carries.
func (b *batch) changeSet(rec *Record, hash [32]byte, out *Outcome) error {
	cs, rejection := change.Decode(rec.Value, b.now.level)
	if rejection == nil {
		out.ID, out.Zone = cs.ID, cs.Zone
		rejection = b.checkKey(rec, cs)
	}
	if rejection != nil {
		out.Status, out.Rejection = StatusRejected, rejection
		return nil
	}
	known, err := b.duplicate(cs.ID, hash, out)
	if err != nil || known {
		return err
	}
	base := &base{batch: b, apex: cs.Zone}
	result, rejection, err := change.Apply(base, cs, fromMillis(b.now.time))
	if err != nil {
		return err
	}
	if rejection != nil {
		out.Status, out.Rejection = StatusRejected, rejection
		z, ok, err := base.state()
		if err != nil {
			return err
		}
		if ok {
			out.Serial = z.Serial
		}
	} else {
		if result.Kind != change.Delete {
			out.Serial = result.Zone.Serial
		}
		if err := b.perform(base, cs, &result, rec.Offset); err != nil {
			return err
		}
	}
	b.remember(cs, hash, out)
	return nil
}

// checkKey refuses a record whose key is not its zone, or does not lead to this partition. A change of
// the partition's own level is sent to each partition by number.
func (b *batch) checkKey(rec *Record, cs *zones.ChangeSet) *zones.Rejection {
	if string(rec.Key) != cs.Zone.String() {
		return &zones.Rejection{Rule: zones.RuleWrongKey, Op: -1, Detail: fmt.Sprintf("the record's key is %.300q", rec.Key)}
	}
	if len(cs.Ops) == 1 {
		if _, ok := cs.Ops[0].(zones.OpRaiseFormatLevel); ok {
			return nil
		}
	}
	if belongs := b.p.store.opts.Belongs; belongs != nil && !belongs(rec.Key, b.p.number) {
		return &zones.Rejection{Rule: zones.RuleWrongKey, Op: -1, Detail: "the key belongs to another partition"}
	}
	return nil
}

// duplicate reports whether the ID is remembered, and then fills in the outcome: that of the first, or
// a rejection, when the ID is that of another change set.
func (b *batch) duplicate(id zones.ChangeID, hash [32]byte, out *Outcome) (known bool, err error) {
	b.key = idKey(b.key[:0], id)
	value, ok, err := b.get(b.key)
	if err != nil || !ok {
		return false, err
	}
	m, err := parseRemembered(value, b.p.number)
	if err != nil {
		return false, err
	}
	if m.expires <= b.now.time {
		return false, b.forget(id, m.expires)
	}
	if m.hash != hash {
		out.Status = StatusRejected
		out.Rejection = &zones.Rejection{
			Rule: zones.RuleDuplicate, Op: -1, Detail: "the first change set with this ID is at " + m.first.Position.String(),
		}
		return true, nil
	}
	at, when := out.Position, out.Time
	*out = m.first
	out.Position, out.Time, out.Duplicate, out.First = at, when, true, m.first.Offset
	if out.Rejection != nil {
		// The first's kept outcome also has the detail.
		if first, ok, err := readOutcome(b.reader, m.first.Position); err == nil && ok {
			out.Rejection = first.Rejection
		}
	}
	return true, nil
}

// remember keeps the ID of a change set, which is not remembered yet, with its outcome, until it expires.
func (b *batch) remember(cs *zones.ChangeSet, hash [32]byte, out *Outcome) {
	keep := int64(cs.Keep)
	if keep == 0 {
		keep = duplicateWindow
	}
	m := remembered{expires: b.now.time + keep*1000, hash: hash, first: *out}
	key := idKey(nil, cs.ID)
	b.value = m.pack(b.value[:0])
	b.add(key, b.value)
	b.key = b.willExpire(b.key[:0], m.expires, key)
	b.add(b.key, nil)
}

// forget removes an ID that has expired.
func (b *batch) forget(id zones.ChangeID, expires int64) error {
	key := idKey(nil, id)
	if err := b.drop(key); err != nil {
		return err
	}
	return b.drop(expiryKey(nil, expires, key))
}
