package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

const (
	zoneCount    = 24
	namesPerZone = 40
	writers      = 6
	readers      = 8
	// pace bounds the load: the checker is to see everything, not to measure.
	pace = 4 * time.Millisecond
	// mostTold is how many violations are told in full.
	mostTold = 20
)

// law is what must hold whatever happens.
type law string

const (
	nothingLost   law = "an acknowledged change is missing"
	nothingFalse  law = "an answer that no prefix of the log explains"
	neverBack     law = "a node's answers went back"
	neverMixed    law = "an answer of two positions"
	equalCopies   law = "copies at one position differ"
	wellBehaved   law = "an interface does not do what it says"
	soonAnswered  law = "a question was not answered after one retry"
	neverSilenced law = "writes are not taken again"
)

// history is what the clients have written and seen. It is safe for concurrent use, apart from prepare and settle.
type history struct {
	ctx     context.Context
	places  *places
	http    *http.Client
	violate func(law, string)
	keys    []*key

	generation atomic.Int64 // the newest of the zone that is replaced whole, as attempted

	acked, unknown, refused atomic.Int64
	answered                atomic.Int64
	retried, unanswered     atomic.Int64 // questions that the first node, and that no node, answered in time
	exported                atomic.Int64
	wrong                   atomic.Int64

	mu      sync.Mutex
	longest time.Duration // between two answered questions of one reader
	reason  string        // why the last question that was not answered was not
}

// key is one name, whose TXT record counts up. One writer owns it.
type key struct {
	zone, name string
	attempted  atomic.Int64 // the highest number that was ever sent
	acked      atomic.Int64 // the highest that was acknowledged
	retired    bool         // the fate of the last is unknown; the writer's
}

// newHistory is for nodes that have all of it from prepare on. Violations are told to violate, which may be called from
// many goroutines.
func newHistory(t testing.TB, ps *places, violate func(law, string)) *history {
	h := &history{
		ctx: t.Context(), places: ps, violate: violate,
		// Longer than the server waits for the log: its own error is to be seen.
		http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
	t.Cleanup(h.http.CloseIdleConnections)
	for z := range zoneCount {
		for n := range namesPerZone {
			zone := fmt.Sprintf("z%d.chaos.test.", z)
			h.keys = append(h.keys, &key{zone: zone, name: fmt.Sprintf("n%d.%s", n, zone)})
		}
	}
	return h
}

// prepare creates all zones through a node, with every name at 0, and waits until they are everywhere.
func (h *history) prepare(t testing.TB, through *place) {
	t.Helper()
	for z := range zoneCount {
		zone := fmt.Sprintf("z%d.chaos.test.", z)
		var text strings.Builder
		fmt.Fprintf(&text, "$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n", zone)
		for n := range namesPerZone {
			fmt.Fprintf(&text, "n%d TXT \"0\"\n", n)
		}
		h.mustPut(t, through, zone, text.String())
	}
	h.mustPut(t, through, wholeZone, wholeText(0))
	for _, p := range h.places.list() {
		for i := 0; i < len(h.keys); i += namesPerZone { // a zone is there as a whole, or not at all
			k := h.keys[i]
			await(t, 2*time.Minute, p.id+" is told of "+k.zone, func() bool {
				number, unknown, err := askNumber(p.dns, k.name)
				return unknown == nil && err == nil && number == 0
			})
		}
		await(t, time.Minute, p.id+" is told of "+wholeZone, func() bool {
			_, unknown, err := askWhole(p.dns)
			return unknown == nil && err == nil
		})
	}
}

// await looks again and again until something holds.
func await(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func (h *history) mustPut(t testing.TB, p *place, zone, text string) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); ; pause(h.ctx, 200*time.Millisecond) {
		a, err := h.send(p, "PUT", "/v1/zones/"+zone+"/file", "text/dns", text)
		if err == nil && (a.status == http.StatusCreated || a.status == http.StatusOK) {
			return
		}
		last = fmt.Sprintf("%d %s %v", a.status, a.body, err)
		if time.Now().After(deadline) {
			t.Fatalf("import %s through %s: %s", zone, p.id, last)
		}
	}
}

// run writes and asks until ctx ends; the group is done when all have ended.
func (h *history) run(ctx context.Context, seed uint64) *sync.WaitGroup {
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() { h.write(ctx, w, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	for r := range readers {
		all.Go(func() { h.read(ctx, rand.New(rand.NewPCG(seed, uint64(1000+r)))) })
	}
	all.Go(func() { h.replace(ctx, rand.New(rand.NewPCG(seed, 2000))) })
	return &all
}

// write counts up in names of its own, through nodes at random.
func (h *history) write(ctx context.Context, w int, rng *rand.Rand) {
	var mine []*key
	for i, k := range h.keys {
		if i%writers == w {
			mine = append(mine, k)
		}
	}
	for ctx.Err() == nil {
		k, p := mine[rng.IntN(len(mine))], h.places.pick(rng, upPlace)
		if k.retired || p == nil {
			pause(ctx, pace)
			continue
		}
		h.count(p, k)
		pause(ctx, time.Duration(rng.IntN(int(8*pace))))
	}
}

// count writes the next number of a key, and notes what became of it.
func (h *history) count(p *place, k *key) {
	label, _, _ := strings.Cut(k.name, ".")
	next := k.attempted.Add(1)
	_, life := p.floor(k)
	a, err := h.send(p, "PUT", "/v1/zones/"+k.zone+"/rrsets/"+label+"/TXT", "application/json",
		fmt.Sprintf(`{"ttl":60,"records":["\"%d\""]}`, next))
	switch {
	case err == nil && (a.status == http.StatusOK || a.status == http.StatusCreated):
		k.acked.Store(next)
		h.acked.Add(1)
		// Who was told that a change is applied sees it, at the node that said so.
		p.saw(k, life, next)
	case err == nil && a.status == http.StatusAccepted:
		k.acked.Store(next)
		h.acked.Add(1)
	case err == nil && a.status == http.StatusServiceUnavailable && bytes.Contains(a.body, []byte("nothing was changed")):
		h.refused.Add(1)
		if a.retryAfter == "" {
			h.fail(wellBehaved, "%s refused a change without Retry-After: %s", p.id, a.body)
		}
	case err == nil && a.status >= 400 && a.status < 500 && a.status != http.StatusTooManyRequests:
		h.fail(wellBehaved, "writing %s through %s: %d %s", k.name, p.id, a.status, a.body)
		k.retired = true
	default:
		h.unknown.Add(1)
		k.retired = true // a later number could be overtaken by this one
	}
}

// read asks nodes at random, and another group of the region when the first does not answer.
func (h *history) read(ctx context.Context, rng *rand.Rand) {
	last := time.Now()
	for ctx.Err() == nil {
		p := h.places.pick(rng, anyPlace)
		if p == nil {
			pause(ctx, pace)
			continue
		}
		question := h.question(rng)
		if unknown := question(p); unknown != nil {
			other := h.places.pick(rng, func(q *place) bool { return q.region == p.region && q.group != p.group })
			if ctx.Err() != nil {
				return
			}
			h.retried.Add(1)
			if other == nil {
				pause(ctx, pace)
				continue
			}
			if again := question(other); again != nil {
				if ctx.Err() != nil {
					return
				}
				h.unanswered.Add(1)
				h.mu.Lock()
				h.reason = fmt.Sprintf("the last one at %s by %s (%v) and %s (%v)", time.Now().Format(time.StampMilli), p.id, unknown, other.id, again)
				h.mu.Unlock()
				pause(ctx, pace)
				continue
			}
		}
		h.answered.Add(1)
		h.mu.Lock()
		h.longest = max(h.longest, time.Since(last))
		h.mu.Unlock()
		last = time.Now()
		pause(ctx, time.Duration(rng.IntN(int(pace))))
	}
}

// question chooses what to ask. What it returns judges the answer, or returns why there is none.
func (h *history) question(rng *rand.Rand) func(p *place) (unknown error) {
	k := h.keys[rng.IntN(len(h.keys))]
	switch n := rng.IntN(64); {
	case n < 6:
		return h.judgeWhole
	case n < 12:
		name := fmt.Sprintf("never%d.%s", rng.IntN(1000), k.zone)
		return func(p *place) error {
			unknown, err := askAbsent(p.dns, name, k.zone)
			if err != nil {
				h.fail(nothingFalse, "%s answered %v", p.id, err)
			}
			return unknown
		}
	case n < 13:
		return func(p *place) error { h.judgeExport(p); return h.judge(p, k) }
	default:
		return func(p *place) error { return h.judge(p, k) }
	}
}

// judge asks one node for one name. The error says why there was no answer.
func (h *history) judge(p *place, k *key) error {
	floor, life := p.floor(k)
	number, unknown, err := askNumber(p.dns, k.name)
	if unknown != nil {
		return unknown
	}
	highest := k.attempted.Load()
	switch {
	case err != nil:
		h.fail(nothingFalse, "%s answered %v", p.id, err)
	case number > highest:
		h.fail(nothingFalse, "%s answered %d for %s, which nobody wrote yet: the highest is %d", p.id, number, k.name, highest)
	case number < floor && p.alive(life):
		h.fail(neverBack, "%s answered %d for %s, after it had answered or acknowledged %d", p.id, number, k.name, floor)
	default:
		p.saw(k, life, number)
	}
	return nil
}

func (h *history) judgeWhole(p *place) error {
	g, unknown, err := askWhole(p.dns)
	if err != nil {
		h.fail(neverMixed, "%s answered %v", p.id, err)
	} else if newest := h.generation.Load(); g > newest {
		h.fail(nothingFalse, "%s answered generation %d of %s: the newest is %d", p.id, g, wholeZone, newest)
	}
	return unknown
}

// judgeExport reads the zone that is replaced whole over HTTP: all its records, from one position.
func (h *history) judgeExport(p *place) {
	if p.isDown() {
		return
	}
	a, err := h.send(p, "GET", "/v1/zones/"+wholeZone+"/file", "", "")
	if err != nil || a.status != http.StatusOK {
		return // the node may be down by now; that it can be read is not what is asked here
	}
	if _, err := checkWholeText(string(a.body)); err != nil {
		h.fail(neverMixed, "%s exported %s %v", p.id, wholeZone, err)
	}
	h.exported.Add(1)
}

func (h *history) fail(broken law, format string, args ...any) {
	if h.wrong.Add(1) <= mostTold {
		h.violate(broken, fmt.Sprintf(format, args...))
	}
}

// replace replaces a zone again and again. Whatever becomes of it, answers must not mix.
func (h *history) replace(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		if p := h.places.pick(rng, upPlace); p != nil {
			g := h.generation.Add(1)
			a, err := h.send(p, "PUT", "/v1/zones/"+wholeZone+"/file?force=true", "text/dns", wholeText(g))
			if err == nil && a.status >= 400 && a.status < 500 && a.status != http.StatusConflict && a.status != http.StatusTooManyRequests {
				h.fail(wellBehaved, "replacing %s through %s: %d %s", wholeZone, p.id, a.status, a.body)
			}
		}
		pause(ctx, time.Duration(rng.IntN(int(100*time.Millisecond))))
	}
}

// settle waits until all nodes that are up answer alike, with nothing acknowledged missing. What is still missing in the
// end is a violation.
func (h *history) settle(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for _, k := range h.keys {
		for {
			broken, trouble := h.settled(k)
			if trouble == "" {
				break
			}
			if time.Now().After(deadline) {
				h.fail(broken, "%s, %s after the last fault: %s", k.name, limit, trouble)
				break
			}
			pause(h.ctx, 50*time.Millisecond)
		}
	}
}

func (h *history) settled(k *key) (broken law, trouble string) {
	first := int64(-1)
	for _, p := range h.places.list() {
		if p.isDown() {
			continue
		}
		number, unknown, err := askNumber(p.dns, k.name)
		switch {
		case unknown != nil:
			return soonAnswered, fmt.Sprintf("%s does not answer: %v", p.id, unknown)
		case err != nil:
			return nothingFalse, fmt.Sprintf("%s answers %v", p.id, err)
		case number < k.acked.Load():
			return nothingLost, fmt.Sprintf("%s answers %d, %d was acknowledged", p.id, number, k.acked.Load())
		case first >= 0 && number != first:
			return equalCopies, fmt.Sprintf("%s answers %d, another %d", p.id, number, first)
		}
		first = number
	}
	return "", ""
}

// expectAnswered says when questions stayed without an answer at both nodes since it was last asked, and how many.
func (h *history) expectAnswered() {
	if n := h.unanswered.Swap(0); n > 0 {
		h.mu.Lock()
		reason := h.reason
		h.mu.Unlock()
		h.fail(soonAnswered, "%d questions, %s", n, reason)
	}
}

func (h *history) report() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d changes acknowledged, %d refused, %d of unknown fate; %d questions answered, %d at the second node, %d not; %d exports; longest pause of a client %s; %d wrong",
		h.acked.Load(), h.refused.Load(), h.unknown.Load(), h.answered.Load(), h.retried.Load(), h.unanswered.Load(), h.exported.Load(),
		h.longest.Round(time.Millisecond), h.wrong.Load())
}

// reply is what HTTP said.
type reply struct {
	status     int
	retryAfter string
	body       []byte
}

// send makes one request. Its error says that there was no whole answer.
func (h *history) send(p *place, method, path, kind, body string) (reply, error) {
	req, err := http.NewRequestWithContext(h.ctx, method, "http://"+p.adminAddress()+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := h.http.Do(req)
	if err != nil {
		var dialled *net.OpError
		if errors.As(err, &dialled) && dialled.Op == "dial" { // it never got there
			return reply{http.StatusServiceUnavailable, "none", []byte("nothing was changed")}, nil
		}
		return reply{}, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header.Get("Retry-After"), answer}, err
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
