package load

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestQuantiles(t *testing.T) {
	tests := map[string]struct {
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		"none":                        {nil, 0.5, 0},
		"one":                         {[]time.Duration{100}, 0.99, 100},
		"small ones are exact":        {[]time.Duration{1, 2, 3, 4, 5}, 0.5, 3},
		"the last":                    {[]time.Duration{1, 2, 3, 127}, 1, 127},
		"negative counts as nothing":  {[]time.Duration{-5}, 0.5, 0},
		"median of two is the higher": {[]time.Duration{10, 20}, 0.5, 20},
		"in a bucket of two":          {[]time.Duration{129}, 0.5, 129},
		"milliseconds":                {[]time.Duration{time.Millisecond}, 0.5, 999_424},
		"hours":                       {[]time.Duration{time.Hour}, 0.5, 3_590_592_069_632},
	}
	for name, tt := range tests {
		var h Histogram
		for _, v := range tt.values {
			h.Add(v)
		}
		got := h.Quantile(tt.q)
		if slack := tt.want / 64; got < tt.want-slack || got > tt.want+slack {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// TestBucketsAreNarrow goes through all magnitudes: what comes out is never further than a 64th from what went in.
func TestBucketsAreNarrow(t *testing.T) {
	last := -1
	for v := uint64(1); v < 1<<62; v += v/97 + 1 {
		b := bucket(v)
		if b < last {
			t.Fatalf("the bucket of %d is before that of a smaller value", v)
		}
		last = b
		if got := uint64(middle(b)); max(got, v)-min(got, v) > v/64 {
			t.Fatalf("%d is remembered as %d", v, got)
		}
	}
}

func TestMerge(t *testing.T) {
	var a, b Histogram
	for i := range 100 {
		a.Add(time.Duration(i))
		b.Add(time.Duration(1000 + i))
	}
	a.Merge(&b)
	if a.Count() != 200 || a.Quantile(0.25) != 50 || a.Quantile(0.75) < 1000 {
		t.Errorf("%d durations, quartiles %d and %d", a.Count(), a.Quantile(0.25), a.Quantile(0.75))
	}
}

// query is a header and a question for ".".
var query = []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}

// udpServer answers every deaf-th question not at all, and the others with QR and an RCODE.
func udpServer(t *testing.T, rcode byte, deaf int) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	t.Cleanup(done.Wait)
	t.Cleanup(func() { conn.Close() })
	done.Go(func() {
		buf := make([]byte, 4096)
		for k := 1; ; k++ {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if deaf > 0 && k%deaf == 0 {
				continue
			}
			buf[2] |= 0x80
			buf[3] |= rcode
			if _, err := conn.WriteToUDPAddrPort(buf[:n], from); err != nil {
				return
			}
		}
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestUDP(t *testing.T) {
	tests := map[string]struct {
		rcode byte
		deaf  int
		rate  int
	}{
		"saturated":            {3, 0, 0},
		"paced":                {0, 0, 2000},
		"saturated, with loss": {0, 50, 0},
		"paced, with loss":     {0, 50, 2000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			patient := 30 * time.Second // ends as soon as all are answered
			if tt.deaf > 0 {
				patient = 2 * time.Second
			}
			got, err := UDP{
				Server: udpServer(t, tt.rcode, tt.deaf), Queries: [][]byte{query}, Sockets: 2, Window: 8, Batch: 8, Rate: tt.rate,
				Length: 300 * time.Millisecond, CPU: -1, Patient: patient,
			}.Run()
			if err != nil {
				t.Fatal(err)
			}
			if got.Received == 0 || got.Sent != got.Received+got.Lost || got.RCodes[tt.rcode] != got.Received || got.Latency.Count() != got.Received {
				t.Errorf("sent %d, received %d, lost %d, by code %v, %d times", got.Sent, got.Received, got.Lost, got.RCodes, got.Latency.Count())
			}
			if lost := got.Lost > 0; lost != (tt.deaf > 0) {
				t.Errorf("lost %d", got.Lost)
			}
			if tt.rate > 0 && got.Sent != 600 {
				t.Errorf("sent %d in 300 ms at 2,000 a second", got.Sent)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	got, err := UDP{Server: addr, Queries: [][]byte{query}, Sockets: 1, Window: 4, Batch: 4, Length: 100 * time.Millisecond, CPU: -1}.Run()
	if err != nil || got.Received != 0 {
		t.Errorf("received %d, %v", got.Received, err)
	}
	if _, err := (TCP{Server: addr, Queries: [][]byte{query}, Connections: 1, Window: 4, Length: 100 * time.Millisecond, CPU: -1}).Run(); err == nil {
		t.Error("a connection to nobody")
	}
}

// tcpServer answers with QR, each answer in two pieces, and ends a connection after so many answers, 0 for never.
func tcpServer(t *testing.T, most int) netip.AddrPort {
	return streamServer(t, most, func(c net.Conn) net.Conn { return c })
}

func streamServer(t *testing.T, most int, over func(net.Conn) net.Conn) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(done.Wait)
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			done.Go(func() {
				defer c.Close()
				answerAll(over(c), most)
			})
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func answerAll(c net.Conn, most int) {
	buf := make([]byte, 4096)
	for k := 0; most == 0 || k < most; k++ {
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return
		}
		n := 2 + int(binary.BigEndian.Uint16(buf))
		if _, err := io.ReadFull(c, buf[2:n]); err != nil {
			return
		}
		buf[4] |= 0x80
		for _, piece := range [][]byte{buf[:5], buf[5:n]} {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	}
}

// tlsServer is tcpServer with TLS.
func tlsServer(t *testing.T, most int) netip.AddrPort {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{NextProtos: []string{"dot"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return streamServer(t, most, func(c net.Conn) net.Conn { return tls.Server(c, config) })
}

func TestHandshakes(t *testing.T) {
	for _, resume := range []bool{false, true} {
		got, err := Handshakes{Server: tlsServer(t, 0), Query: query, Resume: resume, Length: 100 * time.Millisecond, CPU: -1}.Run()
		if err != nil || got.Received == 0 || got.Sent != got.Received || got.RCodes[0] != got.Received {
			t.Errorf("resumed %v: sent %d, received %d, by code %v, %v", resume, got.Sent, got.Received, got.RCodes, err)
		}
	}
}

func TestStreams(t *testing.T) {
	for name, most := range map[string]int{"kept": 0, "ended after 20 answers": 20} {
		for secure, server := range map[bool]func(*testing.T, int) netip.AddrPort{false: tcpServer, true: tlsServer} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				got, err := TCP{Server: server(t, most), TLS: secure, Queries: [][]byte{query}, Connections: 3, Window: 8, Length: 300 * time.Millisecond, CPU: -1, Patient: 30 * time.Second}.Run()
				if err != nil {
					t.Fatal(err)
				}
				if got.Received == 0 || got.Sent != got.Received+got.Lost || got.RCodes[0] != got.Received {
					t.Errorf("sent %d, received %d, lost %d, by code %v", got.Sent, got.Received, got.Lost, got.RCodes)
				}
				if (got.Reconnects > 0) != (most > 0) {
					t.Errorf("connected anew %d times", got.Reconnects)
				}
			})
		}
	}
}

// awaitEnds waits until the other side has ended each connection.
func awaitEnds(t *testing.T, fds []int) {
	t.Helper()
	for _, fd := range fds {
		n, err := 0, error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, 60_000)
		}
		if n != 1 || err != nil {
			t.Fatalf("a connection is not ended: %v", err)
		}
	}
}

func TestIdle(t *testing.T) {
	for name, tt := range map[string]struct{ most, open int }{"kept": {0, 20}, "ended after the answer": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			for secure, server := range map[bool]netip.AddrPort{false: tcpServer(t, tt.most), true: tlsServer(t, tt.most)} {
				idle, err := OpenIdle(server, secure, 20, query)
				if err != nil {
					t.Fatal(err)
				}
				defer idle.Close()
				if tt.open == 0 {
					awaitEnds(t, idle.fds)
				}
				if got := idle.Open(); got != tt.open {
					t.Errorf("TLS %v: %d of 20 are open, want %d", secure, got, tt.open)
				}
			}
		})
	}
}
