package mutationlog

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
)

// certificates are those of brokers on 127.0.0.1 and of a client, and a stranger's.
func certificates(t *testing.T) (a, stranger *Authority) {
	t.Helper()
	for _, made := range []**Authority{&a, &stranger} {
		var err error
		if *made, err = OpenAuthority(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if err := (*made).Client("client"); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Server("broker", "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	return a, stranger
}

// securityCase is how a node speaks to brokers, and what its status says then.
type securityCase struct {
	name      string
	addresses []string
	security  Security
	want      string // of the status; "" when the log is reached
}

// passwordCases are those of brokers that want TLS and a password.
func passwordCases(addresses []string, a, stranger *Authority) []securityCase {
	right := Security{
		TLS: true, CA: a.CertFile("ca"), Cert: a.CertFile("client"), Key: a.KeyFile("client"),
		SASL: "plain", User: "plain", Password: "secret", Rack: "rack-1",
	}
	with := func(change func(*Security)) Security { s := right; change(&s); return s }
	return []securityCase{
		{"plain", addresses, right, ""},
		{"scram-sha-256", addresses, with(func(s *Security) { s.SASL, s.User = "scram-sha-256", "s256" }), ""},
		{"scram-sha-512", addresses, with(func(s *Security) { s.SASL, s.User = "scram-sha-512", "s512" }), ""},
		{"wrong password", addresses, with(func(s *Security) { s.Password = "wrong" }), "SASL settings"},
		{"wrong password, scram", addresses, with(func(s *Security) { s.SASL, s.User, s.Password = "scram-sha-512", "s512", "wrong" }), "SASL settings"},
		{"another mechanism", addresses, with(func(s *Security) { s.SASL = "scram-sha-512" }), "SASL settings"},
		{"another authority", addresses, with(func(s *Security) { s.CA = stranger.CertFile("ca") }), "unknown authority"},
		{"another name", addresses, with(func(s *Security) { s.ServerName = "other.example" }), "other names"},
		{"no TLS", addresses, with(func(s *Security) { s.TLS = false }), "TLS"},
	}
}

func testSecurity(t *testing.T, cases []securityCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, err := c.security.Options()
			if err != nil {
				t.Fatal(err)
			}
			l, err := Open(Options{
				Namespace: "secure", Brokers: c.addresses, Partitions: 2, CacheFile: filepath.Join(t.TempDir(), "control.json"),
				Client: client, Logger: zerolog.Nop(),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			end := deadline(t).Done()
			for {
				s := l.Status()
				if s.Established {
					break
				}
				if s.Trying != nil && c.want != "" && strings.Contains(s.Trying.Error(), c.want) {
					return
				}
				select {
				case <-tick.C:
				case <-end:
					t.Fatalf("status %+v, want %q", s, c.want)
				}
			}
			if c.want != "" {
				t.Fatal("the log was reached")
			}
			// And it can be used, from the replica near by.
			offset := publish(t, l, 1, c.name)
			stream, err := l.Consume(1, offset, -1)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, stream, 1); string(got[0].Value) != c.name {
				t.Fatalf("got %+v", got)
			}
		})
	}
}

// A log on brokers that want TLS, a certificate and a password is reached with the right ones, and with wrong ones its
// status says what to look at.
func TestSecurity(t *testing.T) {
	a, stranger := certificates(t)
	pair, err := tls.LoadX509KeyPair(a.CertFile("broker"), a.KeyFile("broker"))
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "plain", "secret"), kfake.Superuser("SCRAM-SHA-256", "s256", "secret"), kfake.Superuser("SCRAM-SHA-512", "s512", "secret"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()}),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	testSecurity(t, passwordCases(cluster.ListenAddrs(), a, stranger))
}

func TestSecurityFiles(t *testing.T) {
	a, _ := certificates(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    Security
		want string
	}{
		{Security{TLS: true, CA: empty}, "no certificate"},
		{Security{TLS: true, CA: filepath.Join(filepath.Dir(empty), "none")}, "no such file"},
		{Security{TLS: true, Cert: a.CertFile("ca")}, "key"},
		{Security{SASL: "gssapi"}, "want plain"},
	} {
		if _, err := c.s.Options(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.s, err, c.want)
		}
	}
}
