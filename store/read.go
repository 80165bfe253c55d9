package store

import (
	"context"
	"iter"
	"time"

	"balefire/zones"
)

// ZoneInfo is what is known of a zone without reading its RRsets.
type ZoneInfo struct {
	Apex        zones.Name
	Settings    zones.ZoneSettings
	Serial      zones.Serial
	RRsets      uint64
	Records     uint64
	Delegations uint64
	Signed      bool
	NSEC3       bool
	Digest      zones.Digest // of its content: the sum of zones.EntryOf
	Changed     Position     // of the last change set that changed it
	ChangedAt   time.Time
	Created     Position // of the record that made its present generation
}

// ZonePage is a page of zones in canonical order.
type ZonePage struct {
	Zones []ZoneInfo
	// Next is where the next page begins (pass it as after); "" at the end. A page may be short, or
	// empty, and have a next one, since the work for a page is bounded.
	Next zones.Name
}

// Zones lists the zones of all open partitions in canonical order: at most limit, those after the apex
// after ("" = from the start) whose presentation form begins with prefix.
func (s *Store) Zones(prefix string, after zones.Name, limit int) (ZonePage, error) {
	panic("being built")
}

// Zone returns what is known of a zone; ErrNoZone when it is not hosted.
func (s *Store) Zone(apex zones.Name) (ZoneInfo, error) { panic("being built") }

// Read opens a zone for reading at the published position; ErrNoZone when it is not hosted. The reading
// holds its position until Close, whatever is applied meanwhile, and must be closed soon.
func (s *Store) Read(apex zones.Name) (*Reading, error) { panic("being built") }

// Reading is one zone at one position. One goroutine may use it.
type Reading struct{ Info ZoneInfo }

// Cursor is a place between the RRsets of a zone, in the order of zones.CompareRRsets.
type Cursor struct {
	Owner zones.Name
	Key   zones.Key
}

// RRsetPage is a page of RRsets in canonical order.
type RRsetPage struct {
	RRsets []zones.RRset
	Next   *Cursor // pass it as after; nil at the end. A short page may have a next one
}

// RRsets lists RRsets in the order of zones.CompareRRsets: at most limit, those after the cursor (nil = from the
// start) whose owner, relative to the apex in presentation form, begins with prefix.
func (r *Reading) RRsets(prefix string, after *Cursor, limit int) (RRsetPage, error) {
	panic("being built")
}

// RRset returns one RRset; ok is false when it is not there.
func (r *Reading) RRset(owner zones.Name, key zones.Key) (s zones.RRset, ok bool, err error) {
	panic("being built")
}

// Node returns the RRsets of a name; none, when it has none.
func (r *Reading) Node(owner zones.Name) ([]zones.RRset, error) { panic("being built") }

// All yields every RRset in the order of zones.CompareRRsets, in bounded memory; an error ends it.
func (r *Reading) All(ctx context.Context) iter.Seq2[zones.RRset, error] { panic("being built") }

// Close ends the reading.
func (r *Reading) Close() { panic("being built") }

// HistoryEntry is a change set that was applied to a zone.
type HistoryEntry struct {
	Position
	ID             zones.ChangeID
	Time           time.Time // the partition's
	Author, Reason string
	From, To       zones.Serial
	Action         Action
	// Changes are what it removed and added; none when Action is ActionCreated or ActionReplaced from a
	// staged generation, or ActionDeleted, since these are not kept one by one.
	Changes []zones.RRsetChange
}

// Action is what a change set did to its zone.
type Action uint8

// The values are part of the disk format.
const (
	ActionChanged  Action = 1 // RRset by RRset
	ActionCreated  Action = 2
	ActionReplaced Action = 3 // rolled whole into a new generation
	ActionDeleted  Action = 4
	ActionSettings Action = 5
)

func (a Action) String() string {
	switch a {
	case ActionChanged:
		return "changed"
	case ActionCreated:
		return "created"
	case ActionReplaced:
		return "replaced"
	case ActionDeleted:
		return "deleted"
	case ActionSettings:
		return "settings"
	}
	return "unknown"
}

// History returns the last change sets of a zone, newest first, at most limit, those before the position's
// offset before (0 = from the newest). It also knows zones that were deleted, for as long as history is kept.
func (s *Store) History(apex zones.Name, before int64, limit int) ([]HistoryEntry, error) {
	panic("being built")
}

// HistoryAt returns the history entry of the change set at a position; ErrNoOutcome when there is none.
func (s *Store) HistoryAt(pos Position) (HistoryEntry, error) { panic("being built") }

// Rollback returns the operations that bring a zone's content back to what it was at an earlier serial, to
// be published as a change set with the precondition that the serial is still current. ErrNoRollback when
// history does not reach back so far, or the zone was replaced whole in between.
func (s *Store) Rollback(apex zones.Name, to zones.Serial) (ops []zones.Op, current zones.Serial, err error) {
	panic("being built")
}

// Outcome returns the outcome of the record at a position; ErrNotOpen, ErrNoOutcome.
func (s *Store) Outcome(pos Position) (Outcome, error) { panic("being built") }
