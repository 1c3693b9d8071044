package selectapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// partialCatalog answers with a failed node.
type partialCatalog struct{ storageapi.Catalog }

func (c partialCatalog) SeriesCount(ctx context.Context, tenant model.TenantID) (storageapi.Count, error) {
	n, err := c.Catalog.SeriesCount(ctx, tenant)
	n.Coverage = coverage()
	return n, err
}

func (c partialCatalog) Status(ctx context.Context, q *storageapi.StatusQuery) (storageapi.Status, error) {
	s, err := c.Catalog.Status(ctx, q)
	s.Coverage = coverage()
	return s, err
}

func TestPartialStatus(t *testing.T) {
	e := newEnv(t)
	e.api.o.Catalog = partialCatalog{e.store}
	for path, want := range map[string]string{
		"series/count": `{"status":"success","isPartial":true,"data":[3]}`,
		"status/tsdb":  `{"status":"success","isPartial":true,"data":{"totalSeries":3,`,
	} {
		if code, body, header := e.get(t, "GET", api+path, url.Values{"date": {"2024-06-01"}}); code != 200 || !strings.HasPrefix(body, want) || header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s; want %s", path, code, body, want)
		}
		if code, body, _ := e.get(t, "GET", api+path, url.Values{"date": {"2024-06-01"}, "deny_partial_response": {"1"}}); code != 503 || !strings.Contains(body, "node-2:8401") {
			t.Errorf("%s, whole or nothing: %d %s", path, code, body)
		}
	}
}

func TestDeletePaths(t *testing.T) {
	const path = "/prometheus/api/v1/admin/tsdb/delete_series"
	e := newEnv(t)
	post := func(target string, header ...string) (int, string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, target, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		if !e.api.Handle(w, r) {
			return 0, ""
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s lets pages of other sites delete", target)
		}
		return w.Code, w.Header().Get("X-Deleted-Series")
	}
	for _, c := range []struct {
		target, account, deleted string
		code                     int
	}{
		{"/delete" + path + "?match[]=other", "7", "0", 204}, // that is 7:0
		{"/delete/7:9" + path + "?match[]=none", "", "0", 204},
		{"/delete/7:9" + path + "/?match[]=other", "", "1", 204},
		{"/delete/0" + path + "?match[]=cpu&extra_label=host=a", "", "1", 204},
		{"/delete/0" + path + "?match[]={__name__!=\"\"}&end=5", "", "", 400},
		{"/delete/0" + path + "?match[]={}", "", "", 400},
		{"/delete/0/api/v1/admin/tsdb/delete_series?match[]=cpu", "", "", 400},
		{"/delete/0", "", "", 400},
		{"/select/0" + path + "?match[]=cpu", "", "", 400},
		{path + "?match[]=cpu", "", "", 0},
	} {
		if code, deleted := post(c.target, "AccountID", c.account); code != c.code || deleted != c.deleted {
			t.Errorf("%s: %d, deleted %q; want %d, %q", c.target, code, deleted, c.code, c.deleted)
		}
	}
	if n := e.store.Rows(); n != 3+4 { // one of the two cpu series and odd
		t.Errorf("%d samples are left; want 7", n)
	}
}
