package change

import (
	"errors"
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
	// Next returns the first owner name after the given one, in canonical order, that owns an RRset, NSEC3
	// and its signatures left out; "" when there is none.
	Next(after zones.Name) (zones.Name, error)
	// Stage returns the staged generation of the zone; ok is false when there is none. The zone need not be
	// hosted. There is at most one.
	Stage() (s Stage, ok bool, err error)
}

// Zone is what is kept of a zone beside its RRsets. It is a pure function of its RRsets and settings.
type Zone struct {
	Settings    zones.ZoneSettings
	Serial      zones.Serial
	RRsets      uint64
	Records     uint64
	Octets      uint64 // of owners and packed RRsets
	Delegations uint64 // NS RRsets below the apex
	DNAMEs      uint64
	Signed      bool // the apex has DNSKEY, or there is an RRSIG: the zone came signed
	Hashed      bool // there is an NSEC3
	Digest      zones.Digest
}

// Stage is the state of a staged generation after its last chunk.
type Stage struct {
	ID       zones.ChangeID
	Next     uint32    // index of the chunk that must come next
	Began    time.Time // partition time of the first chunk, in milliseconds
	Last     time.Time // partition time of the last one, in milliseconds; it expires after this
	Sequence Sequence
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
// cs is checked anew (Check), so that nothing that a door let pass can do harm.
func Apply(base Base, cs *zones.ChangeSet, logTime time.Time) (Result, *zones.Rejection, error) {
	if rej := Check(cs); rej != nil {
		return Result{}, rej, nil
	}
	return Result{}, nil, errors.New("not finished")
}
