//go:build unix

package rawsocket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns the system's view of a connection; nil when it is not one of the system's.
func rawConn(conn net.Conn) syscall.RawConn {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// TryWriter returns a function that writes as much as the system takes at once and returns how much that was; nil when the
// connection is not one of the system's. Errors show at the next ordinary write.
func TryWriter(conn net.Conn) func(b []byte) int {
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	var rest []byte
	write := func(fd uintptr) bool {
		for len(rest) > 0 {
			n, err := writeSocket(fd, rest)
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

// Reader returns the function which reads from a connection as its Read does.
func Reader(conn net.Conn) func(b []byte) (int, error) {
	raw := rawConn(conn)
	if raw == nil {
		return conn.Read
	}
	var into []byte
	var n int
	var failure error
	read := func(fd uintptr) bool {
		for {
			n, failure = readSocket(fd, into)
			switch {
			case failure == nil:
				return true
			case errors.Is(failure, syscall.EAGAIN):
				return false
			case !errors.Is(failure, syscall.EINTR):
				return true
			}
		}
	}
	return func(b []byte) (int, error) {
		into = b
		err := raw.Read(read)
		into = nil
		switch {
		case err != nil: // it is closed, or there was nothing until the deadline
			return 0, err
		case failure != nil:
			return 0, os.NewSyscallError("read", failure)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Writer returns the function which writes to a connection as its Write does.
func Writer(conn net.Conn) func(b []byte) (int, error) {
	raw := rawConn(conn)
	if raw == nil {
		return conn.Write
	}
	var rest []byte
	var failure error
	write := func(fd uintptr) bool {
		for len(rest) > 0 {
			n, err := writeSocket(fd, rest)
			switch {
			case err == nil:
				rest = rest[n:]
			case errors.Is(err, syscall.EAGAIN):
				return false
			case !errors.Is(err, syscall.EINTR):
				failure = os.NewSyscallError("write", err)
				return true
			}
		}
		return true
	}
	return func(b []byte) (int, error) {
		rest, failure = b, nil
		err := raw.Write(write)
		n := len(b) - len(rest)
		rest = nil
		if err == nil {
			err = failure
		}
		return n, err
	}
}
