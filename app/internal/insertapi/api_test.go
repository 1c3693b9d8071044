package insertapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/gather"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/router"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder acknowledges batches, or fails, and remembers the rows.
type recorder struct {
	mu   sync.Mutex
	err  error
	hold chan struct{} // when set, Ingest waits for it
	rows []string
}

func (r *recorder) Ingest(ctx context.Context, b *model.Batch) error {
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	for i := range b.Len() {
		for _, s := range b.Samples(i) {
			r.rows = append(r.rows, fmt.Sprintf("%s@%d=%v", model.SeriesKeyString(b.Key(i)), s.Timestamp, s.Value))
		}
		for _, h := range b.AppendHistograms(nil, i) {
			r.rows = append(r.rows, fmt.Sprintf("%s@%d=%x", model.SeriesKeyString(b.Key(i)), h.Timestamp, h.Payload))
		}
	}
	return nil
}

// take returns the sorted rows and forgets them.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := r.rows
	r.rows = nil
	slices.Sort(rows)
	return rows
}

type server struct {
	*API
	*recorder
	set    *metrics.Set
	config *Config
}

func newServer(t testing.TB, style PathStyle, args ...string) *server {
	t.Helper()
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	s := &server{recorder: &recorder{}, set: metrics.NewSet(), config: &c}
	s.API = New(Options{Ingester: s.recorder, Logger: logger.Discard(), Metrics: s.set, Config: &c, PathStyle: style})
	return s
}

// do sends a request; the status is 0 when the path is not ours.
func (s *server) do(method, url string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, body)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	if !s.Handle(w, r) {
		w.Code = 0
	}
	return w
}

// metrics returns the non-zero lines of the metrics page.
func (s *server) metric(t *testing.T, name string) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.set.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Errorf("there is no metric %s", name)
	return ""
}

type label = prompb.Label

// series encodes one series of a remote write message.
func series(value float64, timestamp int64, pairs ...string) []byte {
	s := prompb.TimeSeries[label]{Samples: []prompb.Sample{{Timestamp: timestamp, Value: value}}}
	for i := 0; i < len(pairs); i += 2 {
		s.Labels = append(s.Labels, label{Name: pairs[i], Value: pairs[i+1]})
	}
	return prompb.AppendTimeSeries(nil, &s)
}

func snap(parts ...[]byte) io.Reader {
	return bytes.NewReader(snappy.Encode(nil, bytes.Join(parts, nil)))
}

func TestPaths(t *testing.T) {
	const line = `{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}`
	const text = "m 1 1717200000000\n"
	rw := snappy.Encode(nil, series(1, 1, "__name__", "m"))
	for _, c := range []struct {
		style  PathStyle
		path   string
		body   string
		status int
		want   string // tenant, or a part of the error
	}{
		{Cluster, "/insert/0/prometheus", string(rw), 204, "0:0"},
		{Cluster, "/insert/0/prometheus/", string(rw), 204, "0:0"},
		{Cluster, "/insert/7:9/prometheus/api/v1/write", string(rw), 204, "7:9"},
		{Cluster, "/insert/7/prometheus/api/v1/push", string(rw), 204, "7:0"},
		{Cluster, "/insert/7/prometheus/api/v1/write/", string(rw), 204, "7:0"},
		{Cluster, "//insert//4294967295:4294967295//prometheus///api/v1/import//", line, 204, "4294967295:4294967295"},
		{Cluster, "/insert/1/prometheus/api/v1/import/prometheus", text, 204, "1:0"},
		{Cluster, "/insert/1/api/v1/import/prometheus", text, 204, "1:0"},
		{Cluster, "/insert/1/prometheus/api/v1/import/prometheus/metrics/job/j/instance/i", text, 200, "1:0"},
		{Cluster, "/insert/1/prometheus/api/v1/import/prometheus/metrics/foo/j", text, 204, "1:0"},
		{Cluster, "/insert/1/prometheus/api/v1/import/prometheus/metrics/job/j/a", text, 400, `label "a" has no value`},
		{Cluster, "/insert/1/prometheus/api/v1/import/prometheus/metrics/job@base64/!!!", text, 400, "not base64"},
		{Cluster, "/insert//prometheus/api/v1/import", line, 204, "0:0"},
		{Cluster, "/insert/abc/prometheus/api/v1/import", line, 400, `tenant "abc"`},
		{Cluster, "/insert/4294967296/prometheus/api/v1/import", line, 400, `tenant "4294967296"`},
		{Cluster, "/insert/-1/prometheus/api/v1/import", line, 400, `tenant "-1"`},
		{Cluster, "/insert/1:x/prometheus/api/v1/import", line, 400, `tenant "1:x"`},
		{Cluster, "/insert/1:2:3/prometheus/api/v1/import", line, 400, `tenant "1:2:3"`},
		{Cluster, "/insert/7:/prometheus/api/v1/import", line, 400, `tenant "7:"`},
		{Cluster, "/insert/:5/prometheus/api/v1/import", line, 400, `tenant ":5"`},
		{Cluster, "/insert/0x1/prometheus/api/v1/import", line, 400, `tenant "0x1"`},
		{Cluster, "/insert/0/prometheus/api/v1/nosuch", "x", 400, "unsupported path requested"},
		{Cluster, "/insert/0/nosuch", "x", 400, "unsupported path requested"},
		{Cluster, "/insert/0", "x", 400, "unsupported path requested"},
		{Cluster, "/insert", "x", 400, "unsupported path requested"},
		{Cluster, "/insert/5/prometheus/api/v1/query?query=up", "", 400, "/select/5/prometheus/api/v1/query"},
		{Cluster, "/insert/0/prometheus/api/v1/query_range", "", 400, "/select/0/prometheus/api/v1/query_range"},
		{Cluster, "/insert/0/vmui/", "", 400, "/select/0/vmui"},
		{Cluster, "/api/v1/write", string(rw), 0, ""},
		{Cluster, "/inserted/0/prometheus", string(rw), 0, ""},
		{Cluster, "/", "", 0, ""},
		{SingleNode, "/api/v1/write", string(rw), 204, "0:0"},
		{SingleNode, "/api/v1/push", string(rw), 204, "0:0"},
		{SingleNode, "/prometheus/api/v1/write", string(rw), 204, "0:0"},
		{SingleNode, "/prometheus//api/v1/import/", line, 204, "0:0"},
		{SingleNode, "/api/v1/import/prometheus", text, 204, "0:0"},
		{SingleNode, "/api/v1/import/prometheus/metrics/job/j", text, 200, "0:0"},
		{SingleNode, "/prometheus", "", 0, ""},
		{SingleNode, "/api/v1/query", "", 0, ""},
		{SingleNode, "/insert/0/prometheus", "", 0, ""},
		{SingleNode, "/", "", 0, ""},
	} {
		s := newServer(t, c.style)
		w := s.do("POST", c.path, strings.NewReader(c.body))
		rows := s.take()
		switch {
		case w.Code != c.status:
			t.Errorf("%s: status %d %s; want %d", c.path, w.Code, w.Body, c.status)
		case c.status == 400 && (!strings.Contains(w.Body.String(), c.want) || len(rows) > 0):
			t.Errorf("%s: %q, rows %q; want an error with %q", c.path, w.Body, rows, c.want)
		case (c.status == 204 || c.status == 200) && (len(rows) != 1 || !strings.HasPrefix(rows[0], "tenant "+c.want+" m")):
			t.Errorf("%s: rows %q; want tenant %s", c.path, rows, c.want)
		}
	}
}

func TestTenantsOfHeadersAndLabels(t *testing.T) {
	const body = `{"metric":{"__name__":"m","vm_account_id":"21","vm_project_id":"2"},"values":[1],"timestamps":[1]}`
	for _, c := range []struct {
		path    string
		headers []string
		want    string
	}{
		{"/insert/prometheus/api/v1/import", []string{"AccountID", "8", "ProjectID", "3"}, `8:3 m{vm_account_id="21"`},
		{"/insert/prometheus/api/v1/import", []string{"AccountID", "9"}, "9:0 m{"},
		{"/insert/prometheus/api/v1/import", nil, "0:0 m{"},
		{"/insert/11/prometheus/api/v1/import", []string{"AccountID", "12"}, "11:0 m{"},
		{"/insert/multitenant/prometheus/api/v1/import", nil, "21:2 m@1=1"},
		{"/insert/prometheus/api/v1/import", []string{"AccountID", "multitenant"}, "21:2 m@1=1"},
		{"/insert/prometheus/api/v1/import", []string{"AccountID", "x"}, ""},
		{"/insert/prometheus/api/v1/import", []string{"AccountID", "1", "ProjectID", "y"}, ""},
	} {
		s := newServer(t, Cluster)
		w := s.do("POST", c.path, strings.NewReader(body), c.headers...)
		rows := s.take()
		if c.want == "" && w.Code == 400 && len(rows) == 0 {
			continue
		}
		if w.Code != 204 || len(rows) != 1 || !strings.HasPrefix(rows[0], "tenant "+c.want) {
			t.Errorf("%s %v: status %d, rows %q; want %s", c.path, c.headers, w.Code, rows, c.want)
		}
	}
	s := newServer(t, Cluster, "-enableMultitenancyViaHeaders=false")
	if w := s.do("POST", "/insert/prometheus/api/v1/import", strings.NewReader(body), "AccountID", "5"); w.Code != 400 {
		t.Errorf("headers are off: status %d", w.Code)
	}
}

func TestRemoteWrite(t *testing.T) {
	s := newServer(t, Cluster)
	const url = "/insert/1/prometheus/api/v1/write"
	two := bytes.Join([][]byte{series(1.5, 1000, "__name__", "m", "env", "t"), series(7, 2000, "__name__", "other")}, nil)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	z := enc.EncodeAll(two, nil)
	enc.Close()
	want := []string{`tenant 1:0 m{env="t"}@1000=1.5`, `tenant 1:0 other@2000=7`}
	for name, c := range map[string]struct {
		body     []byte
		encoding string
	}{
		"snappy": {snappy.Encode(nil, two), "snappy"}, "zstd": {z, "zstd"}, "zstd said snappy": {z, "snappy"},
		"snappy said zstd": {snappy.Encode(nil, two), "zstd"}, "no header": {snappy.Encode(nil, two), ""}, "upper case": {z, " ZSTD "},
	} {
		w := s.do("POST", url, bytes.NewReader(c.body), "Content-Encoding", c.encoding)
		if rows := s.take(); w.Code != 204 || w.Body.Len() > 0 || !slices.Equal(rows, want) {
			t.Errorf("%s: status %d %q, rows %q", name, w.Code, w.Body, rows)
		}
	}
	w := s.do("POST", url+"?extra_label=env%3Dover&extra_label=new%3Done", bytes.NewReader(z))
	if rows := s.take(); w.Code != 204 || rows[0] != `tenant 1:0 m{env="over",new="one"}@1000=1.5` {
		t.Errorf("extra labels: status %d, rows %q", w.Code, rows)
	}
	for _, method := range []string{"GET", "POST", "OPTIONS", "DELETE"} {
		if w := s.do(method, url, nil); w.Code != 204 {
			t.Errorf("empty %s: status %d", method, w.Code)
		}
	}
	if n := s.metric(t, `vm_rows_inserted_total{type="promremotewrite"}`); n != "14" {
		t.Errorf("%s rows counted", n)
	}
	if n := s.metric(t, `vm_http_requests_total{path="/insert/{}/prometheus/", protocol="promremotewrite"}`); n != "11" {
		t.Errorf("%s requests counted", n)
	}
	if n := s.metric(t, `vm_rows_per_insert_count{type="promremotewrite"}`); n != "7" {
		t.Errorf("%s requests with rows counted", n)
	}
}

// Each kind of bad input has its status, a message or header that names the fault, a
// metric, and no effect on good series beside it.
func TestBadInput(t *testing.T) {
	good := series(1, 1000, "__name__", "good")
	stale := math.Float64frombits(0x7ff0000000000002)
	var many []string
	for i := range 41 {
		many = append(many, fmt.Sprintf("l%02d", i), "x")
	}
	for name, c := range map[string]struct {
		body   io.Reader
		args   string
		status int
		text   string // in the body or the header
		metric string
		rows   int
	}{
		"broken snappy":     {strings.NewReader("not snappy at all"), "", 400, "cannot decompress snappy body", `vm_protoparser_read_errors_total{type="promremotewrite"}`, 0},
		"truncated":         {snap(good, good[:len(good)-2]), "", 400, "at offset", `vm_protoparser_unmarshal_errors_total{type="promremotewrite"}`, 0},
		"oversized":         {snap(good, series(1, 1, "__name__", strings.Repeat("x", 1000))), "", 413, "-maxInsertRequestSize=900", `vm_protoparser_read_errors_total{type="promremotewrite"}`, 0},
		"broken connection": {iotest.ErrReader(errors.New("connection reset")), "", 400, "connection reset", `vm_http_request_errors_total{path="/insert/{}/prometheus/", protocol="promremotewrite"}`, 0},
		"bad extra label":   {snap(good), "extra_label=novalue", 400, `extra_label="novalue"`, `vm_http_request_errors_total{path="/insert/{}/prometheus/", protocol="promremotewrite"}`, 0},
		"too many labels":   {snap(good, series(1, 1, append(many, "__name__", "m")...), good), "", 204, "42 labels", `vm_rows_ignored_total{reason="too_many_labels"}`, 2},
		"long label name":   {snap(good, series(1, 1, "__name__", "m", strings.Repeat("n", 257), "v"), good), "", 204, "-maxLabelNameLen=256", `vm_rows_ignored_total{reason="too_long_label_name"}`, 2},
		"long label value":  {snap(good, series(1, 1, "__name__", "m", "a", strings.Repeat("v", 301)), good), "", 204, "-maxLabelValueLen=300", `vm_rows_ignored_total{reason="too_long_label_value"}`, 2},
		"duplicate label":   {snap(good, series(1, 1, "__name__", "m", "a", "1", "a", "2"), good), "", 204, `duplicate label name "a"`, `vm_rows_ignored_total{reason="duplicate_label_name"}`, 2},
		"empty label name":  {snap(good, series(1, 1, "__name__", "m", "", "1"), good), "", 204, "empty name", `vm_rows_ignored_total{reason="empty_label_name"}`, 2},
		"empty metric name": {snap(good, series(1, 1, "a", "1"), good), "", 204, "metric name is empty", `vm_rows_ignored_total{reason="empty_metric_name"}`, 2},
		"NaN":               {snap(good, series(math.NaN(), 1, "__name__", "m"), good), "", 204, "", `vm_rows_inserted_total{type="promremotewrite"}`, 3},
		"Inf and stale":     {snap(series(math.Inf(1), 1, "__name__", "m"), series(math.Inf(-1), 1, "__name__", "m"), series(stale, 1, "__name__", "m")), "", 204, "", `vm_rows_inserted_total{type="promremotewrite"}`, 3},
		"empty labels":      {snap(series(1, 1, "__name__", "m", "a", "", "b", "x")), "", 204, "", `vm_rows_inserted_total{type="promremotewrite"}`, 1},
	} {
		s := newServer(t, Cluster, "-maxInsertRequestSize=900", "-maxLabelValueLen=300")
		w := s.do("POST", "/insert/1/prometheus/api/v1/write?"+c.args, c.body, "Content-Encoding", "snappy")
		rows := s.take()
		got := w.Body.String() + w.Header().Get("X-Drop-Reason")
		if w.Code != c.status || !strings.Contains(got, c.text) || (c.text == "") != (got == "") || len(rows) != c.rows {
			t.Errorf("%s: status %d %q, rows %q; want %d %q and %d rows", name, w.Code, got, rows, c.status, c.text, c.rows)
		}
		if s.metric(t, c.metric) == "0" {
			t.Errorf("%s: %s is 0", name, c.metric)
		}
		if w.Code != 204 && !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: content type %q", name, w.Header().Get("Content-Type"))
		}
	}
}

func TestUnsupportedPathIsCounted(t *testing.T) {
	s := newServer(t, Cluster)
	s.do("POST", "/insert/0/nosuch", nil)
	if n := s.metric(t, `vm_http_request_errors_total{path="*", reason="unsupported"}`); n != "1" {
		t.Errorf("counted %s", n)
	}
}

func TestImports(t *testing.T) {
	s := newServer(t, SingleNode)
	const ts = 1717200000000
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	fmt.Fprintf(zw, "zipped 1 %d\n", ts)
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		url, body, encoding string
		status              int
		want                []string
		header              string
	}{
		{"/api/v1/import/prometheus?timestamp=1717200000001", "a 1\nb{c=\"d\"} 2 1717200000000\n", "", 204, []string{"a@1717200000001=1", `b{c="d"}@1717200000000=2`}, ""},
		{"/api/v1/import/prometheus?timestamp=zz", "a 1", "", 400, nil, ""},
		{"/api/v1/import/prometheus", zipped.String(), "gzip", 204, []string{"zipped@1717200000000=1"}, ""},
		{"/api/v1/import/prometheus", "ok 1 1717200000000\nbad{ 1\nnovalue\nx abc\nok2 2 1717200000000\n", "", 204, []string{"ok2@1717200000000=2", "ok@1717200000000=1"}, "3"},
		{"/api/v1/import/prometheus", "x", "br", 400, nil, ""},
		{"/api/v1/import?extra_label=z%3D1", `{"metric":{"__name__":"j"},"values":[1,null,"Infinity"],"timestamps":[1,2,3]}`, "", 204, []string{`j{z="1"}@1=1`, `j{z="1"}@3=+Inf`}, ""},
		{"/api/v1/import", "{bad json\n" + `{"metric":{"__name__":"j"},"values":[1],"timestamps":[1]}`, "", 204, []string{"j@1=1"}, "1"},
		{"/api/v1/import?values=bits", `{"metric":{"__name__":"j"},"values":["3ff0000000000000",null,"7ff8000000000001"],"timestamps":[1,2,3]}`, "", 204, []string{"j@1=1", "j@3=NaN"}, ""},
		{"/api/v1/import?values=bits", `{"metric":{"__name__":"j"},"values":[1],"timestamps":[1]}` + "\n" + `{"metric":{"__name__":"j"},"values":["3ff"],"timestamps":[1]}`, "", 204, nil, "2"},
		{"/api/v1/import?values=hex", "", "", 400, nil, ""},
		{"/api/v1/import/csv?format=1:metric:x,2:time:unix_s&extra_label=z%3D1", "x,time\n5,1717200000\nbad,1\n", "", 204, []string{`x{z="1"}@1717200000000=5`}, "1"},
		{"/api/v1/import/csv?format=1:metric:x,2:time:zz", "5,1", "", 400, nil, ""},
		{"/prometheus/api/v1/import/csv", "5,1", "", 400, nil, ""},
		{"/api/v1/import/native", "", "", 204, nil, ""},
		{"/api/v1/import/native", "garbage", "", 400, nil, ""},
		{"/api/v1/import", "", "", 204, nil, ""},
		{"/api/v1/import", "nogzip", "gzip", 400, nil, ""},
		{"/api/v1/import/prometheus/metrics/job@base64/L3Zhci90bXA=/a@base64/=", "pg 5 1717200000000", "", 204, []string{`pg{job="/var/tmp"}@1717200000000=5`}, ""},
		{"/api/v1/import/prometheus/metrics/job/j1/instance/i1", `pg{job="own"} 5 1717200000000`, "", 200, []string{`pg{instance="i1",job="j1"}@1717200000000=5`}, ""},
	} {
		w := s.do("POST", c.url, strings.NewReader(c.body), "Content-Encoding", c.encoding)
		var want []string
		for _, row := range c.want {
			want = append(want, "tenant 0:0 "+row)
		}
		if rows := s.take(); w.Code != c.status || !slices.Equal(rows, want) || w.Header().Get("X-Rows-Invalid") != c.header {
			t.Errorf("%s: status %d %q, headers %v, rows %q; want %q", c.url, w.Code, w.Body, w.Header(), rows, want)
		}
	}
	before := time.Now().UnixMilli()
	s.do("POST", "/api/v1/import/prometheus", strings.NewReader("now 1"))
	var got int64
	if rows := s.take(); len(rows) != 1 {
		t.Errorf("rows %q", rows)
	} else if _, err := fmt.Sscanf(rows[0], "tenant 0:0 now@%d=1", &got); err != nil || got < before || got > time.Now().UnixMilli() {
		t.Errorf("%q has a wrong time, %v", rows[0], err)
	}
}

func TestStatusOfIngesterErrors(t *testing.T) {
	for kind, status := range map[errkind.Kind]int{
		errkind.Unavailable: 503, errkind.Overloaded: 503, errkind.ReadOnly: 503, errkind.Draining: 503, errkind.Timeout: 503,
		errkind.Internal: 500, errkind.BadRequest: 400, errkind.Unprocessable: 422,
	} {
		s := newServer(t, Cluster)
		s.err = errkind.New(kind, "storage says no").WithRetryAfter(1500 * time.Millisecond)
		w := s.do("POST", "/insert/0/prometheus/api/v1/write", snap(series(1, 1, "__name__", "m")))
		if w.Code != status || !strings.Contains(w.Body.String(), "storage says no") {
			t.Errorf("%s: status %d %q; want %d", kind, w.Code, w.Body, status)
		}
		if hint := w.Header().Get("Retry-After"); (status == 503) != (hint == "2") {
			t.Errorf("%s: Retry-After %q", kind, hint)
		}
		if n := s.metric(t, `vm_rows_inserted_total{type="promremotewrite"}`); n != "0" {
			t.Errorf("%s: %s rows counted as inserted", kind, n)
		}
	}
}

// TestStalledSendersMayTryAgain checks that a sender whose body stalled is not told to throw its data away.
func TestStalledSendersMayTryAgain(t *testing.T) {
	stalled := errkind.New(errkind.Timeout, "nothing came")
	for _, path := range []string{"write", "import", "import/prometheus"} {
		for _, begun := range []string{"", "m 1\n"} {
			s := newServer(t, SingleNode)
			w := s.do("POST", "/api/v1/"+path, io.MultiReader(strings.NewReader(begun), iotest.ErrReader(stalled)))
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s after %q: status %d, %s", path, begun, w.Code, w.Body)
			}
		}
	}
}

func TestConcurrencyLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Cluster, "-maxConcurrentInserts=2", "-insert.maxQueueDuration=10s")
		s.hold = make(chan struct{})
		codes := make(chan *httptest.ResponseRecorder, 3)
		for range 3 {
			go func() {
				codes <- s.do("POST", "/insert/0/prometheus/api/v1/write", snap(series(1, 1, "__name__", "m")))
			}()
		}
		synctest.Wait()
		if n := s.metric(t, "vm_concurrent_insert_current"); n != "2" {
			t.Errorf("%s requests under way", n)
		}
		time.Sleep(11 * time.Second) // of the bubble's clock
		w := <-codes
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "-maxConcurrentInserts") {
			t.Errorf("status %d %q", w.Code, w.Body)
		}
		close(s.hold)
		for range 2 {
			if w := <-codes; w.Code != 204 {
				t.Errorf("status %d %q", w.Code, w.Body)
			}
		}
		for name, want := range map[string]string{"vm_concurrent_insert_current": "0", "vm_concurrent_insert_capacity": "2",
			"vm_concurrent_insert_limit_reached_total": "1", "vm_concurrent_insert_limit_timeout_total": "1"} {
			if got := s.metric(t, name); got != want {
				t.Errorf("%s is %s; want %s", name, got, want)
			}
		}
	})
}

// A sender that has sent nothing yet keeps nobody out.
func TestIdleSendersTakeNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Cluster, "-maxConcurrentInserts=1")
		pr, pw := io.Pipe()
		idle := make(chan *httptest.ResponseRecorder)
		go func() { idle <- s.do("POST", "/insert/0/prometheus/api/v1/import", pr) }()
		synctest.Wait()
		if w := s.do("POST", "/insert/0/prometheus/api/v1/write", snap(series(1, 1, "__name__", "m"))); w.Code != 204 {
			t.Errorf("status %d", w.Code)
		}
		pw.Close()
		if w := <-idle; w.Code != 204 {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestCanceledWhileWaiting(t *testing.T) {
	s := newServer(t, Cluster, "-maxConcurrentInserts=1")
	if err := s.limiter.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.limiter.acquire(ctx); errkind.Of(err) != errkind.Canceled {
		t.Errorf("error %v", err)
	}
	s.limiter.release()
}

// The whole way: HTTP, parser, router, stores, and back through gather.
func TestOverRouterAndGather(t *testing.T) {
	set := metrics.NewSet()
	var in []router.Node
	var out []gather.Node
	for i := range 3 {
		m := apitest.NewMemory()
		in = append(in, router.Node{Name: fmt.Sprint("node", i), Ingester: m})
		out = append(out, gather.Node{Name: fmt.Sprint("node", i), Searcher: m})
	}
	rt, err := router.New(router.Options{Nodes: in, Logger: logger.Discard(), Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	ga, err := gather.New(gather.Options{Nodes: out, Logger: logger.Discard(), Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	var c Config
	c.RegisterFlags(flag.NewFlagSet("test", flag.ContinueOnError))
	api := New(Options{Ingester: rt, Logger: logger.Discard(), Metrics: set, Config: &c})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !api.Handle(w, r) {
			http.NotFound(w, r)
		}
	}))
	defer ts.Close()
	const n = 12_345
	var body strings.Builder
	for i := range n {
		fmt.Fprintf(&body, "metric{i=\"%d\"} %d 1717200000000\n", i, i)
	}
	resp, err := ts.Client().Post(ts.URL+"/insert/3/prometheus/api/v1/import/prometheus", "text/plain", strings.NewReader(body.String()))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 204 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	q := &model.SearchQuery{Tenant: model.TenantID{AccountID: 3}, Range: model.TimeRange{Min: 0, Max: math.MaxInt64}}
	it, err := ga.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	found := 0
	for it.Next() {
		found++
	}
	if found != n || it.Err() != nil {
		t.Errorf("%d of %d series, error %v", found, n, it.Err())
	}
}

func TestHeaderTextIsSafe(t *testing.T) {
	if got := headerText("a\r\nSet-Cookie: x\x00ü" + strings.Repeat("y", 1000)); strings.ContainsAny(got, "\r\n\x00") || len(got) > 500 {
		t.Errorf("header text %q", got)
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("/insert/0/prometheus/api/v1/import/prometheus/metrics/job@base64/x/y/z")
	f.Add("//insert/multitenant///prometheus")
	f.Add("/prometheus/api/v1/write/" + base64.StdEncoding.EncodeToString([]byte("x")))
	f.Fuzz(func(t *testing.T, path string) {
		for _, style := range []PathStyle{Cluster, SingleNode} {
			if _, ok, err := parsePath(style, path); ok && err != nil {
				t.Fatalf("%q is both ours and an error: %v", path, err)
			}
		}
	})
}

type nullIngester struct{}

func (nullIngester) Ingest(context.Context, *model.Batch) error { return nil }

var _ storageapi.Ingester = nullIngester{}

// From an HTTP body to batches routed over three nodes.
func BenchmarkRemoteWrite(b *testing.B) {
	const rows = 5000
	var nodes []router.Node
	for i := range 3 {
		nodes = append(nodes, router.Node{Name: fmt.Sprint("node", i), Ingester: nullIngester{}})
	}
	set := metrics.NewSet()
	rt, err := router.New(router.Options{Nodes: nodes, Logger: logger.Discard(), Metrics: set})
	if err != nil {
		b.Fatal(err)
	}
	var c Config
	c.RegisterFlags(flag.NewFlagSet("test", flag.ContinueOnError))
	api := New(Options{Ingester: rt, Logger: logger.Discard(), Metrics: set, Config: &c})
	var message []byte
	for i := range rows {
		message = append(message, series(float64(i), 1717200000000, "__name__", "node_cpu_seconds_total", "cluster", "production-eu", "cpu", fmt.Sprint(i%64),
			"env", "prod", "instance", fmt.Sprintf("10.0.%d.%d:9100", i/250%250, i%250), "job", "node-exporter", "mode", "idle", "region", "eu-west-1")...)
	}
	packed := snappy.Encode(nil, message)
	body := bytes.NewReader(packed)
	req := httptest.NewRequest("POST", "/insert/0/prometheus/api/v1/write", nil)
	req.Header.Set("Content-Encoding", "snappy")
	b.ReportAllocs()
	b.SetBytes(int64(len(packed)))
	for b.Loop() {
		body.Reset(packed)
		req.Body = io.NopCloser(body)
		w := httptest.NewRecorder()
		if !api.Handle(w, req) || w.Code != 204 {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/sample")
}
