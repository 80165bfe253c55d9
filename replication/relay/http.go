package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	httpHeaderTimeout = 5 * time.Second
	httpMaxHeader     = 64 << 10
	httpIdlePerPeer   = 4
	httpPerPeer       = 64
)

// httpServer serves the connections on which HTTP was agreed.
type httpServer struct {
	relay  *Relay
	server *http.Server
	conns  chan net.Conn

	mu       sync.Mutex
	admitted map[net.Conn]*admission
}

func newHTTPServer(r *Relay, h http.Handler) *httpServer {
	s := &httpServer{relay: r, conns: make(chan net.Conn), admitted: map[net.Conn]*admission{}}
	s.server = &http.Server{
		Handler:           s.onlyNodes(h),
		ReadHeaderTimeout: httpHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    httpMaxHeader,
		BaseContext:       func(net.Listener) context.Context { return r.ctx },
		ConnState:         s.changed,
		ErrorLog:          stdlog.New(debugLines{r.log}, "", 0),
	}
	return s
}

// debugLines takes the lines of net/http's server, which are about single connections.
type debugLines struct{ log zerolog.Logger }

func (d debugLines) Write(line []byte) (int, error) {
	d.log.Debug().Bytes("line", bytes.TrimSpace(line)).Msg("relay: HTTP")
	return len(line), nil
}

// onlyNodes lets a call through while its sender is still known as a node.
func (s *httpServer) onlyNodes(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !s.relay.knows(fingerprintOf(*req.TLS)) {
			w.Header().Set("Connection", "close")
			http.Error(w, "not known as a node of this region", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, req)
	})
}

func (s *httpServer) run() {
	if err := s.server.Serve(s); err != nil && !errors.Is(err, http.ErrServerClosed) && s.relay.ctx.Err() == nil {
		s.relay.log.Error().Err(err).Msg("relay: HTTP is no longer served")
	}
}

// serve hands a connection over, and reports whether it could: then it is closed, and leaves, with the server.
func (s *httpServer) serve(conn *tls.Conn, c *admission) bool {
	s.mu.Lock()
	s.admitted[conn] = c
	s.mu.Unlock()
	s.relay.tasks.add()
	select {
	case s.conns <- conn:
		return true
	case <-s.relay.ctx.Done():
		s.left(conn)
		return false
	}
}

func (s *httpServer) changed(conn net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		s.left(conn)
	}
}

func (s *httpServer) left(conn net.Conn) {
	s.mu.Lock()
	c, ok := s.admitted[conn]
	delete(s.admitted, conn)
	s.mu.Unlock()
	if ok {
		s.relay.admitted.leave(c)
		s.relay.tasks.done()
	}
}

func (s *httpServer) close() {
	_ = s.server.Close() // the connections' own errors, which are nobody's concern any more
}

// Accept, Close and Addr make the connections that were handed over a net.Listener.
func (s *httpServer) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.relay.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close does nothing: the relay's end is what ends Accept.
func (s *httpServer) Close() error { return nil }

// Addr returns the relay's address.
func (s *httpServer) Addr() net.Addr { return s.relay.Addr() }

// Transport returns what sends HTTP calls to a peer, over connections of which both sides know whose they
// are. The URL's scheme must be https; its host goes into the Host header, and says nothing about where the call goes. The same
// connections are used for all transports of a peer.
func (r *Relay) Transport(to Peer) http.RoundTripper {
	p, err := r.peer(&to)
	if err != nil {
		return refusing{err}
	}
	return p.transport()
}

// refusing is a transport to nowhere.
type refusing struct{ err error }

func (f refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// newTransport makes the transport of one peer.
func newTransport(p *peer) *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := p.handshake(ctx, protocolHTTP)
			if err != nil {
				return nil, err
			}
			return p.relay.outgoing.track(conn)
		},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("relay: nothing is sent in the clear: the scheme must be https")
		},
		MaxIdleConnsPerHost: httpIdlePerPeer,
		MaxConnsPerHost:     httpPerPeer,
		IdleConnTimeout:     idleTimeout / 2, // before the server closes
		DisableCompression:  true,
	}
}

// outgoing are the connections that transports have opened, so that Close can close them.
type outgoing struct {
	mu     sync.Mutex
	closed bool
	conns  map[*outConn]struct{}
}

type outConn struct {
	*tls.Conn
	of *outgoing
}

func (o *outgoing) track(conn *tls.Conn) (net.Conn, error) {
	c := &outConn{Conn: conn, of: o}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		_ = conn.Close() // never used
		return nil, ErrClosed
	}
	if o.conns == nil {
		o.conns = map[*outConn]struct{}{}
	}
	o.conns[c] = struct{}{}
	return c, nil
}

// Close closes the connection, and forgets it.
func (c *outConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

func (o *outgoing) close() {
	o.mu.Lock()
	o.closed = true
	conns := o.conns
	o.conns = nil
	o.mu.Unlock()
	for c := range conns {
		_ = c.NetConn().Close() // not a TLS close: nothing more is to come in
	}
}
