package secondary

import (
	"net/netip"
	"time"
)

// primary is what is known of a server that zones come from.
type primary struct {
	running int // of its zones
	// urgent and waiting are zones that are due, and not begun because of running, the first first. Those that don't wait any more are passed
	// over.
	urgent, waiting []*entry
	silent          int       // how often in a row it did not answer
	away            time.Time // until when it is not asked
}

// next takes the next zone that waits; nil when none does.
func (p *primary) next() *entry {
	for _, line := range [2]*[]*entry{&p.urgent, &p.waiting} {
		for len(*line) > 0 {
			e := (*line)[0]
			*line = (*line)[1:]
			if e.waiting && !e.gone {
				return e
			}
		}
	}
	return nil
}

const (
	// awayAfter is how often in a row a primary does not answer until it is taken for away: its zones fail at once for awayFor, but
	// for one at a time which tries. So a hundred thousand zones of one that is away don't each wait for it.
	awayAfter = 4
	awayFor   = time.Minute
)

// The Secondary's lock is held in all that follows.

func (s *Secondary) primaryAt(addr netip.AddrPort) *primary {
	p := s.primaries[addr]
	if p == nil {
		p = &primary{}
		s.primaries[addr] = p
	}
	return p
}

// forget drops what says nothing.
func (s *Secondary) forget(addr netip.AddrPort) {
	if p := s.primaries[addr]; p != nil && p.running == 0 && len(p.waiting)+len(p.urgent) == 0 && p.silent == 0 {
		delete(s.primaries, addr)
	}
}

// isAway reports whether a primary need not be asked now. Whoever is told that it must be, tries for the others.
func (s *Secondary) isAway(addr netip.AddrPort, now time.Time) bool {
	p := s.primaries[addr]
	if p == nil || p.silent < awayAfter {
		return false
	}
	if now.Before(p.away) {
		return true
	}
	p.away = now.Add(awayFor)
	return false
}

// heard notes whether a primary answered.
func (s *Secondary) heard(addr netip.AddrPort, answered bool, now time.Time) {
	if answered {
		if p := s.primaries[addr]; p != nil {
			p.silent = 0
			s.forget(addr)
		}
		return
	}
	p := s.primaryAt(addr)
	if p.silent++; p.silent == awayAfter {
		p.away = now.Add(awayFor)
	}
}
