package apptest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestNamesInUTF8: every protocol takes names of metrics and labels with any letters, and every read API gives them back as they were.
func TestNamesInUTF8(t *testing.T) {
	t.Parallel()
	c := startCluster(t, clusterOptions{})
	const metric, label = "температура.дома", "комната №1"
	root := "http://" + c.insertAddr + "/insert/"
	want := []string{fmt.Sprintf(`%s{%s="кухня"} 1`, metric, label)}
	otlp := fmt.Sprintf(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":%q,"gauge":{"dataPoints":[{"attributes":[{"key":%q,"value":{"stringValue":"кухня"}}],"timeUnixNano":"%d000000","asDouble":1}]}}]}]}]}`, metric, label, fixed)
	for i, tc := range []struct{ path, body, contentType string }{
		{"prometheus/api/v1/write", string(snappyBody(series("__name__", metric, label, "кухня").at(fixed, 1))), ""},
		{"prometheus/api/v1/import/prometheus", fmt.Sprintf("{%q,%q=\"кухня\"} 1 %d\n", metric, label, fixed), ""},
		{"prometheus/api/v1/import", fmt.Sprintf(`{"metric":{"__name__":%q,%q:"кухня"},"values":[1],"timestamps":[%d]}`, metric, label, fixed), ""},
		{"prometheus/api/v1/import/csv?format=" + url.QueryEscape("1:label:"+label+",2:metric:"+metric+",3:time:unix_ms"), fmt.Sprintf("кухня,1,%d\n", fixed), ""},
		{"influx/write?precision=ms", fmt.Sprintf("температура,%s=кухня .дома=1 %d\n", strings.ReplaceAll(label, " ", `\ `), fixed), ""},
		{"opentelemetry/v1/metrics", otlp, "application/json"},
	} {
		tenant := fmt.Sprint(300 + i)
		a := request(t, http.MethodPost, root+tenant+"/"+tc.path, []byte(tc.body), "Content-Type", tc.contentType)
		if a.status/100 != 2 {
			t.Errorf("%s: %s", tc.path, a)
			continue
		}
		if strings.HasPrefix(tc.path, "influx") { // which puts a separator between measurement and field
			if got := instant(t, c.readURL(tenant), `{__name__="температура_.дома"}`, fixed); !slices.Equal(got, []string{strings.Replace(want[0], "температура", "температура_", 1)}) {
				t.Errorf("%s: got %q", tc.path, got)
			}
			continue
		}
		if got := instant(t, c.readURL(tenant), fmt.Sprintf("{%q}", metric), fixed); !slices.Equal(got, want) {
			t.Errorf("%s: got %q; want %q", tc.path, got, want)
		}
	}
	read := func(path string, args ...string) answer {
		return get(t, c.readURL("300")+path, append(args, "start", seconds(fixed-60_000), "end", seconds(fixed+60_000))...)
	}
	for _, query := range []string{fmt.Sprintf("{%q,%q=\"кухня\"}", metric, label), `температура\.дома`, fmt.Sprintf(`{__name__=%q,%q=~"к.+"}`, metric, label)} {
		if got := instant(t, c.readURL("300"), query, fixed); !slices.Equal(got, want) {
			t.Errorf("%s: got %q; want %q", query, got, want)
		}
	}
	if got := instant(t, c.readURL("300"), fmt.Sprintf("sum by (%q) ({%q})", label, metric), fixed, "dialect", "promql"); !slices.Equal(got, []string{`{` + label + `="кухня"} 1`}) {
		t.Errorf("PromQL: got %q", got)
	}
	read("/api/v1/labels").want(t, http.StatusOK, label)
	read("/api/v1/label/"+url.PathEscape(label)+"/values").want(t, http.StatusOK, `"кухня"`)
	read("/api/v1/label/U__%D0%BA_43e_мната_20__2116_1/values").want(t, http.StatusOK, `"кухня"`)
	read("/api/v1/series", "match[]", fmt.Sprintf("{%q}", metric)).want(t, http.StatusOK, label, metric)
	read("/federate", "match[]", fmt.Sprintf("{%q}", metric)).want(t, http.StatusOK, metric)
	if got := export(t, c.readURL("300"), fmt.Sprintf("{%q}", metric)).String(); !strings.Contains(got, metric) || !strings.Contains(got, label) {
		t.Errorf("export: got %s", got)
	}
}
