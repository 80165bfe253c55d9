//go:build chaos && kafka && s3

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire/balefiretest"
)

const (
	zoneCount    = 24
	namesPerZone = 12
	writers      = 6
	readers      = 8
	// retryAfter is what a stub resolver waits before it asks another server.
	retryAfter = 2 * time.Second
	// pace bounds the load: the checker is to see everything, not to measure.
	pace = 4 * time.Millisecond
)

// history is what the clients have written and seen.
type history struct {
	t       *testing.T
	c       *cluster
	keys    []*key
	atomics atomic.Int64 // the newest generation of the zone that is replaced whole, as attempted

	acked, unknown, refused atomic.Int64
	answered                atomic.Int64
	retried, unanswered     atomic.Int64 // questions that the first node, and that no node, answered in time
	wrong                   atomic.Int64

	mu      sync.Mutex
	longest time.Duration // between two answered questions of one reader
}

// key is one name, whose TXT record counts up. One writer owns it.
type key struct {
	zone, name string
	attempted  atomic.Int64 // the highest number that was ever sent
	acked      atomic.Int64 // the highest that was acknowledged
	retired    bool         // the fate of the last is unknown; the writer's
}

func newHistory(t *testing.T, c *cluster) *history {
	h := &history{t: t, c: c}
	for z := range zoneCount {
		for n := range namesPerZone {
			zone := fmt.Sprintf("z%d.chaos.test.", z)
			h.keys = append(h.keys, &key{zone: zone, name: fmt.Sprintf("n%d.%s", n, zone)})
		}
	}
	return h
}

// prepare creates all zones, with every name at 0, and waits until they are everywhere.
func (h *history) prepare() {
	h.t.Helper()
	for z := range zoneCount {
		zone := fmt.Sprintf("z%d.chaos.test.", z)
		var text strings.Builder
		fmt.Fprintf(&text, "$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n", zone)
		for n := range namesPerZone {
			fmt.Fprintf(&text, "n%d TXT \"0\"\n", n)
		}
		h.mustPut(zone, text.String())
	}
	h.replaceWhole(0)
	for _, n := range h.c.nodes {
		for _, k := range h.keys {
			k := k
			if err := n.server.Await(2*time.Minute, "told of "+k.name, func() bool {
				got, err := ask(n.server.DNS, k.name)
				return err == nil && got.number == 0 && got.state == counted
			}); err != nil {
				h.t.Fatalf("%s: %v\n%s", n.id, err, n.server.Log())
			}
		}
	}
}

func (h *history) mustPut(zone, text string) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		status, body, err := h.send(h.c.nodes[0], "PUT", "/v1/zones/"+zone+"/file", "text/dns", text)
		if err == nil && (status == http.StatusCreated || status == http.StatusOK) {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("import %s: %d %s %v\n%s", zone, status, body, err, h.c.nodes[0].server.Log())
		}
		<-time.After(200 * time.Millisecond)
	}
}

// run writes and asks until ctx ends, and returns when all have ended.
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
		k := mine[rng.IntN(len(mine))]
		n := h.c.pick(rng, "")
		if k.retired || n == nil {
			pause(ctx, pace)
			continue
		}
		label, _, _ := strings.Cut(k.name, ".")
		next := k.attempted.Add(1)
		began := n.began()
		status, body, err := h.send(n, "PUT", "/v1/zones/"+k.zone+"/rrsets/"+label+"/TXT", "application/json",
			fmt.Sprintf(`{"ttl":60,"records":["\"%d\""]}`, next))
		switch {
		case err == nil && (status == http.StatusOK || status == http.StatusCreated):
			k.acked.Store(next)
			h.acked.Add(1)
			// Who was told that a change is applied sees it, at the node that said so.
			n.saw(k, began, next)
		case err == nil && status == http.StatusAccepted:
			k.acked.Store(next)
			h.acked.Add(1)
		case err == nil && status == http.StatusServiceUnavailable && bytes.Contains(body, []byte("nothing was changed")):
			h.refused.Add(1)
		case err == nil && status >= 400 && status < 500 && status != http.StatusTooManyRequests:
			h.fail("writing %s through %s: %d %s", k.name, n.id, status, body)
			return
		default:
			h.unknown.Add(1)
			k.retired = true // a later number could be overtaken by this one
		}
		pause(ctx, time.Duration(rng.IntN(int(8*pace))))
	}
}

// answerState says what a DNS answer was.
type answerState uint8

const (
	counted  answerState = iota // the record was there
	absent                      // the name does not exist, or has no such record
	servfail                    // the node said that it doesn't know
	strange                     // something else
)

type seen struct {
	state  answerState
	number int64
	text   string
}

var client = &dns.Client{Timeout: time.Second, UDPSize: 1232}

// ask asks a node for a name's number. The error says that there was no answer.
func ask(server, name string) (seen, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeTXT)
	a, _, err := client.Exchange(q, server)
	if err != nil {
		return seen{}, err
	}
	switch {
	case a.Rcode == dns.RcodeServerFailure:
		return seen{state: servfail, text: a.String()}, nil
	case a.Rcode == dns.RcodeNameError, a.Rcode == dns.RcodeRefused, a.Rcode == dns.RcodeSuccess && len(a.Answer) == 0:
		return seen{state: absent, text: a.String()}, nil
	case a.Rcode != dns.RcodeSuccess || len(a.Answer) != 1 || !a.Authoritative:
		return seen{state: strange, text: a.String()}, nil
	}
	txt, ok := a.Answer[0].(*dns.TXT)
	if !ok || len(txt.Txt) != 1 {
		return seen{state: strange, text: a.String()}, nil
	}
	n, err := strconv.ParseInt(txt.Txt[0], 10, 64)
	if err != nil {
		return seen{state: strange, text: a.String()}, nil
	}
	return seen{state: counted, number: n}, nil
}

// read asks nodes at random, and another one of the region when the first does not answer.
func (h *history) read(ctx context.Context, rng *rand.Rand) {
	last := time.Now()
	for ctx.Err() == nil {
		n := h.c.pick(rng, "")
		if n == nil {
			pause(ctx, pace)
			continue
		}
		if rng.IntN(8) == 0 {
			h.askAtomic(n)
			continue
		}
		k := h.keys[rng.IntN(len(h.keys))]
		switch {
		case h.check(n, k):
		case ctx.Err() != nil:
			return
		default:
			h.retried.Add(1)
			if other := h.c.pick(rng, n.region, n.group); other == nil || !h.check(other, k) {
				h.unanswered.Add(1)
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

// check asks one node for one name, and judges the answer. False means that there was none.
func (h *history) check(n *node, k *key) bool {
	began := n.began()
	floor := n.floor(k)
	got, err := ask(n.address(), k.name)
	if err != nil || got.state == servfail {
		return false
	}
	highest := k.attempted.Load()
	switch {
	case got.state != counted:
		h.fail("%s answered for %s, which always existed:\n%s", n.id, k.name, got.text)
	case got.number > highest:
		h.fail("%s answered %d for %s, which nobody wrote yet: the highest is %d", n.id, got.number, k.name, highest)
	case got.number < floor && n.began() == began:
		h.fail("%s answered %d for %s, after it had answered or acknowledged %d", n.id, got.number, k.name, floor)
	default:
		n.saw(k, began, got.number)
	}
	return true
}

func (h *history) fail(format string, args ...any) {
	if h.wrong.Add(1) <= 20 {
		h.t.Errorf(format, args...)
	}
}

// The zone that is replaced whole: each record of a generation carries its number.
const atomicZone = "whole.chaos.test."

func (h *history) replaceWhole(g int64) (status int, err error) {
	var text strings.Builder
	fmt.Fprintf(&text, "$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n", atomicZone)
	fmt.Fprintf(&text, "@ MX %d m%d\nm%d A 10.%d.%d.%d\n", g&0xffff, g, g, g>>16&255, g>>8&255, g&255)
	for i := range 150 {
		fmt.Fprintf(&text, "x%d TXT \"%d\"\n", i, g)
	}
	if g == 0 {
		h.mustPut(atomicZone, text.String())
		return http.StatusCreated, nil
	}
	n := h.c.pick(rand.New(rand.NewPCG(uint64(g), 1)), "")
	if n == nil {
		return 0, errors.New("no node")
	}
	status, body, err := h.send(n, "PUT", "/v1/zones/"+atomicZone+"/file?force=true", "text/dns", text.String())
	if err == nil && status >= 400 && status < 500 && status != http.StatusConflict && status != http.StatusTooManyRequests {
		h.fail("replacing %s through %s: %d %s", atomicZone, n.id, status, body)
	}
	return status, err
}

// replace replaces a zone again and again.
func (h *history) replace(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		_, _ = h.replaceWhole(h.atomics.Add(1)) // whatever became of it, answers must not mix
		pause(ctx, time.Duration(rng.IntN(int(100*time.Millisecond))))
	}
}

// askAtomic asks for what is of two records, and compares their generations.
func (h *history) askAtomic(n *node) {
	q := new(dns.Msg)
	q.SetQuestion(atomicZone, dns.TypeMX)
	a, _, err := client.Exchange(q, n.address())
	if err != nil || a.Rcode == dns.RcodeServerFailure {
		return
	}
	if a.Rcode != dns.RcodeSuccess || len(a.Answer) != 1 || len(a.Extra) == 0 {
		h.fail("%s answered for the MX of %s:\n%s", n.id, atomicZone, a)
		return
	}
	mx, ok := a.Answer[0].(*dns.MX)
	if !ok {
		h.fail("%s answered for the MX of %s:\n%s", n.id, atomicZone, a)
		return
	}
	for _, rr := range a.Extra {
		address, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		ip := address.A.To4()
		g := int64(ip[1])<<16 | int64(ip[2])<<8 | int64(ip[3])
		if ip[0] != 10 || g&0xffff != int64(mx.Preference) || !strings.EqualFold(address.Hdr.Name, mx.Mx) {
			h.fail("%s mixed generations of %s:\n%s", n.id, atomicZone, a)
		}
	}
}

// settle waits until all nodes answer alike, with nothing acknowledged missing.
func (h *history) settle(limit time.Duration) {
	h.t.Helper()
	deadline := time.Now().Add(limit)
	for _, k := range h.keys {
		var numbers []int64
		for {
			numbers = numbers[:0]
			var trouble string
			for _, n := range h.c.nodes {
				if n.gone() {
					continue
				}
				got, err := ask(n.address(), k.name)
				if err != nil || got.state != counted {
					trouble = fmt.Sprintf("%s: %v %s", n.id, err, got.text)
					break
				}
				if got.number < k.acked.Load() {
					trouble = fmt.Sprintf("%s answers %d, %d was acknowledged", n.id, got.number, k.acked.Load())
				}
				if len(numbers) > 0 && numbers[0] != got.number {
					trouble = fmt.Sprintf("%s answers %d, another %d", n.id, got.number, numbers[0])
				}
				numbers = append(numbers, got.number)
			}
			if trouble == "" {
				break
			}
			if time.Now().After(deadline) {
				h.t.Fatalf("%s, %s after the last fault: %s\n%s", k.name, limit, trouble, h.c.said())
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

func (h *history) report() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t.Logf("%d changes acknowledged, %d refused, %d of unknown fate; %d questions answered, %d at the second node, %d not; longest pause of a client %s; %d wrong",
		h.acked.Load(), h.refused.Load(), h.unknown.Load(), h.answered.Load(), h.retried.Load(), h.unanswered.Load(), h.longest.Round(time.Millisecond), h.wrong.Load())
}

// send makes one request. Its error says that there was no whole answer.
func (h *history) send(n *node, method, path, kind, body string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+n.admin()+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
	req.Header.Set("Content-Type", kind)
	res, err := h.c.http.Do(req)
	if err != nil {
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" { // it never got there
			return http.StatusServiceUnavailable, []byte("nothing was changed"), nil
		}
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err == nil && res.StatusCode < 300 && !json.Valid(answer) {
		err = fmt.Errorf("not JSON: %q", answer)
	}
	return res.StatusCode, answer, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
