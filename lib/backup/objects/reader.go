package objects

import (
	"context"
	"errors"
	"fmt"
	"io"

	"vmcluster/lib/errkind"
)

// Opened is an object which is being read.
type Opened struct {
	Body    io.ReadCloser // from the offset that was asked for to the end
	Size    int64         // of the whole object
	Version string        // names its contents
}

// Open opens an object at an offset. A version which is not empty must be that of the object, or it fails.
type Open func(ctx context.Context, offset int64, version string) (Opened, error)

// reader reads an object and opens it again where a connection has broken.
type reader struct {
	ctx    context.Context
	o      *Options
	open   Open
	at     Opened
	offset int64
	failed int // attempts since bytes have come
}

// NewReader opens an object. Opening tries again by itself.
func NewReader(ctx context.Context, o *Options, open Open) (io.ReadCloser, error) {
	at, err := open(ctx, 0, "")
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, o: o, open: open, at: at}, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		n, err := r.at.Body.Read(p)
		r.offset += int64(n)
		if n > 0 {
			r.failed = 0
		}
		switch {
		case r.offset > r.at.Size:
			return 0, errkind.New(errkind.Corrupt, "more came than the %d bytes of the object", r.at.Size)
		case n > 0:
			return n, nil // what is wrong comes again
		case err == nil:
			continue
		case r.offset == r.at.Size:
			return 0, io.EOF // all of it has come, whatever becomes of the connection
		}
		if err := r.again(err); err != nil {
			return 0, err
		}
	}
}

// again opens the object where it has broken off.
func (r *reader) again(cause error) error {
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	if r.failed++; r.failed >= r.o.Attempts || r.ctx.Err() != nil {
		return fmt.Errorf("it breaks off at byte %d of %d: %w", r.offset, r.at.Size, cause)
	}
	_ = r.at.Body.Close() // it is broken
	r.at.Body = io.NopCloser(eof{})
	if r.failed > 1 {
		if err := r.o.Pause(r.ctx, r.failed-1); err != nil {
			return err
		}
	}
	at, err := r.open(r.ctx, r.offset, r.at.Version)
	if err != nil {
		return fmt.Errorf("it broke off at byte %d of %d (%w) and cannot be read on: %w", r.offset, r.at.Size, cause, err)
	}
	r.at.Body = at.Body
	return nil
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.at.Body.Close() }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// RangeFrom is the header Range for what is at an offset and behind, empty for all.
func RangeFrom(offset int64) string {
	if offset == 0 {
		return ""
	}
	return fmt.Sprintf("bytes=%d-", offset)
}
