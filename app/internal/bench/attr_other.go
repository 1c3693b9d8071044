//go:build !linux

package bench

import "syscall"

// childAttr puts a child into a group of its own. The tool needs /proc to measure; elsewhere it only compiles.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
