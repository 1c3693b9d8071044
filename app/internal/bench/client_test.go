package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/prompb"
)

func TestIngest(t *testing.T) {
	dir, m := smallDataset(t, func(o *GenerateOptions) { o.PhaseAt = 4 })
	db := newFakeDB(t)
	db.refuse = func(n int) int {
		if n == 3 {
			return http.StatusServiceUnavailable // which is sent again
		}
		return http.StatusNoContent
	}
	o := IngestOptions{Dataset: dir, URL: db.URL + "/api/v1/write", Conns: 3, ToScrape: 4, PIDs: []int{os.Getpid()}}
	first, err := Ingest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.FromScrape, o.ToScrape = 4, math.MaxInt
	second, err := Ingest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Samples != m.Samples/3 || first.Samples+second.Samples != m.Samples || first.Retries != 1 || second.Retries != 0 || first.Bodies+second.Bodies != m.Bodies {
		t.Errorf("got %+v and %+v of %+v", first, second, m)
	}
	if first.P99Ms < first.P50Ms || first.P50Ms <= 0 || first.After.RSS == 0 || first.CPUSeconds < 0 {
		t.Errorf("got %+v", first)
	}
	if int64(len(db.series)) != m.Series {
		t.Errorf("%d series arrived; want %d", len(db.series), m.Series)
	}
	for key, samples := range db.series {
		for i := 1; i < len(samples); i++ {
			if samples[i-1].Timestamp >= samples[i].Timestamp {
				t.Fatalf("%s arrived out of order", key)
			}
		}
	}
}

// TestIngestFails: failures end the replay, its goroutines included.
func TestIngestFails(t *testing.T) {
	dir, _ := smallDataset(t, nil)
	before := goleak.IgnoreCurrent()
	db := newFakeDB(t)
	db.refuse = func(int) int { return http.StatusBadRequest }
	o := IngestOptions{Dataset: dir, URL: db.URL + "/api/v1/write", Conns: 3, ToScrape: math.MaxInt}
	if _, err := Ingest(t.Context(), o); err == nil || !strings.Contains(err.Error(), "status 400: refused") || !strings.Contains(err.Error(), o.URL) {
		t.Errorf("got %v", err)
	}
	o.FromScrape = 1000
	if _, err := Ingest(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no scrapes") {
		t.Errorf("got %v", err)
	}
	o.FromScrape, o.Rate = 0, 1
	db.refuse = nil
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Ingest(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := Ingest(t.Context(), IngestOptions{}); err == nil {
		t.Error("an ingestion without options succeeded")
	}
	db.Close()
	goleak.VerifyNone(t, before)
}

func TestFloor(t *testing.T) {
	dir, m := smallDataset(t, nil)
	for _, mode := range []string{"read", "snappy", "decode", "lookup"} {
		f := newFloor(mode)
		server := httptest.NewServer(f)
		_, err := Ingest(t.Context(), IngestOptions{Dataset: dir, URL: server.URL + "/api/v1/write", Conns: 2, ToScrape: math.MaxInt})
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		series := 0
		for i := range f.parts {
			series += len(f.parts[i].last)
		}
		want, wantSeries := int64(0), 0
		if mode == "decode" || mode == "lookup" {
			want = m.Samples
		}
		if mode == "lookup" {
			wantSeries = int(m.Series)
		}
		if f.samples.Load() != want || series != wantSeries {
			t.Errorf("%s: %d samples of %d series; want %d of %d", mode, f.samples.Load(), series, want, wantSeries)
		}
	}
	if err := ServeFloor(t.Context(), FloorOptions{Addr: "127.0.0.1:0", Mode: "x"}); err == nil {
		t.Error("mode x is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ServeFloor(ctx, FloorOptions{Addr: "127.0.0.1:0", Mode: "read"}); err != nil {
		t.Errorf("after the end of the context: %v", err)
	}
}

// answering serves the same answer to everything and remembers the requests.
func answering(t *testing.T, body string, requests *[]string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*requests = append(*requests, r.URL.Path+"?"+r.URL.RawQuery)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func writeJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunQueries(t *testing.T) {
	dir, m := smallDataset(t, nil)
	var requests []string
	s := answering(t, `{"status":"success","data":{"result":[{"metric":{"a":"b"},"values":[[1,"2"],[2,"NaN"]]},{"metric":{},"value":[1.5,"+Inf"]}]}}`, &requests)
	queries := writeJSON(t, []QuerySpec{
		{Name: "range", Type: "range", Query: "up", Range: "24h", Step: "15s"}, {Name: "instant", Type: "instant", Query: "up"},
		{Name: "labels", Type: "labels", Range: "1m"}, {Name: "bad", Type: "range", Range: "x"},
	})
	res, err := RunQueries(t.Context(), QueryOptions{Dataset: dir, Queries: queries, URL: s.URL, Rounds: 2, PIDs: []int{os.Getpid()}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The dataset is shorter than the range; the answer does not fit labels; the last is refused before it is sent.
	if r := res.Queries[0]; r.Error != "" || r.Series != 2 || r.Points != 3 || r.MedianMs <= 0 {
		t.Errorf("got %+v", r)
	}
	if res.Errors != 2 || res.Queries[2].Error == "" || !strings.Contains(res.Queries[3].Error, `"bad"`) {
		t.Errorf("got %+v", res)
	}
	want := fmt.Sprintf("/api/v1/query_range?end=%d&nocache=1&query=up&start=%d&step=15s", m.EndMs/1000, m.StartMs/1000)
	if len(requests) != 9 || requests[0] != want {
		t.Errorf("requests are %q; want %q first", requests, want)
	}
}

// TestDefaultQueries: all of the built-in list can be asked.
func TestDefaultQueries(t *testing.T) {
	specs, err := LoadQueries("")
	if err != nil || len(specs) != 32 {
		t.Fatalf("%d queries, %v", len(specs), err)
	}
	for _, q := range specs {
		path, params, err := q.request(&Manifest{EndMs: 1e12}, true)
		if err != nil || !strings.HasPrefix(path, "/api/v1/") || params.Get("nocache") != "1" {
			t.Errorf("%s: %s %v %v", q.Name, path, params, err)
		}
	}
	if _, err := LoadQueries(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing list is accepted")
	}
}

func TestCompareServers(t *testing.T) {
	dir, _ := smallDataset(t, nil)
	var requests []string
	a := answering(t, `{"status":"success","data":{"result":[{"metric":{},"value":[1,"2"]}]}}`, &requests)
	b := answering(t, `{"status":"success","data":{"result":[{"metric":{},"value":[1,"3"]}]}}`, &requests)
	queries := writeJSON(t, []QuerySpec{{Name: "q", Type: "instant", Query: "up"}, {Name: "bad", Type: "nosuch", Range: "1h"}})
	var diffs []Diff
	note := func(d *Diff) error {
		diffs = append(diffs, *d)
		return nil
	}
	c, err := CompareServers(t.Context(), QueryOptions{Dataset: dir, Queries: queries, URL: a.URL, Compare: b.URL, Tolerance: 1e-9}, note)
	if err != nil || c.Different != 2 || c.Queries != 2 || diffs[0].Unequal != 1 || !strings.Contains(diffs[0].Example, "2, 3") || diffs[1].Error == "" {
		t.Errorf("got %+v, %+v, %v", c, diffs, err)
	}
	queries = writeJSON(t, []QuerySpec{{Name: "q", Type: "instant", Query: "up"}})
	if c, err = CompareServers(t.Context(), QueryOptions{Dataset: dir, Queries: queries, URL: a.URL, Compare: a.URL}, note); err != nil || c.Different != 0 {
		t.Errorf("the server differs from itself: %+v, %v", c, err)
	}
}

func TestCompare(t *testing.T) {
	nan := math.NaN()
	for _, tc := range []struct {
		name string
		a, b points
		want Diff
	}{
		{"equal", points{"x": {1: 1, 2: nan}}, points{"x": {1: 1 + 1e-12, 2: nan}}, Diff{Series: 1, Points: 2}},
		{"other value", points{"x": {1: 1}}, points{"x": {1: 2}}, Diff{Series: 1, Points: 1, Unequal: 1}},
		{"NaN and number", points{"x": {1: nan}}, points{"x": {1: 2}}, Diff{Series: 1, Points: 1, Unequal: 1}},
		{"infinities", points{"x": {1: math.Inf(1)}}, points{"x": {1: math.Inf(-1)}}, Diff{Series: 1, Points: 1, Unequal: 1}},
		{"other times", points{"x": {1: 1, 2: 2}}, points{"x": {1: 1, 3: 2}}, Diff{Series: 1, Points: 1, Unpaired: 2}},
		{"more points", points{"x": {1: 1}}, points{"x": {1: 1, 3: 2}}, Diff{Series: 1, Points: 1, Unpaired: 1}},
		{"other series", points{"x": nil, "z": nil}, points{"x": nil, "w": nil}, Diff{Series: 2, Missing: 1, Extra: 1}},
	} {
		got := compare(tc.a, tc.b, 1e-9)
		if got.Different() != (got.Example != "") {
			t.Errorf("%s: the example is %q", tc.name, got.Example)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("%s: %s", tc.name, err)
		}
		got.Example, got.MaxError = "", 0
		if got != tc.want {
			t.Errorf("%s: got %+v; want %+v", tc.name, got, tc.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		values  []float64
		q, want float64
	}{{nil, 0.5, 0}, {[]float64{3, 1, 2}, 0.5, 2}, {[]float64{3, 1, 2}, 0.9, 3}, {[]float64{4, 1, 2, 3}, 0.5, 2}, {[]float64{5}, 0, 5}} {
		if got := quantile(tc.values, tc.q); got != tc.want {
			t.Errorf("%v of %v: got %g, want %g", tc.q, tc.values, got, tc.want)
		}
	}
}

// TestCrash runs the writers against servers that keep everything, lose some, and change some.
func TestCrash(t *testing.T) {
	n := 0
	for name, tc := range map[string]struct {
		noExport bool
		alter    func(prompb.Sample) []prompb.Sample
		check    func(r *CrashResult) bool
	}{
		"honest":           {check: func(r *CrashResult) bool { return !r.Failed() && r.Found == r.AckedSamples }},
		"honest, by query": {noExport: true, check: func(r *CrashResult) bool { return !r.Failed() && r.Found == r.AckedSamples }},
		"lossy": {alter: func(s prompb.Sample) []prompb.Sample {
			if n++; n%10 == 0 {
				return nil
			}
			return []prompb.Sample{s}
		}, check: func(r *CrashResult) bool {
			return r.Failed() && r.Lost > 0 && r.Found+r.Lost == r.AckedSamples && r.Wrong == 0 && len(r.Examples) > 0
		}},
		"inexact": {alter: func(s prompb.Sample) []prompb.Sample {
			s.Value = math.Nextafter(s.Value, 10)
			return []prompb.Sample{s}
		}, check: func(r *CrashResult) bool {
			return r.Failed() && r.Wrong == r.AckedSamples+r.FoundRefused && r.Lost == 0 && r.Found == 0
		}},
		"late": {noExport: true, alter: func(s prompb.Sample) []prompb.Sample { s.Timestamp++; return []prompb.Sample{s} },
			check: func(r *CrashResult) bool { return r.Failed() && r.Lost == r.AckedSamples && r.Wrong == r.Lost }},
		"doubled": {alter: func(s prompb.Sample) []prompb.Sample { return []prompb.Sample{s, s} },
			check: func(r *CrashResult) bool { return !r.Failed() && r.Duplicates == r.AckedSamples }},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			db := newFakeDB(t)
			db.noExport, db.alter = tc.noExport, tc.alter
			db.refuse = func(n int) int {
				if n%7 == 6 {
					return http.StatusServiceUnavailable
				}
				return http.StatusNoContent
			}
			marks := filepath.Join(t.TempDir(), "marks")
			res, err := Crash(t.Context(), CrashOptions{
				WriteURL: db.URL + "/api/v1/write", ReadURL: db.URL, KillCmd: "echo kill >>" + marks, StartCmd: "echo start >>" + marks,
				Kills: 2, Every: 150 * time.Millisecond, Writers: 2, Series: 3,
			})
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(res) || res.AckedRequests == 0 || res.RefusedRequests == 0 || !strings.Contains(res.LastRefusal, "503") {
				t.Errorf("got %+v", res)
			}
			text, err := os.ReadFile(marks)
			if want := strings.Repeat("kill\nstart\n", 3); err != nil || string(text) != want {
				t.Errorf("commands were run as %q, %v", text, err)
			}
			db.Close()
			http.DefaultClient.CloseIdleConnections()
			goleak.VerifyNone(t, before)
		})
	}
}

func TestCrashRefusals(t *testing.T) {
	for text, o := range map[string]CrashOptions{
		"writer":    {Series: 1},
		"-kill-cmd": {Writers: 1, Series: 1, WriteURL: "http://x", ReadURL: "http://x"},
		"there are": {Writers: 1, Series: 1, Peer: "nosuch"},
		"build":     {Writers: 1, Series: 1, Peer: "ours-cluster", Lab: Lab{Bin: t.TempDir(), Dir: t.TempDir()}},
	} {
		if _, err := Crash(t.Context(), o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v; want %q in it", err, text)
		}
	}
	db := newFakeDB(t)
	o := CrashOptions{WriteURL: db.URL + "/api/v1/write", ReadURL: db.URL, KillCmd: "exit 3", StartCmd: "true", Kills: 1, Writers: 1, Series: 1}
	if _, err := Crash(t.Context(), o); err == nil || !strings.Contains(err.Error(), `"exit 3"`) {
		t.Errorf("got %v", err)
	}
}

// TestCrashValues: every sample has a value of its own, with many digits.
func TestCrashValues(t *testing.T) {
	seen := map[float64]bool{}
	for w := range 4 {
		for r := range 100 {
			for s := range 100 {
				v := crashValue(w, r, s)
				if seen[v] || v < 1 || v >= 2 {
					t.Fatalf("value %v of %d, %d, %d", v, w, r, s)
				}
				seen[v] = true
			}
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"result":[{"metric":{"a":"b"},"values":[[1,"2"]]}]}}`))
	f.Add([]byte(`{"status":"success","data":["a"]}`))
	f.Add([]byte(`{"metric":{"series":"1"},"values":[1.5],"timestamps":[1]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{"instant", "range", "series", "labels", "values"} {
			if p, err := (&QuerySpec{Type: kind}).parse(data); err == nil {
				compare(p, p, 0)
			}
		}
		// Whatever the servers say, the parsers return.
		_, _ = parseExport(data)
		_, _ = parseRaw(data)
	})
}

func TestRequestEscapes(t *testing.T) {
	q := QuerySpec{Type: "values", Label: "__name__", Query: `{a="b&c"}`, Range: "1h"}
	path, params, err := q.request(&Manifest{EndMs: 7200_000}, false)
	if err != nil || path != "/api/v1/label/__name__/values" || params.Encode() != "end=7200&match%5B%5D="+url.QueryEscape(q.Query)+"&start=3600" {
		t.Errorf("%s?%s, %v", path, params.Encode(), err)
	}
}
