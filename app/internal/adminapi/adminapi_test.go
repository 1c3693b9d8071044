package adminapi

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
)

// admin records the calls; merges wait until they are cancelled.
type admin struct {
	flushed  int
	flushErr error
	merged   chan string
}

func (a *admin) Flush(context.Context) error { a.flushed++; return a.flushErr }

func (a *admin) Merge(ctx context.Context, prefix string) error {
	a.merged <- prefix
	<-ctx.Done()
	return ctx.Err()
}

func request(t *testing.T, api *API, path string) (int, bool) {
	t.Helper()
	w := httptest.NewRecorder()
	handled := api.Handle(w, httptest.NewRequest("GET", path, nil))
	return w.Code, handled
}

func TestRoutes(t *testing.T) {
	backend := &admin{merged: make(chan string, 1)}
	api := New(Options{Config: &Config{ForceMergeAuthKey: "k"}, Admin: backend, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if code, handled := request(t, api, "/internal/force_flush"); code != 200 || !handled || backend.flushed != 1 {
		t.Errorf("flush: %d %v, %d calls", code, handled, backend.flushed)
	}
	backend.flushErr = errors.New("disk is gone")
	if code, _ := request(t, api, "/internal/force_flush"); code != 500 {
		t.Errorf("a failed flush answers %d", code)
	}
	if code, _ := request(t, api, "/internal/force_merge"); code != 401 {
		t.Errorf("a merge without key answers %d", code)
	}
	if code, _ := request(t, api, "/internal/force_merge?authKey=k&partition_prefix=2026_"); code != 200 {
		t.Errorf("a merge answers %d", code)
	}
	if prefix := <-backend.merged; prefix != "2026_" {
		t.Errorf("merged %q", prefix)
	}
	if _, handled := request(t, api, "/internal/nosuch"); handled {
		t.Error("an unknown path was taken")
	}
	if err := api.Close(); err != nil { // hangs unless it cancels the merge
		t.Error(err)
	}
}
