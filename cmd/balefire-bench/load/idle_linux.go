package load

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// fromEach is how many connections are made from each address of 127.0.1.0/24: a client address has some 28,000 ports for one server.
const fromEach = 20_000

// Idle are connections on which one question was answered each, and nothing happens since.
type Idle struct{ fds []int }

// OpenIdle makes connections, asks one question over each, and leaves them open; secure is with TLS, with the session
// of the one before. The caller closes them. A server that does not take all
// of them is an error, and then none is left.
func OpenIdle(server netip.AddrPort, secure bool, n int, query []byte) (*Idle, error) {
	if n > 250*fromEach {
		return nil, fmt.Errorf("%d idle connections are more than the addresses are for", n)
	}
	idle := &Idle{}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	buf := make([]byte, 2+maxMessage)
	config := clientTLS(true)
	for i := range n {
		from := netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i/fromEach)})
		var err error
		if secure {
			err = idle.addTLS(server, from, config, framed, buf)
		} else {
			err = idle.add(server, from, framed, buf)
		}
		if err != nil {
			idle.Close()
			return nil, fmt.Errorf("idle connection %d of %d: %w", i+1, n, err)
		}
	}
	time.Sleep(100 * time.Millisecond) // what the server does after an answer is not what is measured next
	return idle, nil
}

// add makes one connection and has one question answered over it.
func (i *Idle) add(server netip.AddrPort, from netip.Addr, framed, buf []byte) error {
	fd, err := connectTCP(server, from)
	if err != nil {
		return err
	}
	i.fds = append(i.fds, fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	if _, err := unix.Write(fd, framed); err != nil {
		return err
	}
	return readMessage(fd, buf)
}

// addTLS is add with TLS.
func (i *Idle) addTLS(server netip.AddrPort, from netip.Addr, config *tls.Config, framed, buf []byte) error {
	conn, s, err := shake(server, from, config)
	if err != nil {
		return err
	}
	i.fds = append(i.fds, s.fd)
	return s.askOnce(conn, framed, buf)
}

func readMessage(fd int, buf []byte) error {
	got := 0
	for got < 2 || got < 2+int(binary.BigEndian.Uint16(buf)) {
		n, err := unix.Read(fd, buf[got:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		got += n
	}
	return nil
}

// Open returns how many of the connections the server has not ended.
func (i *Idle) Open() int {
	open := 0
	var one [1]byte
	for _, fd := range i.fds {
		n, _, err := unix.Recvfrom(fd, one[:], unix.MSG_DONTWAIT|unix.MSG_PEEK)
		if n > 0 || errors.Is(err, unix.EAGAIN) {
			open++
		}
	}
	return open
}

// Close ends all connections at once.
func (i *Idle) Close() {
	for _, fd := range i.fds {
		reset(fd)
	}
	i.fds = nil
}
