package protoparser

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
)

const (
	// maxWindow is the largest window in bytes that a zstd decoder makes room for.
	maxWindow = 64 << 20
	// maxSnappyBlock bounds a snappy body on the paths that otherwise stream, since the format has to be read whole.
	maxSnappyBlock = 64 << 20
	// A snappy element of 3 bytes makes at most 64 bytes.
	maxSnappyRatio = 22
)

// Bodies reads request bodies in any content encoding. It is safe for concurrent use.
type Bodies struct {
	limit   sizeLimit // of ReadBlock
	zstdAll *zstd.Decoder
	zstds   sync.Pool // *zstd.Decoder for streams
	gzips   sync.Pool // *gzip.Reader
	readers sync.Pool // *bufio.Reader
	buffers bytesutil.Pool
	initErr error
}

// sizeLimit is the largest size of something, and who sets it.
type sizeLimit struct {
	max  int64 // bytes
	name string
}

func newBodies(maxSize int64) *Bodies {
	b := &Bodies{limit: sizeLimit{maxSize, "-maxInsertRequestSize"}}
	// The decoder's bound covers windows too, which senders make larger than small bodies, so it
	// only bounds memory; the size of the result is checked after it.
	b.zstdAll, b.initErr = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(max(maxSize, maxWindow))), zstd.WithDecoderLowmem(true))
	return b
}

// ReadBlock reads a whole remote write body of at most the configured size before and after
// decompression. The encodings snappy and zstd, which senders mix up, are told apart by the body; no encoding means
// one of them as well. An empty body gives an empty buffer. The caller gives the buffer back with Put. Errors are of
// kind BadRequest or TooLarge.
func (b *Bodies) ReadBlock(r io.Reader, encoding string) (*bytesutil.Buffer, error) {
	switch encoding {
	case "", "identity", "snappy", "zstd":
		return b.readBlock(r)
	}
	return b.readAll(r, encoding, b.limit)
}

// ReadAll reads a whole body in any content encoding, of at most maxSize bytes after decompression; limitName is what the
// sender is told to raise. The caller gives the buffer back with Put. Errors are of kind BadRequest or TooLarge.
func (b *Bodies) ReadAll(r io.Reader, encoding string, maxSize int64, limitName string) (*bytesutil.Buffer, error) {
	return b.readAll(r, encoding, sizeLimit{maxSize, limitName})
}

func (b *Bodies) readAll(r io.Reader, encoding string, limit sizeLimit) (*bytesutil.Buffer, error) {
	if isPlain(encoding) {
		return b.readLimited(r, "body", limit)
	}
	if encoding == "snappy" {
		return b.readSnappy(r, limit)
	}
	stream, err := b.Stream(r, encoding)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return b.readLimited(stream, "decompressed body", limit)
}

// Put gives a buffer of ReadBlock or ReadAll back.
func (b *Bodies) Put(buf *bytesutil.Buffer) { b.buffers.Put(buf) }

func (b *Bodies) readBlock(r io.Reader) (*bytesutil.Buffer, error) {
	packed, err := b.readLimited(r, "body", b.limit)
	if err != nil || len(packed.B) == 0 {
		return packed, err
	}
	defer b.buffers.Put(packed)
	isZstd := bytes.HasPrefix(packed.B, []byte{0x28, 0xb5, 0x2f, 0xfd}) // no snappy block starts like a zstd frame
	if isZstd {
		switch size, ok := announcedSize(packed.B); {
		case !ok:
			return b.readAll(bytes.NewReader(packed.B), "zstd", b.limit)
		case size > uint64(b.limit.max):
			return nil, b.limit.tooLarge("decompressed body")
		}
	}
	out := b.buffers.Get()
	if isZstd {
		out.B, err = b.decodeZstd(out.B, packed.B)
	} else {
		out.B, err = decodeSnappy(out.B, packed.B, b.limit)
	}
	if err != nil {
		b.buffers.Put(out)
		return nil, err
	}
	return out, nil
}

// readLimited reads r to its end.
func (b *Bodies) readLimited(r io.Reader, what string, limit sizeLimit) (*bytesutil.Buffer, error) {
	buf := b.buffers.Get()
	var err error
	for err == nil && int64(len(buf.B)) <= limit.max {
		if len(buf.B) == cap(buf.B) {
			buf.B = append(buf.B, make([]byte, max(16<<10, len(buf.B)))...)[:len(buf.B)]
		}
		var n int
		n, err = r.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
	}
	if int64(len(buf.B)) > limit.max {
		b.buffers.Put(buf)
		return nil, limit.tooLarge(what)
	}
	if err != io.EOF {
		b.buffers.Put(buf)
		return nil, readError(err, "")
	}
	return buf, nil
}

func (l sizeLimit) tooLarge(what string) error {
	return errkind.New(errkind.TooLarge, "cannot read request: its %s is larger than %s=%d bytes; send smaller requests or raise the limit", what, l.name, l.max)
}

// readError classifies the failure of reading a body, in any encoding: errors with a kind stay what they are, all others are the sender's fault.
func readError(err error, encoding string) error {
	switch {
	case errkind.Of(err) != errkind.Internal:
		return err
	case encoding != "":
		return errkind.New(errkind.BadRequest, "cannot decompress %s body: %w", encoding, err)
	}
	return errkind.New(errkind.BadRequest, "cannot read request body: %w", err)
}

// announcedSize returns the size which a zstd frame says it has when it is decompressed; false when it says none: decompressing such a frame at once could take
// many times the limit.
func announcedSize(frame []byte) (size uint64, ok bool) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return 0, true // the decoder says what is wrong
	}
	return h.FrameContentSize, h.HasFCS
}

func (b *Bodies) decodeZstd(dst, src []byte) ([]byte, error) {
	if b.initErr != nil {
		return dst, errkind.New(errkind.Internal, "cannot create zstd decoder: %w", b.initErr)
	}
	dst, err := b.zstdAll.DecodeAll(src, dst[:0])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), int64(len(dst)) > b.limit.max:
		return dst, b.limit.tooLarge("decompressed body")
	case err != nil:
		return dst, errkind.New(errkind.BadRequest, "cannot decompress zstd body of %d bytes: %w", len(src), err)
	}
	return dst, nil
}

// decodeSnappy uses the decoder of s2, an extension of snappy: it takes a fifth less time.
func decodeSnappy(dst, src []byte, limit sizeLimit) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err == nil && n > len(src)*maxSnappyRatio {
		err = s2.ErrCorrupt // the announced size is impossible; don't allocate it
	}
	if err == nil && int64(n) > limit.max {
		return dst, limit.tooLarge("decompressed body")
	}
	if err == nil {
		dst, err = s2.Decode(dst[:cap(dst)], src)
	}
	if err != nil {
		return dst, errkind.New(errkind.BadRequest, "cannot decompress snappy body of %d bytes: %w", len(src), err)
	}
	return dst, nil
}

// Stream returns a reader of the decompressed body, which the caller closes. It
// does not close r. Errors of the reader are of kind BadRequest.
func (b *Bodies) Stream(r io.Reader, encoding string) (io.ReadCloser, error) {
	if isPlain(encoding) {
		return &stream{Reader: r}, nil
	}
	switch encoding {
	case "gzip", "x-gzip":
		return b.gzipStream(r)
	case "deflate":
		return b.deflateStream(r)
	case "zstd":
		return b.zstdStream(r)
	case "snappy":
		return b.snappyStream(r)
	}
	return nil, errkind.New(errkind.BadRequest, "cannot read request body: unsupported Content-Encoding %q; use gzip, deflate, zstd, snappy or none", encoding)
}

// isPlain reports whether a body is as it is.
func isPlain(encoding string) bool {
	return encoding == "" || encoding == "identity" || encoding == "none"
}

// stream classifies read errors and gives its decoder back when closed.
type stream struct {
	io.Reader
	encoding string // empty: the body is as it is
	release  func()
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = readError(err, s.encoding)
	}
	return n, err
}

// ended is a reader at its end.
type ended struct{}

func (ended) Read([]byte) (int, error) { return 0, io.EOF }

func (s *stream) Close() error {
	if s.release != nil {
		s.release()
		s.release = nil
	}
	s.Reader = ended{}
	return nil
}

func (b *Bodies) gzipStream(r io.Reader) (io.ReadCloser, error) {
	zr, ok := b.gzips.Get().(*gzip.Reader)
	if !ok {
		zr = new(gzip.Reader)
	}
	if err := zr.Reset(r); err != nil {
		b.gzips.Put(zr)
		if errors.Is(err, io.EOF) { // an empty body is an empty request
			return &stream{Reader: bytes.NewReader(nil)}, nil
		}
		return nil, errkind.New(errkind.BadRequest, "cannot decompress gzip body: %w", err)
	}
	return &stream{Reader: zr, encoding: "gzip", release: func() { b.gzips.Put(zr) }}, nil
}

// deflateStream reads zlib, which HTTP calls deflate, and the bare deflate that some senders
// make of it.
func (b *Bodies) deflateStream(r io.Reader) (io.ReadCloser, error) {
	br, ok := b.readers.Get().(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(nil, 64<<10)
	}
	br.Reset(r)
	release := func() {
		br.Reset(nil)
		b.readers.Put(br)
	}
	head, err := br.Peek(2)
	if len(head) < 2 {
		release()
		if errors.Is(err, io.EOF) && len(head) == 0 {
			return &stream{Reader: bytes.NewReader(nil)}, nil
		}
		return nil, readError(err, "")
	}
	isZlib := head[0]&0xf == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0
	if !isZlib {
		return &stream{Reader: flate.NewReader(br), encoding: "deflate", release: release}, nil
	}
	zr, err := zlib.NewReader(br)
	if err != nil {
		release()
		return nil, errkind.New(errkind.BadRequest, "cannot decompress deflate body: %w", err)
	}
	return &stream{Reader: zr, encoding: "deflate", release: release}, nil
}

func (b *Bodies) zstdStream(r io.Reader) (io.ReadCloser, error) {
	zr, ok := b.zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		// Concurrency 1 decodes in the caller's goroutine, so a pooled decoder leaks none.
		zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, errkind.New(errkind.Internal, "cannot create zstd decoder: %w", err)
		}
	}
	release := func() {
		if err := zr.Reset(nil); err == nil {
			b.zstds.Put(zr)
		}
	}
	if err := zr.Reset(r); err != nil {
		release()
		return nil, errkind.New(errkind.BadRequest, "cannot decompress zstd body: %w", err)
	}
	return &stream{Reader: zr, encoding: "zstd", release: release}, nil
}

func (b *Bodies) snappyStream(r io.Reader) (io.ReadCloser, error) {
	out, err := b.readSnappy(r, sizeLimit{maxSnappyBlock, "the limit for snappy"})
	if err != nil {
		return nil, err
	}
	return &stream{Reader: bytes.NewReader(out.B), release: func() { b.buffers.Put(out) }}, nil
}

// readSnappy reads a whole body of one snappy block.
func (b *Bodies) readSnappy(r io.Reader, limit sizeLimit) (*bytesutil.Buffer, error) {
	packed, err := b.readLimited(r, "body", limit)
	if err != nil || len(packed.B) == 0 {
		return packed, err
	}
	defer b.buffers.Put(packed)
	out := b.buffers.Get()
	if out.B, err = decodeSnappy(out.B, packed.B, limit); err != nil {
		b.buffers.Put(out)
		return nil, err
	}
	return out, nil
}
