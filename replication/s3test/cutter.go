//go:build s3

package s3test

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// Cutter passes TCP connections on, and cuts each after a number of octets in either direction.
type Cutter struct {
	l              net.Listener
	answer, upload atomic.Int64
}

// NewCutter listens until the test ends, and cuts nothing yet.
func NewCutter(tb testing.TB, to string) *Cutter {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	c := &Cutter{l: l}
	c.CutAfter(1 << 60)
	c.CutUploadsAfter(1 << 60)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			pass := func(to, from net.Conn, octets int64) {
				io.CopyN(to, from, octets)
				client.Close()
				server.Close()
			}
			go pass(server, client, c.upload.Load())
			go pass(client, server, c.answer.Load())
		}
	}()
	return c
}

// Address is where to connect to.
func (c *Cutter) Address() string { return c.l.Addr().String() }

// CutAfter sets how many octets of answers new connections pass.
func (c *Cutter) CutAfter(octets int64) { c.answer.Store(octets) }

// CutUploadsAfter sets how many octets of requests new connections pass.
func (c *Cutter) CutUploadsAfter(octets int64) { c.upload.Store(octets) }
