package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/codec"
)

// GCS is a service which speaks the JSON API of Google Cloud Storage, as far as a store needs it.
type GCS struct {
	*Faults
	URL string

	mu       sync.Mutex
	buckets  map[string]map[string]*gcsObject
	sessions map[string]*gcsSession
	last     int64
	page     int
	rewrites map[string]bool // tokens
}

type gcsObject struct {
	data       []byte
	generation int64
	metadata   map[string]string
}

type gcsSession struct {
	bucket, name string
	size         int64
	data         []byte
	metadata     map[string]string
}

// NewGCS starts the service with buckets. It answers lists in pages.
func NewGCS(t testing.TB, page int, buckets ...string) *GCS {
	t.Helper()
	g := &GCS{buckets: map[string]map[string]*gcsObject{}, sessions: map[string]*gcsSession{}, page: page, rewrites: map[string]bool{}}
	for _, b := range buckets {
		g.buckets[b] = map[string]*gcsObject{}
	}
	g.Faults, g.URL = serve(t, http.HandlerFunc(g.serve))
	return g
}

// Metadata returns what an object has been given.
func (g *GCS) Metadata(bucket, name string) map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if o := g.buckets[bucket][name]; o != nil {
		return o.metadata
	}
	return nil
}

// Forget drops all uploads which are under way.
func (g *GCS) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.sessions)
}

func gcsError(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "message": text}})
}

func (g *GCS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	path := r.URL.EscapedPath()
	if id := r.URL.Query().Get("upload_id"); id != "" {
		g.chunk(w, r, id, body)
		return
	}
	path, isUpload := strings.CutPrefix(path, "/upload")
	path, ok := strings.CutPrefix(path, "/storage/v1/b/")
	if !ok {
		gcsError(w, http.StatusNotFound, "Not Found")
		return
	}
	var parts []string
	for e := range strings.SplitSeq(path, "/") {
		e, _ = url.PathUnescape(e)
		parts = append(parts, e)
	}
	objects, ok := g.buckets[parts[0]]
	switch {
	case !ok:
		gcsError(w, http.StatusNotFound, "The specified bucket does not exist.")
	case isUpload:
		g.upload(w, r, parts[0], body)
	case len(parts) == 2:
		g.list(w, r, objects)
	case len(parts) == 8:
		g.rewrite(w, r, parts, body)
	case r.Method == http.MethodGet:
		g.get(w, r, objects[parts[2]])
	case r.Method == http.MethodDelete && objects[parts[2]] != nil:
		delete(objects, parts[2])
		w.WriteHeader(http.StatusNoContent)
	default:
		gcsError(w, http.StatusNotFound, "No such object: "+path)
	}
}

func (g *GCS) get(w http.ResponseWriter, r *http.Request, o *gcsObject) {
	want := r.URL.Query().Get("generation")
	if o == nil || want != "" && want != strconv.FormatInt(o.generation, 10) {
		gcsError(w, http.StatusNotFound, "No such object")
		return
	}
	w.Header().Set("X-Goog-Generation", strconv.FormatInt(o.generation, 10))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.data))
}

func resource(name string, o *gcsObject) map[string]any {
	crc := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, codec.Checksum(o.data)))
	return map[string]any{"name": name, "size": strconv.Itoa(len(o.data)), "generation": strconv.FormatInt(o.generation, 10), "crc32c": crc}
}

func (g *GCS) list(w http.ResponseWriter, r *http.Request, objects map[string]*gcsObject) {
	args := r.URL.Query()
	var names []string
	for name := range objects {
		if strings.HasPrefix(name, args.Get("prefix")) && name > args.Get("pageToken") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	answer := map[string]any{}
	if len(names) > g.page {
		names = names[:g.page]
		answer["nextPageToken"] = names[g.page-1]
	}
	var items []any
	for _, name := range names {
		items = append(items, resource(name, objects[name]))
	}
	answer["items"] = items
	_ = json.NewEncoder(w).Encode(answer)
}

type description struct {
	Name     string            `json:"name"`
	CRC32C   string            `json:"crc32c"`
	Metadata map[string]string `json:"metadata"`
}

func (g *GCS) upload(w http.ResponseWriter, r *http.Request, bucket string, body []byte) {
	var d description
	name := r.URL.Query().Get("name")
	if r.URL.Query().Get("uploadType") == "resumable" {
		size, err := strconv.ParseInt(r.Header.Get("X-Upload-Content-Length"), 10, 64)
		if err != nil || json.Unmarshal(body, &d) != nil {
			gcsError(w, http.StatusBadRequest, "bad upload")
			return
		}
		g.last++
		id := strconv.FormatInt(g.last, 10)
		g.sessions[id] = &gcsSession{bucket: bucket, name: name, size: size, metadata: d.Metadata}
		w.Header().Set("Location", g.URL+"/upload/session?upload_id="+id)
		return
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		gcsError(w, http.StatusBadRequest, err.Error())
		return
	}
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	head, err := reader.NextPart()
	if err == nil {
		err = json.NewDecoder(head).Decode(&d)
	}
	var data []byte
	if err == nil {
		if head, err = reader.NextPart(); err == nil {
			data, err = io.ReadAll(head)
		}
	}
	if err != nil {
		gcsError(w, http.StatusBadRequest, err.Error())
		return
	}
	g.store(w, &gcsSession{bucket: bucket, name: name, data: data, metadata: d.Metadata}, d.CRC32C)
}

// store makes an object.
func (g *GCS) store(w http.ResponseWriter, s *gcsSession, crc string) {
	g.last++
	o := &gcsObject{data: s.data, generation: g.last, metadata: s.metadata}
	answer := resource(s.name, o)
	if crc != answer["crc32c"] {
		gcsError(w, http.StatusBadRequest, fmt.Sprintf("Provided CRC32C %q doesn't match calculated CRC32C %q.", crc, answer["crc32c"]))
		return
	}
	g.buckets[s.bucket][s.name] = o
	_ = json.NewEncoder(w).Encode(answer)
}

func (g *GCS) chunk(w http.ResponseWriter, r *http.Request, id string, body []byte) {
	s := g.sessions[id]
	if s == nil {
		gcsError(w, http.StatusNotFound, "No such upload")
		return
	}
	if r.Method == http.MethodDelete {
		delete(g.sessions, id)
		w.WriteHeader(499)
		return
	}
	var from, to, size int64
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size); err == nil {
		whole := to+1 == size
		if from != int64(len(s.data)) || size != s.size || to-from+1 != int64(len(body)) || !whole && len(body)%(256<<10) != 0 {
			gcsError(w, http.StatusBadRequest, "bad range "+r.Header.Get("Content-Range"))
			return
		}
		if !whole && len(body) > 256<<10 {
			body = body[:256<<10] // a service may take less than it gets
		}
		s.data = append(s.data, body...)
	}
	if int64(len(s.data)) < s.size {
		if len(s.data) > 0 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(s.data)-1))
		}
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	crc, ok := strings.CutPrefix(r.Header.Get("X-Goog-Hash"), "crc32c=")
	if !ok { // it has been lost with the answer, which the client has asked for again
		crc = resource(s.name, &gcsObject{data: s.data})["crc32c"].(string)
	}
	g.store(w, s, crc)
}

// rewrite copies an object, for which it wants to be asked twice.
func (g *GCS) rewrite(w http.ResponseWriter, r *http.Request, parts []string, body []byte) {
	o, token := g.buckets[parts[0]][parts[2]], r.URL.Query().Get("rewriteToken")
	to, ok := g.buckets[parts[5]]
	switch {
	case o == nil || !ok:
		gcsError(w, http.StatusNotFound, "No such object")
	case token == "":
		g.last++
		token = fmt.Sprintf("token/%d", g.last)
		g.rewrites[token] = true
		_ = json.NewEncoder(w).Encode(map[string]any{"done": false, "rewriteToken": token})
	case !g.rewrites[token]:
		gcsError(w, http.StatusBadRequest, "Invalid token")
	default:
		var d description
		_ = json.Unmarshal(body, &d) // there may be none
		g.last++
		to[parts[7]] = &gcsObject{data: o.data, generation: g.last, metadata: d.Metadata}
		_ = json.NewEncoder(w).Encode(map[string]any{"done": true, "resource": resource(parts[7], to[parts[7]])})
	}
}
