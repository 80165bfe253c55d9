package relay

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// node starts a node that takes everyone for one, and answers with what it was asked.
func node(t *testing.T) *Relay {
	t.Helper()
	id, err := SelfSigned("node")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Start(Options{
		Listen: "127.0.0.1:0", Identity: id, Trusted: func([32]byte) bool { return true }, Logger: zerolog.Nop(),
		Handler: func(_ context.Context, request, reply []byte) ([]byte, Status) { return append(reply, request...), OK },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// known makes a peer known, with a connection that is never used.
func known(t *testing.T, r *Relay, id string, change func(p *peer)) Peer {
	t.Helper()
	to := Peer{ID: id, Address: "127.0.0.1:1", Fingerprint: [32]byte{1}}
	p, err := r.peer(&to)
	if err != nil {
		t.Fatal(err)
	}
	p.link, p.sent = newLink(nil, nil), time.Now()
	p.link.closed = true
	change(p)
	return to
}

func chosen(t *testing.T, r *Relay, peers []Peer) (ids string) {
	t.Helper()
	a := newAsk(r)
	if err := a.choose(peers); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.candidates[:a.count] {
		ids += c.peer.to.ID
	}
	return ids
}

func TestChooseTheFastest(t *testing.T) {
	fast := func(p *peer) {
		for range 20 {
			p.answered(time.Millisecond, OK)
		}
	}
	slow := func(p *peer) {
		for range 20 {
			p.answered(10*time.Millisecond, OK)
		}
	}
	then := func(first func(*peer), next func(*peer)) func(*peer) {
		return func(p *peer) { first(p); next(p) }
	}
	declines := func(p *peer) {
		for range 40 {
			p.answered(time.Millisecond, Behind)
		}
	}
	silent := func(p *peer) {
		for range 8 {
			p.unanswered(200*time.Millisecond, true)
		}
	}
	outrun := func(p *peer) {
		for range 10 {
			p.unanswered(50*time.Millisecond, false)
		}
	}
	unlinked := func(p *peer) { p.link = nil }
	down := func(p *peer) { p.link, p.retry = nil, time.Now().Add(time.Hour) }
	tests := map[string]struct {
		a, b, c func(*peer)
		want    string
	}{
		"as the caller prefers":         {fast, fast, fast, "abc"},
		"the fastest first":             {slow, fast, slow, "bac"},
		"who is not known first":        {fast, slow, func(*peer) {}, "cab"},
		"who declines later":            {then(fast, declines), slow, fast, "cab"},
		"declines do not count for all": {then(slow, func(p *peer) { p.answered(time.Millisecond, Behind) }), fast, slow, "bca"},
		"who is silent last":            {then(fast, silent), slow, fast, "cba"},
		"who is outrun last":            {then(fast, outrun), slow, fast, "cba"},
		"who is good again first":       {then(then(then(fast, declines), fast), fast), slow, slow, "abc"},
		"who is connected first":        {then(fast, unlinked), slow, fast, "cba"},
		"who is down last":              {then(fast, down), then(slow, unlinked), slow, "cba"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := node(t)
			peers := []Peer{known(t, r, "a", tt.a), known(t, r, "b", tt.b), known(t, r, "c", tt.c)}
			if got := chosen(t, r, peers); got != tt.want {
				t.Errorf("asked in the order %s, want %s", got, tt.want)
			}
		})
	}
}

// TestNowAndThenOthersAreTried, so that they can become the best.
func TestNowAndThenOthersAreTried(t *testing.T) {
	r := node(t)
	peers := []Peer{
		known(t, r, "a", func(p *peer) { p.answered(time.Millisecond, OK) }),
		known(t, r, "b", func(p *peer) { p.answered(time.Second, OK) }),
	}
	first := map[string]int{}
	for range 4 * explore {
		first[chosen(t, r, peers)]++
	}
	if first["ba"] != 4 || first["ab"] != 4*explore-4 {
		t.Errorf("asked in the orders %v", first)
	}
}

// TestHedgesComeInTime: after the usual time of the fastest, within bounds.
func TestHedgesComeInTime(t *testing.T) {
	for took, want := range map[time.Duration][2]time.Duration{
		time.Microsecond:       {minHedge, minHedge},
		10 * time.Millisecond:  {10 * time.Millisecond, 30 * time.Millisecond},
		500 * time.Millisecond: {maxHedge, maxHedge},
		0:                      {maxHedge, maxHedge},
	} {
		r := node(t)
		peers := []Peer{
			known(t, r, "a", func(p *peer) { p.answered(time.Second, OK) }),
			known(t, r, "b", func(p *peer) {
				for range 20 {
					if took > 0 {
						p.answered(took, OK)
					}
				}
			}),
		}
		a := newAsk(r)
		if err := a.choose(peers); err != nil {
			t.Fatal(err)
		}
		if a.hedge < want[0] || a.hedge > want[1] {
			t.Errorf("peers that take %v are hedged after %v", took, a.hedge)
		}
	}
}

// TestADeadPeerIsNotWaitedFor: for some time it isn't dialed, then again.
func TestADeadPeerIsNotWaitedFor(t *testing.T) {
	r, other := node(t), node(t)
	to := Peer{ID: "other", Address: other.Addr().String(), Fingerprint: other.Fingerprint()}
	p, err := r.peer(&to)
	if err != nil {
		t.Fatal(err)
	}
	var before time.Duration
	for range 10 {
		p.mu.Lock()
		p.putOff()
		if p.backoff < before || p.backoff > maxBackoff || !time.Now().Before(p.retry.Add(time.Minute)) {
			t.Errorf("backoff %v after %v", p.backoff, before)
		}
		before = p.backoff
		p.mu.Unlock()
	}
	if before != maxBackoff {
		t.Errorf("backoff %v at last", before)
	}
	p.retry = time.Now().Add(time.Hour)
	if _, _, err := r.Ask(t.Context(), []Peer{to}, nil, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v", err)
	}
	p.prepare()
	if p.dialing || p.link != nil {
		t.Error("it was dialed")
	}
	p.mu.Lock()
	p.retry = time.Now()
	p.mu.Unlock()
	if _, _, err := r.Ask(t.Context(), []Peer{to}, nil, nil); err != nil {
		t.Errorf("error %v when the time had come", err)
	}
}

// TestAStaleConnectionIsNotUsed: the server may be about to close it.
func TestAStaleConnectionIsNotUsed(t *testing.T) {
	r, other := node(t), node(t)
	to := Peer{ID: "other", Address: other.Addr().String(), Fingerprint: other.Fingerprint()}
	p, err := r.peer(&to)
	if err != nil {
		t.Fatal(err)
	}
	current := func() *link {
		if _, _, err := r.Ask(t.Context(), []Peer{to}, nil, nil); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.link
	}
	first := current()
	if current() != first {
		t.Error("a good connection was not used again")
	}
	p.mu.Lock()
	p.sent = time.Now().Add(-2 * staleAfter)
	p.mu.Unlock()
	second := current()
	if second == first {
		t.Error("a stale connection was used again")
	}
	for ended := false; !ended; { // its goroutine is on its way out
		runtime.Gosched()
		first.mu.Lock()
		ended = first.pending == nil
		first.mu.Unlock()
	}
	if current() != second {
		t.Error("the end of the stale connection has ended the other")
	}
}

// TestPeersAreForgotten: what is known of nodes that are gone doesn't grow without end.
func TestPeersAreForgotten(t *testing.T) {
	r := node(t)
	for i := range maxPeers {
		if _, err := r.peer(&Peer{ID: string(rune(i + 1))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.peer(&Peer{ID: "one more"}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v when too many are known", err)
	}
	p, err := r.peer(&Peer{ID: string(rune(7))})
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.used = time.Now().Add(-2 * forgetAfter)
	p.mu.Unlock()
	if _, err := r.peer(&Peer{ID: "one more"}); err != nil || len(r.peers) != maxPeers {
		t.Errorf("%d are known, %v", len(r.peers), err)
	}
}

// TestASilentPeerIsGivenUp: a connection on which nothing is answered for long is closed.
func TestASilentPeerIsGivenUp(t *testing.T) {
	for name, tt := range map[string]struct {
		given int
		since time.Duration
		want  bool
	}{
		"many, for long": {maxSilence, 2 * silentFor, true},
		"many, a moment": {maxSilence, 0, false},
		"few":            {maxSilence - 1, 2 * silentFor, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(nil, nil)
			for i := range tt.given {
				if i == tt.given-1 {
					l.since = time.Now().Add(-tt.since)
				}
				if got := l.unanswered(); got != (tt.want && i == tt.given-1) {
					t.Errorf("given up after %d: %v", i+1, got)
				}
			}
		})
	}
}
