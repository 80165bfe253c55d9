package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the program, so that a node can be a process that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_BINARY_IS_PROGRAM") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// node is `balefire serve` as a process of its own.
type node struct {
	cmd        *exec.Cmd
	dns, admin string        // HOST:PORT that it said it listens on
	said       chan string   // lines of standard output, closed at its end
	log        *bytes.Buffer // standard error, to be read after the end
}

var (
	saidDNS   = regexp.MustCompile(`DNS +(\S+)`)
	saidAdmin = regexp.MustCompile(`admin +http://(\S+)`)
)

// startNode starts a node on ports of the kernel's choice, and waits until it says that it is ready.
func startNode(t *testing.T, dir string, args ...string) *node {
	t.Helper()
	n := &node{said: make(chan string, 100), log: &bytes.Buffer{}}
	n.cmd = exec.Command(os.Args[0], append([]string{
		"serve", "--data-dir", dir, "--dns-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
	}, args...)...)
	n.cmd.Env = append(os.Environ(), "TEST_BINARY_IS_PROGRAM=1")
	n.cmd.Stderr = n.log
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(n.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.said <- lines.Text()
		}
	}()
	t.Cleanup(func() { n.kill(t) })
	n.await(t, "is ready")
	n.await(t, "token")
	if n.dns == "" || n.admin == "" {
		t.Fatalf("did not say where it listens: DNS %q, admin %q", n.dns, n.admin)
	}
	until(t, "the node is ready", func() bool { // on a busy machine it says so before
		res, err := http.Get("http://" + n.admin + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return n
}

// await reads what the node says until a line contains the text.
func (n *node) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(60 * time.Second)
	for {
		select {
		case line, ok := <-n.said:
			if !ok {
				_ = n.cmd.Wait()
				t.Fatalf("ended without saying %q:\n%s", text, n.log)
			}
			if m := saidDNS.FindStringSubmatch(line); m != nil {
				n.dns = m[1]
			}
			if m := saidAdmin.FindStringSubmatch(line); m != nil {
				n.admin = m[1]
			}
			if strings.Contains(line, text) {
				return
			}
		case <-limit:
			t.Fatalf("did not say %q in time", text)
		}
	}
}

// kill is kill -9, and waits. It may be called again.
func (n *node) kill(t *testing.T) {
	t.Helper()
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Kill() // it may have ended
		for range n.said {
		}
		_ = n.cmd.Wait() // it was killed: its status says nothing
	}
	if t.Failed() {
		t.Logf("the node's log:\n%s", n.log)
	}
}

// cli runs a command against the node, and returns what it printed; it must succeed.
func (n *node) cli(t *testing.T, dir string, args ...string) string {
	t.Helper()
	code, out, errOut := runCLI(t, append(args, "--server", "http://"+n.admin, "--data-dir", dir)...)
	if code != exitOK {
		t.Fatalf("balefire %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// importRoot imports the root zone and returns what that printed. It tries again while nothing was changed: on a busy machine the log is slow.
func (n *node) importRoot(t *testing.T, dir string) string {
	t.Helper()
	args := []string{"zone", "import", rootZone, "--origin", ".", "--server", "http://" + n.admin, "--data-dir", dir}
	code, out, errOut := runCLI(t, args...)
	for tries := 0; tries < 5 && code != exitOK && strings.Contains(out+errOut, "nothing was changed: the log does not acknowledge"); tries++ {
		code, out, errOut = runCLI(t, args...)
	}
	if code != exitOK {
		t.Fatalf("import of the root zone: exit %d\n%s%s", code, out, errOut)
	}
	return out
}

// tool runs a program that is no part of this one, which must succeed, and returns what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s(`make test` installs what tests need)", name, strings.Join(args, " "), err, &out, &errOut)
	}
	return out.String()
}

// dig returns the short form of an answer, sorted.
func (n *node) dig(t *testing.T, args ...string) []string {
	t.Helper()
	host, port, _ := strings.Cut(n.dns, ":")
	out := tool(t, "dig", append([]string{"@" + host, "-p", port, "+short", "+time=5", "+tries=3"}, args...)...)
	return slices.Sorted(strings.Lines(out))
}

const (
	sampleZones = "../../testdata/zones/sample"
	rootZone    = "../../testdata/zones/root.zone"
)

// TestWalk is what a person does on the first day: start, ask, change, import, export, kill -9, start again.
func TestWalk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, dir, "--sample", sampleZones)

	if got := n.dig(t, "www.example.com", "A"); !slices.Equal(got, []string{"192.0.2.80\n"}) {
		t.Errorf("www.example.com: %q", got)
	}
	before := soaSerial(t, n, "example.com")
	n.cli(t, dir, "record", "set", "example.com.", "www", "A", "300", "192.0.2.7", "192.0.2.8")
	if got := n.dig(t, "www.example.com", "A"); !slices.Equal(got, []string{"192.0.2.7\n", "192.0.2.8\n"}) {
		t.Errorf("www.example.com after the change: %q", got)
	}
	if got := soaSerial(t, n, "example.com"); got != before+1 {
		t.Errorf("serial %d, want %d", got, before+1)
	}
	if out := n.cli(t, dir, "record", "list", "example.com.", "--prefix", "www"); !strings.Contains(out, "192.0.2.8") {
		t.Errorf("record list:\n%s", out)
	}

	if out := n.importRoot(t, dir); !strings.Contains(out, ".: created, serial 2017082100, 22772 records") {
		t.Errorf("import: %s", out)
	}
	if out := n.importRoot(t, dir); !strings.Contains(out, "unchanged") {
		t.Errorf("second import: %s", out)
	}
	if out := n.cli(t, dir, "zone", "diff", ".", rootZone, "--origin", "."); out != "" {
		t.Errorf("diff: %.1000s", out)
	}
	exported := filepath.Join(t.TempDir(), "root.zone")
	n.cli(t, dir, "zone", "export", ".", "--file", exported)
	if got, want := canonical(t, exported), canonical(t, rootZone); got != want {
		t.Errorf("the exported root zone differs from the imported one: %s", firstDifference(got, want))
	}
	referral := digReferral(t, n)

	if err := n.cmd.Process.Kill(); err != nil { // and start again at once, while the kernel still takes it apart
		t.Fatal(err)
	}
	n = startNode(t, dir, "--sample", sampleZones)
	if got := n.dig(t, "www.example.com", "A"); !slices.Equal(got, []string{"192.0.2.7\n", "192.0.2.8\n"}) {
		t.Errorf("www.example.com after kill -9: %q", got)
	}
	if got := soaSerial(t, n, "example.com"); got != before+1 {
		t.Errorf("serial %d after kill -9, want %d", got, before+1)
	}
	if got := digReferral(t, n); got != referral {
		t.Errorf("after kill -9:\n%s\nbefore:\n%s", got, referral)
	}
}

func soaSerial(t *testing.T, n *node, zone string) (serial uint32) {
	t.Helper()
	soa := n.dig(t, zone, "SOA")
	if len(soa) != 1 {
		t.Fatalf("SOA of %s: %q", zone, soa)
	}
	if fields := strings.Fields(soa[0]); len(fields) == 7 {
		fmt.Sscan(fields[2], &serial)
	}
	return serial
}

// digReferral returns the delegation of se. with its glue, in a form that can be compared.
func digReferral(t *testing.T, n *node) string {
	t.Helper()
	host, port, _ := strings.Cut(n.dns, ":")
	out := tool(t, "dig", "@"+host, "-p", port, "+norec", "+noall", "+authority", "+additional", "+tcp", "se.", "NS")
	lines := slices.Sorted(strings.Lines(out))
	ns, glue := 0, 0
	for _, line := range lines {
		switch fields := strings.Fields(line); {
		case len(fields) > 3 && fields[3] == "NS" && fields[0] == "se.":
			ns++
		case len(fields) > 3 && (fields[3] == "A" || fields[3] == "AAAA"):
			glue++
		}
	}
	if ns < 2 || glue < 2 {
		t.Errorf("a referral with %d NS and %d glue records:\n%s", ns, glue, out)
	}
	return strings.Join(lines, "")
}

// canonical puts a zone file into canonical form (RFC 4034 §6.2) and order, by a program that is no part of
// this one.
func canonical(t *testing.T, file string) string {
	t.Helper()
	out := tool(t, "ldns-read-zone", "-c", "-z", file)
	return strings.Join(slices.Sorted(strings.Lines(out)), "")
}

func firstDifference(a, b string) string {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			return fmt.Sprintf("line %d: %q, want %q", i+1, la[i], lb[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(la), len(lb))
}

// TestRealClients: programs that people use read the answers, and the exported files.
func TestRealClients(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, dir, "--sample", sampleZones)
	host, port, _ := strings.Cut(n.dns, ":")
	const name, address = "mail.example.com", "192.0.2.25"
	for _, client := range [][]string{
		{"dig", "@" + host, "-p", port, name, "A"},
		{"dig", "+tcp", "@" + host, "-p", port, name, "A"},
		{"kdig", "@" + host, "-p", port, name, "A"},
		{"kdig", "+tcp", "+dnssec", "+nsid", "@" + host, "-p", port, name, "A"},
		{"drill", "-p", port, name, "@" + host, "A"},
		{"drill", "-t", "-p", port, name, "@" + host, "A"},
		{"delv", "-i", "@" + host, "-p", port, name, "A"},
	} {
		if out := tool(t, client[0], client[1:]...); !strings.Contains(out, address) {
			t.Errorf("%s:\n%s", strings.Join(client, " "), out)
		}
	}
	for _, apex := range []string{"example.com.", "example.org.", "2.0.192.in-addr.arpa."} {
		file := filepath.Join(t.TempDir(), "exported.zone")
		n.cli(t, dir, "zone", "export", apex, "--file", file)
		tool(t, "named-checkzone", "-i", "local", apex, file)
		tool(t, "ldns-read-zone", "-c", file)
	}
}

// TestOnlyOneNodeOnADirectory: a second one must fail, and leave the first alone.
func TestOnlyOneNodeOnADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, dir, "--sample", sampleZones)
	second := exec.Command(os.Args[0], "serve", "--data-dir", dir, "--dns-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	second.Env = n.cmd.Env
	out, err := second.CombinedOutput()
	if err == nil || second.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), "is in use by another node") {
		t.Errorf("a second node: %v\n%s", err, out)
	}
	if got := n.dig(t, "www.example.com", "A"); !slices.Equal(got, []string{"192.0.2.80\n"}) {
		t.Errorf("the first node answers %q", got)
	}
}

// TestStopsWhenTold: SIGTERM ends the node in order, with exit 0.
func TestStopsWhenTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, dir)
	res, err := http.Get("http://" + n.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("/readyz of a node that said it is ready: %s %s, %v", res.Status, body, err)
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range n.said {
	}
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, n.log)
	}
}
