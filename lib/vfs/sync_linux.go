package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData leaves out metadata which is not needed to read the data back, such
// as the time of modification; the size is always included.
func syncData(f *os.File) error {
	return retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}
