//go:build s3

// Package s3test runs a real S3 server on loopback for tests, from testdata/s3. It exists with the build tag s3 only:
// building the server is not something that every test run should do.
package s3test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"balefire/replication/porttest"
)

// Credentials of the server, which Start also puts into the test's environment.
const (
	AccessKey = "access-of-a-test"
	SecretKey = "secret-of-a-test-server"
)

// Server is one S3 server, killed when the test ends. Its methods are for the test's goroutine.
type Server struct {
	tb        testing.TB
	dir, port string
	cmd       *exec.Cmd
}

// patience is long: the server may have to be built first.
const patience = 5 * time.Minute

// Start starts a server with one bucket, named "bucket", and waits until it answers.
func Start(tb testing.TB) *Server {
	tb.Helper()
	_, port, err := net.SplitHostPort(porttest.Free(tb, "127.0.0.1"))
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, dir: tb.TempDir(), port: port}
	if err := os.Mkdir(s.Path("bucket"), 0o700); err != nil {
		tb.Fatal(err)
	}
	if t, ok := tb.(interface{ Setenv(key, value string) }); ok {
		t.Setenv("AWS_ACCESS_KEY_ID", AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", SecretKey)
	}
	tb.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Address is the server's host:port.
func (s *Server) Address() string { return "127.0.0.1:" + s.port }

// URL names the server's bucket for objectstore.Open, through another address if one is given.
func (s *Server) URL(through string) string {
	if through == "" {
		through = s.Address()
	}
	return "s3://bucket/prefix?path-style=true&endpoint=http://" + through
}

// Path is a file of the server's: its objects lie there by their keys.
func (s *Server) Path(key string) string { return filepath.Join(s.dir, filepath.FromSlash(key)) }

// moduleRoot is found from where the test runs: a program built with -trimpath does not know where its source was.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := filepath.Abs(".")
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	tb.Fatalf("the test does not run inside the module: %s, %v", dir, err)
	return ""
}

// Restart starts the server again after Kill, with the objects that it had.
func (s *Server) Restart() {
	s.tb.Helper()
	script := filepath.Join(moduleRoot(s.tb), "testdata", "s3", "gateway")
	s.cmd = exec.Command(script, s.dir, s.port, AccessKey, SecretKey)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		select {
		case <-tick.C:
			if res, err := http.Get("http://" + s.Address()); err == nil {
				res.Body.Close()
				return
			}
		case <-deadline:
			s.tb.Fatal("the S3 server does not answer")
		}
	}
}

// Kill ends the server without warning.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		s.tb.Error(err)
	}
	s.cmd.Wait() // says that it was killed
	s.cmd = nil
}
