package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// NodeAddr is a storage node as given by the user and as it is dialled.
type NodeAddr struct {
	Name string // as given: it is the node's identity
	Dial string // with a port
}

// DialContext opens a TCP connection to the node. The address argument is the
// node's name and not needed.
func (a NodeAddr) DialContext(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", a.Dial)
}

// NodeAddrs checks the values of -storageNode and adds the default port where
// none is given.
func NodeAddrs(given []string, defaultPort string) ([]NodeAddr, error) {
	if len(given) == 0 {
		return nil, errors.New("no storage nodes: give at least one -storageNode=host:port")
	}
	seen := map[string]bool{}
	var nodes []NodeAddr
	for _, name := range given {
		if name == "" || strings.ContainsAny(name, " \t/") {
			return nil, fmt.Errorf("cannot parse -storageNode=%q: want host:port", name)
		}
		if seen[name] {
			return nil, fmt.Errorf("-storageNode=%q is given twice; every storage node must be listed once", name)
		}
		seen[name] = true
		dial := name
		if _, _, err := net.SplitHostPort(name); err != nil {
			dial = net.JoinHostPort(strings.Trim(name, "[]"), defaultPort)
		}
		nodes = append(nodes, NodeAddr{Name: name, Dial: dial})
	}
	return nodes, nil
}
