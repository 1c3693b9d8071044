//go:build !unix

package transport

import "net"

// tryWriter is for unix only.
func tryWriter(net.Conn) func(b []byte) int { return nil }
