//go:build kafka

package mutationlog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"balefire/replication/kafkatest"
)

// A real broker is reached by TLS, with certificates and with passwords, and says no in ways that the status explains.
func TestKafkaSecurity(t *testing.T) {
	a, stranger := certificates(t)
	folder := t.TempDir()
	for name, parts := range map[string][]string{
		"broker.pem": {a.KeyFile("broker"), a.CertFile("broker")},
		"ca.pem":     {a.CertFile("ca")},
	} {
		var text bytes.Buffer
		for _, part := range parts {
			data, err := os.ReadFile(part)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(data)
		}
		if err := os.WriteFile(filepath.Join(folder, name), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broker := kafkatest.StartSecure(t, folder)
	openKafka(t, Options{
		Namespace: "secure", Brokers: []string{broker.Address()}, Partitions: 2, CacheFile: filepath.Join(t.TempDir(), "control.json"), Logger: zerolog.Nop(),
	})
	trusting := Security{TLS: true, CA: a.CertFile("ca"), Rack: "rack-1"}
	known, unknown := trusting, trusting
	known.Cert, known.Key = a.CertFile("client"), a.KeyFile("client")
	unknown.Cert, unknown.Key = stranger.CertFile("client"), stranger.KeyFile("client")
	cases := []securityCase{
		{"TLS", []string{broker.TLS()}, trusting, ""},
		{"TLS, another authority", []string{broker.TLS()}, Security{TLS: true, CA: stranger.CertFile("ca")}, "unknown authority"},
		{"TLS on a port without", []string{broker.Address()}, trusting, "TLS"},
		{"mutual TLS", []string{broker.MutualTLS()}, known, ""},
		{"mutual TLS, no certificate", []string{broker.MutualTLS()}, trusting, "certificate"},
		{"mutual TLS, a stranger's certificate", []string{broker.MutualTLS()}, unknown, "certificate"},
		{"a password is wanted", []string{broker.SASL()}, trusting, "SASL"},
	}
	testSecurity(t, append(cases, passwordCases([]string{broker.SASL()}, a, stranger)...))
}
