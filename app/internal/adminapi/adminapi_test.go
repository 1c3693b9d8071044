package adminapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
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

// maintenance keeps snapshots in memory.
type maintenance struct {
	names []string
	err   error
}

func (m *maintenance) CreateSnapshot(context.Context) (string, error) {
	if m.err != nil {
		return "", m.err
	}
	m.names = append(m.names, fmt.Sprintf("snapshot-%d", len(m.names)))
	return m.names[len(m.names)-1], nil
}

func (m *maintenance) Snapshots(context.Context) ([]string, error) { return m.names, m.err }

func (m *maintenance) DeleteSnapshot(_ context.Context, name string) error {
	i := slices.Index(m.names, name)
	if i < 0 {
		return errkind.New(errkind.NotFound, "cannot find snapshot %q", name)
	}
	m.names = slices.Delete(slices.Clone(m.names), i, i+1)
	return m.err
}

func (m *maintenance) LogNewSeries(d time.Duration) time.Time { return time.Unix(1794268800, 5).Add(d) }

func TestSnapshotRoutes(t *testing.T) {
	backend := &maintenance{}
	set := metrics.NewSet()
	api := New(Options{Config: &Config{}, Admin: &admin{}, Maintenance: backend, Logger: logger.Discard(), Metrics: set})
	defer api.Close()
	ask := func(path string, status int, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		if !api.Handle(w, httptest.NewRequest("GET", path, nil)) || w.Code != status || w.Body.String() != want {
			t.Errorf("%s: status %d, %s; want %d, %s", path, w.Code, w.Body, status, want)
		}
	}
	ask("/snapshot/list", 200, `{"status":"ok","snapshots":[]}`)
	ask("/snapshot/create", 200, `{"status":"ok","snapshot":"snapshot-0"}`)
	ask("/api/v1/admin/tsdb/snapshot", 200, `{"status":"success","data":{"name":"snapshot-1"}}`)
	ask("/snapshot/list", 200, `{"status":"ok","snapshots":["snapshot-0","snapshot-1"]}`)
	ask("/snapshot/delete?snapshot=snapshot-0", 200, `{"status":"ok"}`)
	ask("/snapshot/delete?snapshot=snapshot-0", 500, `{"status":"error","msg":"cannot find snapshot \"snapshot-0\""}`)
	ask("/snapshot/delete_all", 200, `{"status":"ok"}`)
	ask("/snapshot/list", 200, `{"status":"ok","snapshots":[]}`)
	ask("/internal/log_new_series", 200, `{"status":"success","data":{"logEndTime":"2026-11-10 00:01:00 +0000 UTC"}}`)
	ask("/internal/log_new_series?seconds=1", 200, `{"status":"success","data":{"logEndTime":"2026-11-10 00:00:01 +0000 UTC"}}`)
	ask("/internal/log_new_series?seconds=-1", 500, `{"status":"error","msg":"cannot log new series for -1 seconds: choose between 0 and a year"}`)
	backend.err = errors.New("disk is gone")
	for _, path := range []string{"/snapshot/list", "/snapshot/create", "/snapshot/delete_all", "/api/v1/admin/tsdb/snapshot"} {
		ask(path, 500, `{"status":"error","msg":"disk is gone"}`)
	}
	var out bytes.Buffer
	if err := set.Write(&out, false); err != nil || !strings.Contains(out.String(), `vm_http_request_errors_total{path="/snapshot/create"} 1`) {
		t.Errorf("errors are not counted: %v", err)
	}
}

func TestKeys(t *testing.T) {
	c := &Config{ForceFlushAuthKey: flagvalue.NewSecret("k"), ForceMergeAuthKey: flagvalue.NewSecret("k"), SnapshotAuthKey: flagvalue.NewSecret("k"), LogNewSeriesAuthKey: flagvalue.NewSecret("k")}
	api := New(Options{Config: c, Admin: &admin{}, Maintenance: &maintenance{}, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	defer api.Close()
	for path := range api.routes {
		for _, key := range []string{"", "?authKey=", "?authKey=bad"} {
			if code, _ := request(t, api, path+key); code != 401 {
				t.Errorf("%s%s answers %d", path, key, code)
			}
		}
	}
}

func request(t *testing.T, api *API, path string) (int, bool) {
	t.Helper()
	w := httptest.NewRecorder()
	handled := api.Handle(w, httptest.NewRequest("GET", path, nil))
	return w.Code, handled
}

func TestRoutes(t *testing.T) {
	backend := &admin{merged: make(chan string, 1)}
	api := New(Options{Config: &Config{ForceMergeAuthKey: flagvalue.NewSecret("k")}, Admin: backend, Logger: logger.Discard(), Metrics: metrics.NewSet()})
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
