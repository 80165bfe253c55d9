package relay

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// Trouble returns why a node could not be connected to when that was tried last; nil when it could, or was not tried.
func (r *Relay) Trouble(to Peer) error {
	r.mu.RLock()
	p := r.peers[to.ID]
	r.mu.RUnlock()
	if p == nil || p.to != to {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// remoteError is how crypto/tls calls an alert of the other side.
const remoteError = "remote error"

// explain says what to do about a connection that can't be made for how the nodes are set up.
func explain(err error) error {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("its certificate is of an authority that is not in relay.tls-ca: give all nodes of the region certificates of one: %w", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not good: is it expired, or one of the clocks wrong? %w", err)
	case errors.As(err, &op) && op.Op == remoteError:
		return fmt.Errorf("it does not accept this node's certificate: give all nodes of the region relay.tls-ca, -cert and -key of one authority, or none: %w", err)
	}
	return err
}
