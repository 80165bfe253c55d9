package gossip

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport counts what goes through memberlist's own, and ends connections when it is shut down, which otherwise would last until
// their time is up.
type transport struct {
	memberlist.NodeAwareTransport
	packets chan *memberlist.Packet
	streams chan net.Conn
	dial    func(ctx context.Context, address string) (net.Conn, error)

	ctx    context.Context // until shut down
	cancel context.CancelFunc
	pump   sync.WaitGroup

	sent, received atomic.Uint64 // octets
	sentPackets    atomic.Uint64

	mu   sync.Mutex
	open map[*stream]struct{}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(inner memberlist.NodeAwareTransport, dial func(context.Context, string) (net.Conn, error)) *transport {
	t := &transport{
		NodeAwareTransport: inner, dial: dial, open: map[*stream]struct{}{},
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.pump.Go(t.run)
	return t
}

// run hands on what comes in, counted.
func (t *transport) run() {
	for {
		select {
		case p := <-t.NodeAwareTransport.PacketCh():
			t.received.Add(uint64(len(p.Buf)))
			// A packet was read into 64 KiB, which would be held for as long as it waits to be looked at.
			p.Buf = bytes.Clone(p.Buf)
			select {
			case t.packets <- p:
			case <-t.ctx.Done():
			}
		case c := <-t.NodeAwareTransport.StreamCh():
			c = t.track(c)
			select {
			case t.streams <- c:
			case <-t.ctx.Done():
				_ = c.Close() // nobody is left to read it
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// PacketCh is memberlist's.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is memberlist's.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo is memberlist's.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress is memberlist's.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	t.sent.Add(uint64(len(b)))
	t.sentPackets.Add(1)
	return t.NodeAwareTransport.WriteToAddress(b, a)
}

// DialTimeout is memberlist's.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout is memberlist's.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, err := t.dial(ctx, a.Addr)
	if err != nil {
		return nil, err
	}
	return t.track(c), nil
}

// Shutdown is memberlist's: afterwards nothing comes, and no connection is open.
func (t *transport) Shutdown() error {
	// What listens may be waiting for us to take something, so the pump goes last.
	err := t.NodeAwareTransport.Shutdown()
	t.cancel()
	t.pump.Wait()
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close() // whoever uses it sees the error
	}
	return err
}

func (t *transport) track(c net.Conn) *stream {
	s := &stream{Conn: c, t: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		_ = c.Close() // shut down: its user sees the error
	} else {
		t.open[s] = struct{}{}
	}
	return s
}

// stream is a connection that is counted.
type stream struct {
	net.Conn
	t *transport
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.t.received.Add(uint64(n))
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.t.sent.Add(uint64(n))
	return n, err
}

func (s *stream) Close() error {
	s.t.mu.Lock()
	delete(s.t.open, s)
	s.t.mu.Unlock()
	return s.Conn.Close()
}
