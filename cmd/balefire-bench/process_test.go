package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestGroupOf(t *testing.T) {
	tests := map[string]struct {
		stat  string
		group int
		ok    bool
	}{
		"plain":                     {"12 (nsd) S 1 34 34 0 -1 4194560 1 2", 34, true},
		"a space and a parenthesis": {"12 (a) S 7 (b) R 1 35 34 0", 35, true},
		"cut off":                   {"12 (nsd) S 1", 0, false},
		"no command":                {"12 nsd S 1 34", 0, false},
		"empty":                     {"", 0, false},
	}
	for name, tt := range tests {
		if group, ok := groupOf([]byte(tt.stat)); group != tt.group || ok != tt.ok {
			t.Errorf("%s: %d, %v", name, group, ok)
		}
	}
}

func TestProportional(t *testing.T) {
	const rollup = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:                2048 kB\nPss:                1536 kB\nPss_Dirty:           900 kB\n"
	for text, want := range map[string]int64{rollup: 1536 << 10, "Rss: 1 kB\n": 0, "Pss: x kB\n": 0, "": 0} {
		if got := proportional([]byte(text), "Pss:"); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := proportional([]byte(rollup), "Pss_Dirty:"); got != 900<<10 {
		t.Errorf("another line: %d", got)
	}
}

func TestField(t *testing.T) {
	const info = "processor\t: 0\nmodel name\t: A: B\nMemTotal:       24 kB\n"
	for name, want := range map[string]string{"model name": "A: B", "MemTotal": "24 kB", "model": ""} {
		if got := field([]byte(info), name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestGroupUsage has a shell and a child burn time, and wants what both have used.
func TestGroupUsage(t *testing.T) {
	// Each says when it has used several hundredths of a second, which is what the kernel counts in.
	const burn = `burn() { i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 1000; }; burn & echo pid $!; burn`
	cmd := exec.Command("sh", "-c", burn)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
	})
	child := 0
	for done := 0; child == 0 || done < 2; { // in any order
		var word string
		if _, err := fmt.Fscan(out, &word); err != nil {
			t.Fatal(err)
		}
		if word == "done" {
			done++
		} else if _, err := fmt.Fscan(out, &child); err != nil {
			t.Fatal(err)
		}
	}
	var sum time.Duration
	for _, pid := range []int{cmd.Process.Pid, child} {
		used, err := processCPU(pid)
		if err != nil || used < 20*time.Millisecond {
			t.Fatalf("process %d has used %s, %v", pid, used, err)
		}
		sum += used
	}
	u, err := groupUsage(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if u.cpu < sum || u.memory == 0 {
		t.Errorf("%s and %d octets, want at least %s", u.cpu, u.memory, sum)
	}
	if _, err := groupUsage(1 << 30); err == nil {
		t.Error("a group without processes has a usage")
	}
	own, err := processCPU(os.Getpid())
	if err != nil || own <= 0 {
		t.Errorf("this process has used %s, %v", own, err)
	}
}

func TestVersionIn(t *testing.T) {
	for said, want := range map[string]string{
		"NSD version 4.6.1\nWritten by NLnet Labs.\n":                                    "4.6.1",
		"knotd (Knot DNS), version 3.2.6\n":                                              "3.2.6",
		"BIND 9.18.49-1~deb12u3-Debian (Extended Support Version) <id:>\n":               "9.18.49",
		"Nov 24 22:29:18 PowerDNS Authoritative Server 4.7.3 (C) 2001-2022 PowerDNS.COM": "4.7.3",
		"balefire 342d581-dirty (go1.26.8, linux/amd64)\n":                               "342d581-dirty",
		"balefire v1.2.3 (go1.26.8, linux/amd64)\n":                                      "1.2.3",
		"": "of unknown version",
	} {
		if got := versionIn(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}
