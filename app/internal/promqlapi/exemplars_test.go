package promqlapi

import (
	"fmt"
	"strings"
	"testing"

	"vmcluster/lib/model"
)

// TestExemplars: the answers, and those to mistakes, are in the words of Prometheus.
func TestExemplars(t *testing.T) {
	e := newEnv(t)
	tenant := model.TenantID{AccountID: 7, ProjectID: 9}
	labels, err := model.AppendExemplarLabels(nil, []model.Label{{Name: "trace_id", Value: "abc"}})
	if err != nil {
		t.Fatal(err)
	}
	var list []model.Exemplar
	at := e.now.UnixMilli() - 60_000
	for _, name := range []string{"m", "n"} {
		key, err := model.AppendSeriesKey(nil, tenant, []model.Label{{Name: model.MetricNameLabel, Value: name}, {Name: "job", Value: "a"}})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, model.Exemplar{Series: key, Labels: labels, Timestamp: at, Value: 0.5})
	}
	if err := e.store.db.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	one := func(name string) string {
		return fmt.Sprintf(`{"seriesLabels":{"__name__":"%s","job":"a"},"exemplars":[{"labels":{"trace_id":"abc"},"value":"0.5","timestamp":%d}]}`, name, at/1000)
	}
	for query, want := range map[string]string{
		`m`: one("m"), `rate(n[5m]) / on() m`: one("m") + "," + one("n"), `{job=~"a|b"} or nosuch`: one("m") + "," + one("n"), `1 + 1`: "", `m{job!="a"}`: "",
	} {
		for _, method := range []string{"GET", "POST"} {
			if code, body := e.ask(method, root+"/api/v1/query_exemplars", pairs("query", query)); code != 200 || !strings.Contains(body, `"data":[`+want+"]") {
				t.Errorf("%s %s: %d %s", method, query, code, body)
			}
		}
	}
	for want, args := range map[string][]string{
		"unknown position: parse error: no expression found in input":                   nil,
		"1:4: parse error: unexpected end of input inside braces":                       {"query", "up{"},
		"1:1: parse error: vector selector must contain at least one non-empty matcher": {"query", "{}"},
		"end timestamp must not be before start timestamp":                              {"query", "up", "start", "5", "end", "2"},
		`invalid parameter \"start\"`:                                                   {"query", "up", "start", "x"},
		`invalid parameter \"end\"`:                                                     {"query", "up", "end", "y"},
	} {
		if code, body := e.ask("GET", root+"/api/v1/query_exemplars", pairs(args...)); code != 400 || !strings.HasPrefix(body, `{"status":"error","errorType":"bad_data","error":"`+want) {
			t.Errorf("%v: %d %s", args, code, body)
		}
	}
}
