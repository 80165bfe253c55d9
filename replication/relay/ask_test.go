package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balefire/replication/porttest"
	"balefire/replication/relay"
)

func TestAsk(t *testing.T) {
	var region trust
	a := start(t, &region, "a", echo)
	b := start(t, &region, "b", echo)
	out, from, err := a.Ask(minute(t), []relay.Peer{peerOf("b", b)}, []byte("hello"), []byte("he said "))
	if err != nil || string(out) != "he said HELLO" || from != "b" {
		t.Fatalf("%q from %q, %v", out, from, err)
	}
}

// TestAskMovesOn: every way in which a peer does not answer leads to the next, and what all of them said is told.
func TestAskMovesOn(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	peers := map[string]relay.Peer{"nobody": {ID: "nobody", Address: porttest.Free(t, "127.0.0.1"), Fingerprint: [32]byte{1}}}
	panics := func(context.Context, []byte, []byte) ([]byte, relay.Status) { panic("a mistake") }
	tooLong := func(_ context.Context, _, reply []byte) ([]byte, relay.Status) {
		return append(reply, make([]byte, relay.MaxReply+1)...), relay.OK
	}
	for id, h := range map[string]relay.Handler{
		"good": echo, "behind": always(relay.Behind), "not-here": always(relay.NotHere), "failed": always(relay.Failed),
		"overloaded": always(relay.Overloaded), "odd": always(99), "panics": panics, "too-long": tooLong,
	} {
		peers[id] = peerOf(id, start(t, &region, id, h))
	}
	impostor := peers["good"]
	impostor.ID, impostor.Fingerprint = "impostor", [32]byte{2}
	peers["impostor"] = impostor

	tests := []struct {
		ask    string
		from   string
		err    error
		status relay.Status // of the last that declined
	}{
		{ask: "", err: relay.ErrNoPeer},
		{ask: "good", from: "good"},
		{ask: "behind good", from: "good"},
		{ask: "not-here good", from: "good"},
		{ask: "failed good", from: "good"},
		{ask: "overloaded good", from: "good"},
		{ask: "odd good", from: "good"},
		{ask: "panics good", from: "good"},
		{ask: "too-long good", from: "good"},
		{ask: "nobody good", from: "good"},
		{ask: "impostor good", from: "good"},
		{ask: "nobody behind not-here failed overloaded impostor good", from: "good"},
		{ask: "behind", err: relay.ErrDeclined, status: relay.Behind},
		{ask: "not-here", err: relay.ErrDeclined, status: relay.NotHere},
		{ask: "odd", err: relay.ErrDeclined, status: relay.Failed},
		{ask: "panics", err: relay.ErrDeclined, status: relay.Failed},
		{ask: "too-long", err: relay.ErrDeclined, status: relay.Failed},
		{ask: "nobody", err: relay.ErrUnreachable},
		{ask: "impostor", err: relay.ErrUnreachable},
		{ask: "nobody behind", err: relay.ErrUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.ask, func(t *testing.T) {
			var candidates []relay.Peer
			for id := range strings.FieldsSeq(tt.ask) {
				candidates = append(candidates, peers[id])
			}
			out, from, err := asking.Ask(minute(t), candidates, []byte("hello"), []byte("before "))
			want := "before "
			if tt.err == nil {
				want = "before HELLO"
			}
			if !errors.Is(err, tt.err) || from != tt.from || string(out) != want {
				t.Errorf("%q from %q, error %v; want %q from %q, error %v", out, from, err, want, tt.from, tt.err)
			}
			var declined *relay.DeclinedError
			if errors.As(err, &declined) != errors.Is(tt.err, relay.ErrDeclined) {
				t.Errorf("error %v is of the wrong kind", err)
			}
			if declined != nil && declined.Status != tt.status {
				t.Errorf("declined with %s, want %s", declined.Status, tt.status)
			}
		})
	}
}

func TestAskIsBounded(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	asked := make(chan struct{}, 1)
	peers := []relay.Peer{peerOf("stuck", start(t, &region, "stuck", stuck(asked)))}

	ctx, cancel := context.WithCancel(minute(t))
	go func() {
		<-asked
		cancel()
	}()
	if _, _, err := asking.Ask(ctx, peers, nil, nil); !errors.Is(err, relay.ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, _, err := asking.Ask(ctx, peers, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the context's end", err)
	}
	if _, _, err := asking.Ask(minute(t), peers, make([]byte, relay.MaxRequest+1), nil); !errors.Is(err, relay.ErrTooLong) {
		t.Errorf("error %v of a request that is too long", err)
	}
	go func() {
		<-asked
		if err := asking.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, _, err := asking.Ask(minute(t), peers, nil, nil); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("error %v when it is closed", err)
	}
	if _, _, err := asking.Ask(minute(t), peers, nil, nil); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("error %v after it is closed", err)
	}
}

// TestTheAskersDeadlineTravels: the handler's context ends by itself, when the asker gives up.
func TestTheAskersDeadlineTravels(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	left := make(chan time.Duration, 1)
	peer := start(t, &region, "peer", func(ctx context.Context, _, reply []byte) ([]byte, relay.Status) {
		until, _ := ctx.Deadline()
		left <- time.Until(until)
		return reply, relay.OK
	})
	ctx, cancel := context.WithTimeout(t.Context(), 42*time.Second)
	defer cancel()
	if _, _, err := asking.Ask(ctx, []relay.Peer{peerOf("peer", peer)}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if l := <-left; l > 42*time.Second || l < 12*time.Second {
		t.Errorf("%v left", l)
	}
}

// TestAskHedges: a peer that keeps silent costs the client some time, not the answer.
func TestAskHedges(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	asked := make(chan struct{}, 100)
	peers := []relay.Peer{peerOf("stuck", start(t, &region, "stuck", stuck(asked))), peerOf("good", start(t, &region, "good", echo))}
	for first := true; first || len(asked) == 0; first = false { // until the silent one was the first to be asked
		out, from, err := asking.Ask(minute(t), peers, []byte("hello"), nil)
		if err != nil || from != "good" || string(out) != "HELLO" {
			t.Fatalf("%q from %q, %v", out, from, err)
		}
	}
	before := len(asked)
	// From now on it is known that the other is faster.
	const more = 20
	for range more {
		if _, from, err := asking.Ask(minute(t), peers, []byte("hello"), nil); err != nil || from != "good" {
			t.Fatalf("from %q, %v", from, err)
		}
	}
	if n := len(asked) - before; n >= more { // a hedge or two may have come to it
		t.Errorf("the silent peer was asked %d times more", n)
	}
}

// TestABrokenConnectionFailsAll: what is under way is not waited for.
func TestABrokenConnectionFailsAll(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	peer := start(t, &region, "peer", func(_ context.Context, _, reply []byte) ([]byte, relay.Status) {
		asked <- struct{}{}
		<-release
		return reply, relay.OK
	})
	errs := make(chan error, 10)
	for range cap(errs) {
		go func() {
			_, _, err := asking.Ask(minute(t), []relay.Peer{peerOf("peer", peer)}, nil, nil)
			errs <- err
		}()
	}
	for range cap(asked) {
		<-asked
	}
	closed := make(chan error, 1)
	go func() { closed <- peer.Close() }() // which waits for the handlers
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, relay.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestARestartedPeerIsFound: with a new certificate, at the same address or another.
func TestARestartedPeerIsFound(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	address := porttest.Free(t, "127.0.0.1")
	for range 3 {
		peer := start(t, &region, "peer", echo, func(o *relay.Options) { o.Listen = address })
		if _, _, err := asking.Ask(minute(t), []relay.Peer{peerOf("peer", peer)}, nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := peer.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyAtOnce: answers come in another order than questions, and each to whom it belongs.
func TestManyAtOnce(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	const many = 64
	var waiting atomic.Int32
	all := make(chan struct{})
	peer := start(t, &region, "peer", func(ctx context.Context, request, reply []byte) ([]byte, relay.Status) {
		if waiting.Add(1) == many {
			close(all)
		}
		<-all // none is answered before all have been asked
		return echo(ctx, request, reply)
	})
	var asks sync.WaitGroup
	for i := range many {
		asks.Go(func() {
			for j := range 5 {
				text := fmt.Sprintf("QUESTION %d %d%s", i, j, strings.Repeat("!", 20*i))
				out, _, err := asking.Ask(minute(t), []relay.Peer{peerOf("peer", peer)}, []byte(text), nil)
				if err != nil || string(out) != text {
					t.Errorf("%.30q instead of %.30q, %v", out, text, err)
				}
			}
		})
	}
	asks.Wait()
}

// TestAPeerIsNotOverloaded: requests beyond the limits, of a connection or in all, are declined.
func TestAPeerIsNotOverloaded(t *testing.T) {
	for name, limits := range map[string]relay.Limits{"connection": {RequestsPerConnection: 2}, "all": {Requests: 2}} {
		t.Run(name, func(t *testing.T) {
			var region trust
			asking := start(t, &region, "asking", echo)
			asked := make(chan struct{}, 3)
			peer := start(t, &region, "peer", stuck(asked), func(o *relay.Options) { o.Limits = limits })
			ctx, cancel := context.WithCancel(minute(t))
			var asks sync.WaitGroup
			for range 2 {
				asks.Go(func() {
					if _, _, err := asking.Ask(ctx, []relay.Peer{peerOf("peer", peer)}, nil, nil); !errors.Is(err, context.Canceled) {
						t.Errorf("error %v", err)
					}
				})
				<-asked
			}
			var declined *relay.DeclinedError
			if _, _, err := asking.Ask(ctx, []relay.Peer{peerOf("peer", peer)}, nil, nil); !errors.As(err, &declined) || declined.Status != relay.Overloaded {
				t.Errorf("error %v of one too many", err)
			}
			cancel()
			asks.Wait()
		})
	}
}

func TestPrepareConnects(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	shown := make(chan struct{})
	var once sync.Once
	peer := start(t, &region, "peer", echo, func(o *relay.Options) {
		o.Trusted = func(print [32]byte) bool {
			once.Do(func() { close(shown) })
			return region.has(print)
		}
	})
	asking.Prepare([]relay.Peer{peerOf("peer", peer)})
	<-shown
}

// TestCloseLeavesNothing closes nodes in the middle of all that they do.
func TestCloseLeavesNothing(t *testing.T) {
	var region trust
	asked := make(chan struct{}, 10)
	a := start(t, &region, "a", stuck(asked))
	b := start(t, &region, "b", stuck(asked))
	var asks sync.WaitGroup
	asks.Go(func() { _, _, _ = a.Ask(minute(t), []relay.Peer{peerOf("b", b)}, nil, nil) }) // the end is what counts
	asks.Go(func() { _, _, _ = b.Ask(minute(t), []relay.Peer{peerOf("a", a)}, nil, nil) })
	<-asked
	<-asked
	silent, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, r := range []*relay.Relay{a, b} {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	asks.Wait()
	nothingRuns(t)
	if err := a.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func BenchmarkAsk(b *testing.B) {
	request := []byte(strings.Repeat("a question of some forty octets ", 2))
	answer := []byte(strings.Repeat("an answer ", 30))
	var region trust
	asking := start(b, &region, "a", echo)
	asked := start(b, &region, "b", func(_ context.Context, _, reply []byte) ([]byte, relay.Status) {
		return append(reply, answer...), relay.OK
	})
	peers := []relay.Peer{peerOf("b", asked)}
	ask := func(b *testing.B, reply []byte) []byte {
		reply, _, err := asking.Ask(b.Context(), peers, request, reply[:0])
		if err != nil {
			b.Error(err)
		}
		return reply
	}
	ask(b, nil)
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		var reply []byte
		for b.Loop() {
			reply = ask(b, reply)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			var reply []byte
			for pb.Next() {
				reply = ask(b, reply)
			}
		})
	})
}
