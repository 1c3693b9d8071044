package selectrpc

import (
	"encoding/binary"
	"math/bits"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
	"vmcluster/lib/tsblock"
)

// frameTarget is the size in bytes at which a frame of an answer is sent.
const frameTarget = 64 << 10

// Flags of an item, which is a series or a part of one.
const (
	itemContinues = 1 << 0 // more blocks of the series before; there is no key
	itemMore      = 1 << 1 // the next item continues this series
)

// seriesWriter packs series into frames.
type seriesWriter struct {
	out  *transport.Responder
	buf  *bytesutil.Buffer
	key  []byte // of the series before in this frame
	body []byte // scratch: blocks of an item
}

// write adds a series. Blocks that do not fit the frame go to the next ones.
func (w *seriesWriter) write(s *storageapi.Series) error {
	blocks := s.Blocks
	for first := true; first || len(blocks) > 0; first = false {
		n := 0
		w.body = w.body[:0]
		for n < len(blocks) && len(w.buf.B)+len(w.body) < frameTarget {
			w.body = blocks[n].AppendTo(w.body)
			n++
		}
		w.appendItem(s.Key, first, n, len(blocks) > n)
		blocks = blocks[n:]
		if len(w.buf.B) < frameTarget {
			continue
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (w *seriesWriter) appendItem(key []byte, first bool, blocks int, more bool) {
	flags := byte(0)
	if !first {
		flags |= itemContinues
	}
	if more {
		flags |= itemMore
	}
	b := append(w.buf.B, flags)
	if first {
		shared := sharedPrefix(w.key, key)
		b = codec.AppendUvarint(b, uint64(shared))
		b = codec.AppendBytes(b, key[shared:])
		w.key = append(w.key[:shared], key[shared:]...)
	}
	b = codec.AppendUvarint(b, uint64(blocks))
	w.buf.B = append(b, w.body...)
}

// flush sends the frame.
func (w *seriesWriter) flush() error {
	if len(w.buf.B) == 0 {
		return nil
	}
	err := w.out.Send(w.buf.B)
	w.buf.B, w.key = w.buf.B[:0], w.key[:0]
	return err
}

func sharedPrefix(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// seriesReader takes series off frames.
type seriesReader struct {
	src    []byte // rest of the current frame
	key    []byte // of the current series
	fresh  bool   // the key in this frame has no predecessor yet
	series storageapi.Series
	more   bool // the series goes on in the next item
	first  bool // no series has been read yet
}

// frame sets the next frame to read from.
func (r *seriesReader) frame(payload []byte) { r.src, r.fresh = payload, true }

// item reads one item. The blocks alias the frame.
func (r *seriesReader) item() error {
	in := &reader{src: r.src}
	flags := in.byte()
	continues := flags&itemContinues != 0
	if flags&^(itemContinues|itemMore) != 0 || continues != r.more {
		return errkind.New(errkind.Corrupt, "cannot decode series: flags are %#x, continuation is expected: %t", flags, r.more)
	}
	if !continues {
		if err := r.readKey(in); err != nil {
			return err
		}
	}
	r.more = flags&itemMore != 0
	// The shortest block takes more than 4 bytes.
	for range in.count(4) {
		var b tsblock.Block
		tail, err := tsblock.UnmarshalBlock(in.src, &b)
		if err != nil {
			return errkind.New(errkind.Corrupt, "cannot decode block of series: %w", err)
		}
		in.src = tail
		r.series.Blocks = append(r.series.Blocks, b)
	}
	r.src = in.src
	if in.err != nil {
		return errkind.New(errkind.Corrupt, "cannot decode series: %w", in.err)
	}
	return nil
}

// readKey starts a new series.
func (r *seriesReader) readKey(in *reader) error {
	shared := in.uvarint()
	suffix := in.bytes()
	known := uint64(len(r.key))
	if r.fresh {
		known = 0
	}
	if in.err != nil || shared > known {
		return errkind.New(errkind.Corrupt, "cannot decode key which shares %d bytes with one of %d", shared, known)
	}
	// Keys ascend: a series that comes back would silently be taken for another.
	if !r.first && string(suffix) <= string(r.key[shared:]) {
		return errkind.New(errkind.Corrupt, "cannot take series out of order")
	}
	r.key = append(r.key[:shared], suffix...)
	r.fresh, r.first = false, false
	r.series.Key = r.key
	clear(r.series.Blocks)
	r.series.Blocks = r.series.Blocks[:0]
	return nil
}

// stringsWriter packs strings into frames, each with what it shares with the one before.
type stringsWriter struct {
	out  *transport.Responder
	buf  []byte
	last string
}

func (w *stringsWriter) write(values []string) error {
	for _, s := range values {
		shared := sharedPrefix(bytesutil.Bytes(w.last), bytesutil.Bytes(s))
		w.buf = codec.AppendUvarint(w.buf, uint64(shared))
		w.buf = appendText(w.buf, s[shared:])
		w.last = s
		if len(w.buf) < frameTarget {
			continue
		}
		if err := w.out.Send(w.buf); err != nil {
			return err
		}
		w.buf, w.last = w.buf[:0], ""
	}
	if len(w.buf) == 0 {
		return nil
	}
	return w.out.Send(w.buf)
}

// appendStrings reads the strings of one frame.
func appendStrings(dst []string, src []byte) ([]string, error) {
	r := &reader{src: src}
	last := ""
	for len(r.src) > 0 {
		shared := r.uvarint()
		suffix := r.bytes()
		if shared > uint64(len(last)) {
			r.fail(errkind.New(errkind.Corrupt, "a string shares %d bytes with one of %d", shared, len(last)))
		}
		if r.err != nil {
			break
		}
		last = last[:shared] + string(suffix)
		dst = append(dst, last)
	}
	return dst, r.end("strings")
}
