package transport

import (
	"syscall"
	"unsafe"
)

// A socket never waits: what it cannot do at once it refuses. So the scheduler need not be told of the call, as syscall.Read and
// syscall.Write do. In a process that was idle, telling it wakes the thread which looks after calls that last, and that thread goes on
// looking for a while: for a small request that is a sixth of the CPU time.

func readSocket(fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

// writeSocket leaves large writes to syscall.Write: who sends much has been working for a while, and shall be looked after.
func writeSocket(fd uintptr, b []byte) (int, error) {
	if len(b) > lazyBytes {
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
