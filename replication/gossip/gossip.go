package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// Options are who this node is, and how it reaches the others.
type Options struct {
	Member
	Namespace string // with the region: others than these are kept out
	Listen    string // HOST:PORT, UDP and TCP; port 0: any
	Advertise string // HOST:PORT by which others reach it; empty: where it listens. Port 0: the one that it listens at
	Join      []string
	Key       []byte  // 16, 24 or 32 octets, the same in the whole region; nil: not encrypted
	Timings   Timings // zero: LAN
	Logger    zerolog.Logger
	Now       func() time.Time // nil: time.Now

	network network // nil: the machine's
}

// network is where a transport of memberlist's comes from.
type network interface {
	listen(host string, port int, logger *log.Logger) (memberlist.NodeAwareTransport, error)
	dial(ctx context.Context, address string) (net.Conn, error)
}

// Gossip is this node's part in the region's gossip. All its methods may be called at the same time.
type Gossip struct {
	options  Options
	timings  Timings
	now      func() time.Time
	list     *memberlist.Memberlist
	address  string
	net      *transport
	log      *logs
	troubles *troubles
	metrics  *metrics

	published atomic.Pointer[published]
	wake      chan struct{} // something has changed that a map shows
	joinNow   chan struct{} // the last peer is gone
	ask       chan string   // the address of a node that is to be asked for its record

	mu     sync.Mutex // held for short, never while memberlist is called
	ledger *ledger
	own    own

	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup

	lifecycle sync.Mutex // of Leave and Close, which memberlist wants one after the other
	closed    bool
}

// published is a map, and what is closed when there is a newer one.
type published struct {
	*Map
	changed chan struct{}
}

// Start begins to listen, and to look for the others, which goes on until Close; that none of them answers is no error.
func Start(o Options) (*Gossip, error) {
	if o.Timings == (Timings{}) {
		o.Timings = LAN()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.network == nil {
		o.network = machine{}
	}
	o.Incarnation = uint64(max(o.Now().UnixNano(), 1))
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	g := &Gossip{
		options: o, timings: o.Timings, now: o.Now,
		troubles: newTroubles(o.Timings.Trouble),
		wake:     make(chan struct{}, 1), joinNow: make(chan struct{}, 1), ask: make(chan string, 1),
		ledger: newLedger(o.ID, o.Incarnation, o.Now()),
	}
	g.log = newLogs(o.Logger, g.troubles, o.Now)
	g.metrics = newMetrics(g)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.own.begin(g.ledger, &o.Member)
	g.published.Store(&published{newMap(g.ledger.peers()), make(chan struct{})})
	config, err := g.config()
	if err != nil {
		g.cancel()
		return nil, fmt.Errorf("start gossip at %s: %w", o.Listen, err)
	}
	g.net = config.Transport.(*transport)
	if g.list, err = memberlist.Create(config); err != nil {
		g.cancel()
		return nil, fmt.Errorf("start gossip at %s: %w", o.Listen, errors.Join(err, g.net.Shutdown()))
	}
	g.address = g.list.LocalNode().Address()
	g.loops.Go(g.run)
	g.loops.Go(g.keepJoining)
	return g, nil
}

// maxLabel leaves room in memberlist's packets.
const maxLabel = 128

func (o *Options) validate() error {
	if err := o.Member.validate(); err != nil {
		return err
	}
	if o.Namespace == "" || o.Region == "" || len(o.label()) > maxLabel {
		return fmt.Errorf("namespace %q and region %q: want both, with less than %d octets together", o.Namespace, o.Region, maxLabel)
	}
	switch len(o.Key) {
	case 0, 16, 24, 32:
	default:
		return fmt.Errorf("the key has %d octets: want 16, 24 or 32", len(o.Key))
	}
	return nil
}

// label is in front of all that is sent, and authenticated where there is a key. The length keeps two different pairs apart.
func (o *Options) label() string {
	return strconv.Itoa(len(o.Namespace)) + ":" + o.Namespace + "/" + o.Region
}

func (g *Gossip) config() (*memberlist.Config, error) {
	o, t := &g.options, &g.timings
	c := memberlist.DefaultLANConfig()
	c.Name = o.ID
	c.Label = o.label()
	c.SecretKey = o.Key
	c.Logger = log.New(g.log, "", 0)
	// Twice as often as our own rumours, which are told as in a region of ten nodes at least: nodes that are started together know few.
	c.GossipInterval, c.GossipNodes, c.RetransmitMult = t.Gossip, gossipNodes, 2*retransmitTimes
	c.ProbeInterval, c.ProbeTimeout = t.Probe, t.Ack
	c.PushPullInterval, c.TCPTimeout = t.Exchange, t.Stream
	c.GossipToTheDeadTime = 30 * t.Probe
	// A node that died and comes back elsewhere is the same one: its ID is its own, and the higher incarnation wins.
	c.DeadNodeReclaimTime = time.Nanosecond
	// Our octets are packed already, and digests don't compress.
	c.EnableCompression = false
	d := delegate{g}
	c.Delegate, c.Events, c.Conflict, c.Alive, c.Ping = d, d, d, d, d

	host, port, err := resolve(g.ctx, o.Listen)
	if err != nil {
		return nil, err
	}
	c.BindAddr, c.BindPort = host, port
	inner, err := o.network.listen(host, port, c.Logger)
	if err != nil {
		return nil, err
	}
	c.Transport = newTransport(inner, o.network.dial)
	if o.Advertise != "" {
		host, port, err := resolve(g.ctx, o.Advertise)
		if err != nil {
			return nil, errors.Join(err, c.Transport.Shutdown())
		}
		if port == 0 {
			_, port, err = inner.FinalAdvertiseAddr("", 0)
		}
		if err != nil {
			return nil, errors.Join(err, c.Transport.Shutdown())
		}
		c.AdvertiseAddr, c.AdvertisePort = host, port
	}
	return c, nil
}

// machine is the network of the machine.
type machine struct{}

func (machine) listen(host string, port int, logger *log.Logger) (memberlist.NodeAwareTransport, error) {
	if host == "" {
		host = "0.0.0.0"
	}
	// One port must be free for UDP and TCP, which the kernel can't be asked for.
	attempts := 1
	if port == 0 {
		attempts = 10
	}
	var failures error
	for range attempts {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: logger})
		if err == nil {
			return t, nil
		}
		failures = err
	}
	return nil, failures
}

func (machine) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// resolve makes an IP address of a host, since memberlist knows no others.
func resolve(ctx context.Context, address string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q: want a number", service)
	}
	if host == "" || net.ParseIP(host) != nil {
		return host, int(number), nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", 0, err
	}
	return addresses[0].Unmap().String(), int(number), nil
}

// Map returns what is known now. It costs one atomic load.
func (g *Gossip) Map() *Map { return g.published.Load().Map }

// Changed returns what is closed at the next change of the map. Who waits for something takes it first, and then looks at Map.
func (g *Gossip) Changed() <-chan struct{} { return g.published.Load().changed }

// Address is the HOST:PORT by which the others reach this node's gossip.
func (g *Gossip) Address() string { return g.address }

// Troubles are what people should know, and do something about; empty when all is well.
func (g *Gossip) Troubles() []string {
	list := g.troubles.list(g.options.ID, g.now())
	list = append(list, skewed(g.Map().Peers())...)
	g.mu.Lock()
	refused, invalid := g.ledger.refused, g.own.invalid
	g.mu.Unlock()
	if refused > 0 {
		list = append(list, fmt.Sprintf("%d times, something of a node was left out: gossip keeps no more than %d nodes and %d MiB", refused, MaxMembers, maxOctets>>20))
	}
	if invalid > 0 {
		list = append(list, fmt.Sprintf("claims of %d partitions are not gossiped: the highest is %d", invalid, MaxPartitions-1))
	}
	return list
}

// run publishes maps, tells positions, and forgets the dead.
func (g *Gossip) run() {
	ticker := time.NewTicker(g.timings.Positions)
	defer ticker.Stop()
	pause := time.NewTimer(0)
	pause.Stop()
	defer pause.Stop()
	var last time.Time
	for ticks := 1; ; {
		select {
		case <-g.wake:
			// The first change is shown at once, those that come hard on its heels together.
			pause.Reset(max(0, g.timings.Publish-time.Since(last)))
		case <-pause.C:
			g.publish(true)
			last = time.Now()
		case <-ticker.C:
			g.tick(ticks%seenTicks == 0)
			ticks++
		case <-g.ctx.Done():
			return
		}
	}
}

// publish makes a map. Nobody is woken for one that differs only in when nodes were seen.
func (g *Gossip) publish(news bool) {
	g.mu.Lock()
	self, peers := g.ledger.peers()
	g.mu.Unlock()
	next := &published{newMap(self, peers), g.published.Load().changed}
	if !news {
		g.published.Store(next)
		return
	}
	next.changed = make(chan struct{})
	close(g.published.Swap(next).changed)
	g.metrics.maps.Inc()
}

// seenTicks are how many ticks there are to a map that shows nothing new but when nodes were seen.
const seenTicks = 10

// tick does what is done now and then.
func (g *Gossip) tick(seen bool) {
	now := g.now()
	g.mu.Lock()
	g.ledger.self.seen = now
	forgotten := g.ledger.forgetDead(now, g.timings.Forget)
	moved := g.own.refresh(g.ledger)
	g.own.tellPositions(g.ledger, now, g.timings.Positions)
	doubtful := ""
	if len(g.ask) == 0 {
		doubtful = g.ledger.doubtful(now, 2*g.timings.Positions, g.timings.Rejoin)
	}
	g.mu.Unlock()
	if doubtful != "" {
		g.ask <- doubtful // only this goroutine sends, so there is room
	}
	switch {
	case forgotten > 0 || moved:
		g.changed()
	case seen:
		g.publish(false)
	}
}

// changed asks for a new map. It doesn't wait.
func (g *Gossip) changed() {
	select {
	case g.wake <- struct{}{}:
	default: // asked for already
	}
}

// defaultGoodbye is how long Leave takes at most when its context has no end.
const defaultGoodbye = 5 * time.Second

// Leave says goodbye, so that the others know at once that this node is gone, and are not told that it failed. Call Close
// afterwards. When it fails, the others find out by themselves.
func (g *Gossip) Leave(ctx context.Context) error {
	g.lifecycle.Lock()
	defer g.lifecycle.Unlock()
	if g.closed {
		return errors.New("leave gossip: it is closed")
	}
	timeout := defaultGoodbye
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	if err := ctx.Err(); err != nil || timeout <= 0 {
		return fmt.Errorf("leave gossip: %w", context.Cause(ctx))
	}
	g.mu.Lock()
	g.own.leave(g.ledger)
	g.mu.Unlock()
	g.changed()
	if err := g.list.Leave(timeout); err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// Close ends all of it, and waits until it has ended. Without Leave before, the others take this node for failed. The last map stays.
func (g *Gossip) Close() error {
	g.lifecycle.Lock()
	defer g.lifecycle.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	g.cancel()
	g.log.close()
	err := g.list.Shutdown()
	g.loops.Wait()
	if err != nil {
		return fmt.Errorf("close gossip: %w", err)
	}
	return nil
}

// shuffleRecords is chance, so that all get their turn.
func shuffleRecords(r []*record) { rand.Shuffle(len(r), func(i, j int) { r[i], r[j] = r[j], r[i] }) }
