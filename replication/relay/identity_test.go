package relay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/replication/relay"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func writePEM(t testing.TB, file, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, filepath.Join(t.TempDir(), name+".pem"), "CERTIFICATE", der)
	return a
}

// issue writes a certificate for the uses, and its key.
func (a *authority) issue(t testing.TB, validFor time.Duration, uses ...x509.ExtKeyUsage) (cert, key string) {
	t.Helper()
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor), ExtKeyUsage: uses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return writePEM(t, filepath.Join(dir, "node.pem"), "CERTIFICATE", der), writePEM(t, filepath.Join(dir, "node.key"), "PRIVATE KEY", keyDER)
}

var bothUses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

func (a *authority) identity(t testing.TB) relay.Identity {
	t.Helper()
	cert, key := a.issue(t, time.Hour, bothUses...)
	id, err := relay.LoadIdentity(a.file, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestLoadIdentityNamesWhatIsWrong(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := ca.issue(t, time.Hour, bothUses...)
	_, otherKey := ca.issue(t, time.Hour, bothUses...)
	serverOnly, serverKey := ca.issue(t, time.Hour, x509.ExtKeyUsageServerAuth)
	clientOnly, clientKey := ca.issue(t, time.Hour, x509.ExtKeyUsageClientAuth)
	expired, expiredKey := ca.issue(t, -time.Minute, bothUses...)
	foreign, foreignKey := other.issue(t, time.Hour, bothUses...)
	rubbish := filepath.Join(t.TempDir(), "rubbish")
	if err := os.WriteFile(rubbish, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	noCertificate := writePEM(t, filepath.Join(t.TempDir(), "damaged"), "CERTIFICATE", []byte("rubbish"))
	tests := map[string]struct {
		ca, cert, key string
		says          []string
	}{
		"good":                   {ca.file, cert, key, nil},
		"no authorities' file":   {"/nonexistent/ca", cert, key, []string{"authorities", "/nonexistent/ca"}},
		"no certificate's file":  {ca.file, "/nonexistent/cert", key, []string{"certificate", "/nonexistent/cert"}},
		"no key's file":          {ca.file, cert, "/nonexistent/key", []string{"key", "/nonexistent/key"}},
		"rubbish authorities":    {rubbish, cert, key, []string{"authorities " + rubbish, "no certificate"}},
		"damaged authorities":    {noCertificate, cert, key, []string{"authorities " + noCertificate, "block 1"}},
		"a key for authorities":  {key, cert, key, []string{"authorities " + key, "is a PRIVATE KEY"}},
		"a node for authorities": {cert, cert, key, []string{"authorities " + cert, "no certificate of an authority"}},
		"rubbish certificate":    {ca.file, rubbish, key, []string{"certificate " + rubbish, "no PEM"}},
		"damaged certificate":    {ca.file, noCertificate, key, []string{"certificate " + noCertificate}},
		"rubbish key":            {ca.file, cert, rubbish, []string{"key " + rubbish, "no PEM"}},
		"another's key":          {ca.file, cert, otherKey, []string{"certificate " + cert, "key " + otherKey, "does not match"}},
		"for servers only":       {ca.file, serverOnly, serverKey, []string{"certificate " + serverOnly, "not good for a client"}},
		"for clients only":       {ca.file, clientOnly, clientKey, []string{"certificate " + clientOnly, "not good for a server"}},
		"expired":                {ca.file, expired, expiredKey, []string{"certificate " + expired, "expired"}},
		"of another authority":   {ca.file, foreign, foreignKey, []string{"certificate " + foreign, ca.file, "unknown authority"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			id, err := relay.LoadIdentity(tt.ca, tt.cert, tt.key)
			if tt.says == nil {
				if err != nil || id.SelfMade() || id.Fingerprint() == [32]byte{} {
					t.Errorf("%v, %v", id.SelfMade(), err)
				}
				return
			}
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("error %q does not say %q", err, says)
				}
			}
		})
	}
}

// TestAuthoritiesVouch: nodes of one authority ask each other, with or without knowing each other's certificates; others do not.
func TestAuthoritiesVouch(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	as := func(id relay.Identity) func(*relay.Options) {
		return func(o *relay.Options) { o.Identity, o.Trusted = id, nil }
	}
	var region trust
	asking := start(t, &region, "asking", echo, as(ca.identity(t)))
	peer := start(t, &region, "peer", echo, as(ca.identity(t)))
	stranger := start(t, &region, "stranger", echo, as(other.identity(t)))
	selfMade := start(t, &region, "self-made", echo)

	known, unknown, wrong := peerOf("peer", peer), peerOf("peer", peer), peerOf("peer", peer)
	unknown.Fingerprint = [32]byte{}
	wrong.Fingerprint = stranger.Fingerprint()
	noPrint := peerOf("self-made", selfMade)
	noPrint.Fingerprint = [32]byte{}
	tests := map[string]struct {
		from *relay.Relay
		to   relay.Peer
		good bool
	}{
		"known by its certificate":      {asking, known, true},
		"known by its authority":        {asking, unknown, true},
		"not the one that is meant":     {asking, wrong, false},
		"to one of another authority":   {asking, peerOf("stranger", stranger), false},
		"from one of another authority": {stranger, known, false},
		"to a self-made one":            {asking, peerOf("self-made", selfMade), false},
		"from a self-made one":          {selfMade, known, false},
		"self-made, of unknown print":   {selfMade, noPrint, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := tt.from.Ask(minute(t), []relay.Peer{tt.to}, nil, nil)
			if tt.good && err != nil || !tt.good && !errors.Is(err, relay.ErrUnreachable) {
				t.Errorf("error %v", err)
			}
		})
	}
}
