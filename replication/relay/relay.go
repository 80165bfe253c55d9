package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Peer is a node that can be asked. One ID is one node: with another address or fingerprint it has been
// started anew. Fingerprint may be zero only where authorities vouch for nodes.
type Peer struct {
	ID          string
	Address     string // host:port
	Fingerprint [32]byte
}

// Handler answers a request: it appends to reply, and returns that with a status. What it appends is sent
// only with OK. It runs in many goroutines at once, keeps neither slice, and ends when ctx does, which is when the
// asker gives up.
type Handler func(ctx context.Context, request, reply []byte) ([]byte, Status)

// Options are what Start needs. Those without a remark are required.
type Options struct {
	Listen   string // host:port, TCP
	Identity Identity
	// Trusted reports whether a self-made certificate is one of a node. Not needed where authorities vouch for
	// nodes. It is called often, from many goroutines, and must not block.
	Trusted    func(fingerprint [32]byte) bool
	Handler    Handler
	HTTP       http.Handler // may be nil: then there is no HTTP
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // may be nil
	Limits     Limits                // zero fields are the defaults
}

// Limits bound what others can make a node hold.
type Limits struct {
	Connections           int // of nodes, in all
	ConnectionsPerPeer    int // of one node, that is, one certificate
	Handshakes            int // connections that have not shown a certificate yet; the oldest make room for new ones
	Requests              int // under way, in all; more are Overloaded
	RequestsPerConnection int // under way; more are Overloaded
}

func (l *Limits) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.Connections, 2048},
		{&l.ConnectionsPerPeer, 32}, // a few of frames, the others of HTTP
		{&l.Handshakes, 256},
		{&l.Requests, 1024},
		{&l.RequestsPerConnection, 256},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}

// Relay is a node's end of all connections to the others. It is safe for concurrent use.
type Relay struct {
	identity Identity
	trusted  func([32]byte) bool
	handler  Handler
	log      zerolog.Logger
	metrics  *metrics
	limits   Limits

	listener net.Listener
	server   *tls.Config
	admitted *admissions
	http     *httpServer // nil: none
	outgoing outgoing

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  tasks

	asks     sync.Pool // *ask
	asked    atomic.Uint32
	requests atomic.Int64 // under way at the server

	mu    sync.RWMutex
	peers map[string]*peer // by Peer.ID
}

// Start listens, and answers from then on.
func Start(o Options) (*Relay, error) {
	switch {
	case len(o.Identity.certificate.Certificate) == 0:
		return nil, errors.New("relay: Identity is missing")
	case o.Identity.SelfMade() && o.Trusted == nil:
		return nil, errors.New("relay: Trusted is missing, and the identity is self-made")
	case o.Handler == nil:
		return nil, errors.New("relay: Handler is missing")
	}
	o.Limits.setDefaults()
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("relay: listen: %w", err)
	}
	r := &Relay{
		identity: o.Identity, trusted: o.Trusted, handler: o.Handler, log: o.Logger, limits: o.Limits,
		listener: l, peers: map[string]*peer{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.asks.New = func() any { return newAsk(r) }
	protocols := []string{protocolFrames}
	if o.HTTP != nil {
		protocols = append(protocols, protocolHTTP)
	}
	r.server = o.Identity.server(o.Trusted, protocols)
	r.metrics = newMetrics(r)
	r.admitted = newAdmissions(o.Limits)
	if o.Registerer != nil {
		if err := o.Registerer.Register(r.metrics); err != nil {
			r.cancel()
			return nil, errors.Join(fmt.Errorf("relay: register metrics: %w", err), l.Close())
		}
	}
	if o.HTTP != nil {
		r.http = newHTTPServer(r, o.HTTP)
		r.tasks.start(r.http.run)
	}
	r.tasks.start(r.accept)
	return r, nil
}

// Addr returns the address that is listened at.
func (r *Relay) Addr() net.Addr { return r.listener.Addr() }

// Fingerprint returns that of this node's certificate, by which the others will know it.
func (r *Relay) Fingerprint() [32]byte { return r.identity.Fingerprint() }

// Close closes every connection, and returns when all that the relay has started has ended, handlers
// included. What is being asked ends with ErrClosed.
func (r *Relay) Close() error {
	r.cancel()
	err := r.listener.Close()
	r.admitted.close()
	if r.http != nil {
		r.http.close()
	}
	r.mu.Lock()
	peers := r.peers
	r.peers = nil
	r.mu.Unlock()
	for _, p := range peers {
		p.close()
	}
	r.outgoing.close()
	r.tasks.wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// tasks are goroutines that Close waits for. Unlike a sync.WaitGroup's, they may start others while it waits;
// after it, none start.
type tasks struct {
	mu      sync.Mutex
	running int
	waiting chan struct{} // not nil: somebody waits; closed with the last task
}

// start runs f in a goroutine.
func (t *tasks) start(f func()) {
	t.add()
	go func() {
		defer t.done()
		f()
	}()
}

func (t *tasks) add() {
	t.mu.Lock()
	t.running++
	t.mu.Unlock()
}

func (t *tasks) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running--; t.running == 0 && t.waiting != nil {
		close(t.waiting)
		t.waiting = nil
	}
}

func (t *tasks) wait() {
	for {
		t.mu.Lock()
		if t.running == 0 {
			t.mu.Unlock()
			return
		}
		if t.waiting == nil {
			t.waiting = make(chan struct{})
		}
		done := t.waiting
		t.mu.Unlock()
		<-done
	}
}
