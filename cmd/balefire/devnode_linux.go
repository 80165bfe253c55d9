package main

import "syscall"

// endWithParent makes a child end with the thread that starts it, even when that is killed, and keeps the terminal's
// Ctrl-C from it, since its parent tells it.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
