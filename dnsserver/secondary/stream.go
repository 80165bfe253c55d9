package secondary

import (
	"bytes"
	"errors"
	"fmt"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// Form is what an answer to a request for a transfer is.
type Form uint8

const (
	// Current: what we have is as new as what the primary has, or newer.
	Current Form = iota + 1
	// Whole: the zone, whole (RFC 5936 §2.2).
	Whole
	// Differences: what was deleted and added since what we have (RFC 1995 §4).
	Differences
)

// Errors of transfers.
var (
	// ErrLying marks answers that are well-formed, and contradict themselves or what was asked.
	ErrLying = errors.New("the transfer contradicts itself")
	// ErrManyDifferences says that there are more differences than are kept: the whole zone is less work.
	ErrManyDifferences = errors.New("more differences than are taken at once")
	// ErrManyRecords says that a zone has more records than are taken.
	ErrManyRecords = errors.New("more records than are taken")
	// ErrManyOctets says that a transfer has more octets than are taken.
	ErrManyOctets = errors.New("more octets than are taken")
)

func lying(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrLying}, args...)...)
}

// step is one difference sequence: what leads from one serial to the next.
type step struct {
	from, to       zonefile.Record // SOAs
	deleted, added []zonefile.Record
}

// stream follows the records of the answer to AXFR or IXFR through their order, and says where its end is.
type stream struct {
	apex zones.Name
	// ixfr says that differences were asked for, since have.
	ixfr bool
	have zones.Serial
	// whole takes each record of a zone that comes whole, the SOA once. The record is its own.
	whole func(zonefile.Record) error
	// maxRecords and maxDifferences, in octets, bound what is taken.
	maxRecords     int64
	maxDifferences int

	form    Form
	state   state
	soa     zonefile.Record // the first record, and the last
	serial  zones.Serial    // soa's
	steps   []step
	kept    int // octets of steps
	records int64
}

type state uint8

const (
	atStart state = iota
	afterSOA
	inWhole
	inDeleted
	inAdded
	atEnd
)

// ended reports whether the closing SOA was seen.
func (s *stream) ended() bool { return s.state == atEnd }

// keptBeside is what a record in a step takes beside its octets.
const keptBeside = 96

// add takes the next record.
func (s *stream) add(r zonefile.Record) error {
	s.records++
	isSOA := r.Type == zones.TypeSOA
	switch {
	case s.state == atEnd:
		return lying("%s %s comes after the closing SOA", r.Owner, r.Type)
	case !r.Owner.IsAtOrBelow(s.apex):
		return lying("%s %s is not in the zone", r.Owner, r.Type)
	case isSOA && r.Owner != s.apex:
		return lying("a SOA at %s", r.Owner)
	case s.records > s.maxRecords:
		return ErrManyRecords
	}
	switch s.state {
	case atStart:
		if !isSOA {
			return lying("it begins with %s %s, not with the SOA", r.Owner, r.Type)
		}
		s.soa, s.serial, s.state = r, serialOf(r), afterSOA
		if s.ixfr && !s.serial.IsAfter(s.have) {
			s.form, s.state = Current, atEnd
		}
		return nil
	case afterSOA:
		// RFC 1995 §4: a SOA of what we have begins differences, everything else is the zone.
		if s.ixfr && isSOA && serialOf(r) != s.serial {
			if serialOf(r) != s.have {
				return lying("the differences begin at serial %d, and we have %d", serialOf(r), s.have)
			}
			s.form = Differences
			return s.begin(r)
		}
		s.form, s.state = Whole, inWhole
		if err := s.whole(s.soa); err != nil {
			return err
		}
		fallthrough
	case inWhole:
		if !isSOA {
			return s.whole(r)
		}
		return s.close(r)
	case inDeleted:
		current := &s.steps[len(s.steps)-1]
		if !isSOA {
			current.deleted = append(current.deleted, r)
			return s.keep(r)
		}
		if !serialOf(r).IsAfter(serialOf(current.from)) {
			return lying("differences lead from serial %d back to %d", serialOf(current.from), serialOf(r))
		}
		current.to, s.state = r, inAdded
		return s.keep(r)
	default: // inAdded
		current := &s.steps[len(s.steps)-1]
		if !isSOA {
			current.added = append(current.added, r)
			return s.keep(r)
		}
		if serialOf(r) != serialOf(current.to) {
			return lying("differences lead to serial %d, and go on from %d", serialOf(current.to), serialOf(r))
		}
		if serialOf(r) == s.serial {
			return s.close(r)
		}
		return s.begin(r)
	}
}

// begin begins a step with the SOA that it leads from.
func (s *stream) begin(r zonefile.Record) error {
	s.steps = append(s.steps, step{from: r})
	s.state = inDeleted
	return s.keep(r)
}

// keep counts what is kept of differences.
func (s *stream) keep(r zonefile.Record) error {
	if s.kept += keptBeside + len(r.Owner) + len(r.RData); s.kept > s.maxDifferences {
		return ErrManyDifferences
	}
	return nil
}

// close ends the stream with its last record.
func (s *stream) close(r zonefile.Record) error {
	if !bytes.Equal(r.RData, s.soa.RData) {
		return lying("it begins with the SOA of serial %d, and ends with another, of serial %d", s.serial, serialOf(r))
	}
	s.state = atEnd
	return nil
}

func serialOf(r zonefile.Record) zones.Serial { return zonefile.SOASerial(r.RData) }
