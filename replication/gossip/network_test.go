package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// region is a network in memory with the nodes on it. In a bubble of synctest its time is the bubble's.
type region struct {
	t       *testing.T
	timings Timings

	mu   sync.Mutex
	open map[string]*endpoint
	cut  func(from, to string) bool // nil: all reach all
}

// pass lets time pass in the test's bubble (testing/synctest), and lets all that is due by then come to rest. The bubble's clock only moves
// while nothing in it can run, so that it is the event: what has not happened at a time of it does not happen before a later one. Outside of
// a bubble it panics.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func newRegion(t *testing.T) *region {
	// Memberlist's goroutines end a moment after it is closed, by their own time-outs.
	t.Cleanup(func() { pass(time.Minute) })
	return &region{t: t, timings: LAN(), open: map[string]*endpoint{}}
}

// start starts a node; its address is 10.0.0.N:7946 for N of "nodeN", unless change says otherwise.
func (r *region) start(id string, change func(*Options)) *Gossip {
	r.t.Helper()
	o := Options{
		Member:    Member{ID: id, Region: "eu", Group: "blue", Version: "v1", DNS: "10.0.0.1:53", Relay: "10.0.0.1:8853"},
		Namespace: "prod", Listen: "10.0.0." + strings.TrimPrefix(id, "node") + ":7946", Join: []string{"10.0.0.1:7946"},
		Key: bytes.Repeat([]byte{7}, 32), Timings: r.timings, Logger: zerolog.Nop(),
	}
	if change != nil {
		change(&o)
	}
	o.network = r.at(o.Listen)
	g, err := Start(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { crash(r.t, g) })
	return g
}

func crash(t *testing.T, g *Gossip) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// separate cuts all nodes of one side off the others; nil heals.
func (r *region) separate(side func(address string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = nil
	if side != nil {
		r.cut = func(from, to string) bool { return side(from) != side(to) }
	}
}

type at struct {
	r       *region
	address string
}

func (r *region) at(address string) network { return at{r, address} }

func (a at) listen(host string, port int, _ *log.Logger) (memberlist.NodeAwareTransport, error) {
	address := fmt.Sprintf("%s:%d", host, port)
	a.r.mu.Lock()
	defer a.r.mu.Unlock()
	if a.r.open[address] != nil {
		return nil, errors.New("address already in use")
	}
	e := &endpoint{r: a.r, address: netip.MustParseAddrPort(address), packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 128)}
	a.r.open[address] = e
	return e, nil
}

func (a at) dial(ctx context.Context, to string) (net.Conn, error) {
	e, err := a.r.reach(a.address, to)
	if err != nil {
		<-ctx.Done() // like a network that loses what can't be delivered
		return nil, err
	}
	from := netip.MustParseAddrPort(a.address)
	here, there := net.Pipe()
	select {
	case e.streams <- pipe{there, from}:
		return pipe{here, e.address}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *region) reach(from, to string) (*endpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.open[to]
	if e == nil || r.cut != nil && r.cut(from, to) {
		return nil, fmt.Errorf("no way from %s to %s", from, to)
	}
	return e, nil
}

// pipe is a net.Pipe whose other end has an address.
type pipe struct {
	net.Conn
	remote netip.AddrPort
}

func (p pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

// endpoint is one node's transport.
type endpoint struct {
	r       *region
	address netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (e *endpoint) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return e.address.Addr().AsSlice(), int(e.address.Port()), nil
}

func (e *endpoint) WriteTo(b []byte, to string) (time.Time, error) {
	return e.WriteToAddress(b, memberlist.Address{Addr: to})
}

func (e *endpoint) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	other, err := e.r.reach(e.address.String(), to.Addr)
	if err != nil {
		return time.Now(), nil //nolint:nilerr // packets get lost without a word
	}
	select {
	case other.packets <- &memberlist.Packet{Buf: bytes.Clone(b), From: net.UDPAddrFromAddrPort(e.address), Timestamp: time.Now()}:
	default: // lost
	}
	return time.Now(), nil
}

func (e *endpoint) PacketCh() <-chan *memberlist.Packet { return e.packets }
func (e *endpoint) StreamCh() <-chan net.Conn           { return e.streams }

func (e *endpoint) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (e *endpoint) DialAddressTimeout(memberlist.Address, time.Duration) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (e *endpoint) Shutdown() error {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if e.r.open[e.address.String()] == e {
		delete(e.r.open, e.address.String())
	}
	return nil
}
