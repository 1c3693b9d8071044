package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"vmcluster/lib/transport"
)

// errorFrame is the kind of frames whose text may change; the kind of the error, their first byte, may not.
const errorFrame = 4

// PlayClient says to a server what the client has said, and compares what it answers. Of hellos that is what was agreed upon, of errors their kind.
func (s *Session) PlayClient(conn net.Conn) error {
	in, greeted := bufio.NewReader(conn), false
	for n, l := range s.lines {
		switch l.who {
		case client:
			if _, err := conn.Write(l.data); err != nil {
				return fmt.Errorf("cannot say line %d: %w", n+1, err)
			}
		case server:
			got, err := readMessage(in, server, !greeted)
			if err != nil {
				return fmt.Errorf("the server ends instead of saying line %d, %x: %w", n+1, l.data, err)
			}
			if !same(got, l.data, !greeted) {
				return fmt.Errorf("the server says\n%x\nand line %d is\n%x", got, n+1, l.data)
			}
			greeted = true
		}
	}
	return nil
}

// same compares two messages of servers.
func same(got, want []byte, first bool) bool {
	switch {
	case first: // version, status, role, capabilities
		return bytes.Equal(got[:12], want[:12]) && bytes.Equal(got[16:24], want[16:24])
	case got[4] == errorFrame && len(got) > frameSize && len(want) > frameSize:
		return want[4] == errorFrame && bytes.Equal(got[8:12], want[8:12]) && got[frameSize] == want[frameSize]
	}
	return bytes.Equal(got, want)
}

// PlayServer returns a dialer that leads to a player which says what the server has said, and compares what it hears. The hello may
// offer capabilities which the recorded one did not; what is said after the answer to it must be as recorded. What was different is sent to
// the channel, or nil, when the connection ends.
func (s *Session) PlayServer() (transport.Dialer, <-chan error) {
	done := make(chan error, 1)
	played := false
	return func(context.Context, string) (net.Conn, error) {
		if played {
			return nil, errors.New("the session is over")
		}
		played = true
		mine, theirs := net.Pipe()
		go func() {
			err := s.playServer(mine)
			if err == nil { // until the client has read everything
				_, err = io.Copy(io.Discard, mine)
			}
			_ = mine.Close() // there is nobody to tell
			done <- err
		}()
		return theirs, nil
	}, done
}

func (s *Session) playServer(conn net.Conn) error {
	in, greeted := bufio.NewReader(conn), false
	for n, l := range s.lines {
		switch l.who {
		case server:
			if _, err := conn.Write(l.data); err != nil {
				return fmt.Errorf("cannot say line %d: %w", n+1, err)
			}
		case client:
			got, err := readMessage(in, client, !greeted)
			if err != nil {
				return fmt.Errorf("the client ends instead of saying line %d, %x: %w", n+1, l.data, err)
			}
			if greeted && !bytes.Equal(got, l.data) || !greeted && !offers(got, l.data) {
				return fmt.Errorf("the client says\n%x\nand line %d is\n%x", got, n+1, l.data)
			}
			greeted = true
		}
	}
	return nil
}

// offers reports whether a hello offers what another one did: its versions, role and capabilities.
func offers(got, want []byte) bool {
	version := func(b []byte, i int) uint16 { return binary.BigEndian.Uint16(b[i:]) }
	had := binary.BigEndian.Uint64(want[16:])
	return version(got, 8) <= version(want, 8) && version(got, 10) >= version(want, 10) && got[12] == want[12] && binary.BigEndian.Uint64(got[16:])&had == had
}
