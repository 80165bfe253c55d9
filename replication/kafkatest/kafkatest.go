//go:build kafka

// Package kafkatest runs a real Apache Kafka on loopback for tests, from testdata/kafka. It exists with the build tag
// kafka only: fetching the jars is not something that every test run should do.
package kafkatest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"balefire/replication/porttest"
)

// Broker is one Kafka broker, killed when the test ends. Its methods are for the test's goroutine.
type Broker struct {
	tb                testing.TB
	dir, host         string
	port, controllers string
	number            int
	voters            string // of several brokers: who they are
	tlsFolder         string // "" without TLS
	tlsPorts          [3]string
	also              []string
	cmd               *exec.Cmd
}

// Start starts a broker with an empty directory. It does not wait until it answers.
func Start(tb testing.TB) *Broker { tb.Helper(); return StartOn(tb, "127.0.0.1") }

// StartOn starts a broker that listens on another address of this machine's.
func StartOn(tb testing.TB, host string) *Broker {
	tb.Helper()
	b := &Broker{tb: tb, dir: tb.TempDir(), host: host, port: freePort(tb), controllers: freePort(tb), number: 1}
	tb.Cleanup(b.Kill)
	b.Restart()
	return b
}

// Via is a proxy that clients come through.
type Via interface {
	// Address is where clients connect to.
	Address() string
	// Forward says where the proxy leads.
	Forward(to string)
}

// StartBehind starts a broker that has a port of its own behind each proxy: who comes through a proxy stays behind it.
func StartBehind(tb testing.TB, proxies ...Via) *Broker {
	tb.Helper()
	b := &Broker{tb: tb, dir: tb.TempDir(), host: "127.0.0.1", port: freePort(tb), controllers: freePort(tb), number: 1}
	for _, p := range proxies {
		port := freePort(tb)
		b.also = append(b.also, port+"="+p.Address())
		p.Forward(net.JoinHostPort("127.0.0.1", port))
	}
	tb.Cleanup(b.Kill)
	b.Restart()
	return b
}

// StartThree starts three brokers that replicate to each other.
func StartThree(tb testing.TB) [3]*Broker { tb.Helper(); return StartThreeOn(tb, "127.0.0.1") }

// StartThreeOn starts three brokers that listen on another address of this machine's.
func StartThreeOn(tb testing.TB, host string) [3]*Broker {
	tb.Helper()
	var all [3]*Broker
	var voters []string
	for i := range all {
		all[i] = &Broker{
			tb: tb, dir: tb.TempDir(), host: host, port: freePort(tb), controllers: freePort(tb), number: i + 1,
		}
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%s", i+1, all[i].controllers))
	}
	for _, b := range all {
		b.voters = strings.Join(voters, ",")
		tb.Cleanup(b.Kill)
		b.Restart()
	}
	return all
}

// StartSecure starts a broker that also listens for TLS, with the files of a folder: broker.pem has a key and a certificate for
// 127.0.0.1, ca.pem the authority of clients. Those with SASL are the users "plain", "s256" and "s512", each by the mechanism
// of this name, with the password "secret".
func StartSecure(tb testing.TB, folder string) *Broker {
	tb.Helper()
	b := &Broker{tb: tb, dir: tb.TempDir(), host: "127.0.0.1", port: freePort(tb), controllers: freePort(tb), number: 1, tlsFolder: folder}
	for i := range b.tlsPorts {
		b.tlsPorts[i] = freePort(tb)
	}
	tb.Cleanup(b.Kill)
	b.Restart()
	return b
}

// TLS, MutualTLS and SASL are the addresses of a broker of StartSecure's that want just TLS, TLS with a certificate, and TLS with
// a password.
func (b *Broker) TLS() string { return net.JoinHostPort(b.host, b.tlsPorts[0]) }

// MutualTLS is described at TLS.
func (b *Broker) MutualTLS() string { return net.JoinHostPort(b.host, b.tlsPorts[1]) }

// SASL is described at TLS.
func (b *Broker) SASL() string { return net.JoinHostPort(b.host, b.tlsPorts[2]) }

// PID is the broker's process, until it is killed.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Number is the broker's, as Kafka's metadata name it.
func (b *Broker) Number() int { return b.number }

func freePort(tb testing.TB) string {
	tb.Helper()
	_, port, err := net.SplitHostPort(porttest.Free(tb, "127.0.0.1"))
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// Address is the broker's host:port.
func (b *Broker) Address() string { return net.JoinHostPort(b.host, b.port) }

// Restart starts the broker again after Kill, with the data that it had.
func (b *Broker) Restart() {
	b.tb.Helper()
	script := filepath.Join(moduleRoot(b.tb), "testdata", "kafka", "broker")
	out, err := os.OpenFile(b.output(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.tb.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(script, b.dir, b.port, b.controllers)
	cmd.Env = append(os.Environ(), "KAFKA_HOST="+b.host, fmt.Sprintf("KAFKA_NODE=%d", b.number))
	if b.voters != "" {
		cmd.Env = append(cmd.Env, "KAFKA_VOTERS="+b.voters)
	}
	if b.tlsFolder != "" {
		cmd.Env = append(cmd.Env, "KAFKA_TLS="+b.tlsFolder, "KAFKA_TLS_PORTS="+strings.Join(b.tlsPorts[:], " "))
	}
	if len(b.also) > 0 {
		cmd.Env = append(cmd.Env, "KAFKA_ALSO="+strings.Join(b.also, ","))
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.tb.Fatal(err)
	}
	b.cmd = cmd
}

// moduleRoot is found from where the test runs, because a program built with -trimpath does not know where its source was.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("the test does not run inside the module")
		}
		dir = up
	}
}

func (b *Broker) output() string { return filepath.Join(b.dir, "output") }

// Kill ends the broker without warning.
func (b *Broker) Kill() {
	if b.cmd == nil {
		return
	}
	if err := syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		b.tb.Error(err)
	}
	b.cmd.Wait() // says that it was killed
	b.cmd = nil
	if text, err := os.ReadFile(b.output()); err == nil && b.tb.Failed() {
		b.tb.Logf("the broker said: %s", text[:min(len(text), 8<<10)])
	}
}
