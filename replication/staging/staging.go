// Package staging brings whole zones of any size into the log: their records come in any order, are sorted in bounded memory, held
// against the rules of a valid zone, and published as one record when they fit, or else as a staged generation: chunks in canonical
// order, and one record that switches to what was staged when counts and digest agree. Readers see the old zone until then.
//
// It does not know where zones come from, nor what has to be asked before one takes the place of another: that is each door's own, and so is
// publishing the record that makes the zone what came.
//
// What holds:
//   - Nothing is published before all of the zone was found valid; what was staged and not switched to changes nothing.
//   - Memory does not grow with the zone.
//   - What is not switched to is given up: by an abort, by the next staging of the zone, or when it expires in the log.
package staging

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"iter"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// InlineMax is how many octets of RRsets go into one record at most. Larger zones are staged.
const InlineMax = 200 << 10

// chunksAhead is how many chunks may be in the log before they are applied: enough to keep the log busy, few enough to
// notice early that staging can't go on.
const chunksAhead = 8

// Content is what a zone's RRsets come to.
type Content struct {
	Zone change.Zone
	SOA  zones.RRset
	Size int // octets of the RRsets in a record
}

// Fits reports whether the zone fits one record.
func (c Content) Fits() bool {
	return c.Size <= InlineMax && c.Zone.RRsets <= change.MaxRRsetsTouched
}

// DigestAt is the digest that the zone would have with another serial.
func (c Content) DigestAt(serial zones.Serial) zones.Digest {
	d := c.Zone.Digest
	d.Sub(zones.EntryOf(c.SOA, c.SOA.Owner))
	d.Add(zones.EntryOf(c.SOA.WithSOASerial(serial), c.SOA.Owner))
	return d
}

// Validate asks of all RRsets, in order, what a valid zone is; seq is where it begins. Each RRset is given to look first, whose error ends
// it; nil asks nothing more. The error may be what sets yields, that of ctx, or a *zones.Rejection.
func Validate(ctx context.Context, seq change.Sequence, sets iter.Seq2[Set, error], look func(Set) error) (c Content, err error) {
	for set, err := range sets {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && look != nil {
			err = look(set)
		}
		if err != nil {
			return Content{}, err
		}
		if rej := seq.Add(set.RRset); rej != nil {
			return Content{}, rej
		}
		c.Size += change.EncodedSize(set.RRset)
	}
	if rej := seq.Finish(); rej != nil {
		return Content{}, rej
	}
	c.Zone, c.SOA = seq.Zone(), seq.SOA()
	return c, nil
}

// Publisher is how change sets get into the log.
type Publisher interface {
	// Publish appends a change set to the log. It may be there even when there is an error.
	Publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error)
	// Applied waits until the record at a position is applied or rejected on this node. It is store.ErrNoOutcome when that was long ago.
	Applied(ctx context.Context, position store.Position) (store.Outcome, error)
}

// RejectedError is a chunk that was rejected: nothing switches to what was staged.
type RejectedError struct {
	Position *store.Position // nil when it was not published
	Reason   *zones.Rejection
}

func (e *RejectedError) Error() string { return e.Reason.Error() }
func (e *RejectedError) Unwrap() error { return e.Reason }

// Stage is one zone on its way into the log. It is for one goroutine.
type Stage struct {
	// ID is the stage's: the same for a zone that is staged again because it is not known what became of it.
	ID        zones.ChangeID
	Publisher Publisher
	// New begins a change set that says who stages what. Its ID and its operations are set here, and preconditions are none, as those
	// belong to the record that switches.
	New func() *zones.ChangeSet

	index uint32           // of the next chunk
	ahead []store.Position // of chunks that are not known to be applied; the oldest first
}

// NewID returns a random ID.
func NewID() (id zones.ChangeID) {
	rand.Read(id[:])
	return id
}

// DerivedID returns an ID that depends on another one, on a word, and on a number.
func DerivedID(from zones.ChangeID, what string, n uint32) (id zones.ChangeID) {
	b := append(from[:len(from):len(from)], what...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b, n))
	copy(id[:], sum[:])
	return id
}

// Op returns the operation that makes the zone what sets yields, which was found to come to c. Of a zone that does not fit one record,
// everything is staged first, so that only the operation is left to be published. Settings are kept unless set. The
// error may be what sets yields, a *RejectedError, or what the Publisher says.
func (t *Stage) Op(ctx context.Context, c Content, sets iter.Seq2[zones.RRset, error], settings zones.ZoneSettings, set bool) (zones.Op, error) {
	if !c.Fits() {
		if err := t.chunks(ctx, sets); err != nil {
			return nil, err
		}
		return zones.OpStageCommit{
			Stage: t.ID, Chunks: t.index, RRsets: c.Zone.RRsets, Digest: c.Zone.Digest, Settings: settings, SetSettings: set,
		}, nil
	}
	all := make([]zones.RRset, 0, c.Zone.RRsets)
	for set, err := range sets {
		if err != nil {
			return nil, err
		}
		all = append(all, set)
	}
	return zones.OpReplaceZone{Settings: settings, SetSettings: set, RRsets: all}, nil
}

// Abort frees what was staged, as far as it can. The log forgets it in time without that.
func (t *Stage) Abort(ctx context.Context) error {
	if t.index == 0 {
		return nil
	}
	cs := t.New()
	cs.ID, cs.Keep, cs.Preconditions = NewID(), 0, nil
	cs.Ops = []zones.Op{zones.OpStageAbort{Stage: t.ID}}
	_, err := t.Publisher.Publish(ctx, cs)
	return err
}

func (t *Stage) chunks(ctx context.Context, all iter.Seq2[zones.RRset, error]) error {
	var sets []zones.RRset
	size := 0
	for set, err := range all {
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
func (t *Stage) send(ctx context.Context, sets []zones.RRset) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(t.ahead) == chunksAhead {
		if err := t.settle(ctx); err != nil {
			return err
		}
	}
	cs := t.New()
	cs.Preconditions = nil
	cs.ID = DerivedID(t.ID, "chunk", t.index)
	cs.Ops = []zones.Op{zones.OpStageChunk{Stage: t.ID, Index: t.index, RRsets: sets}}
	if rej := change.Check(cs); rej != nil {
		return &RejectedError{Reason: rej}
	}
	position, err := t.Publisher.Publish(ctx, cs)
	if err != nil {
		return err // even if the chunk comes later, nothing switches to the stage
	}
	t.ahead = append(t.ahead, position)
	t.index++
	return nil
}

// settle waits for the oldest chunk.
func (t *Stage) settle(ctx context.Context) error {
	oldest := t.ahead[0]
	t.ahead = t.ahead[1:]
	outcome, err := t.Publisher.Applied(ctx, oldest)
	switch {
	case errors.Is(err, store.ErrNoOutcome):
		return nil // applied long ago; the commit will tell
	case err != nil:
		return err
	case outcome.Status == store.StatusRejected:
		return &RejectedError{Position: &outcome.Position, Reason: outcome.Rejection}
	}
	return nil
}
