// Package porttest gives tests ports for servers that can't be told to take any, or whose port must be known before they are started.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const (
	lowest = 10_000 // below are ports of well-known services
	// highest is the last that Linux and others don't give to connections by themselves, if they don't say.
	highest = 32_767
)

// claims are this process's ports, each with a file that is locked for as long as the process lives.
var claims sync.Map

// Free returns HOST:PORT, with a port at which nobody listens for TCP or UDP. The kernel gives it to nobody by itself, and no other test gets it, in this process or
// another, before this process ends. It may be called by many goroutines at once.
func Free(tb testing.TB, host string) string {
	tb.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("balefire-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	last := lastFree()
	for range 1000 {
		port := strconv.Itoa(lowest + rand.N(last-lowest+1))
		addr := net.JoinHostPort(host, port)
		if claim(tb, dir, port) && unused(addr) {
			return addr
		}
	}
	tb.Fatal("no port is free")
	return ""
}

// claim reports whether a port is from now on this process's, and was nobody's before. One that is in use all the same stays claimed: it is of no use to
// others either.
func claim(tb testing.TB, dir, port string) bool {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(dir, port), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil { // another process's, or this one's
		f.Close()
		return false
	}
	claims.Store(port, f)
	return true
}

// unused reports whether one may listen at an address.
func unused(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return u.Close() == nil
}

// lastFree returns the last port below those that the kernel gives to connections.
func lastFree() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return highest
	}
	if fields := strings.Fields(string(text)); len(fields) == 2 {
		if first, err := strconv.Atoi(fields[0]); err == nil && first > lowest+1000 {
			return first - 1
		}
	}
	return highest
}
