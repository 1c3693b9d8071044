package tsdump

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// Series is one series of a dump, or a part of it.
type Series struct {
	Labels []model.Label
	Blocks []tsblock.Block
}

// Reader reads a dump.
//
//	for r.Next() { use(r.At()) }
//	err := r.Err()
type Reader struct {
	in      *bufio.Reader
	payload []byte
	series  Series
	sum     uint32
	records uint64
	inside  bool // between header and end
	err     error
}

// NewReader returns a reader of the dump, or of several one after the other.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, 64<<10)} }

// At returns the current series, valid until the next call of Next. Blocks may be damaged in ways which decoding them shows.
func (r *Reader) At() *Series { return &r.series }

// Err returns what ended the reading early: an error of the underlying reader, or one of kind BadRequest.
func (r *Reader) Err() error { return r.err }

// Next moves to the next series; false at the end or on an error.
func (r *Reader) Next() bool {
	for r.err == nil {
		if !r.inside {
			if !r.readHeader() {
				return false
			}
			continue
		}
		if r.err = r.readRecord(); r.err != nil {
			return false
		}
		if r.payload[0] != kindEnd {
			r.err = r.parseSeries(r.payload)
			return r.err == nil
		}
		r.err = r.parseEnd(r.payload[1:])
	}
	return false
}

// readHeader reports whether a dump begins; there may be none left.
func (r *Reader) readHeader() bool {
	b, err := r.in.Peek(len(magic) + 1)
	ours := len(b) > len(magic) && string(b[:len(magic)]) == magic
	switch {
	case len(b) == 0 && errors.Is(err, io.EOF):
		return false
	case ours && b[len(magic)] >= plainVersion && b[len(magic)] <= histogramVersion:
		r.inside, r.records, r.sum = true, 0, codec.Checksum(b)
		_, _ = r.in.Discard(len(b)) // it has been read
		return true
	case err != nil && !errors.Is(err, io.EOF):
		r.err = err
	case ours:
		r.err = bad("it has version %d, and this version reads versions up to %d; export it again with the same version, or use JSON lines", b[len(magic)], histogramVersion)
	default:
		r.err = bad("it does not start as a dump does; take what /api/v1/export/native of this system answers, or use JSON lines between different systems")
	}
	return false
}

func bad(format string, args ...any) error {
	return errkind.New(errkind.BadRequest, "cannot read the dump: "+format, args...)
}

// readRecord reads the next record into payload and checks it.
func (r *Reader) readRecord() error {
	size, err := r.readSize()
	if err != nil {
		return cutOff(err)
	}
	if size == 0 || size > maxRecordBytes {
		return bad("a record of %d bytes is announced; the largest is %d", size, maxRecordBytes)
	}
	if uint64(cap(r.payload)) < size+4 {
		r.payload = make([]byte, size+4)
	}
	b := r.payload[:size+4]
	if _, err := io.ReadFull(r.in, b); err != nil {
		return cutOff(err)
	}
	r.payload = b[:size]
	r.sum = codec.UpdateChecksum(r.sum, r.payload)
	if want := binary.LittleEndian.Uint32(b[size:]); want != r.sum {
		return bad("record %d has a wrong checksum: it was changed, or one before it is missing", r.records)
	}
	return nil
}

// readSize reads a uvarint of as many bytes as the largest record needs; a longer one stays too large.
func (r *Reader) readSize() (size uint64, err error) {
	for shift := 0; shift < 28; shift += 7 {
		b, err := r.in.ReadByte()
		if err != nil {
			return 0, err
		}
		size |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return size, nil
		}
	}
	return maxRecordBytes + 1, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bad("it ends before its last record; it was cut off")
	}
	return err
}

func (r *Reader) parseEnd(src []byte) error {
	n, tail, err := codec.CutUvarint(src)
	if err != nil || len(tail) > 0 || n != r.records {
		return bad("it has %d records and its end counts %d", r.records, n)
	}
	r.inside = false
	return nil
}

func (r *Reader) parseSeries(src []byte) error {
	if src[0] != kindSeries {
		return bad("record %d is of an unknown kind %d", r.records, src[0])
	}
	r.records++
	tail, err := r.parseLabels(src[1:])
	if err != nil {
		return bad("labels of record %d: %w", r.records, err)
	}
	n, tail, err := codec.CutUvarint(tail)
	if err != nil || n > uint64(len(tail)) {
		return bad("record %d announces %d blocks in %d bytes", r.records, n, len(tail))
	}
	r.series.Blocks = r.series.Blocks[:0]
	for range n {
		var b tsblock.Block
		if tail, err = tsblock.UnmarshalBlock(tail, &b); err != nil {
			return bad("record %d: %w", r.records, err)
		}
		r.series.Blocks = append(r.series.Blocks, b)
	}
	if len(tail) > 0 {
		return bad("record %d has %d bytes too many", r.records, len(tail))
	}
	return nil
}

// parseLabels reads the labels, which alias src.
func (r *Reader) parseLabels(src []byte) (tail []byte, err error) {
	n, tail, err := codec.CutUvarint(src)
	if err != nil || n > uint64(len(tail)) {
		return tail, errors.Join(errors.New("their number is wrong"), err)
	}
	r.series.Labels = r.series.Labels[:0]
	for range n {
		var name, value []byte
		if name, tail, err = codec.CutBytes(tail); err == nil {
			value, tail, err = codec.CutBytes(tail)
		}
		if err != nil {
			return tail, err
		}
		r.series.Labels = append(r.series.Labels, model.Label{Name: bytesutil.String(name), Value: bytesutil.String(value)})
	}
	return tail, nil
}
