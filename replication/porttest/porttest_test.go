package porttest

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFree: each port is given once, also by two processes at once, and one may listen there.
func TestFree(t *testing.T) {
	if os.Getenv("PORTTEST_GIVES") != "" {
		for range 200 {
			os.Stdout.WriteString(Free(t, "127.0.0.1") + "\n")
		}
		os.Stdout.WriteString("end\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // it keeps its ports until then
		return
	}
	other := exec.Command(os.Args[0], "-test.run", "^TestFree$")
	other.Env = append(os.Environ(), "PORTTEST_GIVES=1")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = other.Wait() }()
	var text []byte
	for !strings.HasSuffix(string(text), "end\n") {
		some := make([]byte, 4096)
		n, err := out.Read(some)
		if text = append(text, some[:n]...); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	given := map[string]bool{}
	for _, addr := range strings.Fields(string(text)) {
		given[addr] = true
	}
	for range 400 { // of some 20,000
		addr := Free(t, "127.0.0.1")
		if given[addr] {
			t.Fatalf("%s is given twice", addr)
		}
		given[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
