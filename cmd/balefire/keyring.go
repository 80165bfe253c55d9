package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/rs/zerolog"

	"balefire/dnsserver/tsig"
	"balefire/replication/keyring"
	"balefire/replication/mutationlog"
	"balefire/zones"
)

// beginSession begins to sign with a key of the namespace.
func beginSession(keys *keyring.Ring, key zones.Name) (*tsig.Session, error) {
	k, ok := keys.Key(key)
	if !ok {
		return nil, fmt.Errorf("the TSIG key %s is not there, or can't be used", key)
	}
	return tsig.NewClient(k), nil
}

// secretsFile is in the data directory of a node with the embedded log, which is the only one of its namespace.
const secretsFile = "secrets.key"

// openKeyring opens the keys of the namespace with the secret that is configured. With the embedded log, one is made when it is needed: nobody else
// has to have it.
func openKeyring(cfg *Config, log *mutationlog.Log, logger zerolog.Logger) (*keyring.Ring, error) {
	put := func(ctx context.Context, key string, value []byte) error {
		if f, frozen := log.Frozen(); frozen { // it was moved: what is changed here is not there
			return fmt.Errorf("%w: %w: %v", mutationlog.ErrRefused, mutationlog.ErrFrozen, f)
		}
		return log.PutControl(ctx, key, value)
	}
	opts := keyring.Options{Control: log.Control(), Put: put, Logger: logger}
	var err error
	switch file := filepath.Join(cfg.DataDir, secretsFile); {
	case cfg.Secrets.KeyFile != "":
		opts.Secrets, err = keyring.LoadSecrets(cfg.Secrets.KeyFile)
	case len(cfg.Brokers) == 0:
		opts.Secrets, err = keyring.LoadSecrets(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
			opts.MakeSecret = func() ([]byte, error) { return keyring.LoadOrCreateSecret(file) }
		}
	}
	if err != nil {
		return nil, err
	}
	return keyring.New(opts)
}
