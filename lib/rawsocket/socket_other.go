//go:build !unix

package rawsocket

import "net"

// TryWriter returns nil: no connection is tried here.
func TryWriter(net.Conn) func(b []byte) int { return nil }

// Reader returns the connection's Read.
func Reader(conn net.Conn) func(b []byte) (int, error) { return conn.Read }

// Writer returns the connection's Write.
func Writer(conn net.Conn) func(b []byte) (int, error) { return conn.Write }
