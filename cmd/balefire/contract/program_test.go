package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

const (
	sampleZones = "../../../testdata/zones/sample"
	rootZone    = "../../../testdata/zones/root.zone"
)

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "balefire-contract")
	if err != nil {
		panic(err)
	}
	if binary, err = balefiretest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// node is a running server, and the ways to speak to it.
type node struct {
	*balefiretest.Server
	t *testing.T
}

// start starts a server with a data directory of its own, and waits until it is ready.
func start(t *testing.T, args ...string) node {
	t.Helper()
	return startWith(t, balefiretest.How{Args: args})
}

func startWith(t *testing.T, how balefiretest.How) node {
	t.Helper()
	return node{balefiretest.Start(t, complete(t, how)), t}
}

func launchWith(t *testing.T, how balefiretest.How) node {
	t.Helper()
	return node{balefiretest.Launch(t, complete(t, how)), t}
}

func complete(t *testing.T, how balefiretest.How) balefiretest.How {
	how.Binary = binary
	if how.Dir == "" {
		how.Dir = filepath.Join(t.TempDir(), "data")
	}
	return how
}

// again kills the server as kill -9 does, and starts another on its data.
func (n node) again() node {
	n.t.Helper()
	n.Kill()
	how := n.How
	how.DNS = nil
	return startWith(n.t, how)
}

// ran is how a command ended.
type ran struct {
	args     []string
	code     int
	out, err string
}

func (r ran) String() string {
	return fmt.Sprintf("balefire %s: exit %d\n%s%s", strings.Join(r.args, " "), r.code, r.out, r.err)
}

// run runs the program with only what is given.
func run(t *testing.T, env []string, in string, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = balefiretest.Environ(env...)
	cmd.Stdin = strings.NewReader(in)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	r := ran{args: args}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("balefire %s: %v", strings.Join(args, " "), err)
	}
	r.code, r.out, r.err = cmd.ProcessState.ExitCode(), out.String(), errOut.String()
	return r
}

// env is what a person's shell has who works with the server.
func (n node) env() []string {
	return []string{"BALEFIRE_SERVER=http://" + n.Admin, "BALEFIRE_TOKEN=" + balefiretest.Token}
}

// cli runs a command that must succeed, and returns what it printed.
func (n node) cli(args ...string) string {
	n.t.Helper()
	r := run(n.t, n.env(), "", args...)
	if r.code != 0 {
		n.t.Fatal(r)
	}
	return r.out
}

// fails runs a command that must fail with an exit code and say some text.
func (n node) fails(code int, text string, args ...string) ran {
	n.t.Helper()
	r := run(n.t, n.env(), "", args...)
	if r.code != code || !strings.Contains(r.err, text) {
		n.t.Errorf("%v\nwant exit %d and %q", r, code, text)
	}
	return r
}

// jsonOf runs a command with -o json, and decodes what it printed.
func jsonOf[T any](n node, args ...string) (v T) {
	n.t.Helper()
	out := n.cli(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		n.t.Fatalf("balefire %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// response is what HTTP answered.
type response struct {
	status int
	header http.Header
	body   string
}

// call makes a request. Headers are "Name: value"; without an Authorization among them, the token is sent.
func (n node) call(method, path, body string, headers ...string) response {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.Admin+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	res, err := n.HTTP().Do(req)
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", method, path, err, n.Log())
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, string(text)}
}

// api is call, whose answer must have a status, decoded.
func api[T any](n node, status int, method, path, body string, headers ...string) (v T) {
	n.t.Helper()
	res := n.call(method, path, body, headers...)
	if res.status != status {
		n.t.Fatalf("%s %s: %d, want %d\n%s", method, path, res.status, status, res.body)
	}
	if err := json.Unmarshal([]byte(res.body), &v); err != nil {
		n.t.Fatalf("%s %s: %v\n%s", method, path, err, res.body)
	}
	return v
}

// tool runs a program that is no part of this one, which must succeed, and returns what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := tryTool(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s(`make test` installs what tests need)", name, strings.Join(args, " "), err, out)
	}
	return out
}

// tryTool is tool for what may fail. After success, what it printed as errors is not returned.
func tryTool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String() + errOut.String(), err
	}
	return out.String(), nil
}

// dig asks the server with dig.
func (n node) dig(args ...string) string {
	n.t.Helper()
	host, port, err := net.SplitHostPort(n.DNS)
	if err != nil {
		n.t.Fatal(err)
	}
	return tool(n.t, "dig", append([]string{"@" + host, "-p", port, "+time=3", "+tries=3"}, args...)...)
}

// short is the short form of an answer, its lines sorted.
func (n node) short(args ...string) string {
	n.t.Helper()
	return sorted(n.dig(append([]string{"+short"}, args...)...))
}

// serial asks DNS for a zone's serial.
func (n node) serial(zone string) uint32 {
	n.t.Helper()
	var serial uint32
	soa := n.short(zone, "SOA")
	if fields := strings.Fields(soa); len(fields) != 7 {
		n.t.Fatalf("SOA of %s: %q", zone, soa)
	} else if _, err := fmt.Sscan(fields[2], &serial); err != nil {
		n.t.Fatal(err)
	}
	return serial
}

// sorted sorts lines.
func sorted(text string) string {
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}

// write makes a file, and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// contains fails the test for each text that is missing.
func contains(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%s has no %q:\n%s", what, w, text)
		}
	}
}

// difference says where two texts part.
func difference(a, b string) string {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			return fmt.Sprintf("line %d: %q, want %q", i+1, la[i], lb[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(la), len(lb))
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
