package change

import "balefire/zones"

// Sequence validates a whole zone whose RRsets come one by one in canonical order (zones.CompareRRsets), in
// constant memory, and counts it. Sequences may be copied; the copies go on apart. Parts of what is added
// (an owner name, the SOA) are kept, and must not change.
type Sequence struct {
	apex   zones.Name
	source zones.Source
	owner  zones.Name // of the last RRset; "" before the first
	key    zones.Key  // of the last RRset
	node   nodeRules  // of owner, outside the NSEC3 chain
	dname  zones.Name // the last owner of a DNAME; "" before the first
	soa    zones.RRset
	zone   Zone
}

// NewSequence begins a zone that comes from a client.
func NewSequence(apex zones.Name) Sequence { return Sequence{apex: apex} }

// NewSequenceFrom begins a zone that comes from a source. A primary's NSEC3 parameters are taken as they come.
func NewSequenceFrom(apex zones.Name, source zones.Source) Sequence {
	return Sequence{apex: apex, source: source}
}

// Add takes the next RRset. After a Rejection the Sequence must not be used any more. Add cannot tell a
// wrong position in the order from a wrong RRset before it.
func (s *Sequence) Add(set zones.RRset) *zones.Rejection {
	if rej := checkRRset(set, s.apex, s.source); rej != nil {
		return rej
	}
	if s.owner != "" && zones.CompareRRsets(zones.RRset{Owner: s.owner, Key: s.key}, set) >= 0 {
		return reject(zones.RuleOrder, set, "it comes after %s %s, and belongs before it or is it again", s.owner, s.key)
	}
	if set.Owner != s.owner || set.Hashed() != s.key.Hashed() {
		if rej := s.leaveOwner(); rej != nil {
			return rej
		}
		if s.owner == "" && set.Owner != s.apex {
			return (&nodeRules{}).finish(s.apex, s.apex) // nothing can come before the apex: it has nothing
		}
		s.node = nodeRules{}
	}
	if set.Hashed() {
		if rej := checkHashedOwner(set, s.apex); rej != nil {
			return rej
		}
	} else {
		// The names below a DNAME follow it at once, so that the last DNAME is all that need be remembered.
		if s.dname != "" && set.Owner.IsBelow(s.dname) {
			return belowDNAME(set, s.dname)
		}
		if rej := s.node.add(set, s.apex); rej != nil {
			return rej
		}
		if set.Type == zones.TypeDNAME {
			s.dname = set.Owner
		}
	}
	if set.Type == zones.TypeSOA {
		s.soa = set
		s.zone.Serial = set.SOASerial()
	}
	s.owner, s.key = set.Owner, set.Key
	s.zone.enter(set, s.apex)
	return nil
}

// leaveOwner asks the rules that need all RRsets of an owner.
func (s *Sequence) leaveOwner() *zones.Rejection {
	if s.owner == "" || s.key.Hashed() {
		return nil
	}
	return s.node.finish(s.owner, s.apex)
}

// Finish says whether what has come makes a whole, valid zone.
func (s *Sequence) Finish() *zones.Rejection {
	if s.owner == "" {
		return (&nodeRules{}).finish(s.apex, s.apex)
	}
	return s.leaveOwner()
}

// Zone returns the state of the zone as far as it has come, with the serial of its SOA. Settings are zero.
func (s *Sequence) Zone() Zone { return s.zone }

// SOA returns the zone's SOA RRset: zero before it came.
func (s *Sequence) SOA() zones.RRset { return s.soa }
