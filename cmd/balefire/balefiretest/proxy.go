package balefiretest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to one address, as a network would that is slow, narrow, or cut. It is safe for
// concurrent use. Each direction of a connection holds at most inFlight chunks.
type Proxy struct {
	tb     testing.TB
	l      net.Listener
	ctx    context.Context
	ending context.CancelFunc
	all    sync.WaitGroup

	mu     sync.Mutex
	to     string
	delay  time.Duration // one way
	rate   int64         // octets a second in each direction of each connection; 0: no limit
	whole  chan struct{} // closed while the network is not cut
	broken bool          // connections are closed at once
	conns  map[net.Conn]struct{}
}

const (
	proxyChunk = 16 << 10
	// inFlight chunks are what a direction carries in one delay: 16 MiB.
	inFlight = 1024
)

// NewProxy listens on a free port of an address of this machine's until the test ends. To may be "", until Forward.
func NewProxy(tb testing.TB, host, to string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, ending := context.WithCancel(context.Background())
	p := &Proxy{tb: tb, l: l, ctx: ctx, ending: ending, to: to, whole: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(p.whole)
	p.all.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Address is where to connect to.
func (p *Proxy) Address() string { return p.l.Addr().String() }

// Forward sets where new connections lead.
func (p *Proxy) Forward(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// Cut lets nothing pass until Heal, and says so to nobody: connections stay, and new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.whole:
		p.whole = make(chan struct{})
	default:
	}
}

// Break closes all connections, and new ones at once, until Heal.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
	for c := range p.conns {
		c.Close()
	}
}

// Heal undoes Cut and Break.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = false
	select {
	case <-p.whole:
	default:
		close(p.whole)
	}
}

// Delay makes all that is sent from now on arrive so much later, in both directions.
func (p *Proxy) Delay(oneWay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = oneWay
}

// Throttle limits each direction of each connection. 0 is no limit.
func (p *Proxy) Throttle(octetsPerSecond int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = octetsPerSecond
}

func (p *Proxy) close() {
	p.ending()
	p.l.Close()
	p.Break()
	p.all.Wait()
}

// hold notes a connection, or closes it when there may be none.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken || p.ctx.Err() != nil {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) release(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *Proxy) state() (to string, delay time.Duration, rate int64, whole chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.to, p.delay, p.rate, p.whole
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && p.hold(client) {
			p.all.Go(func() { p.serve(client) })
		}
	}
}

// uncut waits until the network is not cut.
func (p *Proxy) uncut() error {
	_, _, _, whole := p.state()
	select {
	case <-whole:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.release(client)
	if p.uncut() != nil {
		return
	}
	to, _, _, _ := p.state()
	server, err := net.Dial("tcp", to)
	if err != nil || !p.hold(server) {
		return
	}
	defer p.release(server)
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client) })
	both.Go(func() { p.pass(client, server) })
	both.Wait()
}

// chunk is something under way.
type chunk struct {
	octets []byte
	arrive time.Time
}

// pass carries one direction to its end, and then closes the other side's half of the connection.
func (p *Proxy) pass(to, from net.Conn) {
	under := make(chan chunk, inFlight)
	gone := make(chan struct{}) // closed when nothing can be delivered any more
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(under)
		for {
			octets := make([]byte, proxyChunk)
			n, err := from.Read(octets)
			if n > 0 {
				_, delay, _, _ := p.state()
				select {
				case under <- chunk{octets[:n], time.Now().Add(delay)}:
				case <-gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	err := p.deliver(to, under)
	close(gone)
	if half, ok := to.(interface{ CloseWrite() error }); err == nil && ok {
		_ = half.CloseWrite() // it may be closed
	} else {
		to.Close()
		from.Close()
	}
	reading.Wait()
}

func (p *Proxy) deliver(to io.Writer, under <-chan chunk) error {
	for c := range under {
		_, _, rate, _ := p.state()
		wait := time.Until(c.arrive)
		if rate > 0 {
			wait = max(wait, time.Duration(int64(len(c.octets))*int64(time.Second)/rate))
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-p.ctx.Done():
				return p.ctx.Err()
			}
		}
		if err := p.uncut(); err != nil {
			return err
		}
		if _, err := to.Write(c.octets); err != nil {
			return err
		}
	}
	return nil
}
