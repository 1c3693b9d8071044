package service

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

const (
	prSetTimerSlack = 29
	prGetTimerSlack = 30
	// timerSlackNs is how late a sleeping thread may wake up. The kernel's default is 50,000.
	timerSlackNs = 200_000
	// timersEnv, when set, says to leave timers as they are.
	timersEnv = "VMCLUSTER_TIMERS"
)

// coarsenTimers lets the process be woken by timers up to 0.2 milliseconds late. A thread of the Go runtime looks after the others,
// and sleeps 20 microseconds in between whenever the process has just begun to work, which is after each pause of an
// insert or a commit: with the kernel's default this takes a tenth of the CPU time of our processes. Only threads started
// later inherit the setting, and that one is started before main, so the program replaces itself once: same process id, arguments and
// environment. Any failure leaves everything as it is.
func coarsenTimers() error {
	if _, set := os.LookupEnv(timersEnv); set {
		return os.Unsetenv(timersEnv)
	}
	runtime.LockOSThread() // the thread that is set must be the one which replaces the program
	defer runtime.UnlockOSThread()
	if slack, err := timerSlack(); err != nil || slack >= timerSlackNs {
		return err
	}
	path, err := executable()
	if err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, timerSlackNs, 0); errno != 0 {
		return errno
	}
	return syscall.Exec(path, os.Args, append(slices.Clip(os.Environ()), timersEnv+"=coarse"))
}

func timerSlack() (uintptr, error) {
	slack, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return slack, nil
}

// executable returns the path of this program, by the name it was started with when that still leads to it, since the name is what
// lists of processes show.
func executable() (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(os.Args[0])
	if err == nil && strings.ContainsRune(path, filepath.Separator) {
		if other, err := os.Stat(path); err == nil && os.SameFile(self, other) {
			return path, nil
		}
	}
	if path, err = os.Executable(); err != nil {
		return "", err
	}
	other, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !os.SameFile(self, other) {
		return "", errors.New("the file of the program was replaced")
	}
	return path, nil
}
