package load

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// clientTLS is how the load speaks TLS: one group for keys, which all servers know; records as large as what is written; certificates
// are not looked at, which costs nothing and would say nothing.
func clientTLS(resume bool) *tls.Config {
	config := &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"dot"}, CurvePreferences: []tls.CurveID{tls.X25519}, DynamicRecordSizingDisabled: true,
		ServerName: "bench.example",
	}
	if resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return config
}

// socketConn is a socket for crypto/tls. Reads wait while it waits; then one that finds nothing fails with errNothing, and can be gone on
// with. Writes always wait.
type socketConn struct {
	net.Conn // nothing else of it is used
	fd       int
	waits    bool
}

// errNothing is a deadline that has passed, for crypto/tls.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "there is nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

func (c *socketConn) Read(p []byte) (int, error) {
	for {
		flags := 0
		if !c.waits {
			flags = unix.MSG_DONTWAIT
		}
		n, _, err := unix.Recvfrom(c.fd, p, flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && !c.waits:
			return 0, errNothing
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (c *socketConn) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		n, err := unix.SendmsgN(c.fd, p[at:], nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			at += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, 1000); err != nil && !errors.Is(err, unix.EINTR) {
				return at, err
			}
		default:
			return at, err
		}
	}
	return len(p), nil
}

func (c *socketConn) SetWriteDeadline(time.Time) error { return nil }

// RemoteAddr is what crypto/tls keeps sessions by that have no name.
func (c *socketConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// shake makes a connection and does the handshake over it. The socket waits for 10 s at most.
func shake(server netip.AddrPort, from netip.Addr, config *tls.Config) (*tls.Conn, *socketConn, error) {
	fd, err := connectTCP(server, from)
	if err != nil {
		return nil, nil, err
	}
	s := &socketConn{fd: fd, waits: true}
	conn := tls.Client(s, config)
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	if err == nil {
		err = conn.Handshake()
	}
	if err != nil {
		reset(fd)
		return nil, nil, fmt.Errorf("TLS handshake with %s: %w", server, err)
	}
	return conn, s, nil
}

// receiveTLS reads all that is there, or as much as there is room for.
func receiveTLS(conn *tls.Conn, buf []byte) (n int, err error) {
	for n < len(buf) {
		m, err := conn.Read(buf[n:])
		n += m
		if err == errNothing {
			break
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Handshakes describes connections with TLS to one server, one after another: each is made, asked one question over, and ended.
type Handshakes struct {
	Server netip.AddrPort
	Query  []byte
	Resume bool // with the session of the one before
	Length time.Duration
	CPU    int
}

// Run makes connections until the time is over. Each counts as one answer; the latency is that of all of it.
func (l Handshakes) Run() (t Tally, err error) {
	config := clientTLS(l.Resume)
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(l.Query))), l.Query...)
	buf := make([]byte, 2+maxMessage)
	t.CPU, err = onThread(l.CPU, func() error {
		begin := time.Now()
		for t.Elapsed < l.Length {
			sent := time.Now()
			conn, s, err := shake(l.Server, netip.Addr{}, config)
			if err != nil {
				return err
			}
			t.Sent++
			err = s.askOnce(conn, framed, buf)
			reset(s.fd)
			if err != nil {
				return fmt.Errorf("question after a TLS handshake with %s: %w", l.Server, err)
			}
			t.Received++
			t.RCodes[buf[5]&15]++
			t.Latency.Add(time.Since(sent))
			t.Elapsed = time.Since(begin)
		}
		return nil
	})
	return t, err
}

// askOnce writes a question and reads its answer, with the two octets before it. Servers with Nagle's algorithm send tickets, and keep
// the answer until those are acknowledged: that is done at once.
func (c *socketConn) askOnce(conn *tls.Conn, framed, buf []byte) error {
	if _, err := conn.Write(framed); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, buf[2:2+int(binary.BigEndian.Uint16(buf))])
	return err
}
