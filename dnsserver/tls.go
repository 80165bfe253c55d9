package dnsserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// dotProtocol is what clients of DNS over TLS that use ALPN ask for (RFC 9103 §7.1).
const dotProtocol = "dot"

// tlsState is what the connections with TLS (RFC 7858) have in common.
type tlsState struct {
	config *tls.Config
	// working has a place for each handshake that may compute at once: a flood of them leaves processors to those who ask. One that waits
	// for its client has none.
	working                chan struct{}
	full, resumed, refused atomic.Uint64 // handshakes
	open                   atomic.Int64
}

// init prepares for handshakes, n of which may compute at once.
func (t *tlsState) init(certificate func() *tls.Certificate, n int) {
	t.working = make(chan struct{}, max(1, n))
	t.config = &tls.Config{
		MinVersion: tls.VersionTLS12, // RFC 9325 §3.1.1
		CipherSuites: []uint16{ // of TLS 1.2: forward secrecy and AEAD only (RFC 9325 §4.2); those of 1.3 are all good
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{dotProtocol},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := certificate(); c != nil {
				return c, nil
			}
			return nil, errors.New("there is no certificate")
		},
		DynamicRecordSizingDisabled: true, // answers are whole before they are written: small records would only be more of them
	}
	ticketless := t.config.Clone()
	ticketless.SessionTicketsDisabled = true
	t.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if isGnuTLS(hello) {
			return ticketless, nil
		}
		return nil, nil // t.config
	}
}

// Extensions of a ClientHello.
const (
	extEncryptThenMAC  = 22 // RFC 7366
	extRecordSizeLimit = 28 // RFC 8449
)

// isGnuTLS reports whether a client is most likely GnuTLS, which alone offers both of these. When it resumes a session it may announce early data, as Knot DNS
// has it do for transfers, although no ticket of ours allows that; crypto/tls ends the handshake then instead of passing the data over (RFC 8446 §4.2.10), and the
// secondary's zones would grow old. So it gets no tickets.
func isGnuTLS(hello *tls.ClientHelloInfo) bool {
	return slices.Contains(hello.Extensions, extEncryptThenMAC) && slices.Contains(hello.Extensions, extRecordSizeLimit)
}

// handshake does a handshake. What a client sends must not stop the server, whatever the library makes of it.
func (s *Server) handshake(conn *tls.Conn) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(v)
			err = fmt.Errorf("handshake: %v", v)
		}
	}()
	return conn.Handshake()
}

// shaken counts a handshake that is over.
func (t *tlsState) shaken(conn *tls.Conn, err error) {
	switch {
	case err != nil:
		t.refused.Add(1)
	case conn.ConnectionState().DidResume:
		t.resumed.Add(1)
	default:
		t.full.Add(1)
	}
}

var (
	descHandshakes = desc("tls_handshakes_total", "TLS handshakes, by what came of them.", "result")
	descTLSOpen    = desc("tls_connections", "TCP connections with TLS open, those in their handshake included.")
	descExpires    = desc("tls_certificate_expires_seconds", "When the certificate for DNS over TLS expires, in Unix time.")
)

// collect gives the metrics of TLS, if there is any.
func (t *tlsState) collect(ch chan<- prometheus.Metric) {
	if t.config == nil {
		return
	}
	for _, c := range []struct {
		n      *atomic.Uint64
		result string
	}{{&t.full, "full"}, {&t.resumed, "resumed"}, {&t.refused, "failed"}} {
		ch <- prometheus.MustNewConstMetric(descHandshakes, prometheus.CounterValue, float64(c.n.Load()), c.result)
	}
	ch <- prometheus.MustNewConstMetric(descTLSOpen, prometheus.GaugeValue, float64(t.open.Load()))
	if c, err := t.config.GetCertificate(nil); err == nil {
		if leaf, err := leafOf(c); err == nil {
			ch <- prometheus.MustNewConstMetric(descExpires, prometheus.GaugeValue, float64(leaf.NotAfter.Unix()))
		}
	}
}

func leafOf(c *tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil || len(c.Certificate) == 0 {
		return c.Leaf, nil
	}
	return x509.ParseCertificate(c.Certificate[0])
}
