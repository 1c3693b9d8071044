package gcsstore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/errkind"
)

// Options say how the service is reached and what objects are written with.
type Options struct {
	objects.Options
	CredsFile string // JSON; empty: where Google's tools look
	Endpoint  string // of an emulator, which wants no credentials, such as http://127.0.0.1:4443; empty: the service
}

// Store is a directory of a bucket.
type Store struct {
	o       Options
	at      objects.Location
	client  *http.Client
	buffers objects.Buffers
}

var _ backup.Store = (*Store)(nil)

const (
	service = "https://storage.googleapis.com"
	scope   = "https://www.googleapis.com/auth/devstorage.read_write"
	// granule divides the length of all chunks of an upload but the last.
	granule = 256 << 10
)

// New returns the store at a location, such as bucket/directory.
func New(ctx context.Context, location string, o Options) (*Store, error) {
	o.SetDefaults()
	o.PartBytes = max(granule, o.PartBytes/granule*granule)
	at, err := objects.ParseLocation(location)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, at: at, client: &http.Client{Transport: objects.NewTransport(&o.Options)}}
	if o.Endpoint != "" {
		return s, nil
	}
	s.o.Endpoint = service
	source, err := o.credentials(context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, s.client))
	if err != nil {
		return nil, err
	}
	s.client = &http.Client{Transport: &oauth2.Transport{Source: source, Base: s.client.Transport}}
	return s, nil
}

// credentials finds credentials. The context lives as long as they do.
func (o *Options) credentials(ctx context.Context) (oauth2.TokenSource, error) {
	if o.CredsFile == "" {
		c, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, errkind.New(errkind.Unauthorized, "cannot find credentials: %w; set GOOGLE_APPLICATION_CREDENTIALS or -credsFilePath to a file with a key, or give the machine or pod a service account", err)
		}
		return c.TokenSource, nil
	}
	data, err := os.ReadFile(o.CredsFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read -credsFilePath: %w", err)
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot read -credsFilePath=%q: it is not JSON as Google writes it", o.CredsFile)
	}
	c, err := google.CredentialsFromJSONWithType(ctx, data, kind.Type, scope)
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot use -credsFilePath=%q: %w", o.CredsFile, err)
	}
	return c.TokenSource, nil
}

// String implements backup.Store.
func (s *Store) String() string { return "gs://" + s.at.String() }

// object is what the service tells of one.
type object struct {
	Name       string `json:"name"`
	Size       int64  `json:"size,string"`
	Generation string `json:"generation"`
	CRC32C     string `json:"crc32c"`
}

// objectURL returns the URL of an object in a bucket.
func (s *Store) objectURL(bucket, name string) string {
	return s.o.Endpoint + "/storage/v1/b/" + url.PathEscape(bucket) + "/o/" + url.PathEscape(name)
}

// list calls visit for all objects whose names begin with a text.
func (s *Store) list(ctx context.Context, prefix string, versions bool, visit func(o object)) error {
	args := url.Values{"prefix": {prefix}, "fields": {"items(name,size,generation),nextPageToken"}}
	if versions {
		args.Set("versions", "true")
	}
	for {
		var page struct {
			Items         []object `json:"items"`
			NextPageToken string   `json:"nextPageToken"`
		}
		target := s.o.Endpoint + "/storage/v1/b/" + url.PathEscape(s.at.Bucket) + "/o?" + args.Encode()
		if err := s.call(ctx, &request{method: http.MethodGet, url: target, answer: &page}); err != nil {
			return err
		}
		for _, o := range page.Items {
			visit(o)
		}
		if page.NextPageToken == "" {
			return nil
		}
		args.Set("pageToken", page.NextPageToken)
	}
}

// List implements backup.Store.
func (s *Store) List(ctx context.Context, visit func(key string, size int64)) error {
	return s.list(ctx, s.at.Prefix(), false, func(o object) {
		if key := s.at.Key(o.Name); key != "" {
			visit(key, o.Size)
		}
	})
}

// Get implements backup.Store.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return objects.NewReader(ctx, &s.o.Options, func(ctx context.Context, offset int64, version string) (objects.Opened, error) {
		r := &request{method: http.MethodGet, url: s.objectURL(s.at.Bucket, s.at.Name(key)) + "?alt=media", header: http.Header{}, stream: true}
		if offset > 0 {
			r.url += "&generation=" + url.QueryEscape(version)
			r.header.Set("Range", objects.RangeFrom(offset))
		}
		resp, err := s.do(ctx, r)
		if err != nil {
			return objects.Opened{}, err
		}
		if resp.ContentLength < 0 || offset > 0 && resp.StatusCode != http.StatusPartialContent {
			_ = resp.Body.Close() // it is of no use
			return objects.Opened{}, errkind.New(errkind.Internal, "the service does not say how long object %q is, or does not answer what was asked for", key)
		}
		return objects.Opened{Body: resp.Body, Size: offset + resp.ContentLength, Version: resp.Header.Get("X-Goog-Generation")}, nil
	})
}

// Delete implements backup.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	name := s.at.Name(key)
	if !s.o.DeleteAllVersions {
		return s.delete(ctx, name, "")
	}
	var generations []string
	err := s.list(ctx, name, true, func(o object) {
		if o.Name == name {
			generations = append(generations, o.Generation)
		}
	})
	for _, g := range generations {
		if err == nil {
			err = s.delete(ctx, name, "?generation="+url.QueryEscape(g))
		}
	}
	return err
}

func (s *Store) delete(ctx context.Context, name, args string) error {
	err := s.call(ctx, &request{method: http.MethodDelete, url: s.objectURL(s.at.Bucket, name) + args})
	if errkind.Of(err) == errkind.NotFound {
		return nil
	}
	return err
}

// CopyFrom implements backup.Store. The service copies any size, and asks to be called again when it takes long.
func (s *Store) CopyFrom(ctx context.Context, from backup.Store, key string, size int64) (bool, error) {
	origin, ok := from.(*Store)
	if !ok || origin.o.Endpoint != s.o.Endpoint {
		return false, nil
	}
	target := s.objectURL(origin.at.Bucket, origin.at.Name(key)) + "/rewriteTo" + strings.TrimPrefix(s.objectURL(s.at.Bucket, s.at.Name(key)), s.o.Endpoint+"/storage/v1")
	var body [][]byte
	if len(s.o.Metadata) > 0 {
		body = [][]byte{s.describe(s.at.Name(key), "")}
	}
	for args := ""; ; {
		var answer struct {
			Done         bool   `json:"done"`
			RewriteToken string `json:"rewriteToken"`
			Resource     object `json:"resource"`
		}
		err := s.call(ctx, &request{method: http.MethodPost, url: target + args, header: http.Header{"Content-Type": {"application/json"}}, body: body, answer: &answer})
		switch {
		case err != nil:
			return false, err
		case answer.Done && answer.Resource.Size != size:
			return false, errkind.New(errkind.Corrupt, "%d bytes have been copied, not %d", answer.Resource.Size, size)
		case answer.Done:
			return true, nil
		case answer.RewriteToken == "":
			return false, errkind.New(errkind.Internal, "the service says neither that the copy is done nor how to go on")
		}
		args = "?rewriteToken=" + url.QueryEscape(answer.RewriteToken)
	}
}

// describe returns what an object is to have besides its bytes.
func (s *Store) describe(name, crc string) []byte {
	data, err := json.Marshal(map[string]any{"name": name, "contentType": contentType, "crc32c": omitEmpty(crc), "metadata": s.o.Metadata})
	if err != nil {
		panic(err) // texts only
	}
	return data
}

const contentType = "application/octet-stream"

func omitEmpty(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// encodeCRC returns a checksum as the service writes it.
func encodeCRC(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// received returns how many bytes of an upload the service has, of its answer that it wants more.
func received(h http.Header) (int64, error) {
	text := h.Get("Range")
	if text == "" {
		return 0, nil
	}
	last, err := strconv.ParseInt(strings.TrimPrefix(text, "bytes=0-"), 10, 64)
	if err != nil || last < 0 || last == math.MaxInt64 {
		return 0, errkind.New(errkind.Internal, "the service says that it has received %q", text)
	}
	return last + 1, nil
}
