//go:build unix

package transport

import (
	"errors"
	"net"
	"syscall"
)

// tryWriter returns a function that writes as much as the system takes at once and returns how much that was; nil when the
// connection is not one of the system's. Errors show at the next ordinary write. One goroutine at a time may call it.
func tryWriter(conn net.Conn) func(b []byte) int {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	var rest []byte
	write := func(fd uintptr) bool {
		for len(rest) > 0 {
			n, err := syscall.Write(int(fd), rest)
			if n > 0 {
				rest = rest[n:]
			}
			if err != nil && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		return true
	}
	return func(b []byte) int {
		rest = b
		_ = raw.Write(write) // on a closed connection nothing is written
		n := len(b) - len(rest)
		rest = nil
		return n
	}
}
