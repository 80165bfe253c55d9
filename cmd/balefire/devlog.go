package main

import (
	"github.com/rs/zerolog"
)

// devLog is the log of a development cluster.
type devLog struct {
	brokers []string // HOST:PORT
	options []string // how nodes speak to it: arguments of serve
	failed  <-chan error
	close   func() error
}

// startDevLog starts a broker in this process, with its files in a directory.
func startDevLog(dir, listen string, logger zerolog.Logger) (*devLog, error) {
	return nil, usagef("--brokers is missing: want HOST:PORT of Kafka or Redpanda")
}
