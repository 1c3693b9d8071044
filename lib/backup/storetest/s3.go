package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"vmcluster/lib/codec"
)

// S3 is a service which speaks the protocol of S3 and has a bucket. What gofakes3 lacks is added: checksums of bodies, and copies of ranges.
type S3 struct {
	*Faults
	URL    string
	Bucket string

	Unchecked atomic.Int64 // bodies without a checksum

	backend *s3mem.Backend
	inner   http.Handler

	mu        sync.Mutex
	region    string
	described []http.Header
}

// NewS3 starts the service. It ends with the test.
func NewS3(t testing.TB, bucket string) *S3 {
	t.Helper()
	s := &S3{Bucket: bucket, backend: s3mem.New()}
	if err := s.backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	s.inner = gofakes3.New(s.backend, gofakes3.WithHostBucketBase("s3.test")).Server()
	s.Faults, s.URL = serve(t, http.HandlerFunc(s.serve))
	return s
}

// Versions makes the bucket keep versions, and returns how many there are of an object.
func (s *S3) Versions(t testing.TB, name string) int {
	t.Helper()
	list, err := s.backend.ListBucketVersions(s.Bucket, &gofakes3.Prefix{HasPrefix: true, Prefix: name}, &gofakes3.ListBucketVersionsPage{})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Versions)
}

// KeepVersions makes the bucket keep the versions of objects.
func (s *S3) KeepVersions(t testing.TB) {
	t.Helper()
	if err := s.backend.SetVersioningConfiguration(s.Bucket, gofakes3.VersioningConfiguration{Status: gofakes3.VersioningEnabled}); err != nil {
		t.Fatal(err)
	}
}

// SetRegion sets where the service says it is.
func (s *S3) SetRegion(region string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.region = region
}

// Described returns the headers of all requests that have said what an object is to be.
func (s *S3) Described() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.described
}

func (s *S3) note(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.region != "" {
		w.Header().Set("X-Amz-Bucket-Region", s.region)
	}
	if args := r.URL.Query(); r.Method == http.MethodPut && !args.Has("partNumber") || args.Has("uploads") && r.Method == http.MethodPost {
		s.described = append(s.described, r.Header.Clone())
	}
}

func (s *S3) serve(w http.ResponseWriter, r *http.Request) {
	s.note(w, r)
	switch {
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "" && r.URL.Query().Has("partNumber"):
		s.copyRange(w, r)
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") == "":
		s.put(w, r)
	default:
		s.inner.ServeHTTP(w, r)
	}
}

// put compares the body with the checksum that comes with it.
func (s *S3) put(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, codec.Checksum(data)))
	switch given := r.Header.Get("X-Amz-Checksum-Crc32c"); given {
	case sum:
	case "":
		s.Unchecked.Add(1)
	default:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "<Error><Code>BadDigest</Code><Message>the checksum is another</Message></Error>")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	s.inner.ServeHTTP(w, r)
}

// copyRange makes a part of an upload of a range of an object.
func (s *S3) copyRange(w http.ResponseWriter, r *http.Request) {
	source, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var from, to int64
	if _, err := fmt.Sscanf(r.Header.Get("X-Amz-Copy-Source-Range"), "bytes=%d-%d", &from, &to); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	bucket, name, _ := strings.Cut(source, "/")
	object, err := s.backend.GetObject(bucket, name, &gofakes3.ObjectRangeRequest{Start: from, End: to})
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	r.Header.Del("X-Amz-Copy-Source")
	r.Body, r.ContentLength = object.Contents, to-from+1
	r.Header.Set("Content-Length", fmt.Sprint(r.ContentLength))
	answer := httptest.NewRecorder()
	s.inner.ServeHTTP(answer, r)
	if answer.Code != http.StatusOK {
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	_, _ = fmt.Fprintf(w, "<CopyPartResult><ETag>%s</ETag></CopyPartResult>", answer.Header().Get("ETag"))
}
