package dnsserver

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
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

// udpSocket is a socket of its own for one worker: blocking, and not known to the runtime's poller, which costs more than it
// saves where there is always work.
type udpSocket struct {
	fd     int
	ending atomic.Bool
}

// udpWorker is one receiving loop, on a socket of its own. The kernel spreads clients over the sockets of
// an address (SO_REUSEPORT).
type udpWorker struct {
	exchange *exchange
	socket   *udpSocket
	wildcard bool // the socket has no address of its own: answer from the one that was asked
	slots    [udpBatch]udpSlot
	in, out  [udpBatch]mmsghdr
	queries  [udpBatch]wire.Query
	hashes   [udpBatch]uint64
	replies  int // of the packets in this batch, how many get an answer
	batches  uint
}

// listenUDP opens workers sockets on the same address, which is that of the TCP listener.
func listenUDP(family string, at netip.AddrPort, workers int) (all []*udpSocket, err error) {
	for range workers {
		s, err := openUDP(family, at)
		if err != nil {
			for _, s := range all {
				s.close()
			}
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// openUDP opens a socket. A family of "" is one of IPv6 that takes IPv4 as well.
func openUDP(family string, at netip.AddrPort) (_ *udpSocket, err error) {
	var domain int
	var address unix.Sockaddr
	if at.Addr().Is4() {
		domain, address = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		zone, err := zoneIndex(at.Addr().Zone())
		if err != nil {
			return nil, err
		}
		domain, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zone}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	set := func(level, option, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, option, value)
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	only6 := 0
	if family == "6" {
		only6 = 1
	}
	if domain == unix.AF_INET6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only6)
	}
	if at.Addr().IsUnspecified() {
		if domain == unix.AF_INET6 {
			// On a socket for both families this tells the address of IPv4 packets too, as a mapped one.
			set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("set a socket's options: %w", err)
	}
	// A smaller buffer is slower under bursts, not wrong. A privileged process need not ask.
	for _, option := range [][2]int{{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE}, {unix.SO_SNDBUF, unix.SO_SNDBUFFORCE}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, option[1], socketBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option[0], socketBuffer)
		}
	}
	if err := unix.Bind(fd, address); err != nil {
		return nil, fmt.Errorf("bind UDP: %w", err)
	}
	return &udpSocket{fd: fd}, nil
}

func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

// end makes the worker stop when it has served what it has read.
func (s *udpSocket) end() {
	s.ending.Store(true)
	// Says that the socket is not connected, and wakes who waits on it all the same.
	_ = unix.Shutdown(s.fd, unix.SHUT_RD)
}

// close gives the socket back. Nobody may use it any more: its number may be another file's next.
func (s *udpSocket) close() { _ = unix.Close(s.fd) }

func (s *Server) newUDPWorkers(e *endpoint) (workers []*udpWorker) {
	for _, socket := range e.udp {
		x := &exchange{server: s, via: overUDP, cache: s.newAnswerCache()}
		s.exchanges = append(s.exchanges, x) // the server's lock is held
		w := &udpWorker{exchange: x, socket: socket, wildcard: e.addr.Addr().IsUnspecified()}
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

// run serves batches until its socket is ended. It has a thread of its own: while there is work it makes
// system calls that don't wait, without a word to the scheduler; it waits, with its word, when the socket is drained.
func (w *udpWorker) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		received := w.receive()
		if received == 0 {
			return
		}
		x := w.exchange
		x.begin()
		w.replies = 0
		w.parse(received)
		for i := range received {
			w.serve(i)
		}
		w.transmit()
		if w.batches++; w.batches%sampleEvery == 0 {
			x.observe(fastLane, x.nanos, w.replies)
		}
		x.flush()
		if w.socket.ending.Load() {
			return // packets go on coming to a socket that is shut down
		}
	}
}

// receive fills the batch, waiting for its first packet, and returns how many it has; 0 when the socket is ended and nothing is left.
func (w *udpWorker) receive() int {
	for i := range w.in {
		h := &w.in[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		if w.wildcard {
			h.Control = &w.slots[i].control[0]
			h.SetControllen(controlLen)
		}
	}
	fd, first := uintptr(w.socket.fd), uintptr(unsafe.Pointer(&w.in[0]))
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, first, udpBatch, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EAGAIN {
			if w.socket.ending.Load() {
				return 0
			}
			n, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, first, udpBatch, unix.MSG_WAITFORONE, 0, 0)
		}
		switch {
		case errno == 0 && w.socket.ending.Load():
			return w.withoutEnd(int(n))
		case errno == 0:
			return int(n)
		case errno == unix.EINTR:
		case w.socket.ending.Load():
			return 0
		default: // one that lasts shall not keep a processor busy
			w.exchange.count.drop(dropReceive)
			w.exchange.flush()
			time.Sleep(time.Millisecond)
		}
	}
}

// withoutEnd leaves out what is no packet: the end of an ended socket reads as packets of no length from nowhere.
func (w *udpWorker) withoutEnd(n int) int {
	for n > 0 && w.in[n-1].n == 0 && w.in[n-1].hdr.Namelen == 0 {
		n--
	}
	return n
}

// transmit sends the replies of the batch.
func (w *udpWorker) transmit() {
	fd, sent := uintptr(w.socket.fd), 0
	for sent < w.replies {
		first, rest := uintptr(unsafe.Pointer(&w.out[sent])), uintptr(w.replies-sent)
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, first, rest, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EAGAIN {
			n, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, first, rest, 0, 0, 0)
		}
		switch errno {
		case 0:
			sent += int(n)
		case unix.EINTR:
		default:
			w.exchange.count.drop(dropSend) // that packet can't be sent; the next ones may
			sent++
		}
	}
}

// parse reads the packets of the batch, and has what they ask for brought near while it reads the next ones.
func (w *udpWorker) parse(received int) {
	cache := w.exchange.cache
	for i := range received {
		q := &w.queries[i]
		w.exchange.parse(w.packet(i), q)
		if q.Verdict == wire.Ask && cache != nil {
			question := questionOf(q)
			w.hashes[i] = cache.Hash(&question)
			cache.Expect(w.hashes[i])
		}
	}
	if cache == nil {
		return
	}
	for i := range received {
		if w.queries[i].Verdict == wire.Ask {
			cache.ExpectAnswer(w.hashes[i])
		}
	}
}

func (w *udpWorker) packet(i int) []byte {
	packet := w.slots[i].query[:w.in[i].n]
	if w.in[i].hdr.Flags&unix.MSG_TRUNC != 0 {
		packet = packet[:min(len(packet), wire.HeaderLen)] // what was cut off can't be known: as if it ended after the header
	}
	return packet
}

// serve answers packet i of the batch into the next message that goes out.
func (w *udpWorker) serve(i int) {
	slot, h := &w.slots[i], &w.in[i].hdr
	from := sockaddrIP(slot.name[:h.Namelen])
	packet := w.packet(i)
	w.exchange.hash = w.hashes[i]
	reply, later := w.exchange.serveParsed(&w.queries[i], packet, from, slot.reply[:0])
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
	lane := w.exchange.lane()
	j := lane.job()
	if j == nil {
		w.exchange.count.drop(dropSlowFull)
		return
	}
	w.exchange.count.slow++
	j.packet = append(j.packet[:0], packet...)
	j.from, j.since = from, w.exchange.nanos
	j.back = returnAddress{socket: w.socket, name: slot.name, nameLen: nameLen, control: slot.control, controlLen: control}
	lane.put(j)
}

// returnAddress is where an answer goes to, and comes from, after its batch is gone.
type returnAddress struct {
	socket     *udpSocket
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
	for {
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(a.socket.fd), uintptr(unsafe.Pointer(&h)), 0)
		if errno != unix.EINTR {
			return errno == 0
		}
	}
}

// port returns the port that it goes to, which is where both kinds of struct sockaddr have it.
func (a *returnAddress) port() uint16 { return uint16(a.name[2])<<8 | uint16(a.name[3]) }

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
