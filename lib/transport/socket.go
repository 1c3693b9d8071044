package transport

import (
	"net"

	"vmcluster/lib/rawsocket"
)

// tryWriter returns a function that writes as much as the system takes at once and returns how much that was; nil when the
// connection is not one of the system's.
func tryWriter(conn net.Conn) func(b []byte) int { return rawsocket.TryWriter(conn) }

// socketReader returns the function which reads from a connection.
func socketReader(conn net.Conn) func(b []byte) (int, error) { return rawsocket.Reader(conn) }
