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
	segmentVersion  = 1
	headerBytes     = 20
	frameHeadBytes  = 8
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

// frameChecksum covers the length and the contents. XORed with the salt of the
// segment it is what a frame carries, so that a frame of another segment, left over
// in a reused disk block, does not pass.
func frameChecksum(frame []byte) uint32 {
	var length [4]byte
	binary.LittleEndian.PutUint32(length[:], uint32(len(frame)))
	return crc32.Update(crc32.Checksum(length[:], castagnoli()), castagnoli(), frame)
}

// appendFrame appends a frame whose checksum, without salt, is sum.
func appendFrame(dst, frame []byte, sum, salt uint32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(frame)))
	dst = binary.LittleEndian.AppendUint32(dst, sum^salt)
	return append(dst, frame...)
}

// errDamaged says that the bytes at the reader's offset are no header or frame.
var errDamaged = errors.New("damaged")

// segmentReader reads the frames of one segment file.
type segmentReader struct {
	r      *bufio.Reader
	offset int64 // of the next frame: everything before is intact
	size   int64
	resume int64 // end of the frame which has just failed its checksum, or 0
	salt   uint32
	frame  []byte
}

// header reads the header of the segment with the given number.
func (s *segmentReader) header(segment uint64) error {
	var got [headerBytes]byte
	if err := s.fill(got[:]); err != nil {
		return err
	}
	want, salt := appendHeader(nil, segment)
	if version := got[4]; version != segmentVersion && string(got[:4]) == segmentMagic &&
		crc32.Checksum(got[:16], castagnoli()) == binary.LittleEndian.Uint32(got[16:]) {
		return errkind.New(errkind.Unsupported,
			"cannot read log segment %d of format version %d: this program knows version %d; run the program which wrote it", segment, version, segmentVersion)
	}
	if string(got[:]) != string(want) {
		return errDamaged
	}
	s.salt = salt
	s.offset = headerBytes
	return nil
}

// next returns the next frame, valid until the next call; io.EOF is the clean
// end of the segment.
func (s *segmentReader) next() ([]byte, error) {
	if s.offset >= s.size {
		return nil, io.EOF
	}
	var head [frameHeadBytes]byte
	if err := s.fill(head[:]); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(head[:]))
	if length == 0 || length > MaxFrameBytes || length > s.size-s.offset-frameHeadBytes {
		return nil, errDamaged
	}
	s.frame = bytesutil.Resize(s.frame, int(length))
	if err := s.fill(s.frame); err != nil {
		return nil, err
	}
	if frameChecksum(s.frame)^s.salt != binary.LittleEndian.Uint32(head[4:]) {
		s.resume = s.offset + frameHeadBytes + length
		return nil, errDamaged
	}
	s.offset += frameHeadBytes + length
	return s.frame, nil
}

// intactAfter reports, after damage, whether an intact frame follows the damaged one: then it
// is rather a rotten disk than an interrupted write. The reader is used up.
func (s *segmentReader) intactAfter() bool {
	if s.resume == 0 {
		return false
	}
	s.offset = s.resume
	_, err := s.next()
	return err == nil
}

// fill reads all of p. The end of the file is damage: the size was known.
func (s *segmentReader) fill(p []byte) error {
	_, err := io.ReadFull(s.r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errDamaged
	}
	return err
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
