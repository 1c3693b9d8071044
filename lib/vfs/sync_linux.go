package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData leaves out metadata which is not needed to read the data back, such
// as the time of modification; the size is always included.
func syncData(f *os.File) error {
	return retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// reserveSpace takes the blocks of a file now, unless the file system cannot.
func reserveSpace(f *os.File, size int64) error {
	err := retry(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
