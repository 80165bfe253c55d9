package notify

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"balefire/zones"
)

const (
	// maxAnswer is how long an answer may be: a question and a signature.
	maxAnswer = 4096
	// maxAsking bounds how many servers are spoken to over TLS at once.
	maxAsking = 64
	// askPatience is how long one of them is waited for.
	askPatience = 4 * time.Second
)

// sockets is the network, as it is.
type sockets struct {
	notifier *Notifier
	ctx      context.Context
	cancel   context.CancelFunc
	v4, v6   *net.UDPConn // nil when there is none
	readers  sync.WaitGroup
	asking   chan struct{}
}

var errBusy = errors.New("too many servers are spoken to over TLS at once")

func (s *sockets) open() error {
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.asking = make(chan struct{}, maxAsking)
	var err4, err6 error
	s.v4, err4 = net.ListenUDP("udp4", &net.UDPAddr{IP: s.local(true)})
	s.v6, err6 = net.ListenUDP("udp6", &net.UDPAddr{IP: s.local(false)})
	if err4 != nil && err6 != nil {
		return fmt.Errorf("socket for NOTIFY: %w", errors.Join(err4, err6))
	}
	if err := errors.Join(err4, err6); err != nil {
		s.notifier.opts.Logger.Info().Err(err).Msg("servers of one address family can't be notified")
	}
	for _, c := range []*net.UDPConn{s.v4, s.v6} {
		if c != nil {
			s.readers.Go(func() { s.read(c) })
		}
	}
	return nil
}

// local is the address of a family that messages come from; nil for the system's choice.
func (s *sockets) local(v4 bool) net.IP {
	for _, a := range s.notifier.opts.Local {
		if a.Unmap().Is4() == v4 {
			return a.Unmap().AsSlice()
		}
	}
	return nil
}

func (s *sockets) close() error {
	s.cancel()
	var err error
	for _, c := range []*net.UDPConn{s.v4, s.v6} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	s.readers.Wait()
	return err
}

func (s *sockets) read(c *net.UDPConn) {
	buf := make([]byte, maxAnswer)
	for {
		size, from, err := c.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			s.notifier.receive(buf[:size], from)
		case s.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		}
		// Other errors are of what was sent, and pass.
	}
}

func (s *sockets) send(msg []byte, to netip.AddrPort) error {
	c := s.v6
	if to.Addr().Is4() {
		c = s.v4
	}
	if c == nil {
		return errors.New("this node has no socket of that address family")
	}
	_, err := c.WriteToUDPAddrPort(msg, to)
	return err
}

func (s *sockets) ask(msg []byte, to zones.Remote, key flightKey) error {
	select {
	case s.asking <- struct{}{}:
	default:
		return errBusy
	}
	packet := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...)
	s.readers.Go(func() {
		defer func() { <-s.asking }()
		answer, err := s.exchange(packet, to)
		n := s.notifier
		if err == nil {
			if id, ok := answerID(answer); ok && id == key.id {
				n.finish(answer, key)
				return
			}
			err = errOtherQuestion
		}
		n.mu.Lock()
		n.note(key, err.Error())
		n.mu.Unlock()
	})
	return nil
}

// exchange sends a message over a connection of its own, and returns the answer.
func (s *sockets) exchange(packet []byte, to zones.Remote) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.notifier.patience)
	defer cancel()
	c, err := s.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := c.Write(packet); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err = io.ReadFull(c, answer)
	return answer, err
}

// dial connects over TLS (RFC 9103 §7). Without a name to look for in the certificate, any will do: the opportunistic profile of RFC 8310.
func (s *sockets) dial(ctx context.Context, to zones.Remote) (net.Conn, error) {
	config := &tls.Config{}
	if s.notifier.opts.TLS != nil {
		config = s.notifier.opts.TLS.Clone()
	}
	config.NextProtos = []string{"dot"}
	config.MinVersion = tls.VersionTLS12
	if config.ServerName = to.TLSName; to.TLSName == "" {
		config.InsecureSkipVerify = true
	}
	d := tls.Dialer{Config: config, NetDialer: &net.Dialer{}}
	if ip := s.local(to.Addr.Addr().Is4()); ip != nil {
		d.NetDialer.LocalAddr = &net.TCPAddr{IP: ip}
	}
	return d.DialContext(ctx, "tcp", to.Addr.String())
}
