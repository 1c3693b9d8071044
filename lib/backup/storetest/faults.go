package storetest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Action is what goes wrong with a request.
type Action int

// The actions.
const (
	Unavailable  Action = iota // it is answered 503
	Forbidden                  // it is answered 403
	Gone                       // it is answered 410
	BreakRequest               // the connection is closed in the middle of its body
	BreakAnswer                // the connection is closed in the middle of the answer
	LoseAnswer                 // it is done, and the connection is closed instead of an answer
	Hang                       // it is never answered
	Damage                     // a bit of its body changes
)

// Fault says which requests something goes wrong with.
type Fault struct {
	Method string // empty: any
	Arg    string // of the URL; empty: any
	Do     Action
	Times  int // how often; negative: always
}

// Faults is a service with which something goes wrong.
type Faults struct {
	inner  http.Handler
	closed chan struct{}

	mu       sync.Mutex
	faults   []Fault
	requests int
}

// serve starts a service with faults.
func serve(t testing.TB, inner http.Handler) (*Faults, string) {
	t.Helper()
	f := &Faults{inner: inner, closed: make(chan struct{})}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		close(f.closed)
		server.CloseClientConnections()
		server.Close()
	})
	return f, server.URL
}

// Set replaces the faults.
func (f *Faults) Set(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = faults
}

// Left returns how many faults have not happened, without those which happen always.
func (f *Faults) Left() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		n += max(0, fault.Times)
	}
	return n
}

// Requests returns how many have come.
func (f *Faults) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// next returns what goes wrong with a request.
func (f *Faults) next(r *http.Request) (Action, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	i := slices.IndexFunc(f.faults, func(x Fault) bool {
		return x.Times != 0 && (x.Method == "" || x.Method == r.Method) && (x.Arg == "" || strings.Contains(r.URL.RawQuery, x.Arg))
	})
	if i < 0 {
		return 0, false
	}
	f.faults[i].Times--
	return f.faults[i].Do, true
}

// ServeHTTP implements http.Handler.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action, ok := f.next(r)
	if !ok {
		f.inner.ServeHTTP(w, r)
		return
	}
	switch action {
	case Unavailable:
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	case Forbidden:
		http.Error(w, "no", http.StatusForbidden)
	case Gone:
		http.Error(w, "gone", http.StatusGone)
	case BreakRequest:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		panic(http.ErrAbortHandler)
	case BreakAnswer:
		f.inner.ServeHTTP(&breaking{ResponseWriter: w, left: 100_000}, r)
		panic(http.ErrAbortHandler)
	case LoseAnswer:
		f.inner.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-f.closed:
		}
	case Damage:
		data, _ := io.ReadAll(r.Body)
		data[len(data)/2] ^= 1
		r.Body = io.NopCloser(strings.NewReader(string(data)))
		f.inner.ServeHTTP(w, r)
	}
}

// breaking is an answer which breaks off.
type breaking struct {
	http.ResponseWriter
	left int
}

// Write implements http.ResponseWriter.
func (b *breaking) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	if b.left -= n; b.left == 0 || err != nil {
		if fl, ok := b.ResponseWriter.(http.Flusher); ok {
			fl.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return n, nil
}
