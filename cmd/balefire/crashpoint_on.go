//go:build crashpoints

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// crashPoint ends the process as kill -9 does, at the nth passing of the point that BALEFIRE_CRASH_AT=point:n
// names. It is only in binaries built for tests of crashes.
func crashPoint() func(point string) {
	name, count, ok := strings.Cut(os.Getenv("BALEFIRE_CRASH_AT"), ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if !ok || err != nil {
		return nil
	}
	var passed atomic.Int64
	return func(point string) {
		if point == name && passed.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	}
}
