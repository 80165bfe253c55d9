package gossip

import (
	"cmp"

	"github.com/google/btree"
)

// rumours are the sections that still have to be told, and how often each was. It keeps names only: what is told is what the
// ledger has when a packet is filled, so that nothing old goes out, and the rumours are never more than the records.
type rumours struct {
	byName map[name]*rumour
	next   *btree.BTreeG[*rumour]
	order  uint64
}

// name is a section of a node's record.
type name struct {
	id string
	key
}

type rumour struct {
	name
	told  int
	order uint64 // the younger go first among those told as often
}

func newRumours() rumours {
	return rumours{byName: map[name]*rumour{}, next: btree.NewG(16, func(a, b *rumour) bool {
		return cmp.Or(cmp.Compare(a.urgency(), b.urgency()), cmp.Compare(a.told, b.told), cmp.Compare(b.order, a.order)) < 0
	})}
}

// urgency is lower for what goes first: positions are many, and nobody waits for them.
func (r *rumour) urgency() int {
	if r.kind == kindPositions {
		return 1
	}
	return 0
}

// times is how often a rumour is told by everybody who hears it, where what must reach all is told so often. Half of that brings
// positions to nearly all, and whole exchanges to the rest.
func (r *rumour) times(all int) int {
	if r.kind == kindPositions {
		return all / 2
	}
	return all
}

// add makes a section news, also when it was being told already.
func (q *rumours) add(id string, k key) {
	q.drop(id, k)
	q.order++
	r := &rumour{name: name{id, k}, order: q.order}
	q.byName[r.name] = r
	q.next.ReplaceOrInsert(r)
}

func (q *rumours) drop(id string, k key) {
	if r, ok := q.byName[name{id, k}]; ok {
		q.next.Delete(r)
		delete(q.byName, r.name)
	}
}

func (q *rumours) len() int { return len(q.byName) }

// maxLooked are how many rumours are looked at for one packet, so that filling it has an end.
const maxLooked = 128

// tell returns messages of limit octets together, each with so much overhead, of what is urgent and was told the least. What was told
// times often is told no more.
func (l *ledger) tell(overhead, limit, times int) [][]byte {
	var (
		told    []*rumour
		byID    = map[string][]key{}
		ids     []string
		looked  int
		q       = &l.rumours
		without []*rumour // their section is gone
	)
	q.next.Ascend(func(r *rumour) bool {
		if looked++; looked > maxLooked {
			return false
		}
		record := l.records[r.id]
		if record == nil || record.sections[r.key].sequence == 0 {
			without = append(without, r)
			return true
		}
		size := sectionLen(r.key, record.sections[r.key])
		if _, begun := byID[r.id]; !begun {
			size += overhead + headerLen(r.id)
		}
		if size > limit {
			return true
		}
		limit -= size
		if _, begun := byID[r.id]; !begun {
			ids = append(ids, r.id)
		}
		byID[r.id] = append(byID[r.id], r.key)
		told = append(told, r)
		return true
	})
	for _, r := range without {
		q.drop(r.id, r.key)
	}
	for _, r := range told {
		q.next.Delete(r)
		if r.told++; r.told >= r.times(times) {
			delete(q.byName, r.name)
			continue
		}
		q.next.ReplaceOrInsert(r)
	}
	messages := make([][]byte, 0, len(ids))
	for _, id := range ids {
		record := l.records[id]
		b := appendHeader(nil, id, record.incarnation)
		for _, k := range byID[id] {
			b = appendSection(b, k, record.sections[k])
		}
		messages = append(messages, b)
	}
	return messages
}
