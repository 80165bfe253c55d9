package dnsserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"balefire/store/hotzone"
	"balefire/zones"
)

const (
	benchServer = "BALEFIRE_BENCHMARK_SERVER" // what the process serves that has it set
	benchNames  = 10_000
)

// BenchmarkTCP asks a server in a process of its own over kept connections, and reports the server's CPU time for each answer.
// Where there are two processors, the server has the first for itself. BALEFIRE_BENCHMARK_PEER=ADDRESS,PID asks another server, which has
// the names h0 to h9999 of bench.example.
func BenchmarkTCP(b *testing.B) {
	switch os.Getenv(benchServer) {
	case "dns", "tls":
		serveBenchmark(b)
	case "echo":
		serveEcho(b)
	default:
		benchmarkTCP(b, "dns")
	}
}

// BenchmarkTLS is the same with TLS.
func BenchmarkTLS(b *testing.B) { benchmarkTCP(b, "tls") }

// BenchmarkTCPFloor is the same with a server that sends back what it reads, in the fewest system calls: what the kernel takes for itself.
func BenchmarkTCPFloor(b *testing.B) { benchmarkTCP(b, "echo") }

func benchmarkTCP(b *testing.B, kind string) {
	for _, c := range []struct{ conns, pipeline, idle int }{{8, 24, 0}, {192, 1, 0}, {8, 24, 10_000}, {192, 1, 10_000}} {
		b.Run(fmt.Sprintf("conns=%d/pipeline=%d/idle=%d", c.conns, c.pipeline, c.idle), func(b *testing.B) {
			address, pid := benchmarkServer(b, kind)
			var conns []net.Conn
			for range c.conns {
				conns = append(conns, dialBenchmark(b, address, kind))
			}
			askAll(b, conns, c.pipeline, 20_000, kind) // warm
			before := residentSet(b, pid)
			for i := range c.idle {
				if conn := dialBenchmark(b, address, kind); i == c.idle-1 {
					askAll(b, []net.Conn{conn}, 1, 1, kind) // after which all before it are accepted as well
				}
			}
			grown := residentSet(b, pid) - before
			used := cpuTime(b, pid)
			b.ResetTimer()
			answers := askAll(b, conns, c.pipeline, b.N, kind)
			b.StopTimer()
			b.ReportMetric((cpuTime(b, pid)-used).Seconds()*1e6/float64(answers), "server-µs/answer")
			if c.idle > 0 {
				b.ReportMetric(float64(grown)/float64(c.idle), "octets/idle-conn")
			}
		})
	}
}

func dialBenchmark(b *testing.B, address, kind string) net.Conn {
	b.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	if kind == "tls" {
		conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
		if err := conn.Handshake(); err != nil {
			b.Fatal(err)
		}
		return conn
	}
	return c
}

// askAll asks n questions or somewhat more, and returns how many. Each connection has pipeline of them under way.
func askAll(b *testing.B, conns []net.Conn, pipeline, n int, kind string) int {
	b.Helper()
	rounds := (n + len(conns)*pipeline - 1) / (len(conns) * pipeline)
	var wg sync.WaitGroup
	for seed, c := range conns {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(seed), 0))
			in := bufio.NewReaderSize(c, 16<<10)
			var out []byte
			for range rounds {
				out = out[:0]
				for range pipeline {
					out = appendBenchmarkQuery(out, rng.IntN(benchNames))
				}
				if _, err := c.Write(out); err != nil {
					b.Error(err)
					return
				}
				for range pipeline {
					head, err := in.Peek(10)
					if err != nil {
						b.Error(err)
						return
					}
					if kind != "echo" && (head[5]&0xf != 0 || head[9] == 0) {
						b.Errorf("answer %x", head)
						return
					}
					if _, err := in.Discard(2 + int(binary.BigEndian.Uint16(head))); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return rounds * len(conns) * pipeline
}

// appendBenchmarkQuery appends a question for the address of the i-th name.
func appendBenchmarkQuery(out []byte, i int) []byte {
	start := len(out)
	out = append(out, 0, 0, byte(i>>8), byte(i), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	at := len(out)
	out = strconv.AppendInt(append(out, 0, 'h'), int64(i), 10)
	out[at] = byte(len(out) - at - 1)
	out = append(out, "\x05bench\x07example\x00\x00\x01\x00\x01"...)
	binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
	return out
}

// benchmarkServer starts a server that ends with the benchmark, and returns its address and process.
func benchmarkServer(b *testing.B, kind string) (address string, pid int) {
	b.Helper()
	if peer, id, ok := strings.Cut(os.Getenv("BALEFIRE_BENCHMARK_PEER"), ","); ok && kind == "dns" {
		pid, err := strconv.Atoi(id)
		if err != nil {
			b.Fatal(err)
		}
		return peer, pid
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkTCP$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), benchServer+"="+kind)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := startPinned(cmd, 0); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), "serving "); ok {
			go io.Copy(io.Discard, stdout) // ends with the process
			return at, cmd.Process.Pid
		}
	}
	b.Fatal("the server did not start")
	return "", 0
}

// startPinned starts a process on one processor, and keeps this one off it, if there is another.
func startPinned(cmd *exec.Cmd, cpu int) error {
	if runtime.NumCPU() == 1 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one, others unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	one.Set(cpu)
	others = all
	others.Clear(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil { // a process inherits it from the thread that starts it
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &others); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return nil
}

// serveBenchmark serves until standard input ends.
func serveBenchmark(b *testing.B) {
	var text strings.Builder
	text.WriteString("bench.example. 60 SOA . . 1 2 3 4 5\nbench.example. 60 NS ns.bench.example.\n")
	for i := range benchNames {
		fmt.Fprintf(&text, "h%d.bench.example. 60 A 192.0.2.1\n", i)
	}
	apex := zones.MustParseName("bench.example.")
	h := &hosted{zones: map[zones.Name]*hotzone.Zone{apex: loadZone(b, text.String())}}
	s := startTLS(b, Options{Zones: h, Settings: Settings{TCP: TCPSettings{Connections: 50_000, PerNetwork: 50_000, Idle: time.Hour}}})
	address := s.testAddr()
	if os.Getenv(benchServer) == "tls" {
		address = s.testTLSAddr()
	}
	fmt.Printf("\nserving %s\n", address)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		b.Error(err)
	}
}

// serveEcho sends back what it reads until standard input ends.
func serveEcho(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	socket, err := newTCPListener(ln.(*net.TCPListener))
	if err != nil {
		b.Fatal(err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, 0, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		b.Fatal(err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, socket.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(socket.fd)}); err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\nserving %s\n", ln.Addr())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	events, buf := make([]unix.EpollEvent, tcpEvents), make([]byte, tcpRead)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if err != nil && err != unix.EINTR {
			b.Fatal(err)
		}
		for _, event := range events[:max(n, 0)] {
			fd := uintptr(event.Fd)
			switch event.Fd {
			case 0:
				return
			case int32(socket.fd):
				conn, _, err := unix.Accept4(socket.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if err != nil {
					b.Fatal(err)
				}
				if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, conn, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(conn)}); err != nil {
					b.Fatal(err)
				}
			default:
				at := uintptr(unsafe.Pointer(&buf[0]))
				r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, at, tcpRead, unix.MSG_DONTWAIT, 0, 0)
				if errno != 0 || r == 0 {
					_ = unix.Close(int(fd))
					continue
				}
				unix.RawSyscall6(unix.SYS_SENDTO, fd, at, r, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
			}
		}
	}
}

// cpuTime returns what a process has used, as user and system.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, fields, _ := bytes.Cut(stat, []byte(") ")) // after the name of the program
	var sum time.Duration
	for _, f := range bytes.Fields(fields)[11:13] {
		ticks, err := strconv.Atoi(string(f))
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ticks) * 10 * time.Millisecond
	}
	return sum
}

// residentSet returns the memory of a process, in octets.
func residentSet(b *testing.B, pid int) int {
	b.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
