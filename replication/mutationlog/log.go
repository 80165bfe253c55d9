package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// watchInterval is how often the topics are looked at again: a topic that was replaced is found within two of them.
	watchInterval = 4 * time.Second
	// awayInterval is how often, while they are out of reach; the client's own attempts are at most maxBackoff apart.
	awayInterval = 250 * time.Millisecond
	maxBackoff   = time.Second
	// metadataAge is how old may be what the client says of topics. It is less than both intervals, or a topic that was just made
	// would seem to be missing.
	metadataAge = 200 * time.Millisecond
	// requestTimeout bounds every question to the brokers.
	requestTimeout = 5 * time.Second
	// Attempts to reach the log begin this far apart, and end that far.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	// maxSaid is how many reasons are logged why the log is out of reach, until it is in reach again: each broker has its own.
	maxSaid = 8
	// defaultDelivery is how long a record may wait to be sent.
	defaultDelivery = 10 * time.Second
)

// Options says which log to open. Namespace and either Brokers or Dir are needed.
type Options struct {
	Namespace string
	Brokers   []string // host:port of some brokers; none means the embedded broker
	Dir       string   // where the embedded broker keeps its files; only it has this directory
	// Partitions is how many the mutations topic is created with, 0 for a default: 64, or 8 with the embedded broker. A namespace
	// that exists keeps what it has.
	Partitions int32
	// Retention is what the mutations topic must keep at least: three times the snapshot interval and the longest outage
	// of a node. 0 means all of it, which is right as long as there are no snapshots that another node can have.
	Retention time.Duration
	// CacheFile is where the state of the control topic is kept, so that a node starts without the log. Its folder exists.
	CacheFile string
	// DeliveryTimeout bounds how long a record may wait to be sent; 0 means 10 s.
	DeliveryTimeout time.Duration
	Logger          zerolog.Logger
	// Client adds options of the Kafka client: TLS, SASL.
	Client []kgo.Opt

	watch time.Duration // instead of watchInterval, in tests
}

// Log is a namespace's log. Its methods may be used from many goroutines.
type Log struct {
	opts      Options
	log       zerolog.Logger
	mutations string // the topics' names
	controls  string
	catalogs  string
	reach     []kgo.Opt // how a client finds the brokers
	embedded  *embedded // nil with real brokers, or when its files are damaged
	client    *kgo.Client
	admin     *kadm.Client
	control   *Control
	consumer  *consumer
	sends     *sendCounter

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	close  sync.Once

	established chan struct{} // closed once the log is known to be the namespace's
	failed      chan error    // capacity 1

	mu         sync.Mutex
	reachable  bool
	fault      error           // sticky
	trying     error           // why the last attempt to reach the log failed
	said       map[string]bool // what was logged about that since it was last in reach
	complaints []Complaint

	catalogID         [16]byte // zeros until known
	catalogSeen       bool     // the settings of this one have been looked at
	catalogComplaints []Complaint
}

// Status is what is known of the log.
type Status struct {
	Established bool  // the log was reached and is the namespace's; true for ever once it is
	Reachable   bool  // the brokers answered the last time they were asked
	Fault       error // why nothing is applied or published until the next start: a *MismatchError, or marked ErrCorrupt
	Trying      error // why the log could not be reached the last time; nil while Reachable
	Complaints  []Complaint
	Embedded    bool
}

var namespacePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,199}$`)

// Open opens the log of a namespace. It waits for no broker: with real brokers it returns at once, and with the
// embedded one when its files have been read. Damaged files of the embedded broker are not an error but a fault in the
// Status, so that a node can still answer; a directory that another process has is an error.
func Open(opts Options) (*Log, error) {
	if !namespacePattern.MatchString(opts.Namespace) {
		return nil, fmt.Errorf("namespace %q: want letters, digits, - and _, at most 200", opts.Namespace)
	}
	if opts.DeliveryTimeout == 0 {
		opts.DeliveryTimeout = defaultDelivery
	}
	if opts.watch == 0 {
		opts.watch = watchInterval
	}
	if opts.Partitions == 0 {
		opts.Partitions = 64
		if len(opts.Brokers) == 0 {
			opts.Partitions = 8
		}
	}
	l := &Log{
		opts: opts, log: opts.Logger,
		mutations:   opts.Namespace + ".mutations",
		controls:    opts.Namespace + ".control",
		catalogs:    opts.Namespace + ".catalog",
		sends:       new(sendCounter),
		said:        make(map[string]bool),
		established: make(chan struct{}),
		failed:      make(chan error, 1),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if len(opts.Brokers) > 0 {
		l.reach = []kgo.Opt{kgo.SeedBrokers(opts.Brokers...)}
	} else {
		broker, err := startEmbedded(opts.Dir, opts.Logger)
		switch {
		case errors.Is(err, ErrCorrupt):
			l.fault = err
			l.reach = []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1"), kgo.Dialer(noBroker)}
		case err != nil:
			l.cancel()
			return nil, err
		default:
			l.embedded = broker
			l.reach = broker.clientOptions()
		}
	}
	client, err := l.newClient()
	if err != nil {
		l.cancel()
		return nil, errors.Join(err, l.closeBroker())
	}
	l.client, l.admin = client, kadm.NewClient(client)
	l.control = loadControl(opts.CacheFile, opts.Namespace, opts.Logger)
	l.consumer = newConsumer(client)
	if l.fault != nil {
		l.log.Error().Err(l.fault).Msg("nothing is applied or published; answers go on")
		l.consumer.fail(l.fault)
		return l, nil
	}
	if l.embedded != nil {
		l.done.Go(l.superviseBroker)
	}
	l.done.Go(l.consumer.run)
	l.done.Go(l.run)
	return l, nil
}

// newClient makes a client with all rails: exact offsets and no resets, idempotent writes that all in-sync replicas have.
func (l *Log) newClient() (*kgo.Client, error) {
	options := append([]kgo.Opt{
		kgo.ClientID("balefire"),
		kgo.WithHooks(l.sends),
		kgo.WithLogger(clientLog{l.log}),
		kgo.MetadataMinAge(metadataAge),
		kgo.RetryBackoffFn(backoff),
		// Without it, a client that is out of range goes on somewhere else, in silence.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// The ends of transactions take offsets, which are missing without them.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxBytes(8 << 20),
		kgo.FetchMaxPartitionBytes(512 << 10),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(l.opts.DeliveryTimeout),
		// No lingering: what comes while a request is under way goes with the next one.
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.BrokerMaxWriteBytes(maxWrite),
		kgo.MaxBufferedRecords(maxBuffered),
		kgo.MaxBufferedBytes(maxBufferedBytes),
	}, l.reach...)
	client, err := kgo.NewClient(append(options, l.opts.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("client of the log: %w", err)
	}
	return client, nil
}

// ClientOptions returns the options with which another client reaches the same brokers, with their TLS and SASL.
func (l *Log) ClientOptions() []kgo.Opt {
	return append(append([]kgo.Opt{kgo.ClientID("balefire"), kgo.WithLogger(clientLog{l.log})}, l.reach...), l.opts.Client...)
}

// backoff is how long the client waits before it tries again, with jitter: many nodes lose a broker at the same moment.
func backoff(failures int) time.Duration {
	most := min(maxBackoff, 50*time.Millisecond<<min(failures, 10))
	return most/2 + rand.N(most/2)
}

// Established is closed when the log has been reached and found to be the namespace's, and the control topic has been
// read to its end.
func (l *Log) Established() <-chan struct{} { return l.established }

// Failed gives the first failure of the embedded broker to keep its files. The log is at fault from then on; the
// process does well to end, and to verify the files at its next start.
func (l *Log) Failed() <-chan error { return l.failed }

// Status returns what is known of the log.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		Reachable: l.reachable, Fault: l.fault, Trying: l.trying,
		Complaints: slices.Concat(l.complaints, l.catalogComplaints), Embedded: len(l.opts.Brokers) == 0,
	}
	select {
	case <-l.established:
		s.Established = true
	default:
	}
	return s
}

// Partitions returns how many partitions the namespace has, or 0 if that was never learned.
func (l *Log) Partitions() int32 {
	ns, _ := l.control.namespace()
	return ns.Partitions
}

// TopicID returns the id of the mutations topic, or zeros if it was never learned.
func (l *Log) TopicID() [16]byte {
	ns, _ := l.control.namespace()
	return ns.TopicID
}

// MutationsTopic returns the name of the mutations topic.
func (l *Log) MutationsTopic() string { return l.mutations }

// Control returns what the control topic says.
func (l *Log) Control() *Control { return l.control }

// Sizes returns how many octets each partition of the embedded log takes on disk, and nothing with real brokers.
// Their sum is to be kept under EmbeddedSoftLimit.
func (l *Log) Sizes() (map[int32]int64, error) {
	if l.embedded == nil {
		return nil, nil
	}
	sizes, err := l.embedded.sizes(l.mutations)
	if err != nil {
		return nil, fmt.Errorf("size of the embedded log: %w", err)
	}
	return sizes, nil
}

// Close gives up whatever is under way, and stops the embedded broker. Records that were not acknowledged may be in
// the log or not.
func (l *Log) Close() error {
	var err error
	l.close.Do(func() {
		l.cancel()
		l.consumer.fail(ErrClosed)
		l.consumer.release()
		l.client.Close()
		l.done.Wait()
		err = l.closeBroker()
	})
	return err
}

func (l *Log) closeBroker() error {
	if l.embedded == nil {
		return nil
	}
	return l.embedded.Close()
}

func (l *Log) superviseBroker() {
	select {
	case err := <-l.embedded.failed:
		l.setFault(err)
		l.failed <- err
	case <-l.ctx.Done():
	}
}

// run reaches the log, as often as it takes, and then watches it.
func (l *Log) run() {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := l.establish(l.ctx)
		var mismatch *MismatchError
		if errors.As(err, &mismatch) {
			l.setFault(err)
			return
		}
		l.setTrying(err)
		if err == nil {
			break
		}
		if l.ctx.Err() != nil {
			return
		}
		if !l.sleep(wait) {
			return
		}
	}
	close(l.established)
	l.done.Go(l.followControl)
	for wait := l.untilNextLook(0, nil); l.sleep(wait); {
		err := l.verifyTopics(l.ctx)
		wait = l.untilNextLook(wait, err)
		var mismatch *MismatchError
		if errors.As(err, &mismatch) {
			l.setFault(err)
			return
		}
		if l.ctx.Err() == nil {
			l.setTrying(err)
		}
	}
}

// untilNextLook returns when the topics are looked at again, after a look that has ended with err, and before which there was a wait.
func (l *Log) untilNextLook(waited time.Duration, err error) time.Duration {
	switch {
	case err != nil: // nothing is published until the log is known to be back
		return min(awayInterval, l.opts.watch)
	case l.embedded == nil && !l.catalogLooked():
		// Without the catalog this node learns of no zones elsewhere, and another one may be making it just now. Or it may not be made: then it is
		// asked for less and less often.
		return min(max(awayInterval, 2*waited), watchInterval, l.opts.watch)
	}
	return l.opts.watch
}

func (l *Log) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (l *Log) setTrying(err error) {
	err = explain(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && !l.reachable:
		l.log.Info().Msg("the log is in reach")
		clear(l.said)
	case err != nil && !l.said[err.Error()] && len(l.said) < maxSaid:
		l.log.Warn().Err(err).Msg("the log is out of reach; what is held is answered from, and it is tried again all the time")
		l.said[err.Error()] = true
	}
	l.reachable, l.trying = err == nil, err
}

// setFault stops all reading and publishing for good.
func (l *Log) setFault(err error) {
	l.mu.Lock()
	first := l.fault == nil
	if first {
		l.fault = err
	}
	l.mu.Unlock()
	if first {
		l.log.Error().Err(err).Msg("nothing is applied or published any more; answers go on")
		l.consumer.fail(err)
	}
}

// usable returns why the log can't be used now, or nil.
func (l *Log) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		return l.fault
	}
	if l.ctx.Err() != nil {
		return ErrClosed
	}
	select {
	case <-l.established:
		return nil
	default:
		return ErrNotEstablished
	}
}

// clientLog passes on what the Kafka client warns of.
type clientLog struct{ log zerolog.Logger }

func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (c clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	c.log.Debug().Fields(keyvals).Str("client", msg).Msg("log client")
}
