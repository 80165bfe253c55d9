package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is one authoritative server under test: a process, or a group of them, on 127.0.0.1.
type server struct {
	name    string
	version string
	addr    netip.AddrPort
	cmd     *exec.Cmd
	started time.Time
	first   time.Duration // from start to the first right answer
	dir     string
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

// launch starts argv pinned to one processor, in a process group of its own, its output in dir/output.
func (s *server) launch(cpu int, env []string, argv ...string) error {
	if cpu >= 0 {
		argv = append([]string{"taskset", "-c", strconv.Itoa(cpu)}, argv...)
	}
	out, err := os.Create(filepath.Join(s.dir, "output"))
	if err != nil {
		return err
	}
	defer out.Close()
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s.started = time.Now()
	return s.cmd.Start()
}

// await waits until the server answers query with NOERROR and an answer.
func (s *server) await(ctx context.Context, query []byte) error {
	conn, err := net.Dial("udp4", s.addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		if _, err := conn.Write(query); err == nil {
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
				return err
			}
			n, err := conn.Read(buf)
			if err == nil && n > 12 && buf[3]&15 == 0 && buf[6]|buf[7] != 0 {
				s.first = time.Since(s.started)
				return nil
			}
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				time.Sleep(5 * time.Millisecond) // refused: nobody listens yet
			}
		}
	}
	out, _ := os.ReadFile(filepath.Join(s.dir, "output"))
	return fmt.Errorf("%s never answered: %w\n%s", s.name, ctx.Err(), out)
}

// stop ends the server and its children, and waits for it.
func (s *server) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // killed: its status says nothing
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	s.cmd = nil
}

// usage is what the processes of a server have used so far.
type usage struct {
	cpu time.Duration // user and system
	rss int64         // resident octets now
}

// usage sums over the server's process group.
func (s *server) usage() (usage, error) {
	var u usage
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return u, err
	}
	group := strconv.Itoa(s.cmd.Process.Pid)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// After the command in parentheses: state ppid pgrp … utime(12) stime(13) … rss(22), proc(5).
		_, rest, ok := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		if !ok || len(f) < 22 || f[2] != group {
			continue
		}
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		pages, _ := strconv.ParseInt(f[21], 10, 64)
		const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
		u.cpu += time.Duration(user+system) * tick
		u.rss += pages * int64(os.Getpagesize())
	}
	if u.rss == 0 {
		return u, fmt.Errorf("%s has no process: it has ended", s.name)
	}
	return u, nil
}

// versionOf returns the first line with a digit that a command prints.
func versionOf(argv ...string) string {
	out, _ := exec.Command(argv[0], argv[1:]...).CombinedOutput() // many exit with 1
	for line := range strings.Lines(string(out)) {
		if strings.ContainsAny(line, "0123456789") {
			return strings.TrimSpace(line)
		}
	}
	return "unknown"
}
