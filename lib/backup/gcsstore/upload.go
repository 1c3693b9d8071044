package gcsstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"vmcluster/lib/backup/objects"
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// uploads is how often an object is begun: the service may forget one under way.
const uploads = 3

// Put implements backup.Store.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) (err error) {
	name := s.at.Name(key)
	for range uploads {
		if size <= s.o.PartBytes {
			return s.buffers.Each(body, size, size, func(p objects.Part) error { return s.putWhole(ctx, name, &p) })
		}
		if err = s.putInChunks(ctx, name, body, size); !errors.Is(err, errForgotten) {
			return err
		}
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return err
}

func (s *Store) uploadURL(kind, name string) string {
	return s.o.Endpoint + "/upload/storage/v1/b/" + url.PathEscape(s.at.Bucket) + "/o?" + url.Values{"uploadType": {kind}, "name": {name}}.Encode()
}

// putWhole sends an object in one request.
func (s *Store) putWhole(ctx context.Context, name string, p *objects.Part) error {
	crc, boundary := codec.Checksum(p.Bytes), rand.Text() // a boundary which is not in the data
	head := "--" + boundary + "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + string(s.describe(name, encodeCRC(crc))) +
		"\r\n--" + boundary + "\r\nContent-Type: " + contentType + "\r\n\r\n"
	var made object
	err := s.call(ctx, &request{
		method: http.MethodPost, url: s.uploadURL("multipart", name), header: http.Header{"Content-Type": {"multipart/related; boundary=" + boundary}},
		body: [][]byte{[]byte(head), p.Bytes, []byte("\r\n--" + boundary + "--")}, part: p, answer: &made,
	})
	if err != nil {
		return err
	}
	return s.compare(ctx, &made, crc)
}

// compare refuses an object which is not what was sent.
func (s *Store) compare(ctx context.Context, made *object, crc uint32) error {
	if made.CRC32C == encodeCRC(crc) {
		return nil
	}
	err := errkind.New(errkind.Corrupt, "the service has an object with the checksum %q, not %q: bytes have changed on their way, check memory and network of this machine", made.CRC32C, encodeCRC(crc))
	return errors.Join(err, s.delete(ctx, made.Name, ""))
}

// errForgotten tells that the service knows nothing of an upload it has begun.
var errForgotten = errors.New("the service has forgotten the upload")

// session is an object which is sent in chunks.
type session struct {
	s    *Store
	url  string
	size int64
	crc  uint32
}

func (s *Store) putInChunks(ctx context.Context, name string, body io.Reader, size int64) error {
	begun, err := s.do(ctx, &request{ //nolint:bodyclose // it has been read
		method: http.MethodPost, url: s.uploadURL("resumable", name), body: [][]byte{s.describe(name, "")},
		header: http.Header{"Content-Type": {"application/json; charset=UTF-8"}, "X-Upload-Content-Type": {contentType}, "X-Upload-Content-Length": {strconv.FormatInt(size, 10)}},
	})
	if err != nil {
		return err
	}
	u := &session{s: s, url: begun.Header.Get("Location"), size: size}
	if u.url == "" {
		return errkind.New(errkind.Internal, "the service does not say where to send an object to")
	}
	var made object
	err = s.buffers.Each(body, size, s.o.PartBytes, func(p objects.Part) error {
		u.crc = codec.UpdateChecksum(u.crc, p.Bytes)
		return u.send(ctx, p, &made)
	})
	if err != nil {
		return errors.Join(err, u.withdraw(ctx, err))
	}
	return s.compare(ctx, &made, u.crc)
}

// withdraw lets the service forget what it has of an object that will not be completed. If it does not, it forgets by itself after a week.
func (u *session) withdraw(ctx context.Context, cause error) error {
	if errors.Is(cause, errForgotten) || ctx.Err() != nil {
		return nil
	}
	_, _, _ = u.s.try(ctx, &request{method: http.MethodDelete, url: u.url}) //nolint:bodyclose // it has been read
	return nil
}

// send sends a chunk. When a request fails, the service is asked how much it has, and gets the rest.
func (u *session) send(ctx context.Context, p objects.Part, made *object) error {
	rest, failed := p, 0
	for {
		resp, again, err := u.sendOnce(ctx, rest, made) //nolint:bodyclose // it has been read
		for err != nil {
			if failed++; !again || ctx.Err() != nil || failed >= u.s.o.Attempts {
				return forgotten(err)
			}
			if err := u.s.o.Pause(ctx, failed); err != nil {
				return err
			}
			resp, again, err = u.ask(ctx, made) //nolint:bodyclose // it has been read
		}
		if resp.StatusCode != resumeIncomplete {
			return nil // the object is there
		}
		has, err := received(resp.Header)
		switch end := p.Offset + int64(len(p.Bytes)); {
		case err != nil:
			return err
		case has == end && !p.Last:
			return nil
		case has < rest.Offset || has > end:
			return errkind.New(errkind.Internal, "the service has %d bytes after it was sent those up to %d", has, end)
		case has == rest.Offset: // nothing of it was taken
			if failed++; failed >= u.s.o.Attempts {
				return errkind.New(errkind.Unavailable, "the service takes nothing behind byte %d of %d", has, u.size)
			}
		}
		rest.Bytes, rest.Offset = p.Bytes[has-p.Offset:], has
	}
}

func forgotten(err error) error {
	if errkind.Of(err) == errkind.NotFound {
		return fmt.Errorf("%w: %w", errForgotten, err)
	}
	if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusGone {
		return fmt.Errorf("%w: %w", errForgotten, err)
	}
	return err
}

func (u *session) sendOnce(ctx context.Context, p objects.Part, made *object) (*http.Response, bool, error) {
	h := http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", p.Offset, p.Offset+int64(len(p.Bytes))-1, u.size)}}
	if len(p.Bytes) == 0 { // it has all bytes, but has not made an object of them
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", u.size))
	}
	if p.Last {
		h.Set("X-Goog-Hash", "crc32c="+encodeCRC(u.crc))
	}
	return u.s.try(ctx, &request{method: http.MethodPut, url: u.url, header: h, body: [][]byte{p.Bytes}, part: &p, answer: made})
}

// ask asks how much the service has.
func (u *session) ask(ctx context.Context, made *object) (*http.Response, bool, error) {
	return u.s.try(ctx, &request{method: http.MethodPut, url: u.url, header: http.Header{"Content-Range": {fmt.Sprintf("bytes */%d", u.size)}}, answer: made})
}
