package gossip

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// record is all that a node has said, as its octets, and how the node is known to memberlist. The gossip's lock guards it.
type record struct {
	id          string
	incarnation uint64 // 0: nothing of it has been heard yet
	sections    map[key]section
	octets      int // of the bodies

	alive   bool      // memberlist says so
	address string    // of its gossip, HOST:PORT; empty: not heard yet
	since   time.Time // it became alive, or stopped to be so
	asked   time.Time // for its record
	seen    time.Time
	skew    time.Duration

	// What a map shows of it; nil when something else than seen and skew has changed since it was made.
	peer   *Peer
	claims []Claim // nil when claims have changed
}

// ledger is the records of all nodes, this one's included, and the rumours about them. It knows no network; it is not safe for
// concurrent use.
type ledger struct {
	self    *record
	records map[string]*record
	octets  int // of all bodies
	rumours rumours
	refused uint64 // sections and members that were over a limit
}

func newLedger(self string, incarnation uint64, now time.Time) *ledger {
	l := &ledger{records: map[string]*record{}, rumours: newRumours()}
	l.self = &record{id: self, incarnation: incarnation, sections: map[key]section{}, alive: true, since: now, seen: now}
	l.records[self] = l.self
	return l
}

// news is how far something that was heard was new.
type news uint8

const (
	nothingNew news = iota
	positionsNew
	standingNew // who, how, or a state
)

// hear merges what a statement says of another node. What is new becomes a rumour; positions only when they came as one
// themselves. The error is about the last section that was left out because it can't be read.
func (l *ledger) hear(st *statement, now time.Time, exchanged bool) (result news, failure error) {
	r := l.records[st.id]
	if r == nil {
		if r = l.admit(st.id, now); r == nil {
			return nothingNew, nil
		}
	}
	if st.incarnation < r.incarnation {
		return nothingNew, nil
	}
	if st.incarnation > r.incarnation {
		// The node has begun again: what it said before is void, also what this statement has nothing about.
		l.clear(r)
		r.incarnation = st.incarnation
		result = standingNew
	}
	for _, s := range st.sections {
		if s.sequence <= r.sections[s.key].sequence {
			continue
		}
		if err := s.check(s.body); err != nil {
			failure = fmt.Errorf("statement of %q: %w", st.id, err)
			continue
		}
		if !l.put(r, s.key, section{s.sequence, bytes.Clone(s.body)}) {
			continue
		}
		what := standingNew
		if s.kind == kindPositions {
			what = positionsNew
		}
		if !exchanged || what == standingNew {
			l.rumours.add(r.id, s.key)
		}
		result = max(result, what)
	}
	if result != nothingNew {
		r.seen = now
	}
	return result, failure
}

// put replaces a section. It reports false when there is no room for it.
func (l *ledger) put(r *record, k key, s section) bool {
	more := len(s.body) - len(r.sections[k].body)
	if more > 0 && r != l.self && l.octets+more > maxOctets {
		l.refused++
		return false
	}
	l.octets += more
	r.octets += more
	r.sections[k] = s
	r.peer = nil
	if k.blocks() {
		r.claims = nil
	}
	return true
}

// clear forgets what a node has said.
func (l *ledger) clear(r *record) {
	for k := range r.sections {
		l.rumours.drop(r.id, k)
	}
	l.octets -= r.octets
	r.octets = 0
	r.sections = map[key]section{}
	r.peer, r.claims = nil, nil
}

// admit makes a record for a node that was not known; nil when there are too many. Of the dead, the one that was heard of the longest
// ago makes room.
func (l *ledger) admit(id string, now time.Time) *record {
	if len(l.records) >= MaxMembers {
		var oldest *record
		for _, r := range l.records {
			if !r.alive && (oldest == nil || r.seen.Before(oldest.seen)) {
				oldest = r
			}
		}
		if oldest == nil {
			l.refused++
			return nil
		}
		l.forget(oldest)
	}
	r := &record{id: id, sections: map[key]section{}, since: now, seen: now}
	l.records[id] = r
	return r
}

func (l *ledger) forget(r *record) {
	l.clear(r)
	delete(l.records, r.id)
}

// forgetDead forgets nodes that have not been alive, nor heard of, for so long.
func (l *ledger) forgetDead(now time.Time, after time.Duration) (forgotten int) {
	for _, r := range l.records {
		if !r.alive && now.Sub(r.since) >= after && now.Sub(r.seen) >= after {
			l.forget(r)
			forgotten++
		}
	}
	return forgotten
}

// doubtful returns the address of a node that is to be asked; empty: there is none. It is one that has been alive for so long without that
// its record was heard, since rumours reach all but a few by chance; or one that is taken for dead and has been heard of since:
// others pass on what it says, or it does itself, and it does not know that it has to contradict. A node is asked again after a pause.
func (l *ledger) doubtful(now time.Time, after, pause time.Duration) string {
	for _, r := range l.records {
		silent := r.alive && r.sections[key{kind: kindMember}].sequence == 0 && now.Sub(r.since) >= after && now.Sub(r.asked) >= pause
		if silent || now.Sub(r.asked) >= after && r.heardSinceDeath() {
			r.asked = now
			return r.address
		}
	}
	return ""
}

// heardSinceDeath reports whether a node that is taken for dead, and did not say goodbye, has said something new since.
func (r *record) heardSinceDeath() bool {
	if r.alive || r.address == "" || !r.seen.After(r.since) {
		return false
	}
	p := r.show()
	return p != nil && !p.Left
}

// living are the nodes that memberlist takes for alive, this one included.
func (l *ledger) living() (n int) {
	for _, r := range l.records {
		if r.alive {
			n++
		}
	}
	return n
}

// disown is called with what somebody else says in this node's name. When it would win over what this node says, the node outdoes it
// with a higher incarnation, and says everything anew.
func (l *ledger) disown(st *statement) (outdone bool) {
	if st.incarnation < l.self.incarnation {
		return false // an earlier life
	}
	foreign := st.incarnation > l.self.incarnation
	for _, s := range st.sections {
		own := l.self.sections[s.key]
		foreign = foreign || s.sequence > own.sequence || s.sequence == own.sequence && !bytes.Equal(s.body, own.body)
	}
	if !foreign {
		return false // its own words, come back
	}
	// At the last one there is no more outdoing; whoever forges that one can silence this node until it is forgotten.
	l.self.incarnation = min(st.incarnation+1, maxIncarnation-1)
	l.self.peer = nil
	for k := range l.self.sections {
		l.rumours.add(l.self.id, k)
	}
	return true
}

// statement appends what is known of a node. It is not cut to any size.
func (r *record) appendTo(b []byte) []byte {
	b = appendHeader(b, r.id, r.incarnation)
	for k, s := range r.sections {
		b = appendSection(b, k, s)
	}
	return b
}

// maxExchange is the most that is sent in one whole exchange; memberlist takes 20 MiB. What doesn't fit in one goes in the
// next, since each begins with another node.
const maxExchange = 8 << 20

// exchange is everything about the living: this node first. The dead are left out, so that they are forgotten everywhere.
func (l *ledger) exchange(shuffle func([]*record)) []byte {
	others := make([]*record, 0, len(l.records))
	for _, r := range l.records {
		if r.alive && r != l.self && r.incarnation != 0 {
			others = append(others, r)
		}
	}
	shuffle(others)
	b := appendExchange([]byte{version}, l.self.appendTo(nil))
	var one []byte
	for _, r := range others {
		if one = r.appendTo(one[:0]); len(b)+len(one) < maxExchange {
			b = appendExchange(b, one)
		}
	}
	return b
}

// peers are what a map shows: of each node that has said who it is.
func (l *ledger) peers() (self *Peer, all []*Peer) {
	all = make([]*Peer, 0, len(l.records))
	for _, r := range l.records {
		if p := r.show(); p != nil {
			all = append(all, p)
		}
	}
	return l.self.show(), all
}

func (r *record) show() *Peer {
	who, ok := r.sections[key{kind: kindMember}]
	if !ok {
		return nil
	}
	if r.peer != nil && r.peer.Seen.Equal(r.seen) && r.peer.Skew == r.skew {
		return r.peer
	}
	if r.claims == nil {
		r.claims = decodeClaims(r.sections)
	}
	p := &Peer{Alive: r.alive, Seen: r.seen, Claims: slices.Clip(r.claims), Skew: r.skew}
	// Sections were checked when they came in, so there is nothing that could fail here.
	_ = decodeMember(who.body, &p.Member)
	p.ID, p.Incarnation = r.id, r.incarnation
	p.Catalog = -1
	if s, ok := r.sections[key{kind: kindCondition}]; ok {
		p.Condition, p.Left, _ = decodeCondition(s.body)
	}
	for _, s := range r.sections {
		p.Sequence = max(p.Sequence, s.sequence)
	}
	r.peer = p
	return p
}
