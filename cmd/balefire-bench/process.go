package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what the processes of a server have used so far.
type usage struct {
	cpu    time.Duration // user and system, of the processes that there are
	memory int64         // resident octets now; what processes share is counted once
	own    int64         // of that, what is no part of a file: the kernel can't take it back
}

// groupUsage sums over a process group.
func groupUsage(group int) (usage, error) {
	var u usage
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return u, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		if of, ok := groupOf(stat); !ok || of != group {
			continue
		}
		cpu, err := processCPU(pid)
		if err != nil {
			continue
		}
		u.cpu += cpu
		rollup, err := os.ReadFile(filepath.Join("/proc", e.Name(), "smaps_rollup"))
		if err != nil {
			continue
		}
		u.memory += proportional(rollup, "Pss:")
		u.own += proportional(rollup, "Pss_Anon:")
	}
	if u.memory == 0 {
		return u, fmt.Errorf("process group %d has no process: it has ended", group)
	}
	return u, nil
}

// groupOf reads the process group from /proc/PID/stat. The command before it, in parentheses, may hold anything.
func groupOf(stat []byte) (int, bool) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, false
	}
	f := strings.Fields(string(stat[end+1:])) // state, parent, group
	if len(f) < 3 {
		return 0, false
	}
	group, err := strconv.Atoi(f[2])
	return group, err == nil
}

// proportional reads the octets of "Pss:" or another line from /proc/PID/smaps_rollup: pages that n processes share count as an nth for each.
func proportional(rollup []byte, line string) int64 {
	for l := range strings.Lines(string(rollup)) {
		if rest, ok := strings.CutPrefix(l, line); ok {
			if f := strings.Fields(rest); len(f) == 2 && f[1] == "kB" {
				kB, _ := strconv.ParseInt(f[0], 10, 64) // the kernel's; 0 if it isn't
				return kB << 10
			}
		}
	}
	return 0
}

// processCPU returns the CPU time of a process and its threads, to the nanosecond where /proc knows hundredths of a second.
func processCPU(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of clock_getcpuclockid(3)
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// machine describes where the benchmark runs, in one line.
func machine() string {
	model, memory, release := "unknown processor", "", ""
	if f, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := field(f, "model name"); m != "" {
			model = m
		}
	}
	if f, err := os.ReadFile("/proc/meminfo"); err == nil {
		if n, _, ok := strings.Cut(field(f, "MemTotal"), " "); ok {
			if kB, err := strconv.ParseInt(n, 10, 64); err == nil {
				memory = fmt.Sprintf(", %.0f GiB", float64(kB)/(1<<20))
			}
		}
	}
	if f, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release = ", Linux " + strings.TrimSpace(string(f))
	}
	return fmt.Sprintf("%d × %s%s%s", runtime.NumCPU(), model, memory, release)
}

// field returns what stands after "name:" in the first such line.
func field(text []byte, name string) string {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// blocksOf returns how many blocks of 512 octets a file takes; one that has gone meanwhile takes none.
func blocksOf(e fs.DirEntry) (int64, error) {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && !info.IsDir() {
		return stat.Blocks, nil
	}
	return 0, nil
}

// watch looks again and again at how much memory of their own a group's first process has, which costs little; it ends by itself when there is none.
type watch struct {
	highest atomic.Int64
	stop    chan struct{}
}

func watchMemory(pid int) *watch {
	w := &watch{stop: make(chan struct{})}
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				return
			}
			if kB, _, ok := strings.Cut(field(status, "RssAnon"), " "); ok {
				n, _ := strconv.ParseInt(kB, 10, 64) // the kernel's; 0 if it isn't
				w.highest.Store(max(w.highest.Load(), n<<10))
			}
			select {
			case <-tick.C:
			case <-w.stop:
				return
			}
		}
	}()
	return w
}

func (w *watch) end() { close(w.stop) }
