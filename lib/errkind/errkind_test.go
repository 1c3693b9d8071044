package errkind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Kind
	}{
		{nil, OK},
		{io.EOF, Internal},
		{context.Canceled, Canceled},
		{fmt.Errorf("cannot wait: %w", context.DeadlineExceeded), Timeout},
		{New(ReadOnly, "cannot write"), ReadOnly},
		{fmt.Errorf("cannot send: %w", New(Overloaded, "queue is full")), Overloaded},
		{New(BadRequest, "cannot parse: %w", New(TooLarge, "body")), BadRequest},
	} {
		if got := Of(tc.err); got != tc.want {
			t.Errorf("Of(%v) = %v; want %v", tc.err, got, tc.want)
		}
	}
}

func TestCauseIsReachable(t *testing.T) {
	err := New(Unavailable, "cannot read frame: %w", io.ErrUnexpectedEOF).WithRetryAfter(3 * time.Second)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("the cause of %v is lost", err)
	}
	if got := RetryAfterOf(fmt.Errorf("cannot insert: %w", err)); got != 3*time.Second {
		t.Fatalf("RetryAfterOf = %v; want 3s", got)
	}
}

func TestEveryKindHasNameAndStatus(t *testing.T) {
	seen := map[string]bool{}
	for k := range Kind(kinds) {
		if seen[k.String()] || k.String() == "" {
			t.Errorf("kind %d has an empty or repeated name %q", k, k)
		}
		seen[k.String()] = true
		if s := k.HTTPStatus(); s < 200 || s > 599 {
			t.Errorf("%v has status %d", k, s)
		}
	}
}
