package mutationlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// BrokerOptions says what a development broker is.
type BrokerOptions struct {
	Dir string // its files; only it has this directory
	// Listen is the address, host:port, at which other processes reach it.
	Listen string
	// Advertise is the host:port that clients are sent to; empty means the address of Listen, which must then be one of
	// this machine's, not all of them.
	Advertise string
	// TLS must ask clients for a certificate and verify it. Nil means an authority made in Dir, whose files ClientSecurity has.
	TLS    *tls.Config
	Logger zerolog.Logger
}

// Broker is one broker for a development cluster: the embedded one, kept on disk and synced alike, for other processes too. They
// reach it by mutual TLS only, through a guard that lets no request pass which it can't bear. There is one of it, so
// its loss stops all writes; it removes nothing from its log, and reads all of it when it starts. Clients with a
// certificate are trusted not to harm it.
type Broker struct {
	kept      *embedded
	guard     *guard
	authority *Authority // nil when TLS was given
	close     sync.Once
}

// clientName is the name of the certificate that a development broker's clients share.
const clientName = "client"

// StartBroker starts a development broker. Damaged files are an error marked ErrCorrupt; they are left as they are.
func StartBroker(opts BrokerOptions) (_ *Broker, err error) {
	failed := func(err error) (*Broker, error) {
		return nil, fmt.Errorf("broker in %s: %w", opts.Dir, err)
	}
	b := new(Broker)
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return failed(err)
	}
	defer func() {
		if err != nil {
			listener.Close()
		}
	}()
	advertise, err := advertised(opts.Advertise, listener.Addr())
	if err != nil {
		return failed(err)
	}
	inner := newMemoryListener(advertise)
	// Never compaction: the broker has lost acknowledged keys to it. And nothing is removed by age or size instead.
	if b.kept, err = startKept(opts.Dir, opts.Logger, kfake.ClusterID("balefire-development"), kfake.ListenFn(inner.listen)); err != nil {
		return failed(err)
	}
	defer func() {
		if err != nil {
			b.kept.Close()
		}
	}()
	b.kept.cluster.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.kept.cluster.KeepControl()
		neverRemove(req.(*kmsg.CreateTopicsRequest))
		return nil, nil, false
	})
	// The authority is in the broker's directory, which is locked now.
	if opts.TLS == nil {
		if b.authority, opts.TLS, err = throwaway(filepath.Join(opts.Dir, "tls"), advertise); err != nil {
			return failed(err)
		}
	} else if opts.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return failed(errors.New("its TLS must require and verify clients' certificates"))
	}
	versions, err := askVersions(inner)
	if err != nil {
		return failed(err)
	}
	b.warnOfSize(opts.Logger)
	b.guard = startGuard(tls.NewListener(listener, opts.TLS), inner, versions, opts.Logger)
	return b, nil
}

// advertised is the address that clients are sent to.
func advertised(advertise string, listening net.Addr) (string, error) {
	if advertise == "" {
		if tcp, ok := listening.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			return "", fmt.Errorf("listening on all addresses (%v), it can't know by which clients reach it: say what to advertise", listening)
		}
		return listening.String(), nil
	}
	if _, _, err := net.SplitHostPort(advertise); err != nil {
		return "", fmt.Errorf("address to advertise: %w", err)
	}
	return advertise, nil
}

// throwaway makes the certificates of a development cluster.
func throwaway(dir, advertise string) (*Authority, *tls.Config, error) {
	a, err := OpenAuthority(dir)
	if err != nil {
		return nil, nil, err
	}
	host, _, err := net.SplitHostPort(advertise)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(a.Server("broker", host, "localhost", "127.0.0.1", "::1"), a.Client(clientName)); err != nil {
		return nil, nil, err
	}
	pair, err := tls.LoadX509KeyPair(a.CertFile("broker"), a.KeyFile("broker"))
	if err != nil {
		return nil, nil, err
	}
	return a, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool(),
	}, nil
}

// neverRemove takes all settings from a topic that remove records from it.
func neverRemove(req *kmsg.CreateTopicsRequest) {
	keep := []struct{ name, value string }{{settingCleanup, "delete"}, {settingRetention, "-1"}, {settingBytes, "-1"}}
	for i := range req.Topics {
		t := &req.Topics[i]
		kept := t.Configs[:0]
		for _, c := range t.Configs {
			if !strings.HasPrefix(c.Name, "retention.") && c.Name != settingCleanup {
				kept = append(kept, c)
			}
		}
		for _, k := range keep {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = k.name, value(k.value)
			kept = append(kept, c)
		}
		t.Configs = kept
	}
}

// askVersions asks the broker which requests it knows, in which versions.
func askVersions(inner *memoryListener) (map[int16]versionRange, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(inner.address), kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return inner.dial(ctx, inner.Addr())
	}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	all, err := kadm.NewClient(client).ApiVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for its versions: %w", err)
	}
	known := make(map[int16]versionRange)
	for _, broker := range all {
		if broker.Err != nil {
			return nil, fmt.Errorf("ask for its versions: %w", broker.Err)
		}
		broker.EachKeySorted(func(key, least, most int16) { known[key] = versionRange{least, most} })
	}
	return known, nil
}

func (b *Broker) warnOfSize(log zerolog.Logger) {
	size, err := logSize(b.kept.dir)
	if err != nil {
		log.Warn().Err(err).Msg("the size of the development broker's log is not known")
	} else if size > EmbeddedSoftLimit {
		log.Warn().Int64("octets", size).Int64("limit", EmbeddedSoftLimit).
			Msg("the development broker's log is large; it is held in memory, and nothing is removed from it")
	}
}

// Address is the host:port that clients are sent to, and begin with.
func (b *Broker) Address() string { return b.guard.inner.address }

// ClientSecurity is how clients reach a broker whose certificates were made in its directory.
func (b *Broker) ClientSecurity() (s Security, ok bool) {
	if b.authority == nil {
		return Security{}, false
	}
	return Security{TLS: true, CA: b.authority.CertFile("ca"), Cert: b.authority.CertFile(clientName), Key: b.authority.KeyFile(clientName)}, true
}

// Failed gives the first failure to keep the files. The process does well to end, and to verify them at its next start.
func (b *Broker) Failed() <-chan error { return b.kept.failed }

// Close ends all connections, stops the broker and gives the directory free.
func (b *Broker) Close() error {
	var err error
	b.close.Do(func() {
		err = errors.Join(b.guard.Close(), b.kept.Close())
	})
	return err
}

// memoryListener is the broker's side of the guard: connections in memory, under the address that clients are sent to.
type memoryListener struct {
	address string
	conns   chan net.Conn
	closed  chan struct{}
	close   sync.Once
}

func newMemoryListener(address string) *memoryListener {
	return &memoryListener{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) listen(string, string) (net.Listener, error) { return l, nil }

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr is what the broker tells clients to connect to.
func (l *memoryListener) Addr() net.Addr { return memoryAddr(l.address) }

// dial connects to the broker in the name of a client.
func (l *memoryListener) dial(ctx context.Context, client net.Addr) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- memoryConn{far, client}:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type memoryAddr string

func (memoryAddr) Network() string  { return "tcp" }
func (a memoryAddr) String() string { return string(a) }

// memoryConn shows the broker where its client is.
type memoryConn struct {
	net.Conn
	client net.Addr
}

func (c memoryConn) RemoteAddr() net.Addr { return c.client }
