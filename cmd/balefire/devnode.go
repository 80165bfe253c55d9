package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// devStopPatience is how long a node may take to end before it is killed: its own patience, twice (DNS and HTTP), and
	// its databases.
	devStopPatience = 2*stopPatience + 10*time.Second
	// A node that ends soon after it began is started again after a pause, which doubles.
	devSoon       = 10 * time.Second
	devFirstPause = time.Second
	devLastPause  = 30 * time.Second
	// maxDevNodeLog is how long a node's log may be when it starts; a longer one is put aside, over the one before.
	maxDevNodeLog = 16 << 20
)

// devRunner keeps one node of a development cluster running.
type devRunner struct {
	devNode
	line    []string
	env     []string
	respawn bool
	out     *lineWriter

	mu    sync.Mutex
	began time.Time // of the process that runs; zero: none

	isReady bool // as last said; the watcher's alone
}

// runAll runs all nodes until ctx ends, or all have ended for good.
func runAll(ctx context.Context, runners []*devRunner) {
	var all sync.WaitGroup
	for _, r := range runners {
		all.Go(func() {
			// The kernel ends a child when the thread that made it ends (endWithParent), not the process: this
			// goroutine keeps its thread for as long as there are children.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			r.run(ctx)
		})
	}
	all.Wait()
}

// run starts the node, and again when it ends, until ctx ends.
func (r *devRunner) run(ctx context.Context) {
	pause := devFirstPause
	for {
		began := time.Now()
		status := r.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > devSoon {
			pause = devFirstPause
		}
		if !r.respawn {
			r.out.say("%s ended: %s; its log is %s", r.id, status, r.logFile())
			return
		}
		r.out.say("%s ended: %s; starting it again in %s; its log is %s", r.id, status, pause, r.logFile())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, devLastPause)
	}
}

func (r *devRunner) logFile() string { return filepath.Join(r.dir, "log") }

// once runs the node until it ends, or ctx does, and says how it ended.
func (r *devRunner) once(ctx context.Context) string {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err.Error()
	}
	log, err := openNodeLog(r.logFile())
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, r.line[0], r.line[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = r.env, log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = devStopPatience // then it is killed
	cmd.SysProcAttr = endWithParent()
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	r.setBegan(time.Now())
	defer r.setBegan(time.Time{})
	pid := filepath.Join(r.dir, "pid")
	if err := os.WriteFile(pid, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		r.out.say("%s: %v", r.id, err)
	}
	defer os.Remove(pid)
	if err := cmd.Wait(); err != nil {
		return err.Error()
	}
	return "without an error"
}

func openNodeLog(name string) (*os.File, error) {
	if st, err := os.Stat(name); err == nil && st.Size() > maxDevNodeLog {
		if err := os.Rename(name, name+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

func (r *devRunner) setBegan(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = t
}

var devHTTP = &http.Client{Timeout: 2 * time.Second}

// look asks the node whether it is ready, says so when that has changed, and returns it.
func (r *devRunner) look(ctx context.Context) bool {
	r.mu.Lock()
	began := r.began
	r.mu.Unlock()
	ready := !began.IsZero() && isReady(ctx, r.admin)
	if ready != r.isReady && ctx.Err() == nil {
		if ready {
			r.out.say("%s is ready after %s", r.id, time.Since(began).Round(10*time.Millisecond))
		} else if !began.IsZero() {
			r.out.say("%s is not ready", r.id)
		}
		r.isReady = ready
	}
	return ready
}

func isReady(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := devHTTP.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return err == nil && res.StatusCode == http.StatusOK
}

// free says which of the node's addresses can't be listened on, and why. They may be taken between this and the node's
// start: then its log says so.
func (n devNode) free() error {
	for _, a := range []struct {
		address, use string
		udp          bool
	}{{n.dns, "DNS", true}, {n.admin, "HTTP", false}, {n.gossip, "gossip", true}, {n.relay, "the relay", false}} {
		tcp, err := net.Listen("tcp", a.address)
		if err == nil {
			err = tcp.Close()
		}
		if err == nil && a.udp {
			var udp net.PacketConn
			if udp, err = net.ListenPacket("udp", a.address); err == nil {
				err = udp.Close()
			}
		}
		if err != nil {
			advice := "--port-shift moves all ports"
			if runtime.GOOS != "linux" {
				advice += "; and this system may have to be given the address first: ifconfig lo0 alias HOST"
			}
			return fmt.Errorf("%s of %s: %w (%s)", a.use, n.id, err, advice)
		}
	}
	return nil
}

// lineWriter writes for several goroutines, each write whole.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// write lets a function write several lines at once.
func (l *lineWriter) write(lines func(io.Writer)) {
	var b bytes.Buffer
	lines(&b)
	_, _ = l.Write(b.Bytes()) // nobody reads any more
}

func (l *lineWriter) say(format string, args ...any) {
	l.write(func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}
