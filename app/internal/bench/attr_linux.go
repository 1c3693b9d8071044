package bench

import "syscall"

// childAttr puts a child into a group of its own, so that Ctrl-C at the terminal reaches it through stop
// only, and lets it die with the tool.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
