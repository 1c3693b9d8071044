package selectapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestResetCache(t *testing.T) {
	var asked []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.FormValue("authKey")+r.FormValue("propagate"))
		if r.FormValue("authKey") != "secret" {
			http.Error(w, "no", http.StatusUnauthorized)
		}
	}))
	defer other.Close()
	const path = "/internal/resetRollupResultCache"
	e := newEnv(t, "-search.resetCacheAuthKey=secret")
	e.api.o.SelectNodes = []string{strings.TrimPrefix(other.URL, "http://")}
	if code, _, _ := e.get(t, "GET", path, nil); code != http.StatusUnauthorized {
		t.Errorf("without key: %d", code)
	}
	if code, body, _ := e.get(t, "GET", path, url.Values{"authKey": {"secret"}}); code != http.StatusOK || len(asked) > 0 {
		t.Errorf("%d %s; others were asked: %q", code, body, asked)
	}
	if code, body, _ := e.get(t, "POST", path, url.Values{"authKey": {"secret"}, "propagate": {"1"}}); code != http.StatusOK || len(asked) != 1 || asked[0] != "POST "+path+" secret" {
		t.Errorf("%d %s; others were asked: %q", code, body, asked)
	}
	e.api.o.SelectNodes = []string{"127.0.0.1:1", other.URL}
	if code, body, _ := e.get(t, "POST", path, url.Values{"authKey": {"secret"}, "propagate": {"1"}}); code != http.StatusServiceUnavailable || !strings.Contains(body, "127.0.0.1:1") || len(asked) != 2 {
		t.Errorf("with a node down: %d %s", code, body)
	}
	single := newEnv(t, "-singleNode")
	for _, p := range []string{path, "/prometheus" + path} {
		if code, body, _ := single.get(t, "GET", p, nil); code != http.StatusOK {
			t.Errorf("%s: %d %s", p, code, body)
		}
	}
}
