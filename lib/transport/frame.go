package transport

import (
	"encoding/binary"
	"io"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// frameKind says what a frame is for. The numbers are part of the protocol.
type frameKind uint8

const (
	frameRequest frameKind = 1 // client: opens a stream
	frameData    frameKind = 2 // server: a part of the answer
	frameEnd     frameKind = 3 // server: the last part of the answer
	frameError   frameKind = 4 // server: the call failed
	frameCancel  frameKind = 5 // client: the answer is not wanted any more
	frameCredit  frameKind = 6 // client: may send so many bytes more
	framePing    frameKind = 7 // either side
	framePong    frameKind = 8 // either side
	frameGoAway  frameKind = 9 // server: no new requests, please
)

// frameHeaderSize is the size of a frame without its payload:
// payload length (4), kind (1), reserved (3), stream (4), CRC32C (4); all big endian.
const frameHeaderSize = 16

type frame struct {
	kind    frameKind
	stream  uint32
	payload []byte
}

// beginFrame appends room for a header, which endFrame fills in.
func beginFrame(dst []byte) []byte {
	return append(dst, make([]byte, frameHeaderSize)...)
}

// endFrame completes the frame which starts at dst[start] and reaches to the end of dst.
func endFrame(dst []byte, start int, kind frameKind, stream uint32) {
	h := dst[start : start+frameHeaderSize]
	binary.BigEndian.PutUint32(h, uint32(len(dst)-start-frameHeaderSize))
	h[4] = byte(kind)
	binary.BigEndian.PutUint32(h[8:], stream)
	crc := codec.Checksum(h[:12])
	binary.BigEndian.PutUint32(h[12:], codec.UpdateChecksum(crc, dst[start+frameHeaderSize:]))
}

func appendFrame(dst []byte, kind frameKind, stream uint32, payload []byte) []byte {
	start := len(dst)
	dst = append(beginFrame(dst), payload...)
	endFrame(dst, start, kind, stream)
	return dst
}

// readFrame reads the next frame into buf, whose contents the payload aliases.
// A frame with more than maxPayload bytes or a wrong checksum is an error of kind Corrupt.
func readFrame(r io.Reader, buf *bytesutil.Buffer, maxPayload int) (frame, error) {
	buf.B = bytesutil.Resize(buf.B, frameHeaderSize)
	if _, err := io.ReadFull(r, buf.B); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(buf.B)
	f := frame{kind: frameKind(buf.B[4]), stream: binary.BigEndian.Uint32(buf.B[8:])}
	if uint64(n) > uint64(maxPayload) {
		return frame{}, errkind.New(errkind.Corrupt, "cannot take frame of %d bytes: at most %d are allowed; is the peer of another version?", n, maxPayload)
	}
	crc := codec.Checksum(buf.B[:12])
	want := binary.BigEndian.Uint32(buf.B[12:])
	buf.B = bytesutil.Resize(buf.B, int(n))
	if _, err := io.ReadFull(r, buf.B); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	f.payload = buf.B
	if got := codec.UpdateChecksum(crc, f.payload); got != want {
		return frame{}, errkind.New(errkind.Corrupt, "cannot take frame of %d bytes: checksum is %#x, want %#x", n, got, want)
	}
	return f, nil
}
