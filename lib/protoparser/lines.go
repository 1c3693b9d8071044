package protoparser

import (
	"bytes"
	"io"

	"vmcluster/lib/bytesutil"
)

const (
	lineBlock = 64 << 10
	// A reader that returns nothing without an error this often is given up.
	maxEmptyReads = 100
)

// Lines splits a stream into lines, reading a block at a time.
//
//	for l.Next() { use(l.At()) }
//	err := l.Err()
type Lines struct {
	r       io.Reader
	buf     *bytesutil.Buffer
	pool    *bytesutil.Pool
	start   int // of what was not handed out yet
	scanned int // up to here there is no line end
	maxLen  int
	line    []byte
	tooLong int
	skip    bool // inside a line which is too long
	eof     bool
	err     error
}

// Lines returns the lines of r. Lines longer than maxLen bytes are left out and
// counted. The caller calls Release.
func (in *Intake) Lines(r io.Reader, maxLen int) *Lines {
	return &Lines{r: r, buf: in.lines.Get(), pool: &in.lines, maxLen: maxLen}
}

// Release gives the buffer back; lines are no longer valid.
func (l *Lines) Release() {
	if l.buf != nil {
		l.pool.Put(l.buf)
		l.buf, l.line, l.eof = nil, nil, true
	}
}

// At returns the current line without its line end, valid until the next call of Next.
func (l *Lines) At() []byte { return l.line }

// Err returns the error of the reader, or nil.
func (l *Lines) Err() error { return l.err }

// TooLong returns the number of lines left out so far.
func (l *Lines) TooLong() int { return l.tooLong }

// Next moves to the next line, which may be empty; false at the end or on an error.
// What follows the last line end is a line too, unless the reader failed.
func (l *Lines) Next() bool {
	for l.buf != nil {
		if i := bytes.IndexByte(l.buf.B[l.scanned:], '\n'); i >= 0 {
			end := l.scanned + i
			line := l.buf.B[l.start:end]
			l.start, l.scanned = end+1, end+1
			if l.accept(line) {
				return true
			}
			continue
		}
		l.scanned = len(l.buf.B)
		if l.eof {
			return l.last()
		}
		l.fill()
	}
	return false
}

// accept takes a whole line and reports whether it is one to hand out.
func (l *Lines) accept(line []byte) bool {
	if l.skip {
		l.skip = false
		return false
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > l.maxLen {
		l.tooLong++
		return false
	}
	l.line = line
	return true
}

// last hands out what follows the last line end.
func (l *Lines) last() bool {
	line := l.buf.B[l.start:]
	l.start = len(l.buf.B)
	return len(line) > 0 && l.err == nil && l.accept(line)
}

// fill reads a block behind the line begun.
func (l *Lines) fill() {
	b := l.buf.B
	b = b[:copy(b, b[l.start:])]
	l.start, l.scanned = 0, len(b)
	if len(b) > l.maxLen+1 { // the line and a \r
		if !l.skip {
			l.tooLong++
			l.skip = true
		}
		b, l.scanned = b[:0], 0
	}
	if cap(b)-len(b) < lineBlock/2 {
		grown := make([]byte, len(b), max(2*cap(b), lineBlock))
		copy(grown, b)
		b = grown
	}
	for range maxEmptyReads {
		n, err := l.r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			l.eof = true
			if err != io.EOF {
				l.err = err
			}
		}
		if n > 0 || err != nil {
			l.buf.B = b
			return
		}
	}
	l.buf.B, l.eof, l.err = b, true, io.ErrNoProgress
}
