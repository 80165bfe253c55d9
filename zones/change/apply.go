package change

import (
	"errors"
	"fmt"
	"time"

	"balefire/zones"
)

// Base is what applying a change set may read: the state of its partition and of the one zone that
// the change set is about, before it. Errors mean that the state could not be read, and end Apply.
type Base interface {
	// Level returns the partition's format level.
	Level() uint32
	// Zone returns the zone's state; ok is false when the zone is not hosted.
	Zone() (z Zone, ok bool, err error)
	// Node returns what owner owns in the zone, NSEC3 and its signatures left out. It has no RRsets when
	// owner has none, and may then be zero. It is asked only of hosted zones, and names at or below the apex.
	Node(owner zones.Name) (zones.Node, error)
	// Hashed is Node of what owner owns in the NSEC3 chain: NSEC3 and its signatures, and nothing else.
	Hashed(owner zones.Name) (zones.Node, error)
	// SOA returns the RRset of type SOA at the apex; zero when there is none. It is asked only of hosted zones.
	SOA() (zones.RRset, error)
	// Next returns the first owner name after the given one, in canonical order, that owns an RRset, NSEC3
	// and its signatures left out; "" when there is none.
	Next(after zones.Name) (zones.Name, error)
	// Stage returns the staged generation of the zone; ok is false when there is none. The zone need not be
	// hosted. There is at most one.
	Stage() (s Stage, ok bool, err error)
}

// Kind says what the store has to do for an applied change set.
type Kind uint8

const (
	// Unchanged: the change set was good, and the zone is already as it asks.
	Unchanged Kind = iota
	// Patch: apply Delta, which may be empty, and keep Zone.
	Patch
	// Replace: a new generation of the zone, or the zone's first, holds exactly RRsets; keep Zone.
	Replace
	// Delete: the zone is gone.
	Delete
	// Chunk: add RRsets to the staged generation, and keep Stage. When Stage.Next is 1 the generation is new.
	Chunk
	// Switch: the staged generation becomes the zone, with SOA in place of the staged one; keep Zone.
	Switch
	// Abort: the staged generation is given up (DropStage is set).
	Abort
	// RaiseLevel: the partition's format level is Level from the next record on.
	RaiseLevel
)

// Result is what an accepted change set comes to. RRsets share the memory of the change set or the base.
type Result struct {
	Kind      Kind
	Zone      Zone          // Patch, Replace, Switch, Unchanged: the zone's state afterwards
	Delta     zones.Delta   // Patch
	RRsets    []zones.RRset // Replace, Chunk: in canonical order (zones.CompareRRsets)
	SOA       zones.RRset   // Switch
	Stage     Stage         // Chunk
	DropStage bool          // the staged generation that Base.Stage returned is to be thrown away
	Level     uint32        // RaiseLevel
}

// ErrUnknownLevel means that the log raises the partition to a format level that this version does not know: the
// partition must stop here until the node is upgraded. To reject the record would part this replica from those that know it.
var ErrUnknownLevel = errors.New("the log raises the partition to a format level that this version does not know")

// Apply applies cs to base, whole or not at all. logTime is the partition's time. A Rejection means that nothing
// changes; it is the same on every replica. An error says that base could not be read, or is ErrUnknownLevel.
//
// cs is checked anew, so that nothing that a door let pass can do harm.
func Apply(base Base, cs *zones.ChangeSet, logTime time.Time) (Result, *zones.Rejection, error) {
	if base.Level() > MaxLevel {
		return Result{}, nil, ErrUnknownLevel
	}
	if rej := checkAtApply(cs); rej != nil {
		return Result{}, rej, nil
	}
	old, hosted, err := base.Zone()
	if err != nil {
		return Result{}, nil, err
	}
	a := &application{
		base: base, apex: cs.Zone, source: cs.Source, old: old, hosted: hosted, logTime: logTime,
		overlay: overlay{base: base, apex: cs.Zone, source: cs.Source, nodes: map[site]*touched{}},
	}
	for i, p := range cs.Preconditions {
		if rej, err := a.precondition(p); rej != nil || err != nil {
			return Result{}, atOp(rej, i), err
		}
	}
	if len(cs.Ops) == 1 {
		result, alone, rej, err := a.alone(cs.Ops[0])
		if alone || err != nil {
			return result, atOp(rej, 0), err
		}
	}
	return a.patch(cs.Ops)
}

// atOp says that it was the operation or precondition i that was rejected.
func atOp(rej *zones.Rejection, i int) *zones.Rejection {
	if rej != nil {
		rej.Op = i
	}
	return rej
}

// application is one Apply.
type application struct {
	base    Base
	apex    zones.Name
	source  zones.Source
	old     Zone // the zone's state before, when hosted
	hosted  bool
	logTime time.Time
	overlay overlay
}

// alone applies an operation that is the only one of its change set. It reports false for the operations that may
// be one of several.
func (a *application) alone(op zones.Op) (result Result, alone bool, rej *zones.Rejection, err error) {
	switch op := op.(type) {
	case zones.OpCreateZone:
		result, rej, err = a.create(op)
	case zones.OpReplaceZone:
		result, rej, err = a.replace(op)
	case zones.OpDeleteZone:
		result, rej, err = a.deleteZone()
	case zones.OpStageChunk:
		result, rej, err = a.stageChunk(op)
	case zones.OpStageCommit:
		result, rej, err = a.stageCommit(op)
	case zones.OpStageAbort:
		result, rej, err = a.stageAbort(op)
	case zones.OpRaiseFormatLevel:
		result, rej, err = a.raiseLevel(op)
	case zones.OpSetStanding:
		result, rej, err = a.setStanding(op)
	default:
		return Result{}, false, nil, nil
	}
	return result, true, rej, err
}

func (a *application) raiseLevel(op zones.OpRaiseFormatLevel) (Result, *zones.Rejection, error) {
	if level := a.base.Level(); op.Level != level+1 {
		return Result{}, &zones.Rejection{
			Rule:   zones.RuleFormatLevel,
			Detail: fmt.Sprintf("the partition is at format level %d, and can only be raised by one", level),
		}, nil
	}
	if op.Level > MaxLevel {
		return Result{}, nil, ErrUnknownLevel
	}
	return Result{Kind: RaiseLevel, Level: op.Level}, nil, nil
}

func (a *application) noZone() *zones.Rejection {
	return &zones.Rejection{Rule: zones.RuleNoZone, Owner: a.apex, Op: -1, Detail: "the zone is not hosted"}
}
