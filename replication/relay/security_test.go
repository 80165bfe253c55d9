package relay_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"balefire/replication/relay"
)

// selfMade makes a certificate as a node would, but with the key at hand. Its print is returned as well.
func selfMade(t testing.TB) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, c
}

// request returns a frame that asks for something.
func request(id uint32, payload string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, id)
	return append(append(b, 1, 0, 0, 0), payload...)
}

// patience is how long a connection has to be closed in that must be: ample, but a failure is seen soon.
const patience = 10 * time.Second

// welcome is the frame with which a connection begins.
var welcome = []byte{0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}

// readsNothing reports what comes until the server closes the connection.
func readsNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection was not closed")
	}
	if len(got) > 0 && got[0] != 21 { // a TLS alert, to one that speaks no TLS
		t.Errorf("the server sent %x", got)
	}
}

// TestOnlyNodesAreServed opens connections that must come to nothing.
func TestOnlyNodesAreServed(t *testing.T) {
	var region trust
	var served atomic.Int32
	registry := prometheus.NewRegistry()
	server := start(t, &region, "server", func(ctx context.Context, request, reply []byte) ([]byte, relay.Status) {
		served.Add(1)
		return echo(ctx, request, reply)
	}, func(o *relay.Options) {
		o.Registerer = registry
		o.HTTP = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })
	})
	stranger, _ := selfMade(t)
	known, print := selfMade(t)
	region.set(fingerprint(print), true)
	stolen := known // the certificate of a node, but another key
	stolen.PrivateKey = stranger.PrivateKey.(*ecdsa.PrivateKey)
	frames, web := []string{"balefire-relay/1"}, []string{"http/1.1"}

	tests := map[string]struct {
		certificates []tls.Certificate
		protocols    []string
		newest       uint16
	}{
		"no certificate":              {nil, frames, 0},
		"no certificate, HTTP":        {nil, web, 0},
		"a stranger":                  {[]tls.Certificate{stranger}, frames, 0},
		"a stranger, HTTP":            {[]tls.Certificate{stranger}, web, 0},
		"a node's, another key":       {[]tls.Certificate{stolen}, frames, 0},
		"a node without ALPN":         {[]tls.Certificate{known}, nil, 0},
		"a node with another ALPN":    {[]tls.Certificate{known}, []string{"h2"}, 0},
		"a node with a later version": {[]tls.Certificate{known}, []string{"balefire-relay/2"}, 0},
		"a node with TLS 1.2":         {[]tls.Certificate{known}, frames, tls.VersionTLS12},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Dial("tcp", server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			conn := tls.Client(raw, &tls.Config{Certificates: tt.certificates, NextProtos: tt.protocols, InsecureSkipVerify: true, MaxVersion: tt.newest})
			if err := conn.Handshake(); err != nil {
				return // refused already
			}
			_, _ = conn.Write(request(1, "a question"))                      // the server may have closed by now
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // likewise
			readsNothing(t, conn)
		})
	}
	t.Run("rubbish", func(t *testing.T) {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(bytes.Repeat([]byte("rubbish "), 100)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if got, err := io.ReadAll(conn); len(got) > 0 && got[0] != 21 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the server sent %x, %v", got, err)
		}
	})
	if n := served.Load(); n != 0 {
		t.Errorf("%d requests were served", n)
	}
	t.Run("a node", func(t *testing.T) {
		conn := dial(t, server, known, "balefire-relay/1")
		if _, err := conn.Write(request(7, "hello")); err != nil {
			t.Fatal(err)
		}
		want := append([]byte{0, 0, 0, 5, 0, 0, 0, 7, 16, 0, 0, 0}, "HELLO"...)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%x, %v; want %x", got, err, want)
		}
	})
	for _, reason := range []string{"handshake", "stranger"} {
		for ctx := minute(t); metric(t, registry, "balefire_relay_refused_total", reason) == 0; { // which is after who is refused has heard of it
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("no refusal for %q is counted", reason)
			}
		}
	}
}

func fingerprint(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }

// dial connects as a node, and for frames reads the welcome.
func dial(t *testing.T, to *relay.Relay, as tls.Certificate, protocol string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", to.Addr().String(), &tls.Config{Certificates: []tls.Certificate{as}, NextProtos: []string{protocol}, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if protocol == "balefire-relay/1" {
		got := make([]byte, len(welcome))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, welcome) {
			t.Fatalf("welcome %x, %v", got, err)
		}
	}
	return conn
}

// TestMalformedFramesCloseTheConnection, before anything of them is looked at.
func TestMalformedFramesCloseTheConnection(t *testing.T) {
	var region trust
	server := start(t, &region, "server", func(_ context.Context, _, reply []byte) ([]byte, relay.Status) {
		t.Error("a malformed request was served")
		return reply, relay.OK
	})
	known, print := selfMade(t)
	region.set(fingerprint(print), true)
	with := func(at int, v byte) []byte {
		b := request(1, "hello")
		b[at] = v
		return b
	}
	for name, octets := range map[string][]byte{
		"too long":        binary.BigEndian.AppendUint32(nil, relay.MaxRequest+1),
		"far too long":    {255, 255, 255, 255},
		"a welcome":       with(8, 2),
		"a reply":         with(8, 16),
		"an unknown kind": with(8, 99),
		"kind 0":          with(8, 0),
		"octet 9":         with(9, 1),
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, server, known, "balefire-relay/1")
			if len(octets) == 4 {
				octets = append(octets, request(1, "hello")[4:]...)
			}
			if _, err := conn.Write(octets); err != nil {
				t.Fatal(err)
			}
			readsNothing(t, conn)
		})
	}
}

// TestSilentConnectionsMakeRoom: whoever opens connections and shows no certificate holds a few of them at
// most, and keeps no node out.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	var region trust
	registry := prometheus.NewRegistry()
	asking := start(t, &region, "asking", echo)
	const most, flood = 8, 300
	server := start(t, &region, "server", echo, func(o *relay.Options) { o.Registerer, o.Limits.Handshakes = registry, most })
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range flood {
		c, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, _, err := asking.Ask(minute(t), []relay.Peer{peerOf("server", server)}, nil, nil); err != nil {
		t.Fatalf("a node was kept out: %v", err)
	}
	// All have been accepted, as the node came after them; those over the limit are closed.
	for _, c := range conns[:flood-most] {
		readsNothing(t, c)
	}
	if n := metric(t, registry, "balefire_relay_squeezed_total", ""); n < flood-most {
		t.Errorf("%v were squeezed out", n)
	}
	if n := metric(t, registry, "balefire_relay_connections", "unknown"); n > most {
		t.Errorf("%v connections are held", n)
	}
}

// TestConnectionsOfNodesAreLimited, in all and for each.
func TestConnectionsOfNodesAreLimited(t *testing.T) {
	for name, limits := range map[string]relay.Limits{"per peer": {ConnectionsPerPeer: 2}, "in all": {Connections: 2}} {
		t.Run(name, func(t *testing.T) {
			var region trust
			server := start(t, &region, "server", echo, func(o *relay.Options) { o.Limits = limits })
			certificates := make([]tls.Certificate, 3)
			for i := range certificates {
				if i > 0 && limits.ConnectionsPerPeer > 0 {
					certificates[i] = certificates[0]
					continue
				}
				c, print := selfMade(t)
				certificates[i] = c
				region.set(fingerprint(print), true)
			}
			first := dial(t, server, certificates[0], "balefire-relay/1")
			dial(t, server, certificates[1], "balefire-relay/1")
			third, err := tls.Dial("tcp", server.Addr().String(), &tls.Config{Certificates: certificates[2:], NextProtos: []string{"balefire-relay/1"}, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer third.Close()
			readsNothing(t, third)
			// Room that was made is used.
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			for {
				conn, err := tls.Dial("tcp", server.Addr().String(), &tls.Config{Certificates: certificates[2:], NextProtos: []string{"balefire-relay/1"}, InsecureSkipVerify: true})
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadFull(conn, make([]byte, len(welcome)))
				_ = conn.Close()
				if err == nil {
					break // the server has noticed
				}
			}
		})
	}
}

// TestAForgottenNodeIsServedNoMore, on connections that it has opened before.
func TestAForgottenNodeIsServedNoMore(t *testing.T) {
	var region trust
	server := start(t, &region, "server", echo)
	known, print := selfMade(t)
	region.set(fingerprint(print), true)
	conn := dial(t, server, known, "balefire-relay/1")
	region.set(fingerprint(print), false)
	if _, err := conn.Write(request(1, "hello")); err != nil {
		t.Fatal(err)
	}
	readsNothing(t, conn)
}
