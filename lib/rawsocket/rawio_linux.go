//go:build !race

package rawsocket

import (
	"syscall"
	"unsafe"
)

// smallWrite is the size in bytes up to which a write is small: who sends more has been working for a while, and shall be looked after.
const smallWrite = 16 << 10

func readSocket(fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

// writeSocket leaves large writes to syscall.Write.
func writeSocket(fd uintptr, b []byte) (int, error) {
	if len(b) > smallWrite {
		return syscall.Write(int(fd), b)
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
