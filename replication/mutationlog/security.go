package mutationlog

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Security says how brokers are spoken to. The zero value is neither encrypted nor authenticated.
type Security struct {
	// TLS encrypts, and verifies the brokers. The other files imply nothing without it.
	TLS bool
	// CA is a PEM file with the authorities of the brokers' certificates; empty: the system's.
	CA string
	// Cert and Key are PEM files by which this client is known to brokers that ask; both or none.
	Cert, Key string
	// ServerName is what the brokers' certificates must be for; empty: the host of each address.
	ServerName string
	// SASL is "plain", "scram-sha-256" or "scram-sha-512"; empty: none.
	SASL           string
	User, Password string
	// Rack is where this client is (client.rack): brokers let it read from a replica near by.
	Rack string
}

// Options makes the options of a Kafka client. The error names the file and what is wrong with it.
func (s Security) Options() ([]kgo.Opt, error) {
	var opts []kgo.Opt
	if s.TLS {
		cfg, err := s.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	switch s.SASL {
	case "":
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: s.User, Pass: s.Password}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism()))
	default:
		return nil, fmt.Errorf("SASL mechanism %q: want plain, scram-sha-256 or scram-sha-512", s.SASL)
	}
	if s.Rack != "" {
		opts = append(opts, kgo.Rack(s.Rack))
	}
	return opts, nil
}

func (s Security) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities of the brokers: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities of the brokers: %s has no certificate in PEM", s.CA)
		}
	}
	if s.Cert != "" || s.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate for the brokers, %q with key %q: %w", s.Cert, s.Key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// explain adds what to do to errors of reaching the brokers that come from settings.
func explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the brokers don't accept the user and password, or not by this mechanism: look at the SASL settings: %w", err)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("the brokers don't allow this user what it needs: read and write the namespace's topics, and create them once: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("the brokers' certificate is of an unknown authority: name its file as the CA: %w", err)
	case errors.As(err, &host):
		return fmt.Errorf("the brokers' certificate is for other names: use one of them in brokers, or as the server name: %w", err)
	case errors.As(err, &op) && op.Op == "remote error": // crypto/tls calls the other side's alerts so
		return fmt.Errorf("the brokers end TLS, as they do when they want a client's certificate or don't accept the one they get: look at its files: %w", err)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("no broker can be connected to: look at brokers, and whether they run: %w", err)
	case errors.As(err, &record):
		return fmt.Errorf("the brokers don't speak TLS on this port: %w", err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the brokers close the connection at once, as they do when they want TLS, or do not accept the certificate, user or password: look at the TLS and SASL settings: %w", err)
	}
	return err
}
