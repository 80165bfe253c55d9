package change

import (
	"fmt"
	"slices"

	"balefire/zones"
)

// The operations on whole zones: each makes, replaces or removes a generation.

func (a *application) create(op zones.OpCreateZone) (Result, *zones.Rejection, error) {
	if a.hosted {
		return Result{}, &zones.Rejection{Rule: zones.RuleZoneExists, Owner: a.apex, Detail: "the zone is hosted already"}, nil
	}
	if op.Settings.IsSecondary() { // checkOp has seen that nothing comes with it
		z := Zone{Settings: op.Settings, Standing: zones.Standing{Awaiting: true}}
		return Result{Kind: Replace, Zone: z}, nil, nil
	}
	sets := slices.Clone(op.RRsets)
	slices.SortStableFunc(sets, zones.CompareRRsets)
	seq, rej := sequenceAll(a.apex, zones.SourceClient, sets)
	if rej != nil {
		return Result{}, rej, nil
	}
	z := seq.Zone()
	z.Settings = op.Settings
	return Result{Kind: Replace, Zone: z, RRsets: sets}, nil, nil
}

func (a *application) replace(op zones.OpReplaceZone) (Result, *zones.Rejection, error) {
	seq, rej := sequenceAll(a.apex, a.source, op.RRsets)
	if rej != nil {
		return Result{}, rej, nil
	}
	next, rej, err := a.succeed(&seq, op.Settings, op.SetSettings)
	if rej != nil || err != nil {
		return Result{}, rej, err
	}
	if next.same {
		return a.keepContent(next.zone), nil, nil
	}
	sets := op.RRsets
	if !next.soa.Equal(seq.SOA()) {
		sets = slices.Clone(sets)
		at := slices.IndexFunc(sets, func(s zones.RRset) bool { return s.Type == zones.TypeSOA })
		sets[at] = next.soa
	}
	return Result{Kind: Replace, Zone: next.zone, RRsets: sets}, nil, nil
}

func (a *application) deleteZone() (Result, *zones.Rejection, error) {
	if !a.hosted {
		return Result{}, a.noZone(), nil
	}
	if a.old.Settings.Frozen {
		return Result{}, a.frozen(), nil
	}
	_, staged, err := a.base.Stage()
	return Result{Kind: Delete, DropStage: staged}, nil, err
}

func (a *application) stageChunk(op zones.OpStageChunk) (Result, *zones.Rejection, error) {
	// What could not be committed need not be staged.
	if rej := a.mayReplace(zones.ZoneSettings{}); rej != nil {
		return Result{}, rej, nil
	}
	stage, staged, err := a.base.Stage()
	if err != nil {
		return Result{}, nil, err
	}
	now := a.now()
	dropped := false
	if op.Index == 0 {
		if staged && stage.ID == op.Stage {
			return Result{}, a.stageRejection("stage %s has begun already", op.Stage), nil
		}
		// The writer of what was staged before may be gone for good: the newer one goes on.
		dropped = staged
		stage = Stage{ID: op.Stage, Began: now, Sequence: NewSequence(a.apex)}
	} else {
		switch {
		case !staged || stage.ID != op.Stage:
			return Result{}, a.stageRejection("stage %s was not begun, or was given up", op.Stage), nil
		case op.Index != stage.Next:
			return Result{}, a.stageRejection("chunk %d came where %d must come next", op.Index, stage.Next), nil
		}
	}
	stage.Sequence.source = a.source // which the stage does not remember
	for _, s := range op.RRsets {
		if rej := stage.Sequence.Add(s); rej != nil {
			return Result{}, rej, nil
		}
	}
	stage.Sequence.source = zones.SourceClient
	stage.Next = op.Index + 1
	stage.Last = now
	return Result{Kind: Chunk, RRsets: op.RRsets, Stage: stage, DropStage: dropped}, nil, nil
}

func (a *application) stageCommit(op zones.OpStageCommit) (Result, *zones.Rejection, error) {
	stage, staged, err := a.base.Stage()
	if err != nil {
		return Result{}, nil, err
	}
	if !staged || stage.ID != op.Stage {
		return Result{}, a.stageRejection("stage %s was not begun, or was given up", op.Stage), nil
	}
	seq := stage.Sequence
	if rej := seq.Finish(); rej != nil {
		return Result{}, rej, nil
	}
	if z := seq.Zone(); op.Chunks != stage.Next || op.RRsets != z.RRsets || op.Digest != z.Digest {
		return Result{}, a.stageRejection("%d chunks, %d RRsets, digest %s were to be staged, and %d, %d, %s are",
			op.Chunks, op.RRsets, op.Digest, stage.Next, z.RRsets, z.Digest), nil
	}
	next, rej, err := a.succeed(&seq, op.Settings, op.SetSettings)
	if rej != nil || err != nil {
		return Result{}, rej, err
	}
	if next.same {
		result := a.keepContent(next.zone)
		result.DropStage = true
		return result, nil, nil
	}
	return Result{Kind: Switch, Zone: next.zone, SOA: next.soa}, nil, nil
}

func (a *application) stageAbort(op zones.OpStageAbort) (Result, *zones.Rejection, error) {
	stage, staged, err := a.base.Stage()
	if err != nil {
		return Result{}, nil, err
	}
	if !staged || stage.ID != op.Stage {
		return Result{}, a.stageRejection("stage %s was not begun, or was given up", op.Stage), nil
	}
	return Result{Kind: Abort, DropStage: true}, nil, nil
}

func (a *application) stageRejection(format string, args ...any) *zones.Rejection {
	return &zones.Rejection{Rule: zones.RuleStage, Owner: a.apex, Detail: fmt.Sprintf(format, args...)}
}

// sequenceAll validates a whole zone.
func sequenceAll(apex zones.Name, source zones.Source, sets []zones.RRset) (Sequence, *zones.Rejection) {
	seq := NewSequenceFrom(apex, source)
	for _, s := range sets {
		if rej := seq.Add(s); rej != nil {
			return seq, rej
		}
	}
	return seq, seq.Finish()
}

// successor is what a whole zone that came becomes.
type successor struct {
	zone Zone
	soa  zones.RRset // with the serial that it gets
	same bool        // the content is what the zone has already; zone is its state with the settings asked for
}

// succeed says how the whole zone that came takes the place of the one that is hosted, if any:
//
//   - nothing is hosted: the serial is as it came;
//   - it came with a serial after the present one: that is taken;
//   - it is equal, or differs in nothing but a serial that we stepped: nothing is written;
//   - it is signed, or its policy is to keep serials: rejected, for secondaries would never fetch it;
//   - otherwise the serial steps by the zone's policy from the present one.
//
// What comes from a primary keeps its serial, which may be any when the zone is not answered from, or is transferred anew.
func (a *application) succeed(seq *Sequence, settings zones.ZoneSettings, set bool) (successor, *zones.Rejection, error) {
	next := successor{zone: seq.Zone(), soa: seq.SOA()}
	if a.hosted {
		policy := settings
		if settings = a.old.Settings; set {
			settings = settings.With(zones.PartSerialPolicy, policy)
		}
	}
	if rej := a.mayReplace(settings); rej != nil {
		return next, rej, nil
	}
	next.zone.Settings = settings
	if !a.hosted {
		return next, nil, nil
	}
	next.zone.Standing = a.standing(settings)
	came, old := next.zone.Serial, a.old.Serial
	if came.IsAfter(old) {
		return next, nil, nil
	}
	kept := next.zone // as it would be under the present serial
	kept.setSerial(next.soa, old, a.apex)
	secondary := a.source != zones.SourceClient
	keep := secondary || next.zone.Signed || next.zone.Settings.SerialPolicy == zones.SerialKeep
	switch same := kept.Digest == a.old.Digest; {
	case same && (came == old || !keep):
		next.zone, next.same = kept, true
	case secondary && (a.source == zones.SourceRetransfer || !a.old.Standing.Served()):
	case keep:
		return next, &zones.Rejection{
			Rule: zones.RuleSerial, Owner: a.apex, Type: zones.TypeSOA,
			Detail: fmt.Sprintf("the zone keeps its serials, and %d is not after %d (RFC 1982)", came, old),
		}, nil
	default:
		next.soa = next.zone.setSerial(next.soa, next.zone.Settings.SerialPolicy.Next(old, a.logTime), a.apex)
	}
	return next, nil, nil
}

// setSerial gives the zone, whose SOA is given, another serial, and returns its new SOA.
func (z *Zone) setSerial(soa zones.RRset, serial zones.Serial, apex zones.Name) zones.RRset {
	stepped := soa.WithSOASerial(serial)
	z.Digest.Sub(zones.EntryOf(soa, apex))
	z.Digest.Add(zones.EntryOf(stepped, apex))
	z.Serial = serial
	return stepped
}

// keepContent is the result of a change set that changes the zone's settings and standing at most.
func (a *application) keepContent(z Zone) Result {
	if z.Settings.Equal(a.old.Settings) && z.Standing.Equal(a.old.Standing) {
		return Result{Kind: Unchanged, Zone: a.old}
	}
	return Result{Kind: Patch, Zone: z, Delta: zones.Delta{From: z.Serial, To: z.Serial}}
}
