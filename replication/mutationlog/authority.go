package mutationlog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	// certificateLeast is how long a certificate must still be good for to be used again.
	certificateLeast = 30 * 24 * time.Hour
)

// Authority makes the certificates of one development cluster. Its key is in a file beside them: whoever can read the folder
// can be anyone in the cluster.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenAuthority opens the authority in a folder, or makes one there. Files are for their owner alone.
func OpenAuthority(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(a.CertFile("ca"), a.KeyFile("ca"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A crash between the two files leaves a key without a certificate: the next start makes both anew.
		template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		if a.cert, a.key, err = a.make("ca", template, authorityLife); err != nil {
			return nil, fmt.Errorf("authority in %s: %w", dir, err)
		}
		return a, nil
	case err != nil:
		return nil, fmt.Errorf("authority in %s: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("authority in %s: %s is not what was made here", dir, a.CertFile("ca"))
	}
	a.cert, a.key = pair.Leaf, key
	return a, nil
}

// CertFile and KeyFile are the PEM files of a certificate; the authority's own is "ca".
func (a *Authority) CertFile(name string) string { return filepath.Join(a.dir, name+".pem") }

// KeyFile is the PEM file of a certificate's key.
func (a *Authority) KeyFile(name string) string { return filepath.Join(a.dir, name+"-key.pem") }

// Pool has the authority's certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Server makes a certificate for a server that is reached by these names and addresses, good for a year.
func (a *Authority) Server(name string, hosts ...string) error {
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	_, _, err := a.make(name, template, certificateLife)
	return err
}

// Client makes a certificate for a client, good for a year. One that is there and is of this authority is left, unless it ends
// within 30 days.
func (a *Authority) Client(name string) error {
	pair, err := tls.LoadX509KeyPair(a.CertFile(name), a.KeyFile(name))
	if err == nil && time.Until(pair.Leaf.NotAfter) > certificateLeast && pair.Leaf.CheckSignatureFrom(a.cert) == nil {
		return nil
	}
	_, _, err = a.make(name, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, certificateLife)
	return err
}

// make fills in a certificate, signs it and writes it and its key.
func (a *Authority) make(name string, template *x509.Certificate, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	failed := func(err error) (*x509.Certificate, *ecdsa.PrivateKey, error) {
		return nil, nil, fmt.Errorf("make certificate %s: %w", name, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return failed(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return failed(err)
	}
	template.SerialNumber, template.Subject = serial, pkix.Name{Organization: []string{"Balefire development"}, CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return failed(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return failed(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return failed(err)
	}
	if err := ReplaceFile(a.KeyFile(name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})); err != nil {
		return failed(err)
	}
	if err := ReplaceFile(a.CertFile(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return failed(err)
	}
	return cert, key, nil
}
