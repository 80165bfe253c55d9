package relay_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"balefire/replication/relay"
)

// trust is a set of fingerprints, as gossip would know them.
type trust struct {
	mu    sync.RWMutex
	known map[[32]byte]bool
}

func (t *trust) set(print [32]byte, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[[32]byte]bool{}
	}
	t.known[print] = known
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

// start starts a node that the nodes of a region know, and closes it when the test ends. After that, nothing
// of any node may run any more.
func start(t testing.TB, region *trust, id string, h relay.Handler, change ...func(*relay.Options)) *relay.Relay {
	t.Helper()
	o := relay.Options{
		Listen: "127.0.0.1:0", Identity: selfSigned(t, id), Trusted: region.has, Handler: h,
		Logger: zerolog.Nop(),
	}
	for _, c := range change {
		c(&o)
	}
	r, err := relay.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	region.set(r.Fingerprint(), true)
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

// always declines, or answers, in one way.
func always(s relay.Status) relay.Handler {
	return func(_ context.Context, _, reply []byte) ([]byte, relay.Status) { return append(reply, "octets"...), s }
}

// stuck says that it was asked, and answers when the asker has given up.
func stuck(asked chan<- struct{}) relay.Handler {
	return func(ctx context.Context, _, reply []byte) ([]byte, relay.Status) {
		asked <- struct{}{}
		<-ctx.Done()
		return reply, relay.Failed
	}
}

// minute is longer than anything in these tests takes that works.
func minute(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// running returns the stacks of goroutines that are at work in the package itself.
func running() (stacks []string) {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "balefire/replication/relay.(") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// nothingRuns waits for the last goroutines to return, which may be after they have said that they are done.
func nothingRuns(t *testing.T) {
	t.Helper()
	for ctx := minute(t); ; {
		left := running()
		if len(left) == 0 {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	}
}

// metric returns a metric's value, that with the given value of its label where it has one.
func metric(t *testing.T, from prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
