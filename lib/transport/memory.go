package transport

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// MemoryNetwork is a network within the process, for tests and for clusters
// in one process. It is safe for concurrent use.
type MemoryNetwork struct {
	mu struct {
		sync.Mutex
		listeners map[string]*memoryListener
	}
}

// NewMemoryNetwork returns a network where nobody listens.
func NewMemoryNetwork() *MemoryNetwork {
	n := &MemoryNetwork{}
	n.mu.listeners = map[string]*memoryListener{}
	return n
}

// Listen opens a listener at a name of the caller's choice.
func (n *MemoryNetwork) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.listeners[addr] != nil {
		return nil, fmt.Errorf("cannot listen at %q: the address is in use", addr)
	}
	l := &memoryListener{network: n, addr: memoryAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.listeners[addr] = l
	return l, nil
}

// Dial connects to a listener; it is a Dialer.
func (n *MemoryNetwork) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.mu.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("cannot dial %q: nobody listens", addr)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, fmt.Errorf("cannot dial %q: nobody listens any longer", addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type memoryAddr string

func (a memoryAddr) Network() string { return "memory" }
func (a memoryAddr) String() string  { return string(a) }

type memoryListener struct {
	network *MemoryNetwork
	addr    memoryAddr
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.mu.listeners, string(l.addr))
	})
	return nil
}
