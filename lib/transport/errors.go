package transport

import (
	"errors"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// maxErrorText bounds the text of an error on the wire, in bytes.
const maxErrorText = 8 << 10

// AppendError appends the wire form of err, which must not be nil: kind (1 byte),
// the hint when to try again in milliseconds (uvarint), text (to the end).
func AppendError(dst []byte, err error) []byte {
	dst = append(dst, byte(errkind.Of(err)))
	dst = codec.AppendUvarint(dst, uint64(max(0, errkind.RetryAfterOf(err).Milliseconds())))
	text := err.Error()
	return append(dst, text[:min(len(text), maxErrorText)]...)
}

// ParseError returns the error in the wire form src. A form which cannot be
// read gives an error of kind Corrupt.
func ParseError(src []byte) error {
	if len(src) == 0 {
		return errkind.New(errkind.Corrupt, "cannot read error from peer: it is empty")
	}
	retryMs, text, err := codec.CutUvarint(src[1:])
	if err != nil {
		return errkind.New(errkind.Corrupt, "cannot read error from peer: %w", err)
	}
	kind := errkind.Kind(src[0])
	if kind == errkind.OK || kind > errkind.Unsupported {
		kind = errkind.Internal // an unknown kind of a newer peer
	}
	const maxRetry = 24 * time.Hour
	retry := min(time.Duration(min(retryMs, uint64(maxRetry.Milliseconds())))*time.Millisecond, maxRetry)
	return errkind.New(kind, "%s", text).WithRetryAfter(retry)
}

// errClosed is the cause of everything that fails since Close was called here.
var errClosed = errors.New("closed by this process")
