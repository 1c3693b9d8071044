package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// relay sends a piece from the origin to Dst by way of this process.
func (b *backupRun) relay(ctx context.Context, p piece) (err error) {
	body := &remoteBody{open: func() (io.ReadCloser, error) { return b.Origin.Get(ctx, p.key) }, size: p.size}
	body.wrap = func(r io.Reader) io.Reader { return &meter{ctx: ctx, r: r, limit: &b.limit, count: b.count} }
	defer closing(&err, p.key, body)
	if err := b.Dst.Put(ctx, p.key, body, p.size); err != nil {
		return fmt.Errorf("cannot copy %q from %s: %w", p.key, b.Origin, err)
	}
	b.sent.Add(p.size)
	return nil
}

// remoteBody is an object of a store to be read from its start, as often as it takes.
type remoteBody struct {
	open   func() (io.ReadCloser, error)
	wrap   func(io.Reader) io.Reader
	size   int64
	at     int64 // what is read next
	stream io.ReadCloser
	reader io.Reader
	past   int64 // what stream is at
}

// Read implements io.Reader.
func (b *remoteBody) Read(p []byte) (int, error) {
	if b.at >= b.size {
		return 0, io.EOF
	}
	if b.stream == nil || b.past != b.at {
		if err := b.reopen(); err != nil {
			return 0, err
		}
	}
	n, err := b.reader.Read(p[:min(int64(len(p)), b.size-b.at)])
	b.at += int64(n)
	b.past = b.at
	if errors.Is(err, io.EOF) && b.at < b.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *remoteBody) reopen() (err error) {
	if err := b.Close(); err != nil {
		return err
	}
	if b.stream, err = b.open(); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, b.stream, b.at); err != nil {
		return err
	}
	b.reader, b.past = b.wrap(b.stream), b.at
	return nil
}

// Seek implements io.Seeker.
func (b *remoteBody) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("cannot seek to %d", offset)
	}
	b.at = offset
	return offset, nil
}

// Close implements io.Closer.
func (b *remoteBody) Close() error {
	if b.stream == nil {
		return nil
	}
	err := b.stream.Close()
	b.stream, b.reader = nil, nil
	return err
}
