// Package balefiretest runs the real server as a process of its own, on free ports of loopback, for tests that look
// at it from outside: with DNS clients, over HTTP, and by killing it. It knows the command line and the HTTP addresses
// that everybody knows, and nothing of the server's insides.
package balefiretest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"balefire/replication/porttest"
)

// Token is the administrator's token of servers that are started without another.
const Token = "token-of-a-test-server"

// Build compiles the program, with build tags, into a directory that the caller removes, and returns its path.
func Build(dir string, tags ...string) (string, error) {
	binary := filepath.Join(dir, "balefire")
	build := exec.Command("go", "build", "-tags", strings.Join(tags, ","), "-o", binary, "balefire/cmd/balefire")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return binary, nil
}

// How says how a server is started.
type How struct {
	// Binary is what Build returned.
	Binary string
	// Dir is the data directory.
	Dir string
	// DNS has the addresses for --dns-listen. Without any, a free one of 127.0.0.1.
	DNS []string
	// Admin is the address for --admin-listen. Without it, a free one of 127.0.0.1.
	Admin string
	// Wrap is what the command line begins with: Namespace.Wrap's.
	Wrap []string
	// Args are further arguments of serve.
	Args []string
	// Env are further variables, the last of a name counts. Those of the test's own environment that begin with
	// BALEFIRE_ are left out, and BALEFIRE_TOKEN is Token unless NoToken is set.
	Env     []string
	NoToken bool
}

// Server is one running server.
type Server struct {
	How
	// DNS is the first address for DNS, Admin that for HTTP, both HOST:PORT.
	DNS, Admin string
	// Began is when its process was started.
	Began time.Time

	t      testing.TB
	cmd    *exec.Cmd
	out    Output
	log    Output
	done   chan struct{} // closed when it has ended
	status error         // what Wait said; after done
	http   *http.Client
}

// Start starts a server and waits until it is ready.
func Start(t testing.TB, how How) *Server {
	t.Helper()
	s := Launch(t, how)
	if err := s.AwaitReady(time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	return s
}

// Launch starts a server without waiting. It is killed when the test ends.
func Launch(t testing.TB, how How) *Server {
	t.Helper()
	if len(how.DNS) == 0 {
		how.DNS = []string{porttest.Free(t, "127.0.0.1")}
	}
	if how.Admin == "" {
		how.Admin = porttest.Free(t, "127.0.0.1")
	}
	s := &Server{
		How: how, DNS: how.DNS[0], Admin: how.Admin,
		t: t, done: make(chan struct{}),
		http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	args := []string{"serve", "--data-dir", how.Dir, "--admin-listen", s.Admin}
	for _, a := range how.DNS {
		args = append(args, "--dns-listen", a)
	}
	line := slices.Concat(how.Wrap, []string{how.Binary}, args, how.Args)
	s.cmd = exec.Command(line[0], line[1:]...)
	s.cmd.Env = Environ(how.Env...)
	if !how.NoToken {
		s.cmd.Env = append(s.cmd.Env, "BALEFIRE_TOKEN="+Token)
	}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.log
	// No server outlives its test, even one that is stopped by a time limit.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.Began = time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.status = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(s.Kill)
	return s
}

// Environ is the test's environment without the variables that configure a server or its clients, and with some added.
func Environ(added ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BALEFIRE_") })
	return append(env, added...)
}

// poll is how often a server is looked at that something is expected of.
const poll = 5 * time.Millisecond

// AwaitReady waits until /readyz says so.
func (s *Server) AwaitReady(limit time.Duration) error {
	return s.Await(limit, "ready", func() bool {
		res, err := s.http.Get("http://" + s.Admin + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// Await looks until something holds. The error says that the server has ended before, or that the time is over.
func (s *Server) Await(limit time.Duration, what string, holds func() bool) error {
	deadline := time.After(limit)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-s.done:
			return fmt.Errorf("the server ended before it was %s", what)
		case <-deadline:
			return fmt.Errorf("the server is not %s after %s", what, limit)
		}
	}
	return nil
}

// HTTP is a client for the server's HTTP side.
func (s *Server) HTTP() *http.Client { return s.http }

// Said returns what the server has printed for people until now.
func (s *Server) Said() string { return s.out.String() }

// Log returns what the server has logged until now.
func (s *Server) Log() string { return s.log.String() }

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// PID is the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Kill ends the server as kill -9 does, and waits for it. It may be called again.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
	s.http.CloseIdleConnections()
}

// Signal sends a signal.
func (s *Server) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// Stop tells the server to end, and returns how it did. After the time limit it is killed.
func (s *Server) Stop(limit time.Duration) error {
	if err := s.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.End(limit)
}

// End waits until the server ends by itself, and returns how it did. After the time limit it is killed.
func (s *Server) End(limit time.Duration) error {
	select {
	case <-s.done:
		return s.status
	case <-time.After(limit):
		s.Kill()
		return errors.New("the server did not end in time")
	}
}

// Output is what a process says, which writes it while a test reads it.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *Output) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Output) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
