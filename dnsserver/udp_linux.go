package dnsserver

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"balefire/dnsserver/wire"
)

const (
	// udpBatch is how many packets a system call moves; larger batches gain nothing.
	udpBatch = 32
	// maxUDPQuery is the longest query over UDP that is read whole; longer ones are malformed to us.
	maxUDPQuery = 4096
	// controlLen has room for one address that a packet was sent to.
	controlLen = 64
	// socketBuffer is asked of the kernel for each direction, in octets; it may grant less.
	socketBuffer = 4 << 20
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// udpSlot is one packet of a batch: a query, the address that it came from, and the address it was sent to.
type udpSlot struct {
	name    [unix.SizeofSockaddrInet6]byte
	control [controlLen]byte
	query   [maxUDPQuery]byte
	reply   [wire.MaxUDPSize]byte
	in, out unix.Iovec
}

// udpWorker is one receiving loop, on a socket of its own. The kernel spreads clients over the sockets of
// an address (SO_REUSEPORT).
type udpWorker struct {
	exchange *exchange
	raw      syscall.RawConn
	wildcard bool // the socket has no address of its own: answer from the one that was asked
	slots    [udpBatch]udpSlot
	in, out  [udpBatch]mmsghdr
	received int // packets in this batch
	replies  int // of them, how many get an answer
	sent     int // of those, how many are done
	failure  unix.Errno
}

// listenUDP opens workers sockets on the same address.
func listenUDP(network, address string, workers int) (conns []*net.UDPConn, err error) {
	lc := net.ListenConfig{Control: prepareUDP}
	for range workers {
		c, err := lc.ListenPacket(context.Background(), network, address)
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return nil, err
		}
		udp := c.(*net.UDPConn)
		_ = udp.SetReadBuffer(socketBuffer) // a smaller buffer is slower under bursts, not wrong
		_ = udp.SetWriteBuffer(socketBuffer)
		conns = append(conns, udp)
	}
	return conns, nil
}

// prepareUDP sets what has to be set before bind(2).
func prepareUDP(network, _ string, c syscall.RawConn) error {
	var err error
	if ctlErr := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return
		}
		if network == "udp6" {
			// On a socket for both families this tells the address of IPv4 packets too, as a mapped one.
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	}); ctlErr != nil {
		return ctlErr
	}
	return err
}

func (s *Server) newUDPWorkers(e *endpoint) (workers []*udpWorker) {
	for _, c := range e.udp {
		x := &exchange{server: s, via: overUDP}
		s.exchanges = append(s.exchanges, x) // the server's lock is held
		raw, err := c.SyscallConn()
		if err != nil {
			panic(err) // only of a conn that was never made
		}
		w := &udpWorker{exchange: x, raw: raw, wildcard: e.addr.Addr().IsUnspecified()}
		for i := range w.slots {
			slot := &w.slots[i]
			slot.in.Base, slot.out.Base = &slot.query[0], &slot.reply[0]
			slot.in.SetLen(len(slot.query))
			w.in[i].hdr.Name, w.in[i].hdr.Iov = &slot.name[0], &slot.in
			w.in[i].hdr.SetIovlen(1)
		}
		workers = append(workers, w)
	}
	return workers
}

// run serves batches until its socket gets a read deadline, or is closed. While there is work it makes
// non-blocking system calls only; it waits, in the runtime's poller, when the socket is drained.
func (w *udpWorker) run() {
	receive, transmit := w.receive, w.transmit
	for {
		for i := range w.in {
			h := &w.in[i].hdr
			h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
			if w.wildcard {
				h.Control = &w.slots[i].control[0]
				h.SetControllen(controlLen)
			}
		}
		w.received = 0
		if err := w.raw.Read(receive); err != nil {
			return
		}
		x := w.exchange
		x.begin()
		w.replies = 0
		for i := range w.received {
			w.serve(i)
		}
		for w.sent = 0; w.sent < w.replies; {
			w.failure = 0
			if err := w.raw.Write(transmit); err != nil {
				break // closed
			}
			if w.failure != 0 {
				x.count.drop(dropSend) // that packet can't be sent; the next ones may
				w.sent++
			}
		}
		x.flush()
	}
}

// receive fills the batch. It returns false to be called again when the socket is readable.
func (w *udpWorker) receive(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&w.in[0])), udpBatch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			w.received = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			return true // an error of an earlier packet, taken off the socket by this call
		}
	}
}

// transmit sends what is left of the batch. It returns false to be called again when the socket is writable.
func (w *udpWorker) transmit(fd uintptr) bool {
	for w.sent < w.replies {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.out[w.sent])), uintptr(w.replies-w.sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			w.sent += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			w.failure = errno
			return true
		}
	}
	return true
}

// serve answers packet i of the batch into the next message that goes out.
func (w *udpWorker) serve(i int) {
	slot, h := &w.slots[i], &w.in[i].hdr
	from := sockaddrIP(slot.name[:h.Namelen])
	packet := slot.query[:w.in[i].n]
	if h.Flags&unix.MSG_TRUNC != 0 {
		packet = packet[:min(len(packet), wire.HeaderLen)] // what was cut off can't be known: as if it ended after the header
	}
	reply, later := w.exchange.serve(packet, from, slot.reply[:0])
	control := 0
	if w.wildcard && (later || len(reply) > 0) {
		control = replyControl(slot.control[:int(h.Controllen)])
	}
	if later {
		w.putOff(slot, packet, from, h.Namelen, control)
		return
	}
	if len(reply) == 0 {
		return
	}
	o := &w.out[w.replies].hdr
	*o = unix.Msghdr{Name: h.Name, Namelen: h.Namelen, Iov: &slot.out}
	o.SetIovlen(1)
	if control > 0 {
		o.Control = &slot.control[0]
		o.SetControllen(control)
	}
	slot.out.Base = &reply[0]
	slot.out.SetLen(len(reply))
	w.replies++
}

// putOff copies a query to the slow lane.
func (w *udpWorker) putOff(slot *udpSlot, packet []byte, from netip.Addr, nameLen uint32, control int) {
	lane := w.exchange.server.slow
	if w.exchange.distant {
		lane = w.exchange.server.distant
	}
	j := lane.job()
	if j == nil {
		w.exchange.count.drop(dropSlowFull)
		return
	}
	w.exchange.count.slow++
	j.packet = append(j.packet[:0], packet...)
	j.from = from
	j.back = returnAddress{raw: w.raw, name: slot.name, nameLen: nameLen, control: slot.control, controlLen: control}
	lane.put(j)
}

// returnAddress is where an answer goes to, and comes from, after its batch is gone.
type returnAddress struct {
	raw        syscall.RawConn
	name       [unix.SizeofSockaddrInet6]byte
	nameLen    uint32
	control    [controlLen]byte
	controlLen int
}

// send sends one message and reports whether the kernel took it.
func (a *returnAddress) send(message []byte) bool {
	iov := unix.Iovec{Base: &message[0]}
	iov.SetLen(len(message))
	h := unix.Msghdr{Name: &a.name[0], Namelen: a.nameLen, Iov: &iov}
	h.SetIovlen(1)
	if a.controlLen > 0 {
		h.Control = &a.control[0]
		h.SetControllen(a.controlLen)
	}
	var errno unix.Errno
	err := a.raw.Write(func(fd uintptr) bool {
		for {
			_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	return err == nil && errno == 0
}

// sockaddrIP returns the address of a struct sockaddr, an IPv4 one mapped into IPv6 as IPv4.
func sockaddrIP(b []byte) netip.Addr {
	if len(b) < unix.SizeofSockaddrInet4 {
		return netip.IPv6Unspecified()
	}
	if *(*uint16)(unsafe.Pointer(&b[0])) == unix.AF_INET || len(b) < unix.SizeofSockaddrInet6 {
		return netip.AddrFrom4([4]byte(b[4:8]))
	}
	return netip.AddrFrom16([16]byte(b[8:24])).Unmap()
}

// replyControl turns the control message that says where a packet was sent to into the one that sends the
// answer from there (ip(7), RFC 3542 §6.2), in place, and returns its length; 0 when there is none.
func replyControl(b []byte) int {
	if len(b) < unix.SizeofCmsghdr {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	data := b[unix.CmsgLen(0):]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
		info.Ifindex = 0 // routes decide, not the interface that it came in by
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		if info.Addr[0] != 0xfe || info.Addr[1]&0xc0 != 0x80 { // link-local addresses mean nothing without their link
			info.Ifindex = 0
		}
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	return 0
}
