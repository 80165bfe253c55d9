package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// A zone that is larger than a record is staged: chunks in canonical order, and one record that switches to what was
// staged when counts and digest agree. Readers see the old zone until then. What is not switched to is given up: by
// an abort, by the next import of the zone, or when it expires.

// stageAhead is how many chunks may be in the log before they are applied: enough to keep the log busy, few enough to
// notice early that staging can't go on.
const stageAhead = 8

// stage publishes the file's RRsets in chunks, and the record that switches to them.
func (j *importJob) stage(ctx context.Context, settings zones.ZoneSettings) (changed, error) {
	stage := stager{j: j, id: j.stageID()}
	if err := stage.chunks(ctx); err != nil {
		stage.abort(ctx)
		return changed{}, err
	}
	cs := j.s.changeSet(j.apex, j.demands)
	cs.Ops = []zones.Op{zones.OpStageCommit{
		Stage: stage.id, Chunks: stage.index, RRsets: j.zone.RRsets, Digest: j.zone.Digest, Settings: settings, SetSettings: j.setPolicy,
	}}
	got, err := j.s.submit(ctx, submission{cs: cs, wait: j.wait})
	var p *problem
	if errors.As(err, &p) && p.Rule != "" && p.Rule != string(zones.RuleDuplicate) {
		stage.abort(ctx) // for certain it did not switch
	}
	return got, err
}

// stageID is random, or derived from the client's key, so that a repeated request stages the same again.
func (j *importJob) stageID() (id zones.ChangeID) {
	if j.keep == 0 {
		rand.Read(id[:])
		return id
	}
	return derivedID(j.id, "stage", 0)
}

func derivedID(from zones.ChangeID, what string, n uint32) (id zones.ChangeID) {
	b := append(from[:len(from):len(from)], what...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b, n))
	copy(id[:], sum[:])
	return id
}

// stager publishes one stage.
type stager struct {
	j     *importJob
	id    zones.ChangeID
	index uint32         // of the next chunk
	ahead []pendingChunk // published, not known to be applied; the oldest first
}

type pendingChunk struct {
	position store.Position
	index    uint32
}

func (t *stager) chunks(ctx context.Context) error {
	var sets []zones.RRset
	size := 0
	for set, err := range t.j.plainSets() {
		if err != nil {
			return err
		}
		n := change.EncodedSize(set)
		if len(sets) > 0 && (size+n > change.MaxChunk || len(sets) == change.MaxRRsetsTouched) {
			if err := t.send(ctx, sets); err != nil {
				return err
			}
			// The publisher does not keep what it has published.
			sets, size = sets[:0], 0
		}
		sets, size = append(sets, set), size+n
	}
	if err := t.send(ctx, sets); err != nil {
		return err
	}
	for len(t.ahead) > 0 {
		if err := t.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// send publishes a chunk, when those far before it have been applied.
func (t *stager) send(ctx context.Context, sets []zones.RRset) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(t.ahead) == stageAhead {
		if err := t.settle(ctx); err != nil {
			return err
		}
	}
	cs := t.j.s.changeSet(t.j.apex, t.j.demands)
	cs.Preconditions = nil // those are the commit's
	cs.ID = derivedID(t.id, "chunk", t.index)
	cs.Ops = []zones.Op{zones.OpStageChunk{Stage: t.id, Index: t.index, RRsets: sets}}
	if rej := change.Check(cs); rej != nil {
		return rejected(rej, nil)
	}
	position, err := t.j.s.publish(ctx, cs)
	if err != nil {
		// Even if the chunk comes later, nothing switches to the stage.
		var p *problem
		if errors.As(err, &p) && p.Status == http.StatusGatewayTimeout {
			again := newProblem(http.StatusServiceUnavailable, "log-unavailable", "nothing was changed: the log does not acknowledge the zone's parts")
			again.retryAfter, again.cause = 5, p.cause
			return again
		}
		return err
	}
	t.ahead = append(t.ahead, pendingChunk{position, t.index})
	t.index++
	return nil
}

// settle waits for the oldest chunk.
func (t *stager) settle(ctx context.Context) error {
	oldest := t.ahead[0]
	t.ahead = t.ahead[1:]
	ctx, cancel := context.WithTimeout(ctx, t.j.s.opts.Limits.MaxWait)
	defer cancel()
	outcome, err := t.j.s.opts.Publisher.Wait(ctx, oldest.position, replication.ThisNode)
	switch {
	case errors.Is(err, store.ErrNoOutcome):
		return nil // applied long ago; the commit will tell
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, replication.ErrHalted):
		p := newProblem(http.StatusServiceUnavailable, "unavailable", "nothing was changed: this node does not apply the zone's parts: %v", err)
		p.retryAfter, p.cause = 10, err
		return p
	case err != nil:
		return err
	case outcome.Status == store.StatusRejected:
		return rejected(outcome.Rejection, &outcome.Position)
	}
	return nil
}

// abort frees what was staged, as far as it can. The log forgets it in time without that.
func (t *stager) abort(ctx context.Context) {
	if t.index == 0 {
		return
	}
	cs := &zones.ChangeSet{Zone: t.j.apex, Author: t.j.author, Ops: []zones.Op{zones.OpStageAbort{Stage: t.id}}}
	rand.Read(cs.ID[:])
	if _, err := t.j.s.publish(ctx, cs); err != nil {
		t.j.s.log.Debug().Err(err).Str("zone", t.j.apex.String()).Msg("staged zone not given up")
	}
}
