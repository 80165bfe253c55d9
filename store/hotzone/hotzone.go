// Package hotzone holds one zone in memory, in few and large pieces that have no pointers in them, so
// that a million zones cost the garbage collector next to nothing. It knows nothing of disks, offsets or
// budgets.
//
// Names are found by a hash (table.go): every name that exists has an entry, empty non-terminals
// included, so that the closest encloser of an absent name is found by asking for its ancestors, and no
// order is needed. Only the owners of NSEC and NSEC3 are kept in order besides (chain.go), because only
// denial asks for predecessors; an unsigned zone, as most are, pays nothing for it.
//
// Everything is immutable. A patch copies the pages that it changes, and the path to them, and shares
// the rest with the version before.
//
// # Why a hash, and not an order alone
//
// Names present, asked for at random, in nanoseconds of processor time (BenchmarkFindExact and
// BenchmarkOrderedExact, whose leaves hold the entries too; a busy machine of two cores, the better of two runs):
//
//	names      6   1,000   100,000   1,000,000
//	hash      42      50       580         850
//	order     85     213       910        2070
//
// Most of the larger figures is waiting for memory: a look-up touches the directory, a slot and the entry.
package hotzone

import (
	"errors"
	"hash/maphash"
	"unsafe"

	"balefire/zones"
)

// Errors of building and patching. A zone that fails either is served from disk, or built again.
var (
	// ErrOrder: nodes came out of canonical order, twice, or from outside the zone.
	ErrOrder = errors.New("nodes out of canonical order, or not in the zone")
	// ErrTooLarge: more data at one name than fits a page.
	ErrTooLarge = errors.New("node too large to be held in memory")
	// ErrMismatch: a delta that does not begin where the zone is. The zone in memory is not the one on disk.
	ErrMismatch = errors.New("delta does not fit the zone")
	// ErrNotInZone: a name that is neither the apex nor below it.
	ErrNotInZone = errors.New("name is not in the zone")
	// ErrNoApex: a zone whose apex owns nothing.
	ErrNoApex = errors.New("zone without apex node")
)

// seed makes names' places differ from process to process, so that nobody can choose names that collide.
var seed = maphash.MakeSeed()

func hashOf(n zones.Name) uint64 { return maphash.String(seed, string(n)) }

// Zone is one zone at one position. It is immutable, and safe for any number of readers, who may keep
// what they get from it for as long as they like.
type Zone struct {
	apex    *byte   // the apex's entry, in its page
	names   table   // every name that exists
	denial  *denial // nil in a zone that has neither NSEC nor NSEC3
	total   uint32  // names that exist
	cuts    uint32  // of them, those below the apex that have NS
	stars   uint32  // of them, those below the apex whose first label is an asterisk
	deepest uint8   // no name has more labels below the apex than this
}

// denial is what only signed zones have. Like the zone, it is immutable.
type denial struct {
	nsec   chain // owners of NSEC
	nsec3  chain // owners of NSEC3
	hashed table // nodes of the NSEC3 chain
}

func (d *denial) empty() bool {
	return d.nsec.root == nil && d.nsec3.root == nil && !d.hashed.one.exists() && d.hashed.dir == nil
}

var _ zones.View = (*Zone)(nil)

// Names returns how many names exist, empty non-terminals included.
func (z *Zone) Names() int { return int(z.total) }

// Delegations returns how many names below the apex have NS; occluded ones count.
func (z *Zone) Delegations() int { return int(z.cuts) }

// Wildcards returns how many names below the apex have an asterisk as first label; with none, no answer
// is synthesised.
func (z *Zone) Wildcards() int { return int(z.stars) }

// Bytes returns the memory of this version in octets, pages that it shares with other versions included.
func (z *Zone) Bytes() int {
	n := int(unsafe.Sizeof(*z)) + z.names.size()
	if z.denial != nil {
		n += int(unsafe.Sizeof(*z.denial)) + z.denial.nsec.bytes + z.denial.nsec3.bytes + z.denial.hashed.size()
	}
	return n
}

// apexEntry returns the octets of the apex's entry. A zone has only a pointer to them, since there are millions of zones.
func (z *Zone) apexEntry() []byte {
	head := unsafe.Slice(z.apex, entryHeader)
	return unsafe.Slice(z.apex, entrySize(head))
}

func (z *Zone) apexName() zones.Name {
	e, _ := readEntry(z.apexEntry())
	return e.name
}
