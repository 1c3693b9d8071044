package transport

import (
	"crypto/tls"
	"net"
	"sync"
)

// secureConn is a connection under TLS. Its records are collected and handed to the system together, so that a frame of many records is
// one write, and a small one is written by whoever sends it, as without TLS.
type secureConn struct {
	*tls.Conn
	wire *wire
}

func newSecureConn(conn net.Conn, over func(net.Conn) *tls.Conn) *secureConn {
	w := &wire{Conn: conn, read: socketReader(conn), try: tryWriter(conn)}
	return &secureConn{Conn: over(w), wire: w}
}

// shakeHands agrees on keys. Nothing else may be called before.
func (c *secureConn) shakeHands() error {
	if err := c.Handshake(); err != nil {
		return err
	}
	c.wire.mu.Lock()
	c.wire.mu.collects = c.wire.try != nil
	c.wire.mu.Unlock()
	return nil
}

// Write writes p, and before it what is left of try. It waits for the network.
func (c *secureConn) Write(p []byte) (n int, err error) {
	if len(p) > 0 {
		if n, err = c.Conn.Write(p); err != nil {
			return n, err
		}
	}
	return n, c.wire.flush()
}

// tries reports whether try may be called.
func (c *secureConn) tries() bool { return c.wire.try != nil }

// try writes without waiting and returns how much of b is done with. All is false when the system does not take everything at once: then Write
// must follow, be it of nothing. An error shows there.
func (c *secureConn) try(b []byte) (n int, all bool) {
	for n < len(b) {
		chunk := b[n:min(len(b), n+writeChunk)]
		if _, err := c.Conn.Write(chunk); err != nil {
			return n, false
		}
		n += len(chunk)
		if !c.wire.push() {
			return n, false
		}
	}
	return n, true
}

// Close closes without the farewell of TLS, which would wait for a peer that does not read. Frames tell whether something is missing.
func (c *secureConn) Close() error { return c.wire.Close() }

// wire is what TLS takes for the network: the connection itself during the handshake, afterwards a buffer before it, which never makes a
// writer wait. One goroutine at a time calls push or flush; TLS may write meanwhile, also when it reads.
type wire struct {
	net.Conn
	first []byte // what was read before TLS began
	read  func(b []byte) (int, error)
	try   func(b []byte) int // nil when the connection is not one of the system's
	mu    struct {
		sync.Mutex
		collects bool
		records  []byte // not written yet
		spare    []byte // memory for the next ones
	}
}

func (w *wire) Read(b []byte) (int, error) {
	if len(w.first) > 0 {
		n := copy(b, w.first)
		w.first = w.first[n:]
		return n, nil
	}
	return w.read(b)
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.collects {
		return w.Conn.Write(b)
	}
	w.mu.records = append(w.mu.records, b...)
	return len(b), nil
}

// push writes what the system takes at once and reports whether that was all.
func (w *wire) push() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.try(w.mu.records)
	w.mu.records = w.mu.records[:copy(w.mu.records, w.mu.records[n:])]
	return len(w.mu.records) == 0
}

// flush writes everything.
func (w *wire) flush() error {
	w.mu.Lock()
	b := w.mu.records
	w.mu.records, w.mu.spare = w.mu.spare, nil
	w.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	_, err := w.Conn.Write(b)
	w.mu.Lock()
	w.mu.spare = b[:0]
	w.mu.Unlock()
	return err
}
