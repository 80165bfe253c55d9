// Package notify tells other servers of changes of zones (RFC 1996): NOTIFY over UDP or TLS, asked for again with growing patience, until
// each has answered. It does not know where zones and their changes come from, nor what they hold but for the SOA.
//
// What holds:
//   - Only the newest serial counts. However often a zone changes, a server is told of it once a second at most, and at last of the last serial.
//   - A server that does not answer is asked for one zone at a time, so it holds up no other, and what it missed it is told when it is back.
//   - Nothing grows with changes or time, only with the zones that have servers to notify, a small part for each of these servers: messages under way
//     are bounded for each server, and sent no faster than a rate.
//   - Nothing is sent for a partition that this node is not on duty for, nor to an address that is no server's.
package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// Zone is what there is to know of a zone that servers are notified of.
type Zone struct {
	Apex   zones.Name
	Serial zones.Serial
	At     int64          // offset of the record that made it so, in the zone's partition: what is older than what is known is ignored
	Remote []zones.Remote // whom to tell; shared, and not changed
}

// Source is who knows for which partitions this node notifies, and of which zones.
type Source interface {
	// Partitions returns how many there are; 0 while that is not known.
	Partitions() int32
	// OnDuty reports whether this node notifies for a partition. It is asked often.
	OnDuty(partition int32) bool
	// EachNotified calls fn with each zone of a partition that has somebody to notify. It may wait. Changes that are reported meanwhile
	// may or may not be in it.
	EachNotified(ctx context.Context, partition int32, fn func(Zone)) error
}

// Session signs one NOTIFY and checks its answer (RFC 8945).
type Session interface {
	// SignRequest appends a signature to msg.
	SignRequest(msg []byte, now time.Time) []byte
	// VerifyAnswer checks the signature of an answer, which it may take away. After an error it can be called with another.
	VerifyAnswer(msg []byte, now time.Time) ([]byte, error)
}

// Options of a Notifier.
type Options struct {
	Source Source
	// SOA returns the SOA of a zone as it is now, to be sent along; ok is false when there is none to be had. It may wait for a disk. Nil: never.
	SOA func(apex zones.Name) (soa zones.RRset, ok bool)
	// Session begins to sign with a key; the error says why it can't. Nil: there are no keys.
	Session func(key zones.Name) (Session, error)
	// TLS is the client's part of configuration, certificates of authorities say; nil for none. It is cloned.
	TLS *tls.Config
	// Allowed are networks that are sent to although they are no servers' (see zones.Remote.Check).
	Allowed []netip.Prefix
	// Local are the addresses that messages come from, at most one of each family; without one, the system chooses.
	Local []netip.Addr
	// PerSecond is how many messages are sent each second at most. Default 1000.
	PerSecond int
	Logger    zerolog.Logger
}

const (
	// maxAttempts is how often a server is told before it is given up until something new happens.
	maxAttempts = 5
	// firstPatience is how long an answer is waited for the first time; each time after that twice as long.
	firstPatience = time.Second
	// pause is the time between two NOTIFYs of a zone to a server.
	pause = time.Second
	// maxWindow is how many messages may be under way to one server.
	maxWindow = 32
	// batch is how many messages are made at once.
	batch = 32
	// dutyInterval is how often it is looked for which partitions this node is on duty.
	dutyInterval = time.Second
	// defaultPerSecond serves 100,000 zones in two minutes, and troubles no server.
	defaultPerSecond = 1000
)

// Status is how a server stands to a zone.
type Status struct {
	Remote zones.Remote
	// Serial is the last one that the server has answered a NOTIFY of, at Told; Told is zero when it has answered none.
	Serial zones.Serial
	Told   time.Time
	// Pending: it is yet to be told of the present serial. Attempts is how often that was tried without an answer.
	Pending  bool
	Attempts int
	// Fault says what went wrong last; "" when nothing did.
	Fault string
}

// ErrNotOnDuty means that another node notifies for the zone, or none because it is not known.
var ErrNotOnDuty = errors.New("this node does not notify servers of the zone")

// Notifier tells servers of changes. Its methods may be used by many goroutines.
type Notifier struct {
	opts    Options
	metrics metrics
	net     network
	// patience is how long a server is waited for that is spoken to over TLS.
	patience time.Duration
	cancel   context.CancelFunc
	work     sync.WaitGroup
	wake     chan struct{} // capacity 1: there is something to send
	look     chan struct{} // capacity 1: partitions are to be looked at now

	mu     sync.Mutex // guards what follows
	parts  map[int32]*part
	peers  map[zones.Remote]*peer
	ready  []*peer // those that have something to be sent, and may be sent something
	due    deadlines
	flying map[flightKey]*target
	credit float64   // messages that may be sent now
	filled time.Time // when credit was reckoned
}

// New makes a Notifier, which does nothing before Start.
func New(opts Options) *Notifier {
	if opts.PerSecond <= 0 {
		opts.PerSecond = defaultPerSecond
	}
	n := &Notifier{
		opts: opts, patience: askPatience, wake: make(chan struct{}, 1), look: make(chan struct{}, 1),
		parts: make(map[int32]*part), peers: make(map[zones.Remote]*peer), flying: make(map[flightKey]*target),
	}
	n.metrics.init(n)
	n.net = &sockets{notifier: n}
	return n
}

// Start opens sockets and begins to notify. Without a socket for a family, servers of that family are not told.
func (n *Notifier) Start() error {
	if err := n.net.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.filled = time.Now()
	n.credit = batch
	n.work.Go(func() { n.follow(ctx) })
	n.work.Go(func() { n.send(ctx) })
	return nil
}

// Close stops, and waits until nothing is under way. It must be called once, after Start.
func (n *Notifier) Close() error {
	n.cancel()
	err := n.net.close()
	n.work.Wait()
	return err
}

// Changed says that a zone of a partition is now so. Without remotes, or when gone, nobody is told any more. It does not wait.
func (n *Notifier) Changed(partition int32, z Zone, gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.parts[partition]
	if p == nil {
		return // all will be looked at when it comes to that
	}
	if gone {
		z.Remote = nil
	}
	n.set(p, z, true)
	n.stir()
}

// Reset says that all zones of a partition may be different from what is known. It does not wait.
func (n *Notifier) Reset(partition int32) {
	n.mu.Lock()
	if p := n.parts[partition]; p != nil {
		p.stale = true
	}
	n.mu.Unlock()
	select {
	case n.look <- struct{}{}:
	default:
	}
}

// Notified returns how the servers stand that are notified of a zone, in the order of its settings; ErrNotOnDuty.
func (n *Notifier) Notified(apex zones.Name) ([]Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.parts {
		z := p.zones[apex]
		if z == nil {
			continue
		}
		all := make([]Status, len(z.targets))
		for i, t := range z.targets {
			all[i] = t.status()
		}
		return all, nil
	}
	return nil, ErrNotOnDuty
}

func (t *target) status() Status {
	s := Status{
		Remote: t.peer.remote, Serial: t.told, Told: t.toldAt, Fault: t.fault,
		Pending: t.state.pending(),
	}
	if t.flight != nil {
		s.Attempts = t.flight.attempt
		switch {
		case t.flight.fault != "":
			s.Fault = t.flight.fault
		case s.Attempts > 0:
			s.Fault = noAnswer
		}
	}
	return s
}

// stir wakes the sending loop.
func (n *Notifier) stir() {
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}

// set takes over how a zone is; n.mu is held. fresh says that it has just become so.
func (n *Notifier) set(p *part, z Zone, fresh bool) {
	known := p.zones[z.Apex]
	if known != nil && known.at > z.At || p.scanning && p.gone[z.Apex] > z.At {
		if known != nil {
			known.scan = p.scan
		}
		return // something newer is known
	}
	if len(z.Remote) == 0 {
		if known != nil {
			n.drop(p, known)
		}
		if p.scanning {
			p.gone[z.Apex] = z.At
		}
		return
	}
	if known == nil {
		known = &zone{apex: z.Apex}
		p.zones[z.Apex] = known
	}
	known.serial, known.at, known.scan = z.Serial, z.At, p.scan
	n.retarget(known, z.Remote)
	for _, t := range known.targets {
		if !t.done || t.doneSerial != z.Serial {
			n.want(t, fresh)
		}
	}
}

// retarget gives a zone a target for each remote, once; those that were there stay as they are.
func (n *Notifier) retarget(z *zone, remotes []zones.Remote) {
	old := z.targets
	same := len(old) == len(remotes)
	for i := 0; same && i < len(old); i++ {
		same = old[i].peer.remote == canonical(remotes[i])
	}
	if same {
		return
	}
	z.targets = make([]*target, 0, len(remotes))
	of := func(r zones.Remote) func(*target) bool { return func(t *target) bool { return t.peer.remote == r } }
	for _, r := range remotes {
		r = canonical(r)
		if slices.ContainsFunc(z.targets, of(r)) {
			continue
		}
		if i := slices.IndexFunc(old, of(r)); i >= 0 {
			z.targets = append(z.targets, old[i])
			continue
		}
		z.targets = append(z.targets, n.newTarget(z, r))
	}
	for _, t := range old {
		if !slices.Contains(z.targets, t) {
			n.forget(t)
		}
	}
}

// canonical is a remote so that the same server has one form.
func canonical(r zones.Remote) zones.Remote {
	r.Addr = netip.AddrPortFrom(r.Addr.Addr().Unmap(), r.Addr.Port())
	return r
}

func (n *Notifier) drop(p *part, z *zone) {
	for _, t := range z.targets {
		n.forget(t)
	}
	delete(p.zones, z.apex)
}

// jitter spreads a time by a fifth to both sides, so that what began together does not stay together.
func jitter(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5+1) }

// Describe is for the registry.
func (n *Notifier) Describe(ch chan<- *prometheus.Desc) { n.metrics.describe(ch) }

// Collect is for the registry.
func (n *Notifier) Collect(ch chan<- prometheus.Metric) { n.metrics.collect(ch) }
