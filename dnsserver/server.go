// Package dnsserver speaks DNS: it listens on UDP, TCP and TLS, admits or refuses clients, finds the zone of a
// question, and sends what package answer makes of it. It does not know where zones come from, how they
// are stored or changed.
//
// There are two lanes. The fast lane reads UDP in batches, and takes questions whose zone is in memory from packet
// to packet without allocating, on wire code of its own. The slow lane has goroutines and bounds of its own, and
// takes what may wait for a disk, or needs a general DNS library: zones that are not in memory, TSIG, transfers,
// updates. TCP has loops of the fast kind, and for what waits a bounded number of exchanges; TLS is a filter before them. In
// all of them the steps are those of exchange.serve.
//
// What holds:
//   - No packet stops the server: each is served under a recover, and answered with SERVFAIL at worst.
//   - Nothing grows without bound: workers, connections, queries under way, octets waiting to be written.
//   - What isn't known is SERVFAIL, never a denial.
package dnsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver/tsig"
	"balefire/store"
	"balefire/zones"
)

// Zones is what the server needs of a node: the zone that a question belongs to. *store.Store satisfies it. It is
// called by many goroutines at once, and does not keep qname.
type Zones interface {
	// Find returns the zone with the longest hosted apex at or above qname; for a DS at an apex, a hosted
	// parent. It may wait for a disk, and so may the view.
	Find(qname zones.Name, qtype zones.Type) store.Holding
	// FindHot is Find for those who must not wait; ok is false when Find is to be called by somebody who may.
	FindHot(qname zones.Name, qtype zones.Type) (h store.Holding, ok bool)
	// Current reports whether FindHot would find the same as when it gave the stamp.
	Current(at store.Stamp) bool
}

var _ Zones = (*store.Store)(nil)

// Options of a Server.
type Options struct {
	// Listen has HOST:PORT, each for UDP and TCP. Port 0 takes a free one, the same for both. 0.0.0.0 is all addresses
	// of IPv4, [::] all of IPv6, an empty host both; answers come from the very address that was asked.
	Listen []string
	// ListenTLS has HOST:PORT in the same way, for TLS (RFC 7858) over TCP. Certificate is then what clients are shown, and is
	// called in every handshake; nil is none.
	ListenTLS   []string
	Certificate func() *tls.Certificate
	Zones       Zones
	// Elsewhere is who answers for zones that other nodes have. Nil: nobody.
	Elsewhere Elsewhere
	// Contents is where zones that are to be transferred are read. Nil: none are.
	Contents Contents
	// DistantTransfers has zones transferred that other nodes have. Nil: they are not.
	DistantTransfers DistantTransfers
	// Access says who may transfer, update, or tell of changes of zones. Nil: nobody.
	Access Access
	// Keys are those that messages may be signed with (TSIG). Nil: there are none.
	Keys tsig.Ring
	// Updates is how UPDATEs change zones. Nil: they are refused.
	Updates Updates
	// Forward is how UPDATEs of zones that other nodes have get there. Nil: they are answered with SERVFAIL.
	Forward Forward
	// Notifies is told of NOTIFYs of secondary zones. Nil: they are refused.
	Notifies Notifies
	// Settings can be replaced while the server runs; see SetSettings.
	Settings Settings
	// Workers is how many UDP sockets each address gets, each with its own goroutine, and how many loops all TCP connections
	// are spread over. Default: GOMAXPROCS.
	Workers int
	// AnswerCache is how many octets all UDP workers together keep of answers that they have made; the loops of TCP keep an
	// eighth of it besides. Default 64 MiB; less than 0: none.
	AnswerCache int
	// SlowWorkers is how many queries over UDP may wait for a disk at once. Default 64.
	SlowWorkers int
	// Exchanges is how many queries over TCP may wait for a disk or another node at once. Default 512.
	Exchanges int
	// Transfers is how many zones may be transferred at once; a few more wait for their turn. Default 32.
	Transfers int
	// Logger is used at edges: listening, stopping, panics, and for each zone that was transferred. Nothing is logged per query.
	Logger zerolog.Logger
	// Now is the clock of cookies and rate limits. Default: time.Now.
	Now func() time.Time
}

// Server is a DNS server. Its methods may be used by many goroutines at once.
type Server struct {
	opts     Options
	settings atomic.Pointer[settings]
	limiter  *rateLimiter
	notices  *rateLimiter // of NOTIFYs
	tcp      tcpLimits
	tls      tlsState
	slow     *slowLane     // waits for this node's disk
	distant  *slowLane     // waits for other nodes
	asking   chan struct{} // exchanges over TCP that wait for other nodes
	changing *slowLane     // waits for the log: UPDATEs over UDP
	updating chan struct{} // those over TCP, and of other nodes' clients
	updates  updateCounts
	repeats  repeats
	free     exchangePool
	out      transferLane
	born     time.Time

	noticeSeed maphash.Seed
	passing    chan struct{} // NOTIFYs that wait for other nodes

	lastPanic atomic.Int64 // when a panic was last logged, Unix seconds
	panics    atomic.Uint64

	mu        sync.Mutex // guards what follows
	state     state
	endpoints []*endpoint
	exchanges []*exchange // all there are, for metrics
	readers   sync.WaitGroup
	conns     sync.WaitGroup
}

type state uint8

const (
	made state = iota
	running
	stopped
)

// endpoint is one address of Options.Listen, or of Options.ListenTLS, which has no UDP.
type endpoint struct {
	addr netip.AddrPort
	via  transport // of connections
	tcp  *tcpListener
	udp  []*udpSocket
}

// ErrStopped means that the server was stopped, or never started.
var ErrStopped = errors.New("dns server is not running")

// New checks the options and makes a server that does not listen yet.
func New(opts Options) (*Server, error) {
	if opts.Zones == nil || len(opts.Listen) == 0 {
		return nil, errors.New("dns server needs zones and an address to listen on")
	}
	if len(opts.ListenTLS) > 0 && opts.Certificate == nil {
		return nil, errors.New("dns server needs a certificate for TLS")
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.AnswerCache == 0 {
		opts.AnswerCache = 64 << 20
	}
	if opts.SlowWorkers <= 0 {
		opts.SlowWorkers = 64
	}
	if opts.Exchanges <= 0 {
		opts.Exchanges = 512
	}
	if opts.Transfers <= 0 {
		opts.Transfers = 32
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{opts: opts, limiter: newRateLimiter(), born: time.Now(), noticeSeed: maphash.MakeSeed()}
	if opts.Notifies != nil {
		s.notices, s.passing = newRateLimiter(), make(chan struct{}, passingNotifies)
	}
	s.free.init(s, opts.Exchanges)
	s.distant = newSlowLane(s, askingUDP, nil)
	s.slow = newSlowLane(s, opts.SlowWorkers, s.distant)
	s.asking = make(chan struct{}, askingTCP)
	s.out.init(opts.Transfers)
	s.changing = newSlowLane(s, updatingUDP, nil)
	s.updating = make(chan struct{}, updatingTCP)
	s.updates.init(opts.Logger)
	s.tcp.init()
	if len(opts.ListenTLS) > 0 {
		s.tls.init(opts.Certificate, opts.Workers/2)
	}
	if err := s.SetSettings(opts.Settings); err != nil {
		return nil, err
	}
	return s, nil
}

// SetSettings replaces the settings at once, for queries and connections that come after. Wrong
// settings change nothing.
func (s *Server) SetSettings(settings Settings) error {
	compiled, err := settings.compile()
	if err != nil {
		return err
	}
	s.settings.Store(compiled)
	return nil
}

// Start listens on all addresses and begins to answer. When it fails nothing is left listening.
func (s *Server) Start() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != made {
		return errors.New("dns server was started before")
	}
	defer func() {
		if err != nil {
			s.closeSockets()
			s.endpoints = nil // their numbers may be other files' from now on
		}
	}()
	for _, address := range s.opts.Listen {
		e, err := listen(address, overTCP, s.opts.Workers)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
		s.endpoints = append(s.endpoints, e)
	}
	for _, address := range s.opts.ListenTLS {
		e, err := listen(address, overTLS, 0)
		if err != nil {
			return fmt.Errorf("listen on %s for TLS: %w", address, err)
		}
		s.endpoints = append(s.endpoints, e)
	}
	if err := s.startTCP(); err != nil {
		return err
	}
	// A receiving loop that never drains its socket keeps its processor: without one more, everything else would
	// wait for the scheduler to take one away. There are as many loops for TCP as for UDP.
	if loops := 2 * s.opts.Workers; runtime.GOMAXPROCS(0) <= loops {
		runtime.GOMAXPROCS(loops + 1)
	}
	s.state = running
	s.slow.start()
	s.distant.start()
	s.changing.start()
	for _, e := range s.endpoints {
		for _, w := range s.newUDPWorkers(e) {
			s.readers.Go(w.run)
		}
		s.readers.Go(func() { s.accept(e.tcp, e.via) })
		if e.via == overTLS {
			s.opts.Logger.Info().Stringer("address", e.addr).Msg("answering DNS over TLS")
		} else {
			s.opts.Logger.Info().Stringer("address", e.addr).Msg("answering DNS over UDP and TCP")
		}
	}
	return nil
}

// Addrs returns the addresses that the server listens on, in the order of Options.Listen.
func (s *Server) Addrs() []netip.AddrPort { return s.addrs(overTCP) }

// TLSAddrs returns those for TLS, in the order of Options.ListenTLS.
func (s *Server) TLSAddrs() []netip.AddrPort { return s.addrs(overTLS) }

func (s *Server) addrs(via transport) (addrs []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.endpoints {
		if e.via == via {
			addrs = append(addrs, e.addr)
		}
	}
	return addrs
}

// Shutdown stops reading, answers what was read, and closes everything. When ctx ends first, connections are cut, and its
// error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.state != running {
		s.mu.Unlock()
		return ErrStopped
	}
	s.state = stopped
	for _, e := range s.endpoints {
		e.tcp.end()
		for _, socket := range e.udp {
			socket.end()
		}
	}
	s.mu.Unlock()
	s.endTCP()
	defer s.out.end()()

	done := make(chan struct{})
	go func() {
		s.readers.Wait()
		s.slow.stop()
		s.distant.stop()
		s.changing.stop()
		s.closeSockets() // not before: those who answer late use them
		s.conns.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.cutTCP()
	}
	if err == nil {
		s.opts.Logger.Info().Msg("stopped answering DNS")
	}
	return err
}

// closeSockets closes what is open. It is called once.
func (s *Server) closeSockets() {
	for _, e := range s.endpoints {
		e.close()
	}
}

func (e *endpoint) close() {
	e.tcp.close()
	for _, socket := range e.udp {
		socket.close()
	}
}

// newExchange makes an exchange whose counters are part of the server's metrics from now on.
func (s *Server) newExchange() *exchange {
	x := &exchange{server: s}
	s.mu.Lock()
	s.exchanges = append(s.exchanges, x)
	s.mu.Unlock()
	return x
}

// listenAttempts bounds the search for a port that is free for both UDP and TCP.
const listenAttempts = 20

// listen opens the sockets of an address. TCP comes first: it does not share its port, so a second server on the
// same address is noticed, which UDP with SO_REUSEPORT would not.
func listen(address string, via transport, workers int) (*endpoint, error) {
	for attempt := 1; ; attempt++ {
		e, err := tryListen(address, via, workers)
		if err == nil || attempt == listenAttempts {
			return e, err
		}
		if _, port, splitErr := net.SplitHostPort(address); splitErr != nil || port != "0" {
			return nil, err
		}
	}
}

func tryListen(address string, via transport, workers int) (*endpoint, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	family := "" // both
	if ip, err := netip.ParseAddr(host); err == nil {
		if family = "6"; ip.Is4() {
			family = "4"
		}
	}
	ln, err := net.Listen("tcp"+family, address)
	if err != nil {
		return nil, err
	}
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	e := &endpoint{addr: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), via: via}
	if e.tcp, err = newTCPListener(ln.(*net.TCPListener)); err != nil {
		return nil, err
	}
	if e.udp, err = listenUDP(family, e.addr, workers); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}
