package replay

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Who says a line of a session.
const (
	client = '>'
	server = '<'
	caller = '=' // what the caller of the client got
)

// Session is what was said on one connection, in order.
type Session struct{ lines []line }

type line struct {
	who  byte
	data []byte // a hello or a frame; text of the caller
}

// Text writes a session as its file has it: one line per message, who says it and the bytes in hexadecimal, or the quoted text of the caller.
func (s *Session) Text() string {
	var b strings.Builder
	for _, l := range s.lines {
		if l.who == caller {
			fmt.Fprintf(&b, "%c %q\n", l.who, l.data)
			continue
		}
		fmt.Fprintf(&b, "%c %x\n", l.who, l.data)
	}
	return b.String()
}

// Load reads a file.
func Load(path string) (*Session, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &Session{}
	for n, row := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		l, err := parseLine(row)
		if err != nil {
			return nil, fmt.Errorf("cannot read line %d of %s: %w", n+1, path, err)
		}
		s.lines = append(s.lines, l)
	}
	return s, nil
}

func parseLine(row string) (l line, err error) {
	who, rest, _ := strings.Cut(row, " ")
	switch who {
	case string(client), string(server):
		l.data, err = hex.DecodeString(rest)
	case string(caller):
		var text string
		text, err = strconv.Unquote(rest)
		l.data = []byte(text)
	default:
		return l, fmt.Errorf("cannot tell who says %q", row)
	}
	l.who = who[0]
	return l, err
}

// Results returns what the caller of the client got, in order.
func (s *Session) Results() []string {
	var list []string
	for _, l := range s.lines {
		if l.who == caller {
			list = append(list, string(l.data))
		}
	}
	return list
}

// The sizes of what a connection begins with, and of what is before each payload.
const (
	helloSize = 36
	frameSize = 16
)

// messageSize returns how long the first message in b is, or how many bytes are needed to tell.
func messageSize(b []byte, who byte, first bool) int {
	switch {
	case first && who == client:
		return helloSize
	case first && len(b) >= helloSize:
		return helloSize + int(binary.BigEndian.Uint16(b[14:])) // and the text
	case first:
		return helloSize
	case len(b) >= frameSize:
		return frameSize + int(binary.BigEndian.Uint32(b))
	}
	return frameSize
}

// readMessage reads one message.
func readMessage(r *bufio.Reader, who byte, first bool) ([]byte, error) {
	var b []byte
	for n := messageSize(b, who, first); len(b) < n; n = messageSize(b, who, first) {
		have := len(b)
		b = append(b, make([]byte, n-have)...)
		if _, err := io.ReadFull(r, b[have:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
