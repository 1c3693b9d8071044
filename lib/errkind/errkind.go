package errkind

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind classifies an error by what the caller can do about it.
type Kind uint8

// The kinds. Their numbers are part of the RPC protocols.
const (
	// OK is the kind of a nil error.
	OK Kind = 0
	// Internal is a fault of this process; the caller can only report it.
	Internal Kind = 1
	// BadRequest is input which can never succeed: syntax, missing or malformed arguments.
	BadRequest Kind = 2
	// Unprocessable is a well-formed request which cannot be evaluated, or which exceeds a limit.
	Unprocessable Kind = 3
	// TooLarge is a body which exceeds its size limit.
	TooLarge Kind = 4
	// Unauthorized is a missing or wrong credential.
	Unauthorized Kind = 5
	// NotFound is a path or an object which does not exist.
	NotFound Kind = 6
	// MethodNotAllowed is a known path called with a wrong HTTP method.
	MethodNotAllowed Kind = 7
	// Unavailable is a node or service which cannot be reached now; try again or elsewhere.
	Unavailable Kind = 8
	// ReadOnly is a storage node which takes no writes for lack of disk space.
	ReadOnly Kind = 9
	// Draining is a node which is shutting down and takes no new writes.
	Draining Kind = 10
	// Overloaded is a full queue or an exhausted budget; try again later.
	Overloaded Kind = 11
	// Canceled is a request given up by its caller.
	Canceled Kind = 12
	// Timeout is a request which exceeded its deadline.
	Timeout Kind = 13
	// Corrupt is data which fails its checksum or cannot be decoded.
	Corrupt Kind = 14
	// Unsupported is a request which this version does not implement.
	Unsupported Kind = 15

	kinds = 16
)

// names returns the lower-case word for each kind, in numeric order.
func names() [kinds]string {
	return [kinds]string{
		"ok", "internal", "bad request", "unprocessable", "too large", "unauthorized", "not found", "method not allowed",
		"unavailable", "read-only", "draining", "overloaded", "canceled", "timeout", "corrupt", "unsupported",
	}
}

// String returns the kind as a lower-case word.
func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return names()[k]
}

// HTTPStatus returns the one status code which stands for the kind.
func (k Kind) HTTPStatus() int {
	switch k {
	case OK:
		return http.StatusOK
	case BadRequest, NotFound: // an unknown path is answered 400, as users of the field expect
		return http.StatusBadRequest
	case Unprocessable:
		return http.StatusUnprocessableEntity
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case Unauthorized:
		return http.StatusUnauthorized
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case Unavailable, ReadOnly, Draining, Canceled, Timeout:
		return http.StatusServiceUnavailable
	case Overloaded:
		return http.StatusTooManyRequests
	case Unsupported:
		return http.StatusNotImplemented
	default:
		return http.StatusInternalServerError
	}
}

// TryElsewhere reports whether another node may succeed where this one failed.
func (k Kind) TryElsewhere() bool {
	switch k {
	case Unavailable, ReadOnly, Draining, Overloaded, Timeout:
		return true
	}
	return false
}

// Error is an error with a kind and, optionally, a hint when to try again.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // 0 when there is no hint
	msg        string
	cause      error
}

// Error returns the message.
func (e *Error) Error() string { return e.msg }

// Unwrap returns the wrapped cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// New returns an error of the given kind. The format may hold one %w verb.
func New(k Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, msg: err.Error(), cause: errors.Unwrap(err)}
}

// WithRetryAfter sets the hint when to try again and returns e.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// Of returns the kind of the outermost classified error in err's chain. The
// context errors have the kinds Canceled and Timeout. An unclassified error is
// Internal, and nil is OK.
func Of(err error) Kind {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Internal
}

// RetryAfterOf returns the hint of the outermost classified error, or 0.
func RetryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
