package dnsserver

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// BenchmarkUDP is a query from socket to socket, 32 under way, on the path that is served: a worker, its batches, answers that were kept
// or are made. Allocations are those of the whole process, so the client, raw system calls, must not have any either.
func BenchmarkUDP(b *testing.B) {
	questions := map[string][]byte{
		"positive": pack(b, question("www.example.com.", dns.TypeA)),
		"edns":     pack(b, withEDNS(question("www.example.com.", dns.TypeA), 1232, true)),
		"cookie":   pack(b, withCookie(question("www.example.com.", dns.TypeA), clientCookie)),
		"nxdomain": pack(b, question("nothing.example.com.", dns.TypeA)),
		"cname":    pack(b, question("alias.example.com.", dns.TypeA)),
		"wildcard": pack(b, question("a.wild.example.com.", dns.TypeTXT)),
		"referral": pack(b, question("www.child.example.com.", dns.TypeA)),
	}
	for how, cache := range map[string]int{"kept": 0, "made": -1} {
		s := start(b, Options{Zones: newHosted(b), Workers: 1, AnswerCache: cache})
		for name, query := range questions {
			b.Run(how+"-"+name, func(b *testing.B) {
				fd := rawUDP(b, netip.MustParseAddrPort(s.testAddr()))
				ask(b, fd, query, 1000) // buffers grow to their size
				b.ReportAllocs()
				b.ResetTimer()
				ask(b, fd, query, b.N)
			})
		}
	}
}

// rawUDP is a socket that sends to the server.
func rawUDP(b *testing.B, server netip.AddrPort) int {
	b.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		b.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}); err != nil {
		b.Fatal(err)
	}
	return fd
}

// ask sends a query n times, and waits for all answers.
func ask(b *testing.B, fd int, query []byte, n int) {
	const window = 32
	var buf [4096]byte
	for sent, received := 0, 0; received < n; {
		for sent < n && sent-received < window {
			if _, err := unix.Write(fd, query); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		size, err := unix.Read(fd, buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || size < len(query) {
			b.Fatalf("%d octets: %v", size, err)
		}
		received++
	}
}
