package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/errkind"
)

// TestSocketReader reads from a connection of the system until it has reached its deadline, its end, and after it was closed.
func TestSocketReader(t *testing.T) {
	a, b := tcpPair(t)
	read := socketReader(b)
	buf := make([]byte, 100)
	for _, sent := range [][]byte{{1}, bytes.Repeat([]byte{2}, lazyBytes), bytes.Repeat([]byte{3}, 3*lazyBytes)} {
		if n := tryWriter(a)(sent); n != len(sent) {
			t.Fatalf("%d bytes of %d were written", n, len(sent))
		}
		var got []byte
		for len(got) < len(sent) {
			n, err := read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes arrive damaged", len(sent))
		}
	}
	if err := b.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %d, %v", n, err)
	}
	if err := errors.Join(b.SetReadDeadline(time.Time{}), a.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	_ = b.Close()
	if n, err := read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %d, %v", n, err)
	}
}

// TestWorkers has more calls at once than workers wait for the next ones.
func TestWorkers(t *testing.T) {
	f := newFixture(t, nil)
	c := f.client(nil)
	const calls = 3 * maxWaiting
	for range 3 {
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if _, err := call(c, "b"); err != nil {
					t.Error(err)
				}
			})
		}
		eventually(t, "all calls wait", func() bool { return f.service.waiting.Load() == calls })
		f.service.waiting.Store(0)
		for range calls {
			f.service.release <- struct{}{}
		}
		wg.Wait()
		eventually(t, "some workers wait", func() bool { return f.server.waiting.Load() == maxWaiting })
	}
}

// TestAnswerBeforeDamage sends an answer, its end and a damaged frame at once: the answer arrives.
func TestAnswerBeforeDamage(t *testing.T) {
	n := NewMemoryNetwork()
	ln, err := n.Listen("node")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			defer conn.Close()
			_, err = readHello(conn)
		}
		if err == nil {
			_, err = conn.Write((&helloReply{version: 1, role: RoleInsert, maxStreams: 2, maxFrame: 1000}).appendTo(nil))
		}
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, frameHeaderSize+len("\x00\x00\x00\x00e")))
		}
		if err == nil {
			frames := appendFrame(appendFrame(nil, frameData, 1, []byte("an answer, ")), frameEnd, 1, []byte("whole"))
			frames = appendFrame(frames, frameData, 1, []byte("damaged"))
			frames[len(frames)-1] ^= 1
			_, err = conn.Write(frames)
		}
		ended <- err
	}()
	c := NewClient(ClientOptions{Addr: "node", Role: RoleInsert, Dial: n.Dial})
	if got, err := call(c, "e"); err != nil || got != "an answer, whole" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = ln.Close()
	eventually(t, "the connection is given up", func() bool { return !c.Connected() })
	_, err = call(c, "e")
	wantKind(t, err, errkind.Unavailable)
	_ = c.Close()
}
