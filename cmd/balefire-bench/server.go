package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// server is one server under test: a process, or a group of them, on 127.0.0.1.
type server struct {
	peer     peer
	name     string // with its version
	addr     netip.AddrPort
	control  netip.AddrPort // for its API or control channel
	tls      netip.AddrPort // for DNS over TLS, where it knows that
	dir      string
	cmd      *exec.Cmd
	prepared time.Duration // what came before the start: imports, databases
	peak     int64         // the most memory of its own that it was seen to have then
	started  time.Time
	inMemory time.Duration // from the start until Balefire had all zones in memory, if that was waited for
	watch    *watch        // of its memory since the start
	first    time.Duration // from the start to the first right answer to any probe
	all      time.Duration // … to all probes

	readyAfter time.Duration // Balefire's, from the start to when it says that it is
}

// path returns that of a file in the server's directory.
func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// configure writes a file in the server's directory.
func (s *server) configure(name, format string, args ...any) error {
	return os.WriteFile(s.path(name), fmt.Appendf(nil, format, args...), 0o644)
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// freePort returns a port that is free for UDP and TCP on 127.0.0.1 now.
func freePort() (uint16, error) {
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
		l.Close()
		if err == nil {
			u.Close()
			return uint16(port), nil
		}
	}
	return 0, errors.New("no port of 127.0.0.1 is free for both UDP and TCP")
}

// launch starts argv pinned to one processor, −1 for any, in a process group of its own, its output in a file of its directory.
func (s *server) launch(cpu int, env []string, argv ...string) error {
	if cpu >= 0 {
		argv = append([]string{"taskset", "-c", strconv.Itoa(cpu)}, argv...)
	}
	out, err := os.Create(s.path("output"))
	if err != nil {
		return err
	}
	defer out.Close()
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s.started = time.Now()
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.watch = watchMemory(s.cmd.Process.Pid)
	return nil
}

// highest is the most memory of its own that the server was seen to have since it was started, in octets.
func (s *server) highest() (int64, error) {
	u, err := s.usage()
	return max(u.own, s.watch.highest.Load()), err
}

// await waits until the server has answered every probe with NOERROR and records, unless it only echoes. Probes are told apart by
// their IDs, which it sets.
func (s *server) await(ctx context.Context, probes [][]byte) error {
	_, echo := s.peer.(echoes)
	conn, err := net.Dial("udp4", s.addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 4096)
	answered := make([]bool, len(probes))
	left := len(probes)
	for ctx.Err() == nil {
		for i, p := range probes {
			if answered[i] {
				continue
			}
			binary.BigEndian.PutUint16(p, uint16(i))
			_, _ = conn.Write(p) // refused: nobody listens yet
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			return err
		}
		for left > 0 {
			n, err := conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				time.Sleep(2 * time.Millisecond) // refused: there is nothing to wait for
				break
			}
			id := int(binary.BigEndian.Uint16(buf))
			if n < 12 || buf[3]&15 != 0 || (buf[6]|buf[7] == 0 && !echo) || id >= len(probes) || answered[id] {
				continue
			}
			answered[id] = true
			if left == len(probes) {
				s.first = time.Since(s.started)
			}
			if left--; left == 0 {
				s.all = time.Since(s.started)
				return nil
			}
		}
	}
	return fmt.Errorf("%s has not answered %d of %d probes: %w\n%s", s.name, left, len(probes), ctx.Err(), s.said())
}

// said returns the end of what the server has printed.
func (s *server) said() []byte {
	out, _ := os.ReadFile(s.path("output")) // for the reader of an error, who sees that there is none
	return out[max(0, len(out)-2000):]
}

// usage is what the server has used so far.
func (s *server) usage() (usage, error) {
	u, err := groupUsage(s.cmd.Process.Pid)
	if err != nil {
		return u, fmt.Errorf("%s: %w\n%s", s.name, err, s.said())
	}
	return u, nil
}

// stop ends the server and its children, and waits for it.
func (s *server) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.watch.end()
	group := s.cmd.Process.Pid
	_ = syscall.Kill(-group, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // ended by a signal: its status says nothing
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
	}
	_ = syscall.Kill(-group, syscall.SIGKILL) // it, or children that outlived it
	<-done
	s.cmd = nil
}
