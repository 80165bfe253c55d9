package load

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// TCP describes questions over TCP connections that are kept, with TLS or without, to one server: a closed loop.
type TCP struct {
	Server      netip.AddrPort
	TLS         bool
	Queries     [][]byte // as those of UDP
	Connections int
	Window      int // questions under way on each connection, at most 1,024
	Length      time.Duration
	CPU         int
	Start       int
	Patient     time.Duration // without an answer for that long, a connection is given up; 0 means tcpPatient
}

const (
	tcpIDs     = 1024 // IDs in use, by which the times of sending are kept
	tcpBuffer  = 256 << 10
	tcpPatient = time.Second
)

// Run keeps a window of questions under way on every connection until the time is over. A connection that the server ends is made
// anew and counted; one that can't be made is an error.
func (l TCP) Run() (Tally, error) {
	r := tcpRun{load: l, next: l.Start % len(l.Queries)}
	r.load.Window = min(l.Window, tcpIDs)
	if l.Patient == 0 {
		r.load.Patient = tcpPatient
	}
	defer func() {
		for _, c := range r.conns {
			c.close()
		}
	}()
	for range l.Connections {
		c := &tcpConn{in: make([]byte, tcpBuffer), out: make([]byte, 0, tcpBuffer)}
		if err := c.connect(l.Server, l.TLS); err != nil {
			return Tally{}, err
		}
		r.conns = append(r.conns, c)
		r.polls = append(r.polls, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN})
	}
	cpu, err := onThread(l.CPU, func() error {
		r.begin = time.Now()
		return r.saturated()
	})
	r.tally.CPU = cpu
	return r.tally, err
}

// tcpConn is a connection with its questions under way.
type tcpConn struct {
	fd       int
	tls      *tls.Conn // nil without TLS
	inflight int
	id       uint16
	heard    time.Duration
	in       []byte // its first got octets wait to be read
	got      int
	out      []byte // what waits to be written
	sent     [tcpIDs]time.Duration
}

// close ends the connection at once, so that its port is free again.
func (c *tcpConn) close() { reset(c.fd) }

// tcpRun is the state of a load while it runs.
type tcpRun struct {
	load  TCP
	conns []*tcpConn
	polls []unix.PollFd
	next  int
	begin time.Time
	tally Tally
}

func (r *tcpRun) saturated() error {
	stopped := false
	for {
		now := time.Since(r.begin)
		if !stopped && now >= r.load.Length {
			stopped, r.tally.Elapsed = true, now
		}
		outstanding, progress := 0, false
		for i, c := range r.conns {
			n, err := r.exchange(c, now, stopped)
			if err != nil || (c.inflight > 0 && now-c.heard > r.load.Patient) {
				r.tally.Lost += uint64(c.inflight)
				r.tally.Reconnects++
				if err := c.renew(r.load.Server, r.load.TLS, now); err != nil {
					return err
				}
				r.polls[i].Fd = int32(c.fd)
				continue
			}
			progress = progress || n
			outstanding += c.inflight
		}
		if stopped && (outstanding == 0 || now > r.tally.Elapsed+r.load.Patient) {
			r.tally.Lost += uint64(outstanding)
			return nil
		}
		if !progress {
			if _, err := unix.Poll(r.polls, 5); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("poll: %w", err)
			}
		}
	}
}

// renew replaces a connection that has ended.
func (c *tcpConn) renew(server netip.AddrPort, secure bool, now time.Duration) error {
	c.close()
	c.fd, c.inflight, c.got, c.out, c.heard = -1, 0, 0, c.out[:0], now
	return c.connect(server, secure)
}

// connect makes the connection, and leaves it so that nothing waits.
func (c *tcpConn) connect(server netip.AddrPort, secure bool) error {
	if secure {
		conn, s, err := shake(server, netip.Addr{}, clientTLS(false))
		if err != nil {
			return err
		}
		c.fd, c.tls, s.waits = s.fd, conn, false
	} else {
		fd, err := connectTCP(server, netip.Addr{})
		if err != nil {
			return err
		}
		c.fd = fd
	}
	if err := unix.SetNonblock(c.fd, true); err != nil {
		unix.Close(c.fd)
		return fmt.Errorf("connection to %s: %w", server, err)
	}
	return nil
}

// receive reads what is there; 0 is nothing yet.
func (c *tcpConn) receive(buf []byte) (int, error) {
	if c.tls != nil {
		return receiveTLS(c.tls, buf)
	}
	return receiveNow(c.fd, buf)
}

// send writes what can be written.
func (c *tcpConn) send(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(b)
	}
	return unix.SendmsgN(c.fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// exchange takes the answers that are there, and writes half a window of questions when there is room for them. It says whether
// anything was done; an error means that the connection has ended.
func (r *tcpRun) exchange(c *tcpConn, now time.Duration, stopped bool) (bool, error) {
	progress := false
	if c.inflight > 0 {
		n, err := c.receive(c.in[c.got:])
		if err != nil {
			return false, err
		}
		if n > 0 {
			progress = true
			c.got += n
			if err := r.read(c); err != nil {
				return false, err
			}
		}
	}
	if room := r.load.Window - c.inflight; !stopped && len(c.out) == 0 && (room >= (r.load.Window+1)/2 || c.inflight == 0) {
		r.ask(c, room)
	}
	if len(c.out) > 0 {
		n, err := c.send(c.out)
		switch {
		case err == nil:
			progress = true
			c.out = c.out[:copy(c.out, c.out[n:])]
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		default:
			return false, err
		}
	}
	return progress, nil
}

// read counts the whole messages among what was received.
func (r *tcpRun) read(c *tcpConn) error {
	now := time.Since(r.begin)
	c.heard = now
	b := c.in[:c.got]
	for len(b) >= 2 {
		size := int(binary.BigEndian.Uint16(b))
		if size < 12 {
			return errors.New("a message that is shorter than its header")
		}
		if len(b) < 2+size {
			break
		}
		m := b[2 : 2+size]
		b = b[2+size:]
		r.tally.Received++
		r.tally.RCodes[m[3]&15]++
		r.tally.Latency.Add(now - c.sent[binary.BigEndian.Uint16(m)%tcpIDs])
		c.inflight--
	}
	c.got = copy(c.in, b)
	return nil
}

// ask appends n questions to what is to be written.
func (r *tcpRun) ask(c *tcpConn, n int) {
	now := time.Since(r.begin)
	if c.inflight == 0 {
		c.heard = now
	}
	for range n {
		q := r.load.Queries[r.next]
		if r.next++; r.next == len(r.load.Queries) {
			r.next = 0
		}
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(q)))
		c.out = binary.BigEndian.AppendUint16(c.out, c.id)
		c.out = append(c.out, q[2:]...)
		c.sent[c.id%tcpIDs] = now
		c.id++
	}
	c.inflight += n
	r.tally.Sent += uint64(n)
}

// receiveNow reads what is there; 0 is nothing yet, and the other side's end is an error.
func receiveNow(fd int, buf []byte) (int, error) {
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, errors.New("the server has ended the connection")
	}
	return n, nil
}

// connectTCP makes a blocking connection, from an address if one is given.
func connectTCP(server netip.AddrPort, from netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // without it, questions would only be later
	if from.IsValid() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0))); err != nil {
			unix.Close(fd)
			return 0, fmt.Errorf("connect from %s: %w", from, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(server)); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect to %s over TCP: %w", server, err)
	}
	return fd, nil
}

// reset closes a connection without leaving its port in TIME_WAIT.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}
