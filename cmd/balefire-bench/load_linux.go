package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load describes one slice of queries to one server.
type load struct {
	server  netip.AddrPort
	queries [][]byte // whole messages; the first two octets are overwritten with the ID
	sockets int
	window  int // queries outstanding on each socket
	batch   int // messages a system call
	length  time.Duration
	cpu     int // the processor that the generator pins itself to; −1 for any
	start   int // index of the first query, so that slices differ
}

// tally is what came of a load.
type tally struct {
	Sent, Received, Lost uint64
	Elapsed              time.Duration
	RCodes               [16]uint64
	P50, P99             time.Duration
}

// qps returns the answers a second.
func (t tally) qps() float64 { return float64(t.Received) / t.Elapsed.Seconds() }

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// socket is one connected UDP socket with its queries in flight.
type socket struct {
	fd       int
	inflight int
	id       uint16
	heard    time.Time
	sent     [1 << 16]int64 // nanoseconds since the start, by ID
}

const (
	maxBatch   = 64
	maxMessage = 4096
	lostAfter  = 250 * time.Millisecond
	samples    = 1 << 18
)

// buffers are one batch of messages for the system calls, all in one block.
type buffers struct {
	msgs []mmsghdr
	iovs []unix.Iovec
	data []byte
}

func newBuffers(n int) *buffers {
	b := &buffers{make([]mmsghdr, n), make([]unix.Iovec, n), make([]byte, n*maxMessage)}
	for i := range b.msgs {
		b.iovs[i].Base = &b.data[i*maxMessage]
		b.iovs[i].SetLen(maxMessage)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

func (b *buffers) message(i int) []byte { return b.data[i*maxMessage : (i+1)*maxMessage] }

// run keeps window queries outstanding on every socket until the time is over: a closed loop, so that each
// server is as busy as it can be. One thread, nothing allocated while it runs.
func (l load) run() (tally, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if l.cpu >= 0 {
		var set unix.CPUSet
		set.Set(l.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return tally{}, fmt.Errorf("pin the generator to processor %d: %w", l.cpu, err)
		}
	}
	socks := make([]*socket, l.sockets)
	for i := range socks {
		fd, err := connect(l.server)
		if err != nil {
			return tally{}, err
		}
		defer unix.Close(fd)
		socks[i] = &socket{fd: fd}
	}
	batch := min(l.batch, maxBatch)
	in, out := newBuffers(batch), newBuffers(batch)
	latencies, seen := make([]int64, 0, samples), uint64(0)
	polls := make([]unix.PollFd, len(socks))
	for i, s := range socks {
		polls[i] = unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN}
	}
	var t tally
	begin := time.Now()
	end, next := begin.Add(l.length), l.start%len(l.queries)
	var drained time.Time
	for stop := false; ; {
		now := time.Now()
		if !stop && now.After(end) {
			stop, drained = true, now.Add(lostAfter)
			t.Elapsed = now.Sub(begin)
		}
		outstanding, progress := 0, false
		for _, s := range socks {
			if s.inflight > 0 {
				n, err := transfer(unix.SYS_RECVMMSG, s.fd, in.msgs[:batch])
				if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
					return t, fmt.Errorf("recvmmsg: %w", err)
				}
				if n > 0 {
					progress = true
					s.heard = time.Now()
					since := s.heard.Sub(begin).Nanoseconds()
					for i := range n {
						m := in.message(i)
						if in.msgs[i].len < 12 || m[2]&0x80 == 0 {
							continue
						}
						t.Received++
						t.RCodes[m[3]&15]++
						s.inflight--
						if seen++; seen%16 == 0 {
							d := since - s.sent[binary.BigEndian.Uint16(m)]
							if len(latencies) < samples {
								latencies = append(latencies, d)
							} else {
								latencies[seen/16%samples] = d
							}
						}
					}
				} else if now.Sub(s.heard) > lostAfter {
					t.Lost += uint64(s.inflight)
					s.inflight, s.heard = 0, now
				}
			}
			if room := min(l.window-s.inflight, batch); !stop && (room >= l.window/2 || s.inflight == 0) {
				if s.inflight == 0 {
					s.heard = now
				}
				stamp := time.Since(begin).Nanoseconds()
				for i := range room {
					q := l.queries[next]
					if next++; next == len(l.queries) {
						next = 0
					}
					m := out.message(i)
					copy(m, q)
					binary.BigEndian.PutUint16(m, s.id)
					s.sent[s.id] = stamp
					s.id++
					out.iovs[i].SetLen(len(q))
				}
				n, err := transfer(unix.SYS_SENDMMSG, s.fd, out.msgs[:room])
				if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
					return t, fmt.Errorf("sendmmsg: %w", err)
				}
				if n > 0 {
					t.Sent += uint64(n)
					s.inflight += n
					progress = true
				}
			}
			outstanding += s.inflight
		}
		if stop && (outstanding == 0 || now.After(drained)) {
			t.Lost += uint64(outstanding)
			break
		}
		if !progress {
			if _, err := unix.Poll(polls, 5); err != nil && !errors.Is(err, unix.EINTR) {
				return t, fmt.Errorf("poll: %w", err)
			}
		}
	}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		t.P50 = time.Duration(latencies[len(latencies)/2])
		t.P99 = time.Duration(latencies[len(latencies)*99/100])
	}
	return t, nil
}

// transfer receives or sends a batch without blocking; nothing to do is 0 messages.
func transfer(call uintptr, fd int, msgs []mmsghdr) (int, error) {
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

func connect(server netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	// Large buffers keep the generator from losing answers; the kernel caps them as it likes.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	sa := &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect to %s: %w", server, err)
	}
	return fd, nil
}
