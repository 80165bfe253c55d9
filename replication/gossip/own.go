package gossip

import (
	"bytes"
	"slices"
	"time"
)

// own is what this node says of itself. The gossip's lock guards it.
type own struct {
	sequence  uint64
	condition Condition
	left      bool
	claims    []Claim // by partition
	invalid   int     // claims that were too many, the last time

	// Sections whose newest content is in the record, or not even there, but was not made a rumour yet.
	untold    map[key]bool
	stale     bool // positions or the catalog's offset have changed since they were last put into the record
	lastTold  time.Time
	positions []byte // to build in
}

func (o *own) begin(l *ledger, m *Member) {
	o.untold = map[key]bool{}
	o.condition.Catalog = -1
	o.say(l, key{kind: kindMember}, appendMember(nil, m), true)
	o.say(l, key{kind: kindCondition}, appendCondition(nil, o.condition, false), true)
}

// say puts a section into the record when it differs from what was said before.
func (o *own) say(l *ledger, k key, body []byte, rumour bool) bool {
	before, ok := l.self.sections[k]
	if ok && bytes.Equal(before.body, body) || !ok && len(body) == 0 {
		return false
	}
	o.sequence++
	l.put(l.self, k, section{o.sequence, bytes.Clone(body)})
	if rumour {
		l.rumours.add(l.self.id, k)
		delete(o.untold, k)
	} else {
		o.untold[k] = true
	}
	return true
}

// Claim replaces everything that this node says of partitions; one that is not among the claims is not claimed. Call it as often
// as anything changes: states and assignments are told at once, positions and digests from time to time. It keeps a copy.
// Of several claims of one partition the first counts.
func (g *Gossip) Claim(claims []Claim) {
	g.mu.Lock()
	news := g.own.claim(g.ledger, claims)
	g.mu.Unlock()
	if news {
		g.changed()
	}
}

func (o *own) claim(l *ledger, claims []Claim) (news bool) {
	o.invalid = 0
	var all [MaxPartitions / statesBlock][statesBlock]byte
	o.claims = o.claims[:0]
	for _, c := range claims {
		if c.Partition < 0 || c.Partition >= MaxPartitions || c.State >= states {
			o.invalid++
			continue
		}
		at := &all[c.Partition/statesBlock][c.Partition%statesBlock]
		if *at != stateNone {
			continue
		}
		*at = byte(c.State) + 1
		if c.Assigned {
			*at |= stateAssigned
		}
		o.claims = append(o.claims, c)
	}
	slices.SortFunc(o.claims, func(a, b Claim) int { return int(a.Partition - b.Partition) })
	for block := range all {
		body := appendStates(nil, &all[block])
		news = o.say(l, key{kindStates, uint8(block)}, body, true) || news
	}
	o.stale = true
	return news
}

// SetCondition replaces what this node says of itself as a whole. A change of Ready or Draining is told at once.
func (g *Gossip) SetCondition(c Condition) {
	g.mu.Lock()
	o := &g.own
	news := c.Ready != o.condition.Ready || c.Draining != o.condition.Draining
	o.condition = c
	if news {
		o.say(g.ledger, key{kind: kindCondition}, appendCondition(nil, c, o.left), true)
	} else {
		o.stale = true
	}
	g.mu.Unlock()
	if news {
		g.changed()
	}
}

func (o *own) leave(l *ledger) {
	o.left = true
	o.say(l, key{kind: kindCondition}, appendCondition(nil, o.condition, true), true)
}

// refresh puts the newest positions into the record, where a whole exchange finds them. It reports whether any is new.
func (o *own) refresh(l *ledger) (news bool) {
	if !o.stale {
		return false
	}
	o.stale = false
	news = o.say(l, key{kind: kindCondition}, appendCondition(nil, o.condition, o.left), false)
	said := map[key]bool{}
	for i := 0; i < len(o.claims); {
		block := o.claims[i].Partition / positionsBlock
		o.positions = o.positions[:0]
		for ; i < len(o.claims) && o.claims[i].Partition/positionsBlock == block; i++ {
			o.positions = appendPosition(o.positions, int(o.claims[i].Partition%positionsBlock), &o.claims[i])
		}
		k := key{kindPositions, uint8(block)}
		said[k] = true
		news = o.say(l, k, o.positions, false) || news
	}
	for k := range l.self.sections {
		if k.kind == kindPositions && !said[k] {
			o.say(l, k, nil, false)
		}
	}
	return news
}

// tellPositions makes rumours of what has changed since the last time, unless that is too soon for a region of this size.
func (o *own) tellPositions(l *ledger, now time.Time, interval time.Duration) {
	if len(o.untold) == 0 {
		return
	}
	octets := headerLen(l.self.id)
	for k := range o.untold {
		octets += sectionLen(k, l.self.sections[k])
	}
	// Everyone passes on what everyone says.
	living := l.living()
	seconds := float64(octets*living*retransmissions(living)/2) / positionsBudget
	// Half an interval less, since this is called about once an interval.
	if now.Sub(o.lastTold) < max(interval, time.Duration(seconds*float64(time.Second)))-interval/2 {
		return
	}
	o.lastTold = now
	for k := range o.untold {
		l.rumours.add(l.self.id, k)
	}
	clear(o.untold)
}

// retransmissions are how often a rumour is passed on in a region of so many nodes: by the number's digits, as memberlist does with
// its own, but at least two, since a node that has just started knows few.
func retransmissions(nodes int) int {
	digits := 0
	for n := nodes; n > 0; n /= 10 {
		digits++
	}
	return retransmitTimes * max(digits, 2)
}
