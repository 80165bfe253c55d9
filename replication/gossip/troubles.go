package gossip

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// troubles remember what went wrong lately, for people. Safe for concurrent use; it is called from memberlist's callbacks, and
// calls nothing.
type troubles struct {
	lasts time.Duration

	mu        sync.Mutex
	strangers map[strangerName]incident
	conflicts map[string]incident // by node ID
	garbled   incident            // statements that can't be read
	newer     incident            // statements of a later version
	outdone   []time.Time         // when this node found another's words in its name
	join      error               // why no seed can be reached; nil: one was, or there is none
	joinSince time.Time
}

type strangeness uint8

const (
	strangeKey   strangeness = iota // its messages can't be decrypted
	strangeLabel                    // it is of another namespace or region
)

type strangerName struct {
	host string
	why  strangeness
}

// incident is something that happened, perhaps again and again.
type incident struct {
	count       uint64
	first, last time.Time
	detail      string // of the last one
}

func (i *incident) happened(detail string, now time.Time) {
	if i.count == 0 {
		i.first = now
	}
	i.count++
	i.last, i.detail = now, detail
}

// maxIncidents are remembered of each sort: senders' addresses can be forged.
const maxIncidents = 32

func newTroubles(lasts time.Duration) *troubles {
	return &troubles{lasts: lasts, strangers: map[strangerName]incident{}, conflicts: map[string]incident{}}
}

func remember[K comparable](m map[K]incident, k K, detail string, now time.Time) {
	i, ok := m[k]
	if !ok && len(m) >= maxIncidents {
		var oldest K
		first := true
		for other, o := range m {
			if first || o.last.Before(m[oldest].last) {
				oldest, first = other, false
			}
		}
		delete(m, oldest)
	}
	i.happened(detail, now)
	m[k] = i
}

func (t *troubles) stranger(host string, why strangeness, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	remember(t.strangers, strangerName{host, why}, "", now)
}

// conflict is called when two addresses claim one node's ID.
func (t *troubles) conflict(id, known, other string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	remember(t.conflicts, id, known+" and "+other, now)
}

// unreadable is called for statements that were dropped; newer says that they are of a later version.
func (t *troubles) unreadable(err error, newer bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if newer {
		t.newer.happened(err.Error(), now)
	} else {
		t.garbled.happened(err.Error(), now)
	}
}

// mayOutdo reports whether this node may outdo another that speaks in its name. It reports false when it did so a moment ago: two
// nodes of one ID must not outdo each other as fast as they can send.
func (t *troubles) mayOutdo(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.outdone); n > 0 && now.Sub(t.outdone[n-1]) < outdoPause {
		return false
	}
	return true
}

// outdid is called when it did.
func (t *troubles) outdid(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outdone = append(t.outdone, now)
	if n := len(t.outdone); n > outdoneTimes {
		t.outdone = t.outdone[n-outdoneTimes:]
	}
}

const (
	outdoPause = time.Second
	// outdoneTimes within the time that a trouble lasts mean another node; once or twice is an earlier life of this one, whose
	// clock was ahead.
	outdoneTimes = 3
)

// joined is called after each attempt to reach the seeds while this node is alone; err is nil when one was reached.
func (t *troubles) joined(err error, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.join == nil {
		t.joinSince = now
	}
	t.join = err
}

// list is what people should know, in a stable order.
func (t *troubles) list(self string, now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	recent := func(i incident) bool { return i.count > 0 && now.Sub(i.last) < t.lasts }
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if t.join != nil {
		add("no node of gossip.join could be reached since %s: are they up, are their addresses right, is gossip.key the same? %s",
			t.joinSince.UTC().Format(time.RFC3339), oneLine(t.join))
	}
	if len(t.outdone) == outdoneTimes && now.Sub(t.outdone[0]) < t.lasts {
		add("another node gossips as %q, this node's ID: give one of them another node-id, and a data directory of its own", self)
	}
	for id, i := range t.conflicts {
		if recent(i) {
			add("two nodes gossip as %q, from %s: unless it has just moved there, give one of them another node-id, and a data directory of its own", id, i.detail)
		}
	}
	for s, i := range t.strangers {
		if !recent(i) {
			continue
		}
		switch s.why {
		case strangeKey:
			add("messages that can't be decrypted come from %s: is gossip.key the same there?", s.host)
		case strangeLabel:
			add("messages of another namespace or region come from %s: does gossip.join name nodes of this one only?", s.host)
		}
	}
	if recent(t.newer) {
		add("%d messages of a newer program were left out, the last one a %s: this node knows less than it could until it runs that version", t.newer.count, t.newer.detail)
	}
	if recent(t.garbled) {
		add("%d messages could not be read, the last one for this: %s", t.garbled.count, t.garbled.detail)
	}
	slices.Sort(list)
	return list
}

var errorCount = regexp.MustCompile(`^[0-9]+ errors? occurred:$`)

// oneLine puts errors that came together, each on lines of its own and in an order of chance, on one line that is the same for the same ones.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimPrefix(strings.TrimSpace(line), "* "); line != "" && !errorCount.MatchString(line) {
			parts = append(parts, line)
		}
	}
	slices.Sort(parts)
	return strings.Join(slices.Compact(parts), "; ")
}

// maxSkew is how far clocks may be apart. Certificates, tokens and TSIG (RFC 8945 §10: 300 s) look at the time, and so do people.
const maxSkew = 10 * time.Second

// skewed says whose clock is wrong, as far as the others' clocks tell: this node's, when it differs from most of them.
func skewed(peers []*Peer) []string {
	var apart []*Peer
	measured := 0
	for _, p := range peers {
		if !p.Alive || p.Skew == 0 {
			continue
		}
		measured++
		if p.Skew.Abs() > maxSkew {
			apart = append(apart, p)
		}
	}
	if len(apart) == 0 {
		return nil
	}
	if len(apart) > 1 && 2*len(apart) > measured {
		return []string{fmt.Sprintf("this node's clock differs from that of %d of %d others, from %s's by %s: does it keep time by NTP?",
			len(apart), measured, apart[0].ID, apart[0].Skew.Abs().Round(time.Second))}
	}
	list := make([]string, 0, len(apart))
	for _, p := range apart {
		way := "ahead of"
		if p.Skew < 0 {
			way = "behind"
		}
		list = append(list, fmt.Sprintf("the clock of node %q is %s %s this node's: do both keep time by NTP?", p.ID, p.Skew.Abs().Round(time.Second), way))
	}
	return list
}
