package storetest

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Azure is a service which speaks the protocol of Azure Blob Storage, as far as a store needs it. It does not check signatures.
type Azure struct {
	*Faults
	Connection string // for AZURE_STORAGE_ACCOUNT_CONNECTION_STRING

	mu         sync.Mutex
	containers map[string]map[string]*azureBlob
	blocks     map[string][]byte // by container/name/id
	last       int
	page       int
	Unchecked  int // bodies without a checksum
}

type azureBlob struct {
	data     []byte
	etag     string
	metadata string
	copying  int // how often it is asked for until it is there
	copyID   string
}

// AzureKey is the key of the account, in base64.
const AzureKey = "c2VjcmV0c2VjcmV0c2VjcmV0"

// NewAzure starts the service with containers. It answers lists in pages.
func NewAzure(t testing.TB, page int, containers ...string) *Azure {
	t.Helper()
	a := &Azure{containers: map[string]map[string]*azureBlob{}, blocks: map[string][]byte{}, page: page}
	for _, c := range containers {
		a.containers[c] = map[string]*azureBlob{}
	}
	var target string
	a.Faults, target = serve(t, http.HandlerFunc(a.serve))
	a.Connection = "DefaultEndpointsProtocol=http;AccountName=account;AccountKey=" + AzureKey + ";BlobEndpoint=" + target + "/account"
	return a
}

// Metadata returns what a blob has been given, of one name.
func (a *Azure) Metadata(container, name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.containers[container][name]; b != nil {
		return b.metadata
	}
	return ""
}

// Stall makes a blob look like a copy which is not complete.
func (a *Azure) Stall(container, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.containers[container][name].copying = 1 << 30
}

func azureError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("x-ms-error-code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>no</Message></Error>", code)
}

func (a *Azure) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	container, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/account/"), "/")
	blobs, ok := a.containers[container]
	switch args := r.URL.Query(); {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey account:"):
		azureError(w, http.StatusForbidden, "AuthenticationFailed")
	case !ok:
		azureError(w, http.StatusNotFound, "ContainerNotFound")
	case args.Get("comp") == "list":
		a.list(w, args, blobs)
	case r.Method == http.MethodPut:
		a.put(w, r, container+"/"+name, body)
	case blobs[name] == nil:
		azureError(w, http.StatusNotFound, "BlobNotFound")
	case r.Method == http.MethodDelete:
		delete(blobs, name)
		w.WriteHeader(http.StatusAccepted)
	default:
		a.get(w, r, blobs[name])
	}
}

func (a *Azure) get(w http.ResponseWriter, r *http.Request, b *azureBlob) {
	if b.copyID != "" {
		w.Header().Set("x-ms-copy-id", b.copyID)
		w.Header().Set("x-ms-copy-status", b.copyStatus())
		b.copying = max(0, b.copying-1)
	}
	if want := r.Header.Get("If-Match"); want != "" && want != b.etag {
		azureError(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	if given := r.Header.Get("x-ms-range"); given != "" {
		r.Header.Set("Range", given)
	}
	w.Header().Set("ETag", b.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.data))
}

func (b *azureBlob) copyStatus() string {
	if b.copying > 0 {
		return "pending"
	}
	return "success"
}

type azureItem struct {
	Name       string
	Properties struct {
		Length     int    `xml:"Content-Length"`
		CopyStatus string `xml:",omitempty"`
	}
}

func (a *Azure) list(w http.ResponseWriter, args url.Values, blobs map[string]*azureBlob) {
	var answer struct {
		XMLName    xml.Name    `xml:"EnumerationResults"`
		Blobs      []azureItem `xml:"Blobs>Blob"`
		NextMarker string
	}
	var names []string
	for name := range blobs {
		if strings.HasPrefix(name, args.Get("prefix")) && name > args.Get("marker") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) > a.page {
		names = names[:a.page]
		answer.NextMarker = names[a.page-1]
	}
	for _, name := range names {
		item := azureItem{Name: name}
		item.Properties.Length = len(blobs[name].data)
		if blobs[name].copying > 0 && strings.Contains(args.Get("include"), "copy") {
			item.Properties.CopyStatus = blobs[name].copyStatus()
		}
		answer.Blobs = append(answer.Blobs, item)
	}
	w.Header().Set("Content-Type", "application/xml")
	data, err := xml.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(append([]byte(xml.Header), data...))
}

// sound reports whether a body has the checksum it should have.
func (a *Azure) sound(r *http.Request, body []byte) bool {
	given := r.Header.Get("Content-MD5")
	if given == "" {
		a.Unchecked++
		return true
	}
	sum := md5.Sum(body)
	return given == base64.StdEncoding.EncodeToString(sum[:])
}

func (a *Azure) put(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	args := r.URL.Query()
	switch source := r.Header.Get("x-ms-copy-source"); {
	case source != "":
		a.copy(w, r, path, source)
	case args.Get("comp") == "blocklist":
		a.commit(w, r, path, body)
	case !a.sound(r, body):
		azureError(w, http.StatusBadRequest, "Md5Mismatch")
	case args.Get("comp") == "block":
		a.blocks[path+"/"+args.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case r.Header.Get("x-ms-blob-type") == "BlockBlob":
		a.store(w, r, path, body)
	default:
		azureError(w, http.StatusBadRequest, "InvalidHeaderValue")
	}
}

func (a *Azure) store(w http.ResponseWriter, r *http.Request, path string, data []byte) {
	container, name, _ := strings.Cut(path, "/")
	a.last++
	a.containers[container][name] = &azureBlob{data: data, etag: strconv.Quote(strconv.Itoa(a.last)), metadata: r.Header.Get("x-ms-meta-team")}
	w.Header().Set("ETag", a.containers[container][name].etag)
	w.WriteHeader(http.StatusCreated)
}

func (a *Azure) commit(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	var list struct {
		Latest []string `xml:"Latest"`
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		azureError(w, http.StatusBadRequest, "InvalidXmlDocument")
		return
	}
	var data []byte
	for _, id := range list.Latest {
		block, ok := a.blocks[path+"/"+id]
		if !ok {
			azureError(w, http.StatusBadRequest, "InvalidBlockList")
			return
		}
		data = append(data, block...)
	}
	a.store(w, r, path, data)
}

func (a *Azure) copy(w http.ResponseWriter, r *http.Request, path, source string) {
	u, err := url.Parse(source)
	if err != nil {
		azureError(w, http.StatusBadRequest, "InvalidHeaderValue")
		return
	}
	container, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/account/"), "/")
	from := a.containers[container][name]
	if from == nil {
		azureError(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	container, name, _ = strings.Cut(path, "/")
	a.last++
	id := strconv.Itoa(a.last)
	a.containers[container][name] = &azureBlob{data: from.data, etag: strconv.Quote(id), copying: 2, copyID: id, metadata: r.Header.Get("x-ms-meta-team")}
	w.Header().Set("x-ms-copy-id", id)
	w.Header().Set("x-ms-copy-status", "pending")
	w.WriteHeader(http.StatusAccepted)
}
