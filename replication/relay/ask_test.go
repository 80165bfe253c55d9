package relay_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/relay"
)

// trust is a set of fingerprints, as gossip would know them.
type trust struct {
	mu    sync.RWMutex
	known map[[32]byte]bool
}

func (t *trust) add(print [32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[[32]byte]bool{}
	}
	t.known[print] = true
}

func (t *trust) has(print [32]byte) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[print]
}

func selfSigned(t testing.TB, id string) relay.Identity {
	t.Helper()
	i, err := relay.SelfSigned(id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// start starts a node that the nodes of a region know, and closes it when the test ends.
func start(t testing.TB, region *trust, id string, h relay.Handler, change ...func(*relay.Options)) *relay.Relay {
	t.Helper()
	o := relay.Options{
		Listen: "127.0.0.1:0", Identity: selfSigned(t, id), Trusted: region.has, Handler: h,
		Logger: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
	for _, c := range change {
		c(&o)
	}
	r, err := relay.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	region.add(r.Fingerprint())
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func peerOf(id string, r *relay.Relay) relay.Peer {
	return relay.Peer{ID: id, Address: r.Addr().String(), Fingerprint: r.Fingerprint()}
}

// echo answers with the request in upper case.
func echo(_ context.Context, request, reply []byte) ([]byte, relay.Status) {
	return append(reply, strings.ToUpper(string(request))...), relay.OK
}

func always(s relay.Status) relay.Handler {
	return func(_ context.Context, _, reply []byte) ([]byte, relay.Status) {
		return append(reply, "not to be seen"...), s
	}
}

func seconds(t testing.TB, n int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAsk(t *testing.T) {
	var region trust
	a := start(t, &region, "a", echo)
	b := start(t, &region, "b", echo)
	out, from, err := a.Ask(seconds(t, 5), []relay.Peer{peerOf("b", b)}, []byte("hello"), []byte("he said "))
	if err != nil || string(out) != "he said HELLO" || from != "b" {
		t.Fatalf("%q from %q, %v", out, from, err)
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
