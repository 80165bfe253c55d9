package load

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"balefire/replication/porttest"
)

const echoAddress = "BALEFIRE_TEST_ECHO"

// TestMain lets the test's own program be an echo, which takes over its process.
func TestMain(m *testing.M) {
	if addr := os.Getenv(echoAddress); addr != "" {
		fmt.Fprintln(os.Stderr, Echo(netip.MustParseAddrPort(addr)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestEcho(t *testing.T) {
	addr := netip.MustParseAddrPort(porttest.Free(t, "127.0.0.1"))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), echoAddress+"="+addr.String())
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	conn, err := net.Dial("udp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 512)
	for limit := time.Now().Add(time.Minute); ; {
		_, _ = conn.Write(query) // refused until it listens
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			select {
			case err := <-ended:
				t.Fatalf("the echo has ended: %v", err)
			case <-time.After(10 * time.Millisecond): // it is refused at once until the other process listens: nothing tells of that
			}
			if time.Now().After(limit) {
				t.Fatal("nothing comes back")
			}
			continue
		}
		want := append([]byte(nil), query...)
		want[2] = 0x80
		if string(buf[:n]) != string(want) {
			t.Fatalf("%x comes back, want %x", buf[:n], want)
		}
		break
	}
	got, err := UDP{Server: addr, Queries: [][]byte{query, append(query, 1, 2, 3)}, Sockets: 3, Window: 40, Batch: 40, Length: 200 * time.Millisecond, CPU: -1, Patient: 30 * time.Second}.Run()
	if err != nil || got.Received == 0 || got.Lost != 0 {
		t.Errorf("received %d, lost %d, %v", got.Received, got.Lost, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ended // by the signal: that it ends at all is the test
}
