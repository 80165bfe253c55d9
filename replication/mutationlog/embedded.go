package mutationlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The embedded broker is franz-go's test broker, kept on disk and synced at every write. It is reachable inside the
// process only, through a network in memory: its protocol parser trusts whoever speaks to it. Broker has a way for others.
const (
	// embeddedPort names the broker on the network in memory. No port of the machine is opened.
	embeddedPort = 9092
	// EmbeddedSoftLimit is the size that the embedded log's owner keeps it under, by trimming, in octets. The broker
	// keeps an index of all of it in memory, and reads all of it when it starts.
	EmbeddedSoftLimit = 256 << 20
	// Segments are small, because only whole ones are removed from the disk: the last ones of all partitions together
	// stay well below the limit.
	segmentShare = 32 << 20
	segmentLeast = 256 << 10
)

// segmentSetting is the size of a segment of a topic.
func segmentSetting(partitions int32) *string {
	return value(strconv.Itoa(max(segmentShare/int(partitions), segmentLeast)))
}

// embedded is a broker in this process.
type embedded struct {
	dir     string
	lock    *directoryLock
	network *kfake.VirtualNetwork // nil for a Broker, which has a guard
	cluster *kfake.Cluster
	failed  chan error // capacity 1: the first failure
	close   sync.Once
}

// startEmbedded starts the broker of this process on dir, on a network in memory.
func startEmbedded(dir string, log zerolog.Logger) (*embedded, error) {
	network := new(kfake.VirtualNetwork)
	e, err := startKept(dir, log, kfake.ClusterID("balefire-embedded"), kfake.Ports(embeddedPort), kfake.ListenFn(network.Listen))
	if err != nil {
		return nil, fmt.Errorf("embedded log in %s: %w", dir, err)
	}
	e.network = network
	return e, nil
}

// startKept starts a broker on dir, which it makes. An error marked ErrCorrupt means that the files contradict
// themselves, and were left as they are. A directory that another process has is another error.
func startKept(dir string, log zerolog.Logger, opts ...kfake.Opt) (_ *embedded, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	data := filepath.Join(dir, "broker")
	cut, err := verifySegments(data)
	if err != nil {
		return nil, err
	}
	if cut > 0 {
		log.Warn().Int("partitions", cut).Msg("embedded log: cut off batches that a crash left unfinished; they were never acknowledged")
	}
	e := &embedded{dir: data, lock: lock, failed: make(chan error, 1)}
	e.cluster, err = kfake.NewCluster(append(
		opts,
		kfake.NumBrokers(1),
		kfake.DataDir(data),
		kfake.SyncWrites(),
		kfake.WithLogger(&brokerLog{log: log, failed: e.failed}),
	)...)
	if err != nil {
		// It could not make sense of its own state files: the same as damage in a segment.
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err := syncTree(data); err != nil {
		e.cluster.Close()
		return nil, err
	}
	return e, nil
}

// directoryLock is an exclusive lock on a directory, held by this process until it closes it or ends.
type directoryLock struct{ file *os.File }

func (l *directoryLock) Close() error { return l.file.Close() }

func lockDirectory(dir string) (*directoryLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("in use by another process (its lock is taken)")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &directoryLock{f}, nil
}

// syncTree makes the names in dir and its folders durable. The broker syncs what it writes, but not the folders.
func syncTree(dir string) error {
	for _, folder := range []string{dir, filepath.Join(dir, partitionFolder)} {
		if err := SyncFolder(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sync %s: %w", folder, err)
		}
	}
	return nil
}

// clientOptions lets a client reach the broker.
func (e *embedded) clientOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", embeddedPort)),
		kgo.Dialer(e.network.DialContext),
	}
}

// sync makes the names of new topics durable.
func (e *embedded) sync() error { return syncTree(e.dir) }

// sizes returns what each partition of a topic takes on disk, in octets.
func (e *embedded) sizes(topic string) (map[int32]int64, error) { return segmentSizes(e.dir, topic) }

// Close stops the broker and gives the directory free. Nothing depends on it being called.
func (e *embedded) Close() error {
	var err error
	e.close.Do(func() {
		e.cluster.Close()
		err = e.lock.Close()
	})
	return err
}

// brokerLog takes what the broker says. Whatever it says of its files is a failure: it goes on after errors that
// lose or repeat offsets.
type brokerLog struct {
	log    zerolog.Logger
	failed chan<- error
}

// harmless are the beginnings of the broker's warnings that have nothing to do with records: consumer groups and
// their sessions, and producer ids, which no client here uses again after a restart.
var harmless = []string{
	"consumer", "OffsetCommit", "group ", "txn", "loadSessionState", "session_state.json", "load session state",
	"pids.log: ", "groups.log: ",
}

func (b *brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level != kfake.LogLevelWarn && level != kfake.LogLevelError {
		return
	}
	message := fmt.Sprintf(format, args...)
	for _, prefix := range harmless {
		if strings.HasPrefix(message, prefix) {
			b.log.Warn().Str("broker", message).Msg("embedded log")
			return
		}
	}
	b.log.Error().Str("broker", message).Msg("embedded log has failed")
	select {
	case b.failed <- fmt.Errorf("embedded log: the broker could not keep its files: %s", message):
	default:
	}
}
