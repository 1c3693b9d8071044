package insertapi

import (
	"io"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/tsdump"
)

func mustParse(t *testing.T, text string) *relabel.Rules {
	t.Helper()
	rules, err := relabel.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// stored returns the series of the rows taken.
func (s *server) stored() []string {
	rows := s.take()
	for i := range rows {
		rows[i], _, _ = strings.Cut(rows[i], "@")
	}
	return rows
}

// nativeBody returns a dump with the series gone and m.
func nativeBody() string {
	var samples tsblock.Samples
	samples.Append(1, 1)
	_, block := tsblock.AppendEncode(nil, &samples)
	var w tsdump.Writer
	b := w.AppendHeader(nil)
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "gone"}, {Name: "a", Value: "b"}}, []tsblock.Block{block})
	b = w.AppendSeries(b, []model.Label{{Name: "__name__", Value: "m"}, {Name: "a", Value: "b"}}, []tsblock.Block{block})
	return string(w.AppendEnd(b))
}

// TestRelabel checks that rules hold for all formats, whether series are known or not, and that dropped series are counted and not reported.
func TestRelabel(t *testing.T) {
	const json = `{"metric":{"__name__":"gone","a":"b"},"values":[1],"timestamps":[1]}` + "\n" + `{"metric":{"__name__":"m","a":"b"},"values":[1],"timestamps":[1]}` + "\n"
	for path, body := range map[string]func() io.Reader{
		"/api/v1/write": func() io.Reader {
			return snap(series(1, 1, "__name__", "gone", "a", "b"), series(1, 1, "__name__", "m", "a", "b"))
		},
		"/api/v1/import":            func() io.Reader { return strings.NewReader(json) },
		"/api/v1/import/prometheus": func() io.Reader { return strings.NewReader("gone{a=\"b\"} 1 1\nm{a=\"b\"} 1 1\n") },
		"/api/v1/import/csv?format=1:time:unix_ms,2:metric:gone,3:metric:m,4:label:a": func() io.Reader { return strings.NewReader("1,1,1,b\n") },
		"/api/v1/import/native": func() io.Reader { return strings.NewReader(nativeBody()) },
	} {
		s := newServer(t, SingleNode)
		s.Relabel(mustParse(t, "- {action: drop_metrics, regex: gone}\n- {source_labels: [a], target_label: c}\n- {action: labeldrop, regex: a}\n- {target_label: __tmp, replacement: x}"))
		for round := range 3 {
			w := s.do("POST", path, body())
			if rows := s.stored(); w.Code != 204 || !slices.Equal(rows, []string{`tenant 0:0 m{c="b"}`}) || w.Header().Get("X-Rows-Dropped") != "" {
				t.Errorf("%s, round %d: status %d, headers %v, rows %q", path, round, w.Code, w.Header(), rows)
			}
		}
		if n := s.metric(t, "vm_relabel_metrics_dropped_total"); n != "3" {
			t.Errorf("%s: %s series were dropped; want 3", path, n)
		}
		s.Relabel(nil)
		s.do("POST", path, body())
		if rows := s.stored(); !slices.Equal(rows, []string{`tenant 0:0 gone{a="b"}`, `tenant 0:0 m{a="b"}`}) {
			t.Errorf("%s: without rules rows are %q", path, rows)
		}
	}
}

// TestRelabelOrder checks what comes before rules, and what after them.
func TestRelabelOrder(t *testing.T) {
	for _, c := range []struct {
		what, rules, path, body, want string
		args                          []string
	}{
		{"rules see the labels of the request", "- {action: keep, if: '{job=\"x\"}'}", "/insert/0/prometheus/api/v1/import/prometheus?extra_label=job=x", "m 1 1", `0:0 m{job="x"}`, nil},
		{"rules name the tenant", "- {source_labels: [team], target_label: vm_account_id}\n- {action: labeldrop, regex: team}", "/insert/multitenant/prometheus/api/v1/import/prometheus",
			`m{team="7",vm_project_id="2"} 1 1`, "7:2 m", nil},
		{"a tenant of the path stays", "- {target_label: vm_account_id, replacement: '9'}", "/insert/3/prometheus/api/v1/import/prometheus", "m 1 1", `3:0 m{vm_account_id="9"}`, nil},
		{"limits come after rules", "- {action: labeldrop, regex: 'long.+'}", "/insert/0/prometheus/api/v1/import/prometheus", `m{a="b",long_name="too long a value"} 1 1`, `0:0 m{a="b"}`,
			[]string{"-maxLabelsPerTimeseries=2", "-maxLabelNameLen=8", "-maxLabelValueLen=5"}},
		{"rules see names as they were sent", "- {action: graphite, match: '*.*.cpu', labels: {host: '$2', __name__: 'cpu.$1'}}", "/insert/0/prometheus/api/v1/import", `{"metric":{"__name__":"dc1.h1.cpu"},"values":[1],"timestamps":[1]}`,
			`0:0 cpu_dc1{host="h1"}`, []string{"-usePromCompatibleNaming"}},
	} {
		s := newServer(t, Cluster, c.args...)
		s.Relabel(mustParse(t, c.rules))
		for range 2 {
			w := s.do("POST", c.path, strings.NewReader(c.body))
			if rows := s.stored(); w.Code != 204 || !slices.Equal(rows, []string{"tenant " + c.want}) {
				t.Errorf("%s: status %d, rows %q; want %s", c.what, w.Code, rows, c.want)
			}
		}
	}
}
