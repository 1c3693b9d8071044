package fileurl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// IsURL reports whether a text is read as a URL.
func IsURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// Read returns what is in a file or at a URL; more than the given number of bytes is an error. The context bounds the time of a request. Errors do not
// show a URL, which may hold a password.
func Read(ctx context.Context, path string, most int) (data []byte, err error) {
	in, err := open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	data, err = io.ReadAll(io.LimitReader(in, int64(most)+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return data, err
}

func open(ctx context.Context, path string) (io.ReadCloser, error) {
	if !IsURL(path) {
		return os.Open(path)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Close = true // the next look comes much later
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // the status says what is wrong
		return nil, fmt.Errorf("the answer has status %s", resp.Status)
	}
	return resp.Body, nil
}

func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
