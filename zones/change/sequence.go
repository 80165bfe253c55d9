package change

import "balefire/zones"

// Sequence validates a whole zone whose RRsets come one by one in canonical order (zones.CompareRRsets), in
// constant memory, and counts it. Sequences may be copied; the copies go on apart.
type Sequence struct {
	apex zones.Name
	zone Zone
	soa  zones.RRset
}

// NewSequence begins a zone.
func NewSequence(apex zones.Name) Sequence { return Sequence{apex: apex} }

// Add takes the next RRset. After a Rejection the Sequence must not be used any more.
func (s *Sequence) Add(set zones.RRset) *zones.Rejection { return nil }

// Finish says whether what has come makes a whole, valid zone.
func (s *Sequence) Finish() *zones.Rejection { return nil }

// Zone returns the state of the zone as it came, with the serial of its SOA. Settings are zero.
func (s *Sequence) Zone() Zone { return s.zone }

// SOA returns the zone's SOA RRset: zero before it came.
func (s *Sequence) SOA() zones.RRset { return s.soa }
