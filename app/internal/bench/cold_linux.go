package bench

import (
	"os"
	"syscall"
)

func syncDisks() { syscall.Sync() }

// dropPages asks the kernel to forget the pages of a file (POSIX_FADV_DONTNEED, which is 4).
func dropPages(f *os.File) error {
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, 4, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
