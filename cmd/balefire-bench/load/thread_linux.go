package load

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// onThread runs do on a thread of its own that is pinned to a processor, −1 for any, and returns the thread's CPU time in it.
// The thread goes back to where it came from: one that ended would take the servers with it that were started from it.
func onThread(cpu int, do func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if cpu >= 0 {
		var before, set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &before); err != nil {
			return 0, fmt.Errorf("ask where the generator may run: %w", err)
		}
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return 0, fmt.Errorf("pin the generator to processor %d: %w", cpu, err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &before) }() // it was allowed before
	}
	begin, err := threadCPU()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	end, err := threadCPU()
	return end - begin, err
}

// goFirst lets the calling thread, which is locked to its goroutine, go before others for a processor, if this process may do that, until
// undo is called: clients of a server are elsewhere, and don't wait for its processors.
func goFirst() (undo func()) {
	const first = -10
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil || unix.Setpriority(unix.PRIO_PROCESS, 0, first) != nil {
		return func() {} // what is measured is a little more than the server's
	}
	return func() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, 20-before) } // the kernel gives 20 less the priority; going back is allowed
}

func threadCPU() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("the generator's CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
