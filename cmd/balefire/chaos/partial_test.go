//go:build chaos && kafka && s3

package chaos

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/gossip"
)

var gossipKey = []byte("a key of a test of 32 octets ...")

// Two regions, two groups in each, of two nodes that share the partitions: everything that whole copies suffer, and
// partitions that move, gossip that lies, and peers that do.
func TestKafkaPartialFaults(t *testing.T) {
	c := startCluster(t, shape{regions: 2, groups: 2, nodes: 2, partitions: 8})
	c.shrink(c.nodes[1])
	c.suffer(slices.Concat(partialFaults, faults))
}

// partialFaults are of nodes that share partitions.
var partialFaults = []fault{
	{name: "partitions move", times: 10, do: func(_ context.Context, c *cluster, rng *rand.Rand) {
		old := c.anyToLeave(rng)
		if rng.IntN(8) == 0 { // its partitions are nobody's in this group until it is missed
			c.places.remove(old.place)
			old.kill()
			c.nodes = without(c.nodes, old)
		} else {
			c.leave(old, true)
		}
		c.joined++
		c.join(old.region, old.group, fmt.Sprintf("%sj%d", old.region+old.group, c.joined))
	}},
	{name: "kill -9 while handing over", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		old := c.anyToLeave(rng)
		c.joined++
		n := c.add(old.region, old.group, fmt.Sprintf("%sj%d", old.region+old.group, c.joined))
		n.launch()
		pause(ctx, time.Duration(rng.IntN(int(3*time.Second))))
		hit := n
		if rng.IntN(2) == 0 {
			hit = old
		}
		hit.restart()
		n.awaitReady()
		old.awaitReady()
		c.places.add(n.place)
		c.leave(old, rng.IntN(2) == 0)
	}},
	{name: "gossip cut", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.ns.Cut(":" + gossipPort)
		pause(ctx, time.Duration(rng.IntN(int(10*time.Second))))
		n.ns.Heal()
	}},
	{name: "relay cut", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.ns.Cut(":" + relayPort)
		pause(ctx, time.Duration(rng.IntN(int(5*time.Second))))
		n.ns.Heal()
	}},
	{name: "gossip flooded", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.flood(ctx, rng)
	}},
	{name: "gossip forged without the key", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.pretend(ctx, rng, nil, garbage)
	}},
	{name: "gossip forged, peer says garbage", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.pretend(ctx, rng, gossipKey, garbage)
	}},
	{name: "gossip forged, peer hangs", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.pretend(ctx, rng, gossipKey, silence)
	}},
}

func without(all []*node, one *node) []*node {
	var rest []*node
	for _, n := range all {
		if n != one {
			rest = append(rest, n)
		}
	}
	return rest
}

// peerFlags are what nodes of a region know of each other.
func (n *node) peerFlags() (args, env []string) {
	args = []string{"--gossip-listen", net.JoinHostPort(n.ns.Address, gossipPort), "--relay-listen", net.JoinHostPort(n.ns.Address, relayPort)}
	for _, peer := range n.c.inRegion(n.region) {
		args = append(args, "--gossip-join", net.JoinHostPort(peer.ns.Address, gossipPort))
	}
	return args, []string{"BALEFIRE_GOSSIP_KEY=" + base64.StdEncoding.EncodeToString(gossipKey)}
}

// flood sends rubbish to where nodes gossip and relay.
func (c *cluster) flood(ctx context.Context, rng *rand.Rand) {
	c.t.Helper()
	octets := make([]byte, 1400)
	for _, n := range c.nodes {
		out, err := net.Dial("udp", net.JoinHostPort(n.ns.Address, gossipPort))
		c.must(err)
		for range 2000 {
			for i := range 32 {
				octets[i] = byte(rng.UintN(256))
			}
			_, _ = out.Write(octets[:rng.IntN(len(octets))]) // refused when the node is down
		}
		out.Close()
		for _, port := range []string{gossipPort, relayPort} {
			stream, err := net.DialTimeout("tcp", net.JoinHostPort(n.ns.Address, port), time.Second)
			if err != nil {
				continue
			}
			_ = stream.SetDeadline(time.Now().Add(time.Second))
			_, _ = stream.Write(octets)
			stream.Close()
		}
	}
	pause(ctx, time.Second)
}

// pretend joins a region's gossip as a node that claims to have everything, and to be ahead of all; what comes to its relay is
// dealt with by answer. It goes without a word.
func (c *cluster) pretend(ctx context.Context, rng *rand.Rand, key []byte, answer func(net.Conn)) {
	c.t.Helper()
	region := fmt.Sprintf("r%d", 1+rng.IntN(c.regions))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asked atomic.Int64
	relay, fingerprint, closed := c.strangersRelay(ctx, func(conn net.Conn) { asked.Add(1); answer(conn) })
	defer func() { cancel(); closed.Wait() }()
	var join []string
	for _, n := range c.inRegion(region) {
		join = append(join, net.JoinHostPort(n.ns.Address, gossipPort))
	}
	g, err := gossip.Start(gossip.Options{
		Member: gossip.Member{
			ID: fmt.Sprintf("stranger-%d", rng.IntN(1000)), Region: region, Group: "g1", Relay: relay, Fingerprint: fingerprint,
		},
		Namespace: "chaos", Listen: net.JoinHostPort(c.network.Host(), "0"), Join: join, Key: key, Logger: zerolog.Nop(),
	})
	c.must(err)
	var claims []gossip.Claim
	for p := range c.partitions {
		claims = append(claims, gossip.Claim{
			Partition: int32(p), State: gossip.Ready, Assigned: true, Position: 1 << 40, Checkpoint: 1000, Digest: [16]byte{1, 2, 3},
		})
	}
	g.SetCondition(gossip.Condition{Ready: true, Catalog: 1 << 40})
	g.Claim(claims)
	pause(ctx, 4*time.Second)
	if key != nil { // a busy machine takes longer to believe it
		await(c.t, time.Minute, "the stranger was asked", func() bool { return asked.Load() > 0 || ctx.Err() != nil })
	}
	c.must(g.Close())
	if believed := asked.Load() > 0; believed != (key != nil) {
		c.t.Errorf("the stranger was asked: %v", believed)
	}
}

// strangersRelay listens as a relay does, with a certificate of its own.
func (c *cluster) strangersRelay(ctx context.Context, answer func(net.Conn)) (address string, fingerprint [32]byte, closed *sync.WaitGroup) {
	c.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	c.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	c.must(err)
	l, err := tls.Listen("tcp", net.JoinHostPort(c.network.Host(), "0"), &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"balefire-relay/1", "http/1.1"}, ClientAuth: tls.RequestClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
	})
	c.must(err)
	closed = new(sync.WaitGroup)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	closed.Go(func() {
		defer stop()
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			closed.Go(func() {
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				defer conn.Close()
				answer(conn)
			})
		}
	})
	return l.Addr().String(), sha256.Sum256(der), closed
}

// welcome is what a relay's server says first.
var welcome = []byte{0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}

// garbage answers each request with its own octets, as a reply.
func garbage(conn net.Conn) {
	if _, err := conn.Write(welcome); err != nil {
		return
	}
	for buffer := make([]byte, 4096); ; {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if n > 8 {
			buffer[8] = 16 // a reply with the request's id
		}
		if n > 11 {
			buffer[10], buffer[11] = 0, 0
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// silence takes everything, and answers nothing.
func silence(conn net.Conn) {
	if _, err := conn.Write(welcome); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}
