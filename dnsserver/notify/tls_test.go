package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// selfSigned makes a certificate for a name, and a pool that trusts it.
func selfSigned(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// listenTLS answers what comes over TLS by answer, until the test ends; nil hangs up.
func listenTLS(t *testing.T, cert tls.Certificate, answer func(*dns.Msg) *dns.Msg) netip.AddrPort {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"dot"}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveTLS(t, c, answer)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func serveTLS(t *testing.T, c net.Conn, answer func(*dns.Msg) *dns.Msg) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(peerPatience))
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return // a client that does not like the certificate
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return
	}
	if got := c.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "dot" {
		t.Errorf("ALPN %q", got)
	}
	var q dns.Msg
	if err := q.Unpack(query); err != nil {
		t.Error(err)
		return
	}
	a := answer(&q)
	if a == nil {
		return
	}
	packed, err := a.Pack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
}

func TestNotifyOverTLS(t *testing.T) {
	cert, pool := selfSigned(t, "ns1.example")
	n := New(Options{
		Source: one{}, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, TLS: &tls.Config{RootCAs: pool}, Logger: zerolog.Nop(),
	})
	n.patience = peerPatience / 2
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	awaitThat(t, "on duty", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.parts) == 1 })
	for _, c := range []struct {
		what, name string
		answer     func(*dns.Msg) *dns.Msg
		fault      string // a part of it; "" for none
	}{
		{"without a name", "", answering, ""},
		{"with its name", "ns1.example", answering, ""},
		{"refused", "ns1.example", refusing(dns.RcodeRefused), "REFUSED"},
		{"with another name", "ns2.example", answering, "certificate"},
		{"a server that hangs up", "", func(*dns.Msg) *dns.Msg { return nil }, "EOF"},
		{"another answer", "", func(q *dns.Msg) *dns.Msg { q.Id++; return answering(q) }, errOtherQuestion.Error()},
	} {
		to := zones.Remote{Addr: listenTLS(t, cert, c.answer), TLS: true, TLSName: c.name}
		apex := zones.MustParseName(strings.ReplaceAll(c.what, " ", "-") + ".test.")
		n.Changed(0, Zone{Apex: apex, Serial: 5, At: 1, Remote: []zones.Remote{to}}, false)
		var s Status
		awaitThat(t, c.what, func() bool {
			all, err := n.Notified(apex)
			if err != nil {
				t.Fatal(err)
			}
			s = all[0]
			return s.Fault != "" || s.Serial == 5
		})
		if c.fault == "" && s.Fault != "" || !strings.Contains(s.Fault, c.fault) || (s.Serial == 5) != (c.fault == "") {
			t.Errorf("%s: %+v", c.what, s)
		}
	}
}
