package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"

	"balefire/dnsserver/keypair"
)

// openCertificate reads the certificate for DNS over TLS; without that there is an empty one.
func openCertificate(cfg *Config) (*keypair.Pair, error) {
	t := cfg.DNS.TLS
	if len(t.Listen) == 0 {
		return new(keypair.Pair), nil
	}
	p, err := keypair.Open(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("dns.tls: %w", err)
	}
	return p, nil
}

// followCertificate has it read again when its files change, and at SIGHUP, until ctx ends.
func followCertificate(ctx context.Context, p *keypair.Pair, logger zerolog.Logger) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGHUP)
	defer signal.Stop(told)
	p.Follow(ctx, told, logger)
}
