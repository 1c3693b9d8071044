package rawsocket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// pair returns both ends of a connection: of the system, or in memory.
func pair(t *testing.T, system bool) (a, b net.Conn) {
	t.Helper()
	if !system {
		a, b = net.Pipe()
	} else {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if b, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// TestStream sends random pieces, some of which are larger than what the system takes at once.
func TestStream(t *testing.T) {
	for name, system := range map[string]bool{"tcp": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			data := make([]byte, 4<<20)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			a, b := pair(t, system)
			sent := make(chan error, 1)
			go func() {
				write := Writer(a)
				for rest := data; len(rest) > 0; {
					piece := rest[:min(len(rest), 1+rng.IntN(1<<rng.IntN(22)))]
					if n, err := write(piece); err != nil || n != len(piece) {
						sent <- errors.Join(err, io.ErrShortWrite)
						return
					}
					rest = rest[len(piece):]
				}
				sent <- a.Close()
			}()
			got, err := io.ReadAll(readerFunc(Reader(b)))
			if sendErr := <-sent; err != nil || sendErr != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %d bytes, %v, and %v; want %d", len(got), err, sendErr, len(data))
			}
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestDeadlinesAndClose wants the ends that the connection's own methods have.
func TestDeadlinesAndClose(t *testing.T) {
	for name, system := range map[string]bool{"tcp": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, system)
			read, write := Reader(a), Writer(a)
			past := time.Now().Add(-time.Second)
			if err := a.SetDeadline(past); err != nil {
				t.Fatal(err)
			}
			if n, err := read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d bytes after the deadline, %v", n, err)
			}
			if n, err := write(make([]byte, 64<<20)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("wrote %d bytes after the deadline, %v", n, err)
			}
			if err := a.SetDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			waiting := make(chan error, 1)
			go func() {
				_, err := read(make([]byte, 1))
				waiting <- err
			}()
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-waiting; !errors.Is(err, io.EOF) {
				t.Errorf("read from a connection which the other side has closed: %v", err)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := write([]byte("x")); err == nil {
				t.Error("wrote to a closed connection")
			}
			if _, err := read(make([]byte, 1)); err == nil || system && errors.Is(err, io.EOF) {
				t.Errorf("read from a closed connection: %v", err)
			}
		})
	}
}

// TestTryWriter fills a connection until it takes no more, and reads all that was taken.
func TestTryWriter(t *testing.T) {
	a, b := pair(t, true)
	try := TryWriter(a)
	if try == nil {
		t.Skip("sockets cannot be tried here")
	}
	piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	total := 0
	for {
		n := try(piece)
		if total += n; n < len(piece) {
			break
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(readerFunc(Reader(b)))
	if err != nil || len(got) != total || total == 0 {
		t.Errorf("read %d bytes, %v; %d were taken", len(got), err, total)
	}
	if p, _ := pair(t, false); TryWriter(p) != nil {
		t.Error("a connection in memory is tried")
	}
}
