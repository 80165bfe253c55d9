package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/replication/mutationlog"
)

// cookieKeeper gives the server the namespace's cookie secrets whenever they change, and replaces them when nobody has
// for long enough. Every node does so: the first whose time has come replaces the secret, and the others see
// that, and wait again.
type cookieKeeper struct {
	cfg    *Config
	log    *mutationlog.Log
	server *dnsserver.Server
	logger zerolog.Logger
}

// rotationRetry is the pause after a replacement that failed.
const rotationRetry = time.Minute

func (k cookieKeeper) run(ctx context.Context) {
	if !k.cfg.DNS.Cookies {
		return
	}
	due := time.NewTimer(k.next())
	defer due.Stop()
	var used [16]byte
	for {
		changed := k.log.Control().Changed() // before looking, so that nothing is missed
		if secrets := k.log.CookieSecrets(); len(secrets) > 0 && secrets[0] != used {
			used = secrets[0]
			if err := k.server.SetSettings(dnsSettings(k.cfg, secrets)); err != nil {
				k.logger.Error().Err(err).Msg("the cookie secrets can't be used")
			}
			due.Reset(k.next())
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-due.C:
			if err := k.log.RotateCookieSecret(ctx); err != nil {
				k.logger.Warn().Err(err).Msg("the cookie secret could not be replaced")
				due.Reset(rotationRetry)
			}
		}
	}
}

// next is spread, so that nodes seldom come at once.
func (k cookieKeeper) next() time.Duration {
	d := k.cfg.DNS.CookieRotation
	return d + rand.N(d/10)
}
