// Package hotzone holds one zone in memory, in few and large pieces that have no pointers in them, so
// that a million zones cost the garbage collector next to nothing. It knows nothing of disks, offsets or
// budgets.
package hotzone

import (
	"errors"

	"balefire/zones"
)

// Errors of building and patching. A zone that fails either is served from disk, or built again.
var (
	// ErrOrder: nodes came out of canonical order, twice, or from outside the zone.
	ErrOrder = errors.New("nodes out of canonical order, or not in the zone")
	// ErrTooLarge: a node that does not fit a page.
	ErrTooLarge = errors.New("node too large to be held in memory")
	// ErrMismatch: a delta that does not begin where the zone is.
	ErrMismatch = errors.New("delta does not fit the zone")
	// ErrNotInZone: a name that is neither the apex nor below it.
	ErrNotInZone = errors.New("name is not in the zone")
	// ErrNoApex: a zone whose apex owns nothing.
	ErrNoApex = errors.New("zone without apex node")
)

// Zone is one zone at one position. It is immutable, and safe for any number of readers, who may keep
// what they get from it for as long as they like.
type Zone struct{}

var _ zones.View = (*Zone)(nil)

// Apex implements zones.View.
func (z *Zone) Apex() zones.Node { panic("not yet") }

// Find implements zones.View. It does not allocate; its only error is ErrNotInZone.
func (z *Zone) Find(n zones.Name, at *zones.Location) error { panic("not yet") }

// FindNSEC implements zones.View. It does not allocate.
func (z *Zone) FindNSEC(n zones.Name) (zones.Node, error) { panic("not yet") }

// FindNSEC3 implements zones.View. It does not allocate.
func (z *Zone) FindNSEC3(n zones.Name) (zones.Node, error) { panic("not yet") }

// Patch returns the zone as it is after the delta, which must be one of this very version. Unchanged
// pages are shared; the old version stays as it is.
func (z *Zone) Patch(d zones.Delta) (*Zone, error) { panic("not yet") }

// Bytes returns the memory of this version in octets, pages that it shares with others included.
func (z *Zone) Bytes() int { panic("not yet") }

// Names returns how many names exist, empty non-terminals included.
func (z *Zone) Names() int { panic("not yet") }

// Delegations returns how many names below the apex have NS; occluded ones count.
func (z *Zone) Delegations() int { panic("not yet") }

// Wildcards returns how many names have an asterisk as first label; with none, no answer is synthesised.
func (z *Zone) Wildcards() int { panic("not yet") }

// Builder builds zones, one after the other, reusing its own memory. It is for one goroutine.
type Builder struct{}

// NewBuilder returns a builder of the zone with the given apex.
func NewBuilder(apex zones.Name) *Builder { return &Builder{} }

// Reset forgets what was added and begins the zone of the given apex.
func (b *Builder) Reset(apex zones.Name) {}

// Add adds a node, whose data it copies. Nodes come in canonical order, the apex first, without those
// RRsets whose Key is Hashed.
func (b *Builder) Add(n zones.Node) error { panic("not yet") }

// AddHashed adds a node of the NSEC3 chain (RRsets whose Key is Hashed, only those), in canonical order
// among themselves, before, between or after those of Add.
func (b *Builder) AddHashed(n zones.Node) error { panic("not yet") }

// Bytes returns about how much memory the zone will take, so that a caller with a budget can give up early.
func (b *Builder) Bytes() int { panic("not yet") }

// Build returns the zone. The builder must be Reset before it is used again.
func (b *Builder) Build() (*Zone, error) { panic("not yet") }
