package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// supervisor is who started the process and wants to know how it is: sd_notify(3). Without one, it is silent.
type supervisor struct {
	socket   string
	interval time.Duration // in which it wants to hear that the process is alive; 0: it does not
}

func newSupervisor() supervisor {
	s := supervisor{socket: os.Getenv("NOTIFY_SOCKET")}
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
			s.interval = time.Duration(usec) * time.Microsecond
		}
	}
	return s
}

// tell sends a state. That nobody listens any more is no reason to stop.
func (s supervisor) tell(state string) {
	if s.socket == "" {
		return
	}
	// Go's net takes a first @ for the abstract name space, as sd_notify does.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(state))
}

// watch says that the process is alive, for as long as alive returns: a lock that is never released stops it.
func (s supervisor) watch(ctx context.Context, alive func()) {
	if s.interval <= 0 {
		return
	}
	tick := time.NewTicker(s.interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			alive()
			s.tell("WATCHDOG=1")
		case <-ctx.Done():
			return
		}
	}
}
