package exemplars

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

const (
	// suffix ends the names of segments, before which there is their number in hexadecimal digits.
	suffix = ".exemplars"
	// header begins a segment: four letters, the version of the format, and room.
	header = "vmxm\x01\x00\x00\x00"
	// frameHeader is the size of what is before the entries of a frame: their length and checksum.
	frameHeader = 8
	// A frame ends when it has this many bytes.
	frameTarget = 1 << 20

	entrySeries   = 1
	entryExemplar = 2
	entryDeletion = 3
)

func segmentName(number uint64) string {
	const digits = 16
	hex := strings.ToUpper(strconv.FormatUint(number, 16))
	return strings.Repeat("0", digits-len(hex)) + hex + suffix
}

// parseName returns the number of a segment; false when the file is none.
func parseName(name string) (number uint64, ok bool) {
	hex, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(hex, 16, 64)
	return number, err == nil && segmentName(number) == name
}

// dictionary numbers the series of a segment.
type dictionary map[string]uint64

// encoder makes frames.
type encoder struct {
	numbers dictionary
	dst     []byte
	start   int // of the frame, 0 when there is none
	open    bool
}

// begin makes sure that there is a frame with room.
func (e *encoder) begin() {
	if e.open && len(e.dst)-e.start >= frameTarget {
		e.finish()
	}
	if !e.open {
		e.open, e.start = true, len(e.dst)
		e.dst = append(e.dst, make([]byte, frameHeader)...)
	}
}

// finish ends the frame, if there is one.
func (e *encoder) finish() {
	if !e.open {
		return
	}
	entries := e.dst[e.start+frameHeader:]
	binary.LittleEndian.PutUint32(e.dst[e.start:], uint32(len(entries)))
	binary.LittleEndian.PutUint32(e.dst[e.start+4:], codec.Checksum(entries))
	e.open = false
}

func (e *encoder) exemplar(x *model.Exemplar) {
	e.begin()
	number, known := e.numbers[string(x.Series)]
	if !known {
		number = uint64(len(e.numbers))
		e.numbers[string(x.Series)] = number
		e.dst = codec.AppendUvarint(append(e.dst, entrySeries), number)
		e.dst = codec.AppendBytes(e.dst, x.Series)
	}
	e.dst = codec.AppendUvarint(append(e.dst, entryExemplar), number)
	e.dst = codec.AppendVarint(e.dst, x.Timestamp)
	e.dst = binary.LittleEndian.AppendUint64(e.dst, math.Float64bits(x.Value))
	e.dst = codec.AppendBytes(e.dst, x.Labels)
}

func (e *encoder) deletion(key []byte) {
	e.begin()
	e.dst = codec.AppendBytes(append(e.dst, entryDeletion), key)
}

// decoder reads segments and tells what is in them.
type decoder struct {
	add    func(*model.Exemplar)
	remove func(key []byte)

	byNumber map[uint64][]byte // series
	lost     int               // frames and entries which are damaged
}

// segment reads a whole segment. What is damaged is left out and counted.
func (d *decoder) segment(src []byte) {
	if len(src) < len(header) || string(src[:len(header)]) != header {
		d.lost++
		return
	}
	d.byNumber = map[uint64][]byte{}
	for src = src[len(header):]; len(src) > 0; {
		entries, tail, ok := cutFrame(src)
		if !ok && tail == nil {
			d.lost++ // it is not known where the next frame begins
			return
		}
		if src = tail; !ok || d.entries(entries) != nil {
			d.lost++
		}
	}
}

// cutFrame returns the entries of the first frame and what follows it: nothing when the frame goes beyond the end.
func cutFrame(src []byte) (entries, tail []byte, ok bool) {
	if len(src) < frameHeader {
		return nil, nil, false
	}
	size := uint64(binary.LittleEndian.Uint32(src))
	if size == 0 || size > uint64(len(src)-frameHeader) {
		return nil, nil, false
	}
	end := frameHeader + int(size)
	entries = src[frameHeader:end]
	return entries, src[end:], codec.Checksum(entries) == binary.LittleEndian.Uint32(src[4:])
}

// entries reads the entries of a frame.
func (d *decoder) entries(src []byte) (err error) {
	for len(src) > 0 && err == nil {
		kind := src[0]
		src = src[1:]
		switch kind {
		case entrySeries:
			src, err = d.series(src)
		case entryExemplar:
			src, err = d.exemplar(src)
		case entryDeletion:
			var key []byte
			if key, src, err = codec.CutBytes(src); err == nil {
				d.remove(key)
			}
		default:
			err = errkind.New(errkind.Corrupt, "unknown entry %d", kind)
		}
	}
	return err
}

func (d *decoder) series(src []byte) (tail []byte, err error) {
	number, tail, err := codec.CutUvarint(src)
	if err != nil {
		return tail, err
	}
	key, tail, err := codec.CutBytes(tail)
	if err != nil {
		return tail, err
	}
	if _, _, err := model.ParseSeriesKey(nil, key); err != nil {
		return tail, err
	}
	d.byNumber[number] = key
	return tail, nil
}

func (d *decoder) exemplar(src []byte) (tail []byte, err error) {
	var x model.Exemplar
	number, src, err := codec.CutUvarint(src)
	if err != nil {
		return src, err
	}
	if x.Timestamp, src, err = codec.CutVarint(src); err != nil {
		return src, err
	}
	if len(src) < 8 {
		return src, errkind.New(errkind.Corrupt, "%d bytes are left for a value", len(src))
	}
	x.Value = math.Float64frombits(binary.LittleEndian.Uint64(src))
	if x.Labels, tail, err = codec.CutBytes(src[8:]); err != nil {
		return tail, err
	}
	if _, err := model.ParseExemplarLabels(nil, x.Labels); err != nil {
		return tail, err
	}
	if x.Series = d.byNumber[number]; x.Series == nil {
		d.lost++ // the frame with the series is damaged
		return tail, nil
	}
	d.add(&x)
	return tail, nil
}
