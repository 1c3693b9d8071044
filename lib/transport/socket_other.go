//go:build !unix

package transport

import "net"

func tryWriter(net.Conn) func(b []byte) int { return nil }

func socketReader(conn net.Conn) func(b []byte) (int, error) { return conn.Read }
