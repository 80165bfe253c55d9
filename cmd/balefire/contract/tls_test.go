package contract

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// issue writes a certificate for a name and its key into a directory, as fullchain.pem and privkey.pem.
func issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = write(t, dir, "fullchain.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return cert, write(t, dir, "privkey.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
}

// shownName returns the name in the certificate that a server shows.
func shownName(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

// TestDNSOverTLS: with the certificate's files, which are read again when they change, at once at SIGHUP; what is wrong with them ends the
// start, and later changes nothing.
func TestDNSOverTLS(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	cert, key := issue(t, dir, "a.example")
	args := func(cert, key string) []string {
		return []string{"--dns-tls-listen", addr, "--dns-tls-cert", cert, "--dns-tls-key", key}
	}
	bad := launchWith(t, balefiretest.How{Args: args(key, cert)})
	<-bad.Done()
	if err := bad.End(time.Minute); err == nil || !strings.Contains(bad.Log(), "dns.tls: certificate "+key+" with key "+cert) {
		t.Errorf("with files that are exchanged: %v\n%s", err, bad.Log())
	}
	n := start(t, args(cert, key)...)
	said := "DNS    " + addr + " (TLS)"
	if err := n.Await(time.Minute, "what it says of itself", func() bool { return strings.Contains(n.Said(), said) }); err != nil {
		t.Errorf("it has not said %q: %v\n%s", said, err, n.Said())
	}
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() string { return tool(t, "kdig", "+tls", "+short", "@"+host, "-p", port, "example.com", "NS") }
	if got := ask(); got != "ns1.example.net.\n" {
		t.Errorf("over TLS: %q", got)
	}
	if got := shownName(t, addr); got != "a.example" {
		t.Errorf("it shows %s", got)
	}
	await := func(what, text string) {
		t.Helper()
		if err := n.Await(time.Minute, what, func() bool { return strings.Contains(n.Log(), text) }); err != nil {
			t.Fatalf("%v\n%s", err, n.Log())
		}
	}
	issue(t, dir, "b.example")
	if err := n.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("the new certificate", "a new certificate is used")
	if got := shownName(t, addr); got != "b.example" {
		t.Errorf("after SIGHUP it shows %s", got)
	}
	write(t, dir, filepath.Base(key), "no key")
	await("the wrong key to be seen without being told", "the old one stays")
	if got := shownName(t, addr); got != "b.example" {
		t.Errorf("with a wrong key it shows %s", got)
	}
	if got := ask(); got != "ns1.example.net.\n" {
		t.Errorf("over TLS: %q", got)
	}
}
