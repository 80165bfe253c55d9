//go:build !linux

package main

import "syscall"

// endWithParent keeps the terminal's Ctrl-C from a child, since its parent tells it. Here, a parent that is killed leaves
// its children behind: only Linux can do better.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
