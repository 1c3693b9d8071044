package wal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

// MaxFrameBytes bounds the contents of one frame.
const MaxFrameBytes = 64 << 20

const (
	segmentMagic    = "VWAL"
	segmentVersion  = 2
	headerBytes     = 20
	frameHeadBytes  = 12
	durableBefore   = 1 << 31 // bit of the length of a frame: when it was written, everything before it was durable
	nameDigits      = 20
	damagedSuffix   = ".damaged"
	readBufferBytes = 256 << 10
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // the table is made once by the library

func segmentPath(dir string, segment uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d", nameDigits, segment))
}

// parseSegmentName returns the number in the name of a segment file.
func parseSegmentName(name string) (uint64, bool) {
	if len(name) != nameDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 10, 64)
	return n, err == nil && n > 0
}

// appendHeader appends the header of a segment and returns the salt of its frames.
func appendHeader(dst []byte, segment uint64) (header []byte, salt uint32) {
	start := len(dst)
	dst = append(dst, segmentMagic...)
	dst = append(dst, segmentVersion, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, segment)
	salt = crc32.Checksum(dst[start:], castagnoli())
	return binary.LittleEndian.AppendUint32(dst, salt), salt
}

// frameChecksum covers the contents. XORed with the salt of the segment it is what a frame carries, so that a frame of another
// segment, left over in a reused disk block, does not pass.
func frameChecksum(frame []byte) uint32 { return crc32.Checksum(frame, castagnoli()) }

// appendFrame appends a frame whose checksum, without salt, is sum.
func appendFrame(dst, frame []byte, sum, salt uint32) []byte {
	head := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(frame)))
	dst = binary.LittleEndian.AppendUint32(dst, sum^salt)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[head:], castagnoli())^salt)
	return append(dst, frame...)
}

// markDurableBefore sets the bit durableBefore of the frame at the start of p.
func markDurableBefore(p []byte, salt uint32) {
	binary.LittleEndian.PutUint32(p, binary.LittleEndian.Uint32(p)|durableBefore)
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p[:8], castagnoli())^salt)
}

// frameHead is what precedes the contents of a frame.
type frameHead struct {
	length        int64
	sum           uint32
	durableBefore bool
}

// parseFrameHead parses frameHeadBytes bytes; false when they are damaged.
func parseFrameHead(p []byte, salt uint32) (h frameHead, ok bool) {
	length := binary.LittleEndian.Uint32(p)
	h = frameHead{length: int64(length &^ durableBefore), sum: binary.LittleEndian.Uint32(p[4:]) ^ salt, durableBefore: length&durableBefore != 0}
	if h.length == 0 || h.length > MaxFrameBytes { // spares most of the checksums when a damaged segment is searched
		return h, false
	}
	return h, crc32.Checksum(p[:8], castagnoli())^salt == binary.LittleEndian.Uint32(p[8:])
}

// errDamaged says that the bytes at the reader's offset are no header or frame.
var errDamaged = errors.New("damaged")

// segmentReader reads the frames of one segment file.
type segmentReader struct {
	r      *bufio.Reader
	pages  pageReader
	offset int64 // of what is read next
	size   int64
	salt   uint32
	head   frameHead // of the frame which was read last
	frame  []byte
}

// open begins a segment file of the given size. The closer is the file.
func (s *segmentReader) open(fsys vfs.FS, path string, size int64) (io.Closer, error) {
	file, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	if s.r == nil {
		s.r = bufio.NewReaderSize(nil, readBufferBytes)
	}
	s.pages = pageReader{file: file, size: size}
	s.r.Reset(&s.pages)
	s.offset, s.size = 0, size
	return file, nil
}

// header reads the header of the segment with the given number.
func (s *segmentReader) header(segment uint64) error {
	want, salt := appendHeader(nil, segment)
	s.salt = salt
	var got [headerBytes]byte
	if err := s.fill(got[:]); err != nil {
		return err
	}
	s.offset = headerBytes
	if version := got[4]; version != segmentVersion && string(got[:4]) == segmentMagic &&
		crc32.Checksum(got[:16], castagnoli()) == binary.LittleEndian.Uint32(got[16:]) {
		return errkind.New(errkind.Unsupported,
			"cannot read log segment %d of format version %d: this program knows version %d; run the program which wrote it", segment, version, segmentVersion)
	}
	if string(got[:]) != string(want) {
		return errDamaged
	}
	return nil
}

// next returns the next frame, valid until the next call; io.EOF is the clean
// end of the segment. After errDamaged, search goes on.
func (s *segmentReader) next() ([]byte, error) {
	if s.offset >= s.size {
		return nil, io.EOF
	}
	head, err := s.r.Peek(frameHeadBytes)
	if err != nil {
		return nil, damagedAtEnd(err)
	}
	var ok bool
	if s.head, ok = parseFrameHead(head, s.salt); !ok || s.head.length > s.size-s.offset-frameHeadBytes {
		return nil, errDamaged
	}
	if err := s.skip(frameHeadBytes); err != nil {
		return nil, err
	}
	s.frame = bytesutil.Resize(s.frame, int(s.head.length))
	if err := s.fill(s.frame); err != nil {
		return nil, err
	}
	s.offset += s.head.length
	if frameChecksum(s.frame) != s.head.sum {
		return nil, errDamaged
	}
	return s.frame, nil
}

// search finds the next intact frame after errDamaged and returns its offset. It is the one which next has returned then;
// io.EOF when there is none.
func (s *segmentReader) search() (frame []byte, offset int64, err error) {
	for {
		head, err := s.r.Peek(frameHeadBytes)
		if err != nil {
			if err = damagedAtEnd(err); errors.Is(err, errDamaged) {
				err = io.EOF
			}
			return nil, 0, err
		}
		if _, ok := parseFrameHead(head, s.salt); ok {
			offset = s.offset
			frame, err = s.next()
			if !errors.Is(err, errDamaged) {
				return frame, offset, err
			}
			if s.offset > offset { // only the contents are damaged
				continue
			}
		}
		if err := s.skip(1); err != nil {
			return nil, 0, err
		}
	}
}

func (s *segmentReader) skip(n int) error {
	if _, err := s.r.Discard(n); err != nil {
		return damagedAtEnd(err)
	}
	s.offset += int64(n)
	return nil
}

// damagedAtEnd turns the end of the file, whose size was known, into damage.
func damagedAtEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged
	}
	return err
}

// fill reads all of p.
func (s *segmentReader) fill(p []byte) error {
	_, err := io.ReadFull(s.r, p)
	return damagedAtEnd(err)
}

// listSegments returns the segments in dir by number, and the highest number
// that names of segments and of copies set aside have.
func listSegments(fsys vfs.FS, dir string) (list []segmentInfo, highest uint64, err error) {
	entries, err := fsys.ReadDir(dir) // sorted by name, which is by number
	if err != nil {
		return nil, 0, fmt.Errorf("cannot list log segments: %w", err)
	}
	for _, e := range entries {
		if e.IsDir || len(e.Name) < nameDigits {
			continue
		}
		n, ok := parseSegmentName(e.Name[:nameDigits])
		switch {
		case !ok:
		case len(e.Name) == nameDigits:
			list = append(list, segmentInfo{number: n, size: e.Size})
			highest = max(highest, n)
		case e.Name[nameDigits:] == damagedSuffix:
			highest = max(highest, n)
		}
	}
	return list, highest, nil
}

// segmentInfo is one segment file.
type segmentInfo struct {
	number uint64
	size   int64 // bytes, those not yet written included
}
