package secondary

import (
	"time"

	"balefire/zones"
)

// Status is how a secondary zone is kept, as this node knows it.
type Status struct {
	Zone zones.Name
	// OnDuty says that this node keeps the zone for its region. Others know of it what is in the log.
	OnDuty bool
	// Running says that a primary is being asked, or that one is asked as soon as may be: what came of an earlier attempt isn't the last word then.
	Running bool
	// Serial is the zone's here; Primary the newest that a primary said it has, 0 before.
	Serial, Primary zones.Serial
	Standing        zones.Standing
	Frozen          bool
	// Checked is when a primary last answered; Next, when one is asked next; Expires, when the zone expires unless one answers. Zero when
	// that is not known, or never.
	Checked, Next, Expires time.Time
	// Failures is how often in a row it did not work, Error why the last time, at FailedAt. Error is empty after it has worked.
	Failures int
	Error    string
	FailedAt time.Time
	// Last is the last transfer that this node made; zero before.
	Last Transfer
}

// Transfer is a transfer that was published.
type Transfer struct {
	At       time.Time // its end
	Duration time.Duration
	From     zones.Remote
	Form     Form // Whole or Differences
	Serial   zones.Serial
	Before   zones.Serial // the zone's until then
	Records  int64        // that came
	Octets   int64        // of messages
	Messages int
	// Staged says that it took more than one record of the log.
	Staged bool
}

func (f Form) String() string {
	switch f {
	case Current:
		return "current"
	case Whole:
		return "AXFR"
	case Differences:
		return "IXFR"
	}
	return ""
}

// Status returns how a zone is kept; false when it is no secondary zone of this node.
func (s *Secondary) Status(apex zones.Name) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.zones[apex]
	if e == nil {
		return Status{}, false
	}
	got := e.status
	got.Zone, got.OnDuty = apex, s.onDuty(e.partition)
	got.Running = e.running || e.urgent && got.OnDuty
	if e.at >= 0 && got.OnDuty {
		got.Next = e.due
	}
	return got, true
}
