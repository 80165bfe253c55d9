package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Loopback loses nothing, but a busy machine is slow.
const (
	tryTimeout = 3 * time.Second
	tries      = 4
)

// client asks one server, one question at a time.
type client struct {
	server, addr string
	udp, tcp     net.Conn
	id           uint16
	buf          [65535]byte
}

func (c *client) close() {
	for _, conn := range []net.Conn{c.udp, c.tcp} {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// ask returns the reply to q, which is valid until the next call.
func (c *client) ask(q question) ([]byte, error) {
	var err error
	for range tries {
		c.id++
		message := q.pack(c.id)
		var reply []byte
		if q.tcp {
			reply, err = c.askTCP(message)
		} else {
			reply, err = c.askUDP(message)
		}
		if err == nil {
			return reply, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", c.server, err)
}

func (c *client) askUDP(message []byte) ([]byte, error) {
	if c.udp == nil {
		conn, err := net.Dial("udp", c.addr)
		if err != nil {
			return nil, err
		}
		c.udp = conn
	}
	if err := c.udp.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.udp.Write(message); err != nil {
		return nil, err
	}
	for {
		n, err := c.udp.Read(c.buf[:])
		if err != nil {
			return nil, err
		}
		if n >= 2 && binary.BigEndian.Uint16(c.buf[:]) == c.id { // not a late reply to an earlier try
			return c.buf[:n], nil
		}
	}
}

func (c *client) askTCP(message []byte) (reply []byte, err error) {
	if c.tcp == nil {
		if c.tcp, err = net.Dial("tcp", c.addr); err != nil {
			c.tcp = nil
			return nil, err
		}
	}
	defer func() {
		if err != nil { // closed by the server, mostly: the next try dials again
			err = errors.Join(err, c.tcp.Close())
			c.tcp = nil
		}
	}()
	if err := c.tcp.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return nil, err
	}
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(message)))
	if _, err := c.tcp.Write(append(framed, message...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c.tcp, length[:]); err != nil {
		return nil, err
	}
	reply = c.buf[:binary.BigEndian.Uint16(length[:])]
	_, err = io.ReadFull(c.tcp, reply)
	return reply, err
}
