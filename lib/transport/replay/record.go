package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"

	"vmcluster/lib/codec"
	"vmcluster/lib/transport"
)

// Recorder records one connection. It is safe for concurrent use.
type Recorder struct {
	// Capabilities are those which the client may offer; others are taken out of its hello on the way, so that it is as old as
	// one which does not have them.
	Capabilities uint64

	mu   sync.Mutex
	said [2]direction
	list []line
}

// direction is what one side says, as far as it is no whole message yet.
type direction struct {
	greeted bool
	rest    []byte
}

// Dialer returns a dialer whose connections are recorded. There must be only one.
func (r *Recorder) Dialer(dial transport.Dialer) transport.Dialer {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &recorded{conn, r}, nil
	}
}

// Result notes what the caller of the client got.
func (r *Recorder) Result(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, line{caller, []byte(text)})
}

// Session returns what was recorded.
func (r *Recorder) Session() *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Session{lines: slices.Clone(r.list)}
}

func (r *Recorder) note(who byte, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := &r.said[0]
	if who == server {
		d = &r.said[1]
	}
	d.rest = append(d.rest, b...)
	for n := messageSize(d.rest, who, !d.greeted); len(d.rest) >= n; n = messageSize(d.rest, who, !d.greeted) {
		r.list = append(r.list, line{who, bytes.Clone(d.rest[:n])})
		d.rest, d.greeted = d.rest[n:], true
	}
}

// recorded is the client's side of a connection.
type recorded struct {
	net.Conn
	r *Recorder
}

func (c *recorded) Write(b []byte) (int, error) {
	c.r.mu.Lock()
	first := !c.r.said[0].greeted
	c.r.mu.Unlock()
	if first {
		if len(b) != helloSize {
			return 0, fmt.Errorf("cannot record a hello of %d bytes", len(b))
		}
		b = bytes.Clone(b)
		binary.BigEndian.PutUint64(b[16:], binary.BigEndian.Uint64(b[16:])&c.r.Capabilities)
		binary.BigEndian.PutUint32(b[32:], codec.Checksum(b[:32]))
	}
	c.r.note(client, b)
	return c.Conn.Write(b)
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.note(server, b[:n])
	return n, err
}
