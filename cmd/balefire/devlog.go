package main

import (
	"errors"

	"github.com/rs/zerolog"

	"balefire/replication/mutationlog"
)

// devLog is the log of a development cluster.
type devLog struct {
	brokers []string     // HOST:PORT
	options []string     // how nodes speak to it: arguments of serve
	failed  <-chan error // why it can't go on; nil for a log that is not this process's
	close   func() error
}

// startDevLog starts a broker in this process, with its files in a directory.
func startDevLog(dir, listen string, logger zerolog.Logger) (*devLog, error) {
	broker, err := mutationlog.StartBroker(mutationlog.BrokerOptions{Dir: dir, Listen: listen, Logger: logger})
	if err != nil {
		return nil, err
	}
	security, ok := broker.ClientSecurity()
	if !ok {
		return nil, errors.Join(errors.New("the broker has no certificates for its clients"), broker.Close())
	}
	return &devLog{
		brokers: []string{broker.Address()},
		options: []string{"--kafka-tls", "--kafka-tls-ca", security.CA, "--kafka-tls-cert", security.Cert, "--kafka-tls-key", security.Key},
		failed:  broker.Failed(),
		close:   broker.Close,
	}, nil
}
