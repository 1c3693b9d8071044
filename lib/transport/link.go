package transport

import (
	"bufio"
	"encoding/binary"
	"net"
	"time"

	"vmcluster/lib/bytesutil"
)

// link is one connection after the hello: frames in, frames out. Client and
// server build on it.
type link struct {
	conn     net.Conn
	reader   *bufio.Reader
	maxFrame int // largest payload taken
	out      outbox
	buffers  *bytesutil.Pool

	countWritten func(n int)
}

// linkCounters count the bytes of a connection.
type linkCounters struct {
	read, written func(n int)
}

// writeChunk bounds what one deadline covers, so that a slow but living
// network is not taken for a dead one.
const writeChunk = 64 << 10

// progressReader gives each read of the network its own deadline.
type progressReader struct {
	conn    net.Conn
	read    func(b []byte) (int, error)
	timeout time.Duration
	count   func(n int)
}

func (r *progressReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.timeout)); err != nil {
		return 0, err
	}
	n, err := r.read(p)
	r.count(n)
	return n, err
}

func newLink(conn net.Conn, maxFrame int, readTimeout time.Duration, buffers *bytesutil.Pool, count linkCounters) *link {
	l := &link{conn: conn, maxFrame: maxFrame, buffers: buffers, countWritten: count.written}
	l.reader = bufio.NewReaderSize(&progressReader{conn: conn, read: socketReader(conn), timeout: readTimeout, count: count.read}, 64<<10)
	l.out.limit = outboxLimit
	l.out.wake = make(chan struct{}, 1)
	if try := frameTrier(conn); try != nil {
		l.out.try = func(b []byte) (n int, all bool) {
			n, all = try(b)
			count.written(n)
			return n, all
		}
	}
	return l
}

// frameTrier returns the function which writes what the network takes at once; nil when there is none.
func frameTrier(conn net.Conn) func(b []byte) (n int, all bool) {
	if secured, ok := conn.(*secureConn); ok {
		if !secured.tries() {
			return nil
		}
		return secured.try
	}
	try := tryWriter(conn)
	if try == nil {
		return nil
	}
	return func(b []byte) (int, bool) {
		n := try(b)
		return n, n == len(b)
	}
}

// readLoop hands frames to handle until reading or handle fails. Handle
// returns true when it keeps the buffer of the payload.
func (l *link) readLoop(handle func(f frame, buf *bytesutil.Buffer) (kept bool, err error)) error {
	buf := l.buffers.Get()
	for {
		f, err := readFrame(l.reader, buf, l.maxFrame)
		if err != nil {
			return err
		}
		kept, err := handle(f, buf)
		if err != nil {
			return err
		}
		if kept || cap(buf.B) > 1<<20 {
			buf = l.buffers.Get()
		}
	}
}

// hasFrame reports whether the next frame has been read from the network as a whole.
func (l *link) hasFrame() bool {
	n := l.reader.Buffered() - frameHeaderSize
	if n < 0 {
		return false
	}
	size, err := l.reader.Peek(4)
	return err == nil && uint64(binary.BigEndian.Uint32(size)) <= uint64(n)
}

// send appends one frame, whatever is pending already, and leaves it to writeLoop: it never waits.
func (l *link) send(kind frameKind, stream uint32, payload []byte) error {
	_, err := l.append(kind, stream, payload)
	l.out.flush()
	return err
}

// sendNow is send for those who do not read the connection: it writes at once if it can.
func (l *link) sendNow(kind frameKind, stream uint32, payload []byte) error {
	_, err := l.append(kind, stream, payload)
	l.out.hurry()
	return err
}

func (l *link) append(kind frameKind, stream uint32, payload []byte) (pending int, err error) {
	return l.out.add(func(dst []byte) ([]byte, error) { return appendFrame(dst, kind, stream, payload), nil })
}

// writeLoop writes until done is closed or the network fails. With a ping
// interval above 0 it pings the peer at that interval.
func (l *link) writeLoop(done <-chan struct{}, timeout, pingInterval time.Duration) error {
	var ticks <-chan time.Time
	if pingInterval > 0 {
		ticker := time.NewTicker(pingInterval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	write := func(b []byte) error { return l.write(b, timeout) }
	for {
		select {
		case <-done:
			return nil
		case <-ticks:
			if err := l.send(framePing, 0, nil); err != nil {
				return err
			}
		case <-l.out.wake:
		}
		if err := l.out.drain(write); err != nil {
			return err
		}
	}
}

// write writes b, and what the connection itself has left to write.
func (l *link) write(b []byte, timeout time.Duration) error {
	for first := true; first || len(b) > 0; first = false {
		if err := l.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := l.conn.Write(b[:min(len(b), writeChunk)])
		l.countWritten(n)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return l.conn.SetWriteDeadline(time.Time{}) // it would end what hurry writes later
}
