// Package zonefile reads and writes master files (RFC 1035 §5, RFC 2308 §4, RFC 3597 §5), and the
// presentation form of single RDATA. Structure, positions and limits are its own; the text of each RDATA is
// given to miekg/dns, which knows the types.
//
// A Reader streams: its memory does not grow with the file. It knows nothing of what makes a zone valid.
package zonefile

import (
	"fmt"

	"balefire/zones"
)

// Error is a mistake in a zone file, with its place. Line and Column count from 1; Column counts octets.
type Error struct {
	File         string
	Line, Column int
	Msg          string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// Limits on what a file may ask for.
const (
	// DefaultGenerateBudget is how many records all $GENERATE directives of a file may make together.
	DefaultGenerateBudget = 65536
	// maxEntryLen bounds the text of one entry, over all its lines, in octets: RDATA of 65,535 octets
	// in which each is written \DDD.
	maxEntryLen = 4*65535 + 4096
	// maxIncludeDepth bounds how deeply files include one another.
	maxIncludeDepth = 8
)

// Options of a Reader.
type Options struct {
	// File is the name that errors show, and to which relative $INCLUDE paths are relative.
	File string
	// Origin completes relative names until the first $ORIGIN; "" means that there is none.
	Origin zones.Name
	// DefaultTTL, in seconds, is for records before any TTL is known; 0 makes that an error.
	DefaultTTL uint32
	// AllowInclude lets $INCLUDE open files. Only for files that the user named on a command line.
	AllowInclude bool
	// GenerateBudget replaces DefaultGenerateBudget; negative forbids $GENERATE.
	GenerateBudget int
}

// Record is one resource record of a file, its RDATA in canonical wire form, which the caller owns.
type Record struct {
	Owner zones.Name
	Type  zones.Type
	TTL   uint32
	RData []byte
	// File, Line and Column say where its entry begins; for included files, in those.
	File         string
	Line, Column int
}
