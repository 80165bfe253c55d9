package keypair

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// made returns the PEM of a certificate and of its key.
func made(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// files are a pair's, in a directory of the test.
func files(t *testing.T) (cert, key string) {
	dir := t.TempDir()
	return filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
}

func TestOpen(t *testing.T) {
	certA, keyA := made(t, "a.example")
	certB, _ := made(t, "b.example")
	for name, c := range map[string]struct {
		cert, key []byte
		want      string
	}{
		"no certificate":       {nil, keyA, "certificate: open"},
		"no key":               {certA, nil, "key: open"},
		"another's":            {certB, keyA, "private key does not match public key"},
		"no PEM":               {[]byte("certificate"), keyA, "failed to find any PEM data in certificate input"},
		"the key in its place": {keyA, keyA, "failed to find certificate PEM data"},
	} {
		cert, key := files(t)
		if c.cert != nil {
			write(t, cert, c.cert)
		}
		if c.key != nil {
			write(t, key, c.key)
		}
		if _, err := Open(cert, key); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Dir(cert)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReload(t *testing.T) {
	certFile, keyFile := files(t)
	certA, keyA := made(t, "a.example")
	certB, keyB := made(t, "b.example")
	write(t, certFile, certA)
	write(t, keyFile, keyA)
	p, err := Open(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, wantChanged, wantError bool, want string) {
		t.Helper()
		changed, err := p.Reload()
		if changed != wantChanged || (err != nil) != wantError || p.Certificate().Leaf.DNSNames[0] != want {
			t.Errorf("%s: changed %v, %v, in use %s", what, changed, err, p.Certificate().Leaf.DNSNames[0])
		}
	}
	step("nothing new", false, false, "a.example")
	write(t, certFile, certB)
	step("half of a new pair", false, true, "a.example")
	step("half of it still", false, true, "a.example")
	write(t, keyFile, keyB)
	step("the other half", true, false, "b.example")
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	step("no key", false, true, "b.example")
	write(t, keyFile, keyB)
	step("the same key again", false, false, "b.example")
}

// TestFollow: at signals and by the clock; what is wrong is said once by the clock, and at each signal.
func TestFollow(t *testing.T) {
	certFile, keyFile := files(t)
	certA, keyA := made(t, "a.example")
	certB, keyB := made(t, "b.example")
	write(t, certFile, certA)
	write(t, keyFile, keyA)
	p, err := Open(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	told, due := make(chan os.Signal), make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { p.follow(ctx, told, due, zerolog.New(&log)) })
	look := func() { due <- time.Time{}; due <- time.Time{} } // when the second is taken, the first is over
	write(t, certFile, certB)
	look()
	look()
	if n := strings.Count(log.String(), "the old one stays"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	told <- os.Interrupt
	look()
	if n := strings.Count(log.String(), "the old one stays"); n != 2 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	write(t, keyFile, keyB)
	told <- os.Interrupt
	look()
	if p.Certificate().Leaf.DNSNames[0] != "b.example" || !strings.Contains(log.String(), "a new certificate is used") {
		t.Errorf("in use %s: %s", p.Certificate().Leaf.DNSNames[0], log.String())
	}
	cancel()
	done.Wait()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
