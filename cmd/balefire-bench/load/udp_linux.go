package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// UDP describes questions over UDP to one server.
type UDP struct {
	Server  netip.AddrPort
	Queries [][]byte // whole messages, whose first two octets are overwritten with the ID; not modified
	Sockets int
	Window  int           // questions under way on each socket, when Rate is 0
	Batch   int           // messages for each system call
	Rate    int           // questions a second, evenly spaced; 0 means as many as the window lets
	Nap     time.Duration // with a Rate, how long to sleep when nothing is due; 0 means not to
	Length  time.Duration // how long questions are sent
	CPU     int           // the processor that the generator is pinned to; −1 for any
	Start   int           // index of the first question, so that slices differ
	Patient time.Duration // how long an answer is waited for; 0 means LostAfter
}

// LostAfter is how long an answer over UDP is waited for, if nothing else is said.
const LostAfter = 250 * time.Millisecond

// Run sends questions until the time is over, and waits for the last answers. A port at which nobody listens is no error, but loss.
func (l UDP) Run() (Tally, error) {
	if l.Patient == 0 {
		l.Patient = LostAfter
	}
	r := udpRun{load: l, in: newBatch(l.Batch), out: newBatch(l.Batch), next: l.Start % len(l.Queries)}
	for range l.Sockets {
		fd, err := connectUDP(l.Server)
		if err != nil {
			return Tally{}, err
		}
		defer unix.Close(fd)
		r.sockets = append(r.sockets, &udpSocket{fd: fd})
		r.polls = append(r.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	cpu, err := onThread(l.CPU, func() error {
		r.begin = time.Now()
		if l.Rate > 0 {
			return r.paced()
		}
		return r.saturated()
	})
	r.tally.CPU = cpu
	return r.tally, err
}

// udpSocket is a connected socket with its questions under way.
type udpSocket struct {
	fd       int
	inflight int
	id       uint16
	heard    time.Duration
	sent     [1 << 16]time.Duration // since the beginning, by ID
}

// udpRun is the state of a load while it runs.
type udpRun struct {
	load    UDP
	sockets []*udpSocket
	polls   []unix.PollFd
	in, out *batch
	next    int
	begin   time.Time
	tally   Tally
}

// saturated keeps a window of questions under way on every socket: a closed loop, in which each server is as busy as it can be.
func (r *udpRun) saturated() error {
	l := &r.load
	stopped := false
	for {
		now := time.Since(r.begin)
		if !stopped && now >= l.Length {
			stopped, r.tally.Elapsed = true, now
		}
		outstanding, progress := 0, false
		for _, s := range r.sockets {
			n, err := r.receive(s)
			if err != nil {
				return err
			}
			progress = progress || n > 0
			if s.inflight > 0 && now-s.heard > l.Patient {
				r.tally.Lost += uint64(s.inflight)
				s.inflight = 0
			}
			// Half a window at a time, so that system calls carry something.
			if room := min(l.Window-s.inflight, l.Batch); !stopped && (room >= l.Window/2 || s.inflight == 0) {
				at := time.Since(r.begin)
				if n, err = r.send(s, room, at, 0); err != nil {
					return err
				}
				progress = progress || n > 0
			}
			outstanding += s.inflight
		}
		if stopped && outstanding == 0 {
			return nil
		}
		if stopped && now > r.tally.Elapsed+l.Patient {
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

// paced sends questions at their times, whether there are answers or not: an open loop. What an answer took counts from the time at
// which its question was due. It sleeps only when told to, since waking up is late.
func (r *udpRun) paced() error {
	l := &r.load
	gap := time.Second / time.Duration(l.Rate)
	total := int(l.Length / gap)
	nap := unix.NsecToTimespec(l.Nap.Nanoseconds())
	if l.Nap > 0 {
		defer goFirst()()
	}
	for due, k := 0, 0; ; k++ {
		if l.Nap > 0 && k%len(r.sockets) == 0 {
			_ = unix.Nanosleep(&nap, nil) // a signal ends it early, which does no harm
		}
		now := time.Since(r.begin)
		s := r.sockets[k%len(r.sockets)]
		if want := min(total, int(now/gap)+1, due+l.Batch); due < want {
			n, err := r.send(s, want-due, time.Duration(due)*gap, gap)
			if err != nil {
				return err
			}
			due += n
		}
		if _, err := r.receive(s); err != nil {
			return err
		}
		if due < total && now < l.Length+l.Patient {
			continue
		}
		if r.tally.Elapsed == 0 {
			r.tally.Elapsed = now
		}
		if r.tally.Received >= r.tally.Sent || now > r.tally.Elapsed+l.Patient {
			r.tally.Lost = r.tally.Sent - min(r.tally.Received, r.tally.Sent)
			return nil
		}
	}
}

// receive takes the answers that are there for a socket.
func (r *udpRun) receive(s *udpSocket) (int, error) {
	if s.inflight == 0 {
		return 0, nil
	}
	n, err := r.in.transfer(unix.SYS_RECVMMSG, s.fd, len(r.in.msgs))
	if err != nil {
		return 0, fmt.Errorf("recvmmsg: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	now := time.Since(r.begin)
	s.heard = now
	for i := range n {
		m := r.in.message(i)
		if r.in.msgs[i].len < 12 || m[2]&0x80 == 0 {
			continue
		}
		r.tally.Received++
		r.tally.RCodes[m[3]&15]++
		r.tally.Latency.Add(now - s.sent[binary.BigEndian.Uint16(m)])
		s.inflight = max(s.inflight-1, 0) // one that was given up may come after all
	}
	return n, nil
}

// send sends the next n questions; the first counts as sent at a time, the others each a gap later.
func (r *udpRun) send(s *udpSocket, n int, at, gap time.Duration) (int, error) {
	if s.inflight == 0 {
		s.heard = time.Since(r.begin)
	}
	next := r.next
	for i := range n {
		q := r.load.Queries[next]
		if next++; next == len(r.load.Queries) {
			next = 0
		}
		m := r.out.message(i)
		copy(m, q)
		id := s.id + uint16(i)
		binary.BigEndian.PutUint16(m, id)
		s.sent[id] = at + time.Duration(i)*gap
		r.out.iovs[i].SetLen(len(q))
	}
	sent, err := r.out.transfer(unix.SYS_SENDMMSG, s.fd, n)
	if err != nil {
		return 0, fmt.Errorf("sendmmsg: %w", err)
	}
	r.next = (r.next + sent) % len(r.load.Queries)
	s.id += uint16(sent)
	s.inflight += sent
	r.tally.Sent += uint64(sent)
	return sent, nil
}

func connectUDP(server netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	// Large buffers keep the generator from losing answers; the kernel caps them as it likes.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	if err := unix.Connect(fd, sockaddr(server)); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect to %s: %w", server, err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
