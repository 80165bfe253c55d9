package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"
)

// Identity is what a node shows to the others: a certificate and its key, and, when authorities vouch for the
// nodes, their certificates. The zero value is none.
type Identity struct {
	certificate tls.Certificate
	fingerprint [32]byte
	authorities *x509.CertPool // nil: certificates are self-made, and known by fingerprint
}

// selfSignedFor is how long a self-made certificate says that it is valid. Nobody looks: it lives as long as
// the process, and is known by its fingerprint.
const selfSignedFor = 100 * 365 * 24 * time.Hour

// SelfSigned makes an identity: an ECDSA P-256 key that never leaves the process, and a certificate which
// only those believe who know its fingerprint.
func SelfSigned(nodeID string) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Identity{}, fmt.Errorf("make a serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: nodeID},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(selfSignedFor),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Identity{}, fmt.Errorf("make a certificate: %w", err)
	}
	return Identity{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		fingerprint: sha256.Sum256(der),
	}, nil
}

// LoadIdentity reads an identity from PEM files: the certificates of the authorities that vouch for nodes,
// and this node's own certificate, good for servers and clients, with its key. Errors name the file.
func LoadIdentity(ca, cert, key string) (Identity, error) {
	authorities, err := readAuthorities(ca)
	if err != nil {
		return Identity{}, err
	}
	certPEM, err := os.ReadFile(cert)
	if err != nil {
		return Identity{}, fmt.Errorf("certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(key)
	if err != nil {
		return Identity{}, fmt.Errorf("key: %w", err)
	}
	if block, _ := pem.Decode(certPEM); block == nil {
		return Identity{}, fmt.Errorf("certificate %s: there is no PEM block in it", cert)
	}
	if block, _ := pem.Decode(keyPEM); block == nil {
		return Identity{}, fmt.Errorf("key %s: there is no PEM block in it", key)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return Identity{}, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	id := Identity{certificate: pair, fingerprint: sha256.Sum256(pair.Certificate[0]), authorities: authorities}
	chain := make([]*x509.Certificate, 0, len(pair.Certificate))
	for i, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return Identity{}, fmt.Errorf("certificate %s: block %d: %w", cert, i+1, err)
		}
		chain = append(chain, c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := verifyChain(authorities, chain, use); err != nil {
			return Identity{}, fmt.Errorf("certificate %s is not good for %s by %s: %w", cert, usageNames[use], ca, err)
		}
	}
	return id, nil
}

var usageNames = map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "a server", x509.ExtKeyUsageClientAuth: "a client"}

func readAuthorities(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	pool := x509.NewCertPool()
	n := 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		n++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("authorities %s: block %d is a %s, not a CERTIFICATE", file, n, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("authorities %s: block %d: %w", file, n, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("authorities %s: block %d, %q, is no certificate of an authority", file, n, c.Subject)
		}
		pool.AddCert(c)
	}
	if n == 0 {
		return nil, fmt.Errorf("authorities %s: there is no certificate in it", file)
	}
	return pool, nil
}

// Fingerprint returns the SHA-256 of the certificate's DER.
func (id Identity) Fingerprint() [32]byte { return id.fingerprint }

// SelfMade reports whether others know the identity by its fingerprint only.
func (id Identity) SelfMade() bool { return id.authorities == nil }

// The protocols of the listener, told apart by ALPN (RFC 7301).
const (
	protocolFrames = "balefire-relay/1"
	protocolHTTP   = "http/1.1"
)

var (
	errStranger   = errors.New("the certificate's fingerprint is unknown")
	errOtherPeer  = errors.New("the certificate is another one than the peer's")
	errNoPrint    = errors.New("the peer's fingerprint is not known")
	errNoProtocol = errors.New("no protocol was agreed on")
	errNoCert     = errors.New("no certificate was shown")
)

func (id Identity) config() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{id.certificate},
		MinVersion:   tls.VersionTLS13,
		// Each connection shows its certificate: no session is resumed.
		SessionTicketsDisabled: true,
	}
}

// server returns the configuration of the listener.
func (id Identity) server(trusted func([32]byte) bool, protocols []string) *tls.Config {
	c := id.config()
	c.NextProtos = protocols
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(s tls.ConnectionState) error {
		return id.verify(s, x509.ExtKeyUsageClientAuth, func(print [32]byte) error {
			if id.SelfMade() && !trusted(print) {
				return errStranger
			}
			return nil
		})
	}
	return c
}

// client returns the configuration for a connection to one peer.
func (id Identity) client(peer *Peer, protocol string) *tls.Config {
	c := id.config()
	c.NextProtos = []string{protocol}
	c.InsecureSkipVerify = true // names say nothing here: VerifyConnection demands the peer's own certificate
	want := peer.Fingerprint
	c.VerifyConnection = func(s tls.ConnectionState) error {
		return id.verify(s, x509.ExtKeyUsageServerAuth, func(print [32]byte) error {
			switch known := want != [32]byte{}; {
			case !known && id.SelfMade():
				return errNoPrint
			case known && print != want:
				return errOtherPeer
			}
			return nil
		})
	}
	return c
}

func (id Identity) verify(s tls.ConnectionState, use x509.ExtKeyUsage, known func([32]byte) error) error {
	if len(s.PeerCertificates) == 0 {
		return errNoCert
	}
	if s.NegotiatedProtocol == "" {
		return errNoProtocol
	}
	if !id.SelfMade() {
		if err := verifyChain(id.authorities, s.PeerCertificates, use); err != nil {
			return err
		}
	}
	return known(fingerprintOf(s))
}

// fingerprintOf returns the fingerprint of the certificate that the other side has shown.
func fingerprintOf(s tls.ConnectionState) [32]byte { return sha256.Sum256(s.PeerCertificates[0].Raw) }

func verifyChain(authorities *x509.CertPool, chain []*x509.Certificate, use x509.ExtKeyUsage) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}
