package dnsserver

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tcpListener is a listening socket that the runtime's poller doesn't know.
type tcpListener struct {
	fd     int
	ending atomic.Bool
}

// newTCPListener takes over ln's socket.
func newTCPListener(ln *net.TCPListener) (*tcpListener, error) {
	defer ln.Close() // another descriptor of the same socket is used from here on
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, fmt.Errorf("take over the TCP socket: %w", err)
	}
	// Connections inherit it: an answer that comes late does not wait for the client's acknowledgement of those before.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // slower without, not wrong
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("take over the TCP socket: %w", err)
	}
	return &tcpListener{fd: fd}, nil
}

// end makes accept return.
func (ln *tcpListener) end() {
	ln.ending.Store(true)
	_ = unix.Shutdown(ln.fd, unix.SHUT_RD)
}

// close gives the socket back. Nobody may use it any more.
func (ln *tcpListener) close() { _ = unix.Close(ln.fd) }

// accept takes connections, and what they carry, until the listener is ended.
func (s *Server) accept(ln *tcpListener, via transport) {
	for {
		fd, peer, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s.admitConn(fd, peer, via)
		case ln.ending.Load():
			return
		case err == unix.EINTR || err == unix.ECONNABORTED:
		default:
			s.opts.Logger.Warn().Err(err).Msg("can't accept TCP connections")
			time.Sleep(acceptPause)
		}
	}
}

func (s *Server) admitConn(fd int, peer unix.Sockaddr, via transport) {
	c := &tcpConn{fd: fd, via: via, limits: &s.settings.Load().TCP}
	switch a := peer.(type) {
	case *unix.SockaddrInet4:
		c.from = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		c.from = netip.AddrFrom16(a.Addr).Unmap()
	}
	if !s.tcp.enter(c.from, c.limits) {
		_ = unix.Close(fd)
		return
	}
	if via == overTLS {
		c.secure(s.tls.config)
		s.tls.open.Add(1)
	}
	least := s.tcp.sockets.loops[0]
	for _, l := range s.tcp.sockets.loops[1:] {
		if l.count.Load() < least.count.Load() {
			least = l
		}
	}
	if err := least.add(c); err != nil {
		_ = unix.Close(fd)
		s.tcp.leave(c.from)
		if via == overTLS {
			s.tls.open.Add(-1)
		}
		s.opts.Logger.Warn().Err(err).Msg("can't serve a TCP connection")
	}
}
