package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// handshakeTimeout is how long a connection has to show a certificate.
var handshakeTimeout = 3 * time.Second

// accept takes connections until the listener is closed.
func (r *Relay) accept() {
	const longest = time.Second
	pause := time.Millisecond
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || r.ctx.Err() != nil {
				return
			}
			// Out of file descriptors, most likely: others will be closed.
			r.log.Warn().Err(err).Msg("relay: a connection could not be accepted")
			select {
			case <-time.After(pause):
			case <-r.ctx.Done():
				return
			}
			pause = min(2*pause, longest)
			continue
		}
		pause = time.Millisecond
		c := r.admitted.enter(conn)
		if c == nil {
			_ = conn.Close() // closing down
			continue
		}
		r.tasks.start(func() { r.welcome(c) })
	}
}

// welcome learns who has opened a connection, and serves it if that is a node.
func (r *Relay) welcome(c *admission) {
	handedOn := false
	defer func() {
		if !handedOn {
			r.admitted.leave(c)
		}
	}()
	conn := tls.Server(c.conn, r.server)
	ctx, cancel := context.WithTimeout(r.ctx, handshakeTimeout)
	err := conn.HandshakeContext(ctx)
	cancel()
	if err != nil {
		reason := "handshake"
		if errors.Is(err, errStranger) {
			reason = "stranger"
		}
		r.refuse(c, reason, err)
		return
	}
	state := conn.ConnectionState()
	print := fingerprintOf(state)
	if !r.admitted.identify(c, print) {
		r.refuse(c, "limit", errors.New("too many connections"))
		return
	}
	if state.NegotiatedProtocol == protocolHTTP {
		handedOn = r.http.serve(conn, c)
		return
	}
	s := &session{relay: r, conn: conn, peer: c.conn.RemoteAddr(), print: print}
	s.run()
}

// refuse notes that a connection was not accepted. Anyone can bring it about, so it is no warning.
func (r *Relay) refuse(c *admission, reason string, err error) {
	r.metrics.refused.WithLabelValues(reason).Inc()
	r.log.Debug().Err(err).Str("peer", c.conn.RemoteAddr().String()).Str("reason", reason).Msg("relay: a connection was refused")
}

// knows reports whether the node with that certificate still is one.
func (r *Relay) knows(print [32]byte) bool { return !r.identity.SelfMade() || r.trusted(print) }
