package mutationlog

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The broker's parser trusts its clients: a request of an unknown kind ends the process, and one that says it is 2 GiB long
// makes it allocate as much. So a guard stands between: it ends TLS, reads each request, and passes on what is known and whole.
//
//	0        4     6         8                12
//	+--------+-----+---------+----------------+-----------
//	| length | key | version | correlation id | client id, …
//	+--------+-----+---------+----------------+-----------
const (
	// maxFrame bounds a request, in octets: what maxWrite allows this package's clients, and something for others.
	maxFrame = 16 << 20
	// minFrame is the part of the header that every request has: key, version, correlation id, length of the client id.
	minFrame = 10
	// keepFrame is the size up to which a connection keeps its buffer between requests.
	keepFrame = 1 << 20
	// maxGuarded bounds the connections; a node has about ten.
	maxGuarded = 256
	// handshakeTime bounds the TLS handshake, frameTime the rest of a request after its length, and answerTime each part
	// of an answer. Between requests a connection may be idle.
	handshakeTime = 10 * time.Second
	frameTime     = 30 * time.Second
	answerTime    = time.Minute
)

// guardedKeys are the requests that nodes and ordinary tools make. None changes a topic's settings: records must not be removed.
var guardedKeys = []kmsg.Key{
	kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.FindCoordinator,
	kmsg.JoinGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.SyncGroup, kmsg.DescribeGroups, kmsg.ListGroups, kmsg.ApiVersions,
	kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.DeleteRecords, kmsg.InitProducerID, kmsg.OffsetForLeaderEpoch,
	kmsg.DescribeConfigs, kmsg.DeleteGroups, kmsg.OffsetDelete, kmsg.DescribeCluster, kmsg.ConsumerGroupHeartbeat,
	kmsg.ConsumerGroupDescribe, kmsg.GetTelemetrySubscriptions, kmsg.PushTelemetry, kmsg.DescribeTopicPartitions,
}

type versionRange struct{ least, most int16 }

// errFrame marks a request that the guard does not pass on.
var errFrame = errors.New("request refused")

// guard passes requests on from TLS to the broker.
type guard struct {
	listener net.Listener
	inner    *memoryListener
	allowed  map[int16]versionRange
	log      zerolog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	places chan struct{} // one in it for each connection
}

// startGuard begins to accept connections. known is what the broker knows.
func startGuard(listener net.Listener, inner *memoryListener, known map[int16]versionRange, log zerolog.Logger) *guard {
	g := &guard{
		listener: listener, inner: inner, allowed: make(map[int16]versionRange), log: log,
		places: make(chan struct{}, maxGuarded),
	}
	for _, key := range guardedKeys {
		if versions, ok := known[int16(key)]; ok {
			g.allowed[int16(key)] = versions
		}
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.done.Go(g.accept)
	return g
}

// Close ends all connections, and returns when they have ended.
func (g *guard) Close() error {
	g.cancel()
	err := g.listener.Close()
	g.done.Wait()
	return err
}

func (g *guard) accept() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			if g.ctx.Err() != nil {
				return
			}
			g.log.Warn().Err(err).Msg("development broker: can't accept a connection")
			select {
			case <-time.After(firstRetry): // out of file descriptors, perhaps
				continue
			case <-g.ctx.Done():
				return
			}
		}
		select {
		case g.places <- struct{}{}:
			g.done.Go(func() {
				defer func() { <-g.places }()
				g.serve(conn)
			})
		default:
			g.log.Warn().Stringer("peer", conn.RemoteAddr()).Int("limit", maxGuarded).Msg("development broker: too many connections")
			conn.Close()
		}
	}
}

// serve carries one connection until either side ends it.
func (g *guard) serve(conn net.Conn) {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	warn := func(err error) {
		if err != nil && ctx.Err() == nil {
			g.log.Warn().Err(err).Stringer("peer", conn.RemoteAddr()).Msg("development broker: connection closed")
		}
	}
	if secure, ok := conn.(*tls.Conn); ok {
		within, cancel := context.WithTimeout(ctx, handshakeTime)
		err := secure.HandshakeContext(within)
		cancel()
		if err != nil {
			warn(fmt.Errorf("TLS: %w", err))
			return
		}
	}
	broker, err := g.inner.dial(ctx, conn.RemoteAddr())
	if err != nil {
		warn(err)
		return
	}
	defer broker.Close()
	var answers sync.WaitGroup
	answers.Go(func() {
		defer conn.Close() // and so the requests end
		defer broker.Close()
		passAnswers(conn, broker)
	})
	err = passRequests(broker, conn, g.allowed)
	if errors.Is(err, errFrame) {
		warn(err)
	}
	broker.Close()
	conn.Close()
	answers.Wait()
}

// passRequests passes on requests until one side ends, or sends what is not allowed: then the error is marked errFrame.
func passRequests(broker io.Writer, client net.Conn, allowed map[int16]versionRange) error {
	var frame bytes.Buffer
	for {
		if err := readFrame(&frame, client, allowed); err != nil {
			return err
		}
		if _, err := broker.Write(frame.Bytes()); err != nil {
			return err
		}
		if frame.Reset(); frame.Cap() > keepFrame {
			frame = bytes.Buffer{}
		}
	}
}

// readFrame reads one request, with its length before it. Memory grows with what arrives, not with what is announced.
func readFrame(frame *bytes.Buffer, client net.Conn, allowed map[int16]versionRange) error {
	if _, err := io.CopyN(frame, client, 4); err != nil {
		return err
	}
	if err := client.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(frame.Bytes())
	if length < minFrame || length > maxFrame {
		return fmt.Errorf("%w: it has %d octets, not %d to %d", errFrame, length, minFrame, maxFrame)
	}
	if _, err := io.CopyN(frame, client, 4); err != nil {
		return err
	}
	key, version := int16(binary.BigEndian.Uint16(frame.Bytes()[4:])), int16(binary.BigEndian.Uint16(frame.Bytes()[6:]))
	versions, ok := allowed[key]
	if !ok {
		return fmt.Errorf("%w: requests with key %d are not taken", errFrame, key)
	}
	if version < versions.least || version > versions.most {
		return fmt.Errorf("%w: %s has version %d, not %d to %d", errFrame, kmsg.NameForKey(key), version, versions.least, versions.most)
	}
	if _, err := io.CopyN(frame, client, int64(length)-4); err != nil {
		return err
	}
	return client.SetReadDeadline(time.Time{})
}

// passAnswers passes on answers until one side ends. A client that takes none is cut off.
func passAnswers(client net.Conn, broker io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := broker.Read(buffer)
		if n > 0 {
			if client.SetWriteDeadline(time.Now().Add(answerTime)) != nil {
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
