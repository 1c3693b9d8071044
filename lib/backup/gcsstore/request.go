package gcsstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"vmcluster/lib/backup/objects"
	"vmcluster/lib/errkind"
)

// request is one of the API.
type request struct {
	method, url string
	header      http.Header
	body        [][]byte      // one behind the other
	part        *objects.Part // of which the body is, if any
	answer      any           // which the body of the answer is decoded into
	stream      bool          // the caller reads the body, and closes it
}

// resumeIncomplete is the status of an upload which goes on.
const resumeIncomplete = http.StatusPermanentRedirect

// do sends a request, again while the service is in trouble.
func (s *Store) do(ctx context.Context, r *request) (*http.Response, error) {
	for failed := 1; ; failed++ {
		resp, again, err := s.try(ctx, r)
		switch {
		case err == nil:
			return resp, nil
		case ctx.Err() != nil || !again || failed >= s.o.Attempts:
			return nil, err
		}
		if err := s.o.Pause(ctx, failed); err != nil {
			return nil, err
		}
	}
}

// call sends a request of whose answer only the body matters.
func (s *Store) call(ctx context.Context, r *request) error {
	resp, err := s.do(ctx, r)
	if err != nil {
		return err
	}
	return resp.Body.Close() // once more
}

// try sends a request once, and tells whether it may be tried again when it fails.
func (s *Store) try(ctx context.Context, r *request) (_ *http.Response, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		return nil, false, err
	}
	if len(r.body) > 0 {
		var readers []io.Reader
		for _, b := range r.body {
			if r.part != nil {
				readers = append(readers, r.part.Reader(b))
			} else {
				readers = append(readers, bytes.NewReader(b))
			}
			req.ContentLength += int64(len(b))
		}
		req.Body = io.NopCloser(io.MultiReader(readers...))
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, retriable(err), s.explainTransport(err)
	}
	if r.stream && resp.StatusCode < http.StatusMultipleChoices {
		return resp, false, nil
	}
	data, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it has been read
	switch {
	case err != nil:
		return nil, true, fmt.Errorf("cannot read the answer: %w", err)
	case resp.StatusCode == resumeIncomplete:
		return resp, false, nil
	case resp.StatusCode >= http.StatusMultipleChoices:
		return nil, passing(resp.StatusCode), s.explain(resp, data)
	case r.answer != nil && len(data) > 0:
		if err := json.Unmarshal(data, r.answer); err != nil {
			return nil, false, fmt.Errorf("cannot understand the answer to %s: %w", r.method, err)
		}
	}
	return resp, false, nil
}

// passing reports whether the same request may succeed later.
func passing(status int) bool {
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, status)
}

// retriable reports whether a request without an answer may be sent again: not if there is no token for it.
func retriable(err error) bool {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	return !ok || e.Response == nil || passing(e.Response.StatusCode)
}

func (s *Store) explainTransport(err error) error {
	if _, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return errkind.New(errkind.Unauthorized, "the credentials are not accepted; check -credsFilePath or GOOGLE_APPLICATION_CREDENTIALS, and the clock of this machine: %w", err)
	}
	return err
}

// refusal is an answer of the service that it has not done what was asked.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("the service answers %d: %s", r.status, r.text) }

// explain says what to do about an answer.
func (s *Store) explain(resp *http.Response, data []byte) error {
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	cause := &refusal{status: resp.StatusCode, text: string(data[:min(len(data), 300)])}
	if json.Unmarshal(data, &body) == nil && body.Error.Message != "" {
		cause.text = body.Error.Message
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		// Nothing else in the answer tells which of both is missing.
		if strings.Contains(cause.text, "specified bucket") {
			return errkind.New(errkind.BadRequest, "there is no bucket %q; create it, or correct its name: %w", s.at.Bucket, cause)
		}
		return errkind.New(errkind.NotFound, "there is no such object in bucket %q: %w", s.at.Bucket, cause)
	case http.StatusUnauthorized:
		return errkind.New(errkind.Unauthorized, "the credentials are not accepted; check -credsFilePath or GOOGLE_APPLICATION_CREDENTIALS: %w", cause)
	case http.StatusForbidden:
		return errkind.New(errkind.Unauthorized, "the account lacks a permission for bucket %q; docs/backups.md has the role that is needed: %w", s.at.Bucket, cause)
	}
	return cause
}
