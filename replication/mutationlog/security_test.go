package mutationlog

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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
)

// authority makes certificates, and keeps them in files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name+".pem") }

func (a *authority) issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{
		"": {Type: "CERTIFICATE", Bytes: der}, "-key": {Type: "PRIVATE KEY", Bytes: text},
	} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return made, key
}

// A log on brokers that want TLS, a certificate and a password is reached with the right ones, and with wrong ones its
// status says what to look at.
func TestSecurity(t *testing.T) {
	a := newAuthority(t)
	a.issue("broker", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	pair, err := tls.LoadX509KeyPair(a.file("broker"), a.file("broker-key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "plain", "secret"), kfake.Superuser("SCRAM-SHA-256", "s256", "secret"), kfake.Superuser("SCRAM-SHA-512", "s512", "secret"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	stranger := newAuthority(t)
	right := Security{TLS: true, CA: a.file("ca"), Cert: a.file("client"), Key: a.file("client-key"), SASL: "plain", User: "plain", Password: "secret", Rack: "here"}
	with := func(change func(*Security)) Security { s := right; change(&s); return s }
	for name, c := range map[string]struct {
		s    Security
		want string // of the status; "" when the log is reached
	}{
		"plain":             {right, ""},
		"scram-sha-256":     {with(func(s *Security) { s.SASL, s.User = "scram-sha-256", "s256" }), ""},
		"scram-sha-512":     {with(func(s *Security) { s.SASL, s.User = "scram-sha-512", "s512" }), ""},
		"wrong password":    {with(func(s *Security) { s.Password = "wrong" }), "SASL settings"},
		"another authority": {with(func(s *Security) { s.CA = stranger.file("ca") }), "unknown authority"},
		"another name":      {with(func(s *Security) { s.ServerName = "other.example" }), "other names"},
		"no TLS":            {with(func(s *Security) { s.TLS = false }), "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := c.s.Options()
			if err != nil {
				t.Fatal(err)
			}
			l, err := Open(Options{
				Namespace: "secure", Brokers: cluster.ListenAddrs(), Partitions: 2, CacheFile: filepath.Join(t.TempDir(), "control.json"),
				Client: client, Logger: zerolog.Nop(),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			deadline := time.After(30 * time.Second)
			for {
				s := l.Status()
				if s.Established && c.want == "" {
					return
				}
				if s.Established {
					t.Fatal("the log was reached")
				}
				if s.Trying != nil && c.want != "" && strings.Contains(s.Trying.Error(), c.want) {
					return
				}
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatalf("status %+v, want %q", s, c.want)
				}
			}
		})
	}
}

func TestSecurityFiles(t *testing.T) {
	a := newAuthority(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    Security
		want string
	}{
		{Security{TLS: true, CA: empty}, "no certificate"},
		{Security{TLS: true, CA: filepath.Join(a.dir, "none")}, "no such file"},
		{Security{TLS: true, Cert: a.file("ca")}, "key"},
		{Security{SASL: "gssapi"}, "want plain"},
	} {
		if _, err := c.s.Options(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.s, err, c.want)
		}
	}
}
