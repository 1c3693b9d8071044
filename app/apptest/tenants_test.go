package apptest

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// neighbours are tenants with the same metrics, whose names, labels and descriptions hold a marker each.
func neighbours() map[string]string {
	return map[string]string{"11": "markera", "12": "markerb", "11:5": "markerc"}
}

// writeNeighbour writes the data of a tenant. Samples have values by which it can be told, too.
func writeNeighbour(t *testing.T, c *cluster, tenant string, i int) {
	t.Helper()
	marker := neighbours()[tenant]
	own := func(name string, labels ...string) ts {
		s := series(append([]string{"__name__", name}, labels...)...)
		for k := range int64(5) {
			s = s.at(fixed+k*60000, float64(1000*i)+float64(k))
		}
		return s
	}
	mustWrite(t, c.writeURL(tenant)+"/api/v1/write", own("common", "who", marker+"1", "zone", "z"), own("common", "who", marker+"2", "zone", "z"), own("only_"+marker, "label_"+marker, "v"))
	text := fmt.Sprintf("# HELP common said by %s\n# TYPE common gauge\ncommon{who=%q,zone=\"z\"} %d %d # {trace_id=%q} 1\n", marker, marker+"1", 1000*i+5, fixed+5*60000, marker)
	request(t, http.MethodPost, c.writeURL(tenant)+"/api/v1/import/prometheus", []byte(text)).want(t, http.StatusNoContent)
}

// answerKind is what an answer must have in it.
type answerKind int

const (
	ofData    answerKind = iota // the marker of the tenant
	ofFigures                   // nothing, but what it tells depends on data
	fixedText                   // the same for all
)

// walk is a request to an endpoint.
type walk struct {
	kind answerKind
	args []string // alternating names and values; MARKER stands for the tenant's
	arg  string   // in the path
	// changing says that it tells of times and counts which differ from one time to the next.
	changing bool
	post     []byte
	dump     bool // the answer is loaded to be looked at
	// refused is the status for all tenants together, when they are not served; 0 when they are.
	refused int
}

// walks are requests to all read endpoints, as they are called in metrics.
func walks(t *testing.T) map[string][]walk {
	const every = `{__name__=~".+"}`
	at := []string{"time", "1717200240"}
	span := []string{"start", "1717200000", "end", "1717200300", "step", "60"}
	day := []string{"start", "2024-06-01", "end", "2024-06-02"}
	query := func(kind answerKind, text string, more ...string) walk {
		return walk{kind: kind, args: append(append([]string{"query", text}, at...), more...)}
	}
	over := func(kind answerKind, text string) walk {
		return walk{kind: kind, args: append([]string{"query", text}, span...)}
	}
	matched := func(more ...string) walk {
		return walk{args: append(append([]string{"match[]", every}, day...), more...)}
	}
	graphite := func(kind answerKind, args ...string) []walk {
		return []walk{{kind: kind, args: append(args, "from", "1717200000", "until", "1717200300"), refused: http.StatusBadRequest}}
	}
	fixed := []walk{{kind: fixedText, args: []string{"query", "a+b", "func", "x"}}}
	dump := matched()
	dump.dump = true
	out := map[string][]walk{
		"/select/{}/prometheus/api/v1/query": {
			query(ofData, every), query(ofData, `common{who=~"MARKER.+"}`), query(ofData, `count by (who) (common)`), query(ofData, "common[5m]"), query(ofFigures, "sum(common)"), query(ofFigures, "count("+every+")"),
			query(ofFigures, "common + on(zone) common"), query(fixedText, "sum("), query(ofData, "common", "dialect", "promql"), query(ofData, "common", "nocache", "1"), query(ofData, "common", "extra_label", "zone=z"),
			{args: append([]string{"query", "max(common) by (who)", "trace", "1"}, at...), changing: true},
		},
		"/select/{}/prometheus/api/v1/query_range":               {over(ofData, every), over(ofData, "sum(rate(common)) by (who)"), over(ofFigures, "quantile(0.5, common)")},
		"/select/{}/prometheus/api/v1/series":                    {matched()},
		"/select/{}/prometheus/api/v1/labels":                    {{args: day}, matched()},
		"/select/{}/prometheus/api/v1/label/{}/values":           {{args: day, arg: "who"}, {args: day, arg: "__name__"}, {args: append([]string{"match[]", "common"}, day...), arg: "who"}},
		"/select/{}/prometheus/api/v1/export":                    {matched(), matched("format", "prometheus"), matched("format", "promapi"), matched("values", "bits")},
		"/select/{}/prometheus/api/v1/export/csv":                {matched("format", "__name__,who,__value__,__timestamp__")},
		"/select/{}/prometheus/api/v1/export/native":             {dump},
		"/select/{}/prometheus/federate":                         {{args: []string{"match[]", every, "start", "1717200000", "end", "1717200300"}}},
		"/select/{}/prometheus/api/v1/metadata":                  {{}, {args: []string{"metric", "common"}}},
		"/select/{}/prometheus/api/v1/read":                      {{post: readRequest(t)}},
		"/select/{}/prometheus/api/v1/status/tsdb":               {{args: []string{"date", "2024-06-01", "focusLabel", "who"}, changing: true}, {args: []string{"date", "2024-06-01", "match[]", "common"}, changing: true}},
		"/select/{}/prometheus/api/v1/series/count":              {{kind: ofFigures, refused: http.StatusUnprocessableEntity}},
		"/select/{}/prometheus/api/v1/status/metric_names_stats": {{changing: true}},
		"/select/{}/prometheus/api/v1/status/active_queries":     {{kind: fixedText}},
		"/select/{}/prometheus/api/v1/status/top_queries":        {{changing: true, args: []string{"topN", "1000"}}},
		"/select/{}/prometheus/api/v1/query_exemplars":           {query(ofData, "rate(common[5m])"), query(ofData, every)},
		"/select/{}/promql/api/v1/query_exemplars":               {query(ofData, "common or only"), query(fixedText, "sum(")},
		"/select/{}/promql/api/v1/query":                         {query(ofData, every), query(ofFigures, "sum(common)")},
		"/select/{}/promql/api/v1/query_range":                   {over(ofData, every)},
		"/select/{}/graphite/render":                             graphite(ofData, "target", "only_*", "format", "json"),
		"/select/{}/graphite/metrics/find":                       graphite(ofData, "query", "*"),
		"/select/{}/graphite/metrics/expand":                     graphite(ofData, "query", "*"),
		"/select/{}/graphite/metrics/index.json":                 graphite(ofData),
		"/select/{}/graphite/tags":                               graphite(ofData),
		"/select/{}/graphite/tags/findSeries":                    graphite(ofData, "expr", "name=~.+"),
		"/select/{}/graphite/tags/autoComplete/tags":             graphite(ofData),
		"/select/{}/graphite/tags/autoComplete/values":           graphite(ofData, "tag", "who"),
		"/select/{}/graphite/tags/<tag_name>":                    {{arg: "who", args: []string{"from", "1717200000", "until", "1717200300"}, refused: http.StatusBadRequest}},
		"/select/{}/graphite/functions/<func_name>":              {{kind: fixedText, arg: "sum", refused: http.StatusBadRequest}},
	}
	for _, path := range []string{"api/v1/status/buildinfo", "expand-with-exprs", "prettify-query", "metric-relabel-debug", "target-relabel-debug", "-/healthy", "-/ready", "api/v1/rules", "rules", "api/v1/alerts", "alerts", "api/v1/notifiers", "notifiers", "vmalert/"} {
		out["/select/{}/prometheus/"+path] = fixed
	}
	out["/select/{}/promql/api/v1/format_query"] = fixed
	for _, path := range []string{"functions", "tags/tagSeries", "tags/tagMultiSeries"} {
		out["/select/{}/graphite/"+path] = graphite(fixedText)
	}
	return out
}

// deletions are the endpoints which delete, with the arguments to delete all there is.
func deletions() map[string][]string {
	return map[string][]string{
		"/delete/{}/prometheus/api/v1/admin/tsdb/delete_series": {"match[]", `{__name__=~".+"}`},
		"/select/{}/graphite/tags/delSeries":                    {"path", "common;who=markera1;zone=z", "path", "common;who=markerb1;zone=z"},
	}
}

// readRequest is a remote read of everything.
func readRequest(t *testing.T) []byte {
	t.Helper()
	body, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{
		StartTimestampMs: fixed, EndTimestampMs: fixed + 600_000, Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "__name__", Value: ".+"}},
	}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

// endpoints returns what vmselect serves for tenants: its own counters tell.
func endpoints(t *testing.T, c *cluster) (list []string) {
	t.Helper()
	a := get(t, "http://"+c.selectAddr+"/metrics").want(t, http.StatusOK)
	for _, m := range regexp.MustCompile(`(?m)^vm_http_requests_total\{path="([^"]*\{\}[^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// eachWalk calls f for all requests, each under a name of its own, in a fixed order.
func eachWalk(t *testing.T, f func(name, endpoint string, w *walk)) {
	t.Helper()
	all := walks(t)
	for _, endpoint := range slices.Sorted(maps.Keys(all)) {
		for i := range all[endpoint] {
			w := &all[endpoint][i]
			f(fmt.Sprintf("%s, request %d, %q %q", endpoint, i+1, w.args, w.arg), endpoint, w)
		}
	}
}

// stroll makes all requests as a tenant and returns the answers by their names.
func stroll(t *testing.T, c *cluster, tenant, marker string) map[string]answer {
	t.Helper()
	out := map[string]answer{}
	eachWalk(t, func(name, endpoint string, w *walk) { out[name] = w.ask(t, c, endpoint, tenant, marker) })
	return out
}

// ask makes the request.
func (w *walk) ask(t *testing.T, c *cluster, endpoint, tenant, marker string) answer {
	t.Helper()
	path := strings.Replace(endpoint, "{}", tenant, 1)
	path = regexp.MustCompile(`\{\}|<\w+>`).ReplaceAllLiteralString(path, w.arg)
	args := slices.Clone(w.args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "MARKER", marker)
	}
	target := "http://" + c.selectAddr + path
	var a answer
	if w.post != nil {
		a = request(t, http.MethodPost, target, w.post, "Content-Encoding", "snappy", "Content-Type", "application/x-protobuf")
		if plain, err := snappy.Decode(nil, []byte(a.body)); err == nil {
			a.body = string(plain)
		}
	} else {
		a = get(t, target, args...)
	}
	if w.dump && a.status == http.StatusOK {
		into := map[string]string{"11": "9011", "12": "9012", "11:5": "9115", "0": "9900", "multitenant": "9000"}[tenant]
		request(t, http.MethodPost, c.writeURL(into)+"/api/v1/import/native", []byte(a.body)).want(t, http.StatusNoContent)
		c.flush()
		a.body = export(t, c.readURL(into), `{__name__!=""}`).String()
	}
	a.body = untimed(a.body)
	switch {
	case tenant == "multitenant" && w.refused != 0:
		if a.status != w.refused {
			t.Errorf("%s: %s; want status %d for all tenants together", path, a, w.refused)
		}
	case w.kind == ofData:
		a.want(t, http.StatusOK)
	}
	return a
}

// TestTenantsAreApart walks over every endpoint as neighbours with the same metrics. No answer has anything of another tenant in it,
// and none changes by what others write.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	o := clusterOptions{selectArgs: []string{"-search.queryStats.minQueryDuration=0s", "-search.tenantCacheExpireDuration=0s"}}
	t.Run("one level", func(t *testing.T) { testTenantsAreApart(t, startCluster(t, o)) })
	t.Run("two levels", func(t *testing.T) { testTenantsAreApart(t, startLevels(t, levelOptions{top: o}).cluster) })
}

func testTenantsAreApart(t *testing.T, c *cluster) {
	for _, endpoint := range endpoints(t, c) {
		if walks(t)[endpoint] == nil && deletions()[endpoint] == nil {
			t.Errorf("nobody looks whether %s keeps tenants apart: add it to walks or deletions", endpoint)
		}
	}
	writeNeighbour(t, c, "11", 1)
	c.flush()
	alone := stroll(t, c, "11", "markera")
	writeNeighbour(t, c, "12", 2)
	writeNeighbour(t, c, "11:5", 3)
	c.flush()
	met := map[string]map[string]answer{}
	for tenant, marker := range neighbours() {
		met[tenant] = stroll(t, c, tenant, marker)
		checkMarkers(t, tenant, met[tenant])
	}
	checkUnchanged(t, alone, met["11"])
	// Tenant 0:0, which has nothing, is what a request about all tenants would be taken for by mistake: before it and after.
	checkEmpty(t, stroll(t, c, "0", "nobody"))
	for name, a := range stroll(t, c, "multitenant", "marker") {
		for _, marker := range neighbours() {
			if strings.Contains(met["11"][name].body, "markera") && a.status == http.StatusOK && !strings.Contains(a.body, marker) {
				t.Errorf("all tenants, %s: nothing of %s in %s", name, marker, a)
			}
		}
	}
	checkEmpty(t, stroll(t, c, "0", "nobody"))
	checkHeaders(t, c, met["12"])
	checkDeletions(t, c)
}

// checkMarkers fails the test unless each answer about data is of the tenant's, and none of another's.
func checkMarkers(t *testing.T, tenant string, answers map[string]answer) {
	t.Helper()
	eachWalk(t, func(name, _ string, w *walk) {
		for other, marker := range neighbours() {
			has := strings.Contains(answers[name].body, marker)
			if other != tenant && has || other == tenant && !has && w.kind == ofData {
				t.Errorf("tenant %s, %s: it is %t that %s is in %s", tenant, name, has, marker, answers[name])
			}
		}
	})
}

// checkEmpty fails the test if answers to a tenant without data have anything of the others.
func checkEmpty(t *testing.T, answers map[string]answer) {
	t.Helper()
	for name, a := range answers {
		if strings.Contains(a.body, "marker") {
			t.Errorf("a tenant without data, %s: %s", name, a)
		}
	}
}

// checkUnchanged fails the test if the answers to a tenant depend on whether there are others.
func checkUnchanged(t *testing.T, alone, met map[string]answer) {
	t.Helper()
	eachWalk(t, func(name, _ string, w *walk) {
		if a, b := alone[name], met[name]; !w.changing && (a.status != b.status || a.body != b.body) {
			t.Errorf("%s was %s, and is %s since there are other tenants", name, a, b)
		}
	})
}

// checkHeaders compares answers to a tenant named by headers.
func checkHeaders(t *testing.T, c *cluster, answers map[string]answer) {
	t.Helper()
	eachWalk(t, func(name, endpoint string, w *walk) {
		rest, ok := strings.CutPrefix(endpoint, "/select/{}/prometheus/")
		if !ok || w.changing || w.post != nil || w.dump || strings.Contains(fmt.Sprint(w.args), "MARKER") {
			return
		}
		target := "http://" + c.selectAddr + "/select/prometheus/" + strings.Replace(rest, "{}", w.arg, 1) + "?" + encode(w.args)
		a := request(t, http.MethodGet, target, nil, "AccountID", "12")
		if want := answers[name]; a.status != want.status || untimed(a.body) != want.body {
			t.Errorf("%s with headers: %s; want %s", name, a, want)
		}
	})
}

// checkDeletions deletes all there is of one tenant, in every way, and looks at the others.
func checkDeletions(t *testing.T, c *cluster) {
	t.Helper()
	all := func(tenant string) string { return export(t, c.readURL(tenant), `{__name__!=""}`).String() }
	before := map[string]string{}
	for tenant := range neighbours() {
		before[tenant] = all(tenant)
	}
	for _, endpoint := range []string{"/select/{}/graphite/tags/delSeries", "/delete/{}/prometheus/api/v1/admin/tsdb/delete_series"} {
		a := postForm(t, "http://"+c.selectAddr+strings.Replace(endpoint, "{}", "11", 1), deletions()[endpoint]...)
		if a.status/100 != 2 || strings.Contains(a.body, "markerb") || strings.Contains(a.body, "markerc") {
			t.Errorf("%s: %s", endpoint, a)
		}
		if now := all("11"); now == before["11"] {
			t.Errorf("%s has deleted nothing", endpoint)
		} else {
			before["11"] = now
		}
		for tenant, was := range before {
			if now := all(tenant); now != was {
				t.Errorf("%s of tenant 11: tenant %s had %s and has %s", endpoint, tenant, was, now)
			}
		}
	}
	if before["11"] != "" {
		t.Errorf("tenant 11 still has %s", before["11"])
	}
	if a := postForm(t, "http://"+c.selectAddr+"/delete/multitenant/prometheus/api/v1/admin/tsdb/delete_series", "match[]", `common{vm_account_id="11"}`); a.status != http.StatusNoContent {
		t.Errorf("deletion for all tenants: %s", a)
	}
	if now := all("11:5"); now == before["11:5"] || all("12") != before["12"] || !strings.Contains(now, "only_markerc") {
		t.Errorf("after a deletion for all tenants, 11:5 has %s and 12 has %s", now, all("12"))
	}
}
