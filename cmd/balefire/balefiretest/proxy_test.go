package balefiretest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// echo serves connections that get back what they send.
func echo(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends a line, and returns what comes back before the deadline.
func say(c net.Conn, line string, limit time.Duration) (string, error) {
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	return hear(c, limit)
}

func hear(c net.Conn, limit time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

const (
	long  = 20 * time.Second
	short = 100 * time.Millisecond
)

func TestProxyPassesEverything(t *testing.T) {
	p := NewProxy(t, "127.0.0.1", echo(t))
	c := dial(t, p.Address())
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d octets came back: %v", len(got), len(sent), err)
	}
}

func TestProxyCutHoldsWhatIsSent(t *testing.T) {
	p := NewProxy(t, "127.0.0.1", "")
	p.Forward(echo(t))
	c := dial(t, p.Address())
	if got, err := say(c, "before", long); err != nil || got != "before\n" {
		t.Fatal(got, err)
	}
	p.Cut()
	if got, err := say(c, "during", short); err == nil {
		t.Fatalf("passed a network that is cut: %q", got)
	}
	fresh := dial(t, p.Address())
	if got, err := say(fresh, "new", short); err == nil {
		t.Fatalf("passed a network that is cut: %q", got)
	}
	p.Heal()
	for conn, want := range map[net.Conn]string{c: "during\n", fresh: "new\n"} {
		if got, err := hear(conn, long); err != nil || got != want {
			t.Errorf("after the network healed: %q %v, want %q", got, err, want)
		}
	}
}

func TestProxyBreak(t *testing.T) {
	p := NewProxy(t, "127.0.0.1", echo(t))
	c := dial(t, p.Address())
	if got, err := say(c, "before", long); err != nil {
		t.Fatal(got, err)
	}
	p.Break()
	if got, err := hear(c, long); err == nil {
		t.Fatalf("still open: %q", got)
	}
	if got, err := say(dial(t, p.Address()), "new", long); err == nil {
		t.Fatalf("a new connection passed: %q", got)
	}
	p.Heal()
	if got, err := say(dial(t, p.Address()), "after", long); err != nil || got != "after\n" {
		t.Errorf("%q %v", got, err)
	}
}

// TestProxyDelay: never earlier; how much later is the machine's.
func TestProxyDelay(t *testing.T) {
	p := NewProxy(t, "127.0.0.1", echo(t))
	c := dial(t, p.Address())
	p.Delay(50 * time.Millisecond)
	began := time.Now()
	if got, err := say(c, "far", long); err != nil || got != "far\n" {
		t.Fatal(got, err)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("there and back in %s", took)
	}
	p.Delay(0)
	p.Throttle(10 << 10)
	began = time.Now()
	if _, err := say(c, string(bytes.Repeat([]byte("x"), 1<<10)), long); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("2 KiB through 10 KiB/s in %s", took)
	}
}
