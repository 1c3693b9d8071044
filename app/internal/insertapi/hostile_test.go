package insertapi

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/memory"
)

// protocol is one way to write over HTTP, for tests which send the same kinds of bad input to all of them.
type protocol struct {
	name     string // value of the type label
	path     string // below the tenant
	headers  []string
	status   int       // of a success
	parts    [3]string // what comes before rows, between two, and after the last one
	good     string    // a row
	faults   []string  // what may stand for a row, and is left out
	refused  []string  // bodies of which nothing may be stored
	hasCount bool      // refused bodies count in vm_rows_invalid_total
}

const pointField = "\x22\x0f\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\x80\xc9\xe9\xb2\x06" // of Datadog: 1 at 1717200000

// message returns a protobuf field with bytes.
func message(number protowire.Number, parts ...string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), strings.Join(parts, "")))
}

// otlpGauge is a request with one point; resource is what its resource has.
func otlpGauge(resource string) string {
	point := message(1, "\x19\x00\xe4\x9b\x5f\x5c\xc7\xd4\x17\x21\x00\x00\x00\x00\x00\x00\xf0\x3f") // 1 at 1717200000
	return message(1, message(1, resource), message(2, message(2, message(1, "m"), message(5, point))))
}

// protocols returns all of them.
func protocols() []protocol {
	json := []string{"Content-Type", "application/json"}
	proto := []string{"Content-Type", "application/x-protobuf"}
	badJSON := []string{``, `{bad`, `5`, `"x"`, `null`, "\x00", "[" + strings.Repeat(" ", 10), `{"a":"` + "\xff\n", `{"a":1`, strings.Repeat("[", 4<<20), strings.Repeat(`{"a":`, 1<<20)}
	badProto := []string{"\xff", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x0a\x05a", "\x0a", strings.Repeat("\x0b", 1<<20), "\x07"}
	return []protocol{
		{name: "prometheus", path: "prometheus/api/v1/import/prometheus", status: 204, parts: [3]string{"", "\n", ""}, good: "m 1 1717200000",
			faults: []string{"bad{ 1", "novalue", "m abc", `m{a="b" 1`, `m{a="b"} `, "m 1 x", "\x00\xff", "{", `m{a="`, `m{a="b"x} 1`, `m{=} 1`, strings.Repeat("x", 2<<20), strings.Repeat("{", 1<<19)}},
		{name: "vmimport", path: "prometheus/api/v1/import", status: 204, parts: [3]string{"", "\n", ""}, good: `{"metric":{"__name__":"m"},"values":[1],"timestamps":[1717200000000]}`,
			faults: []string{"{bad", "5", "{}", "[]", `{"metric":{}}`, `{"metric":5,"values":[1],"timestamps":[1]}`, `{"metric":{"a":5},"values":[1],"timestamps":[1]}`, `{"metric":{"a":"b"},"values":[1,2],"timestamps":[1]}`,
				`{"metric":{"a":"b"},"values":["x"],"timestamps":[1]}`, `{"metric":{"a":"b"},"values":[1],"timestamps":["x"]}`, "\xff\x00", strings.Repeat("[", 1<<20), strings.Repeat(`{"metric":`, 1<<18), strings.Repeat("x", 11<<20)}},
		{name: "csvimport", path: "prometheus/api/v1/import/csv?format=1:metric:m,2:time:unix_s", status: 204, parts: [3]string{"", "\n", ""}, good: "1,1717200000",
			faults: []string{"x,1717200000", "1", "1,x", "\x00", strings.Repeat("1", 11<<20)}},
		{name: "influx", path: "influx/write", headers: []string{"Stream-Mode", "1"}, status: 204, parts: [3]string{"", "\n", ""}, good: "m f=1 1717200000",
			faults: []string{"m", "m f", "m f=", "m f=x", "m,a f=1", ",a=b f=1", "m f=1 x", `m f="open`, "\x00", strings.Repeat("m", 1<<20)}},
		{name: "influx", path: "influx/write", status: 204, parts: [3]string{"", "\n", ""}, good: "m f=1 1717200000", refused: []string{"m f=1\nm", `m f="open`, "m f=1\n\x00"}, hasCount: true},
		{name: "zabbixconnector", path: "zabbixconnector/api/v1/history", status: 200, parts: [3]string{"", "\n", ""}, good: `{"host":{"host":"h"},"name":"m","clock":1717200000,"value":1,"type":0}`,
			faults: []string{"{bad", "5", "{}", `{"host":{"host":"h"},"name":"m","clock":1717200000,"value":"x","type":0}`, strings.Repeat("[", 1<<20), strings.Repeat("x", 33<<20)}},
		{name: "newrelic", path: "newrelic/infra/v2/metrics/events/bulk", status: 202, parts: [3]string{`[{"Events":[`, ",", "]}]"}, good: `{"m":1,"timestamp":1717200000}`,
			faults: []string{"5", "[]", `{"m":1,"timestamp":"x"}`, `{"m":1e999}`, "null"}, refused: badJSON},
		{name: "opentsdbhttp", path: "opentsdb/api/put", status: 204, parts: [3]string{"[", ",", "]"}, good: `{"metric":"m","timestamp":1717200000,"value":1}`,
			faults: []string{"5", "[]", `{"metric":"m","value":"x"}`, `{"value":1}`, `{"metric":"m","value":1,"tags":{"a":5}}`, `{"metric":"m","value":1,"tags":{"a":` + strings.Repeat("[", 90) + strings.Repeat("]", 90) + `}}`}, refused: badJSON},
		{name: "datadogv1", path: "datadog/api/v1/series", status: 202, parts: [3]string{`{"series":[`, ",", "]}"}, good: `{"metric":"m","points":[[1717200000,1]]}`,
			faults: []string{"5", "[]", `{"metric":5,"points":[[1717200000,1]]}`, `{"metric":"m","points":[[1]]}`, `{"metric":"m","points":5}`}, refused: badJSON},
		{name: "datadogv2", path: "datadog/api/v2/series", headers: json, status: 202, parts: [3]string{`{"series":[`, ",", "]}"}, good: `{"metric":"m","points":[{"timestamp":1717200000,"value":1}]}`,
			faults: []string{"5", "[]", `{"metric":"m","points":[{"timestamp":"x","value":1}]}`}, refused: badJSON},
		{name: "datadogv2", path: "datadog/api/v2/series", headers: proto, status: 202, good: message(1, message(2, "m"), pointField),
			faults: []string{message(1, message(2, "m"), message(4, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))}, refused: badProto},
		{name: "datadogsketches", path: "datadog/api/beta/sketches", status: 202, faults: []string{message(1, message(1, "m"), message(7, "\x38\x02")), message(1, message(3, "\x08\x01"))}, refused: badProto},
		{name: "opentelemetry", path: "opentelemetry/v1/metrics", status: 200, good: otlpGauge(""), refused: badProto},
		{name: "opentelemetry", path: "opentelemetry/v1/metrics", headers: json, status: 200, refused: slices.Concat(badJSON[:4], badJSON[5:], []string{`{"resourceMetrics":5}`, `{"resourceMetrics":[{"resource":[]}]}`})},
		{name: "opentelemetry", path: "opentelemetry/api/v1/push", headers: append(json, "X-Amz-Firehose-Request-Id", "1"), status: 200,
			refused: []string{``, `{bad`, `{"records":[{"data":"!"}]}`, `{"records":[{"data":"` + base64.StdEncoding.EncodeToString([]byte("\xff\xff")) + `"}]}`, strings.Repeat("[", 1<<20)}},
		{name: "promremotewrite", path: "prometheus/api/v1/write", status: 204, good: string(series(1, 1717200000000, "__name__", "m")), refused: badProto[:4]},
		{name: "promremotewrite", path: "prometheus/api/v1/write", headers: []string{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"}, status: 204, refused: badProto[:4]},
		{name: "native", path: "prometheus/api/v1/import/native", status: 204, refused: []string{"garbage", "\xff", strings.Repeat("\x00", 1<<20)}},
	}
}

func (p *protocol) body(rows ...string) string {
	return p.parts[0] + strings.Join(rows, p.parts[1]) + p.parts[2]
}

func (p *protocol) send(s *server, body io.Reader, headers ...string) (status int, invalid, reason string) {
	headers = append(slices.Clone(p.headers), headers...)
	var w *httptest.ResponseRecorder
	if p.name == "opentsdbhttp" {
		w = httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/insert/1/"+p.path, body)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		s.HandleOpenTSDB(w, r)
	} else {
		w = s.do("POST", "/insert/1/"+p.path, body, headers...)
	}
	return w.Code, w.Header().Get("X-Rows-Invalid"), w.Header().Get("X-Drop-Reason")
}

// pack compresses what remote write does not take otherwise.
func (p *protocol) pack(body string) io.Reader {
	if p.name == "promremotewrite" {
		return snap([]byte(body))
	}
	return strings.NewReader(body)
}

// TestMalformed: what is right before and behind a fault is stored, and counters and answer say what was left out and why; formats
// which are read as a whole store nothing of a body that is broken.
func TestMalformed(t *testing.T) {
	for _, p := range protocols() {
		invalid := fmt.Sprintf("vm_rows_invalid_total{type=%q}", p.name)
		for _, fault := range p.faults {
			s := newServer(t, Cluster)
			rows, want := []string{fault}, 0
			if p.good != "" {
				rows, want = []string{p.good, fault, p.good}, 2
			}
			status, n, reason := p.send(s, p.pack(p.body(rows...)))
			if stored := s.take(); status != p.status || n != "1" || reason == "" || len(reason) > 1000 || len(stored) != want || s.metric(t, invalid) != "1" {
				t.Errorf("%s, %.100q: status %d, %s invalid, %q, counted %s, stored %q", p.path, fault, status, n, reason, s.metric(t, invalid), stored)
			}
		}
		for _, body := range p.refused {
			s := newServer(t, Cluster)
			status, _, _ := p.send(s, p.pack(body))
			counted := s.metric(t, invalid)
			if !p.hasCount {
				counted = s.metric(t, fmt.Sprintf("vm_protoparser_unmarshal_errors_total{type=%q}", p.name))
			}
			if stored := s.take(); status != http.StatusBadRequest || len(stored) > 0 || counted != "1" {
				t.Errorf("%s, %.100q: status %d, %s faults counted, stored %q", p.path, body, status, counted, stored)
			}
		}
	}
}

// TestMalformedLines does the same for what comes over TCP and UDP.
func TestMalformedLines(t *testing.T) {
	for proto, c := range map[Protocol]struct{ name, good, faults string }{
		Influx:   {"influx", "m f=1 1717200000", "m\nm f\n\x00"},
		Graphite: {"graphite", "m 1 1717200000", "m\nm x\n\x00"},
		OpenTSDB: {"opentsdb", "put m 1717200000 1", "version\nput m\n\x00"},
	} {
		s := newServer(t, SingleNode)
		lines := s.Lines(proto)
		text := c.good + "\n" + c.faults + "\n" + strings.Repeat("x", lines.MaxLen+1) + "\n" + c.good
		err := lines.Store(context.Background(), []byte(text))
		if stored := s.take(); err != nil || len(stored) != 2 || s.metric(t, fmt.Sprintf("vm_rows_invalid_total{type=%q}", c.name)) != "4" {
			t.Errorf("%s: stored %q, error %v", c.name, stored, err)
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// hugeRows returns rows, and bodies in which they are rows, that are large in one way or another, by the name of the protocol.
func hugeRows() map[string][]string {
	const size = 1 << 19
	list := func(item, sep string) string {
		return strings.Repeat(item+sep, size/len(item+sep)) + item
	}
	numbered := func(format, sep string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, format+sep, i)
		}
		return strings.TrimSuffix(b.String(), sep)
	}
	big, pairs := strings.Repeat("v", size), numbered(`"%x":""`, ",")
	sketch := message(7, "\x08\x01\x10\x01\x38\x02\x40\x01")
	return map[string][]string{
		"prometheus": {"m{" + numbered(`a%x="b"`, ",")[:size-100], `m{a="` + big, list("{", "\n"), list("m 1", "\n"), numbered("m%x 1", "\n")},
		"vmimport": {`{"metric":{` + pairs + `},"values":[1],"timestamps":[1]}`, `{"metric":{"__name__":"` + big + `"},"values":[1],"timestamps":[1]}`, `{"metric":{"__name__":"m"},"values":[` + list("1", ",") + `],"timestamps":[1]}`,
			list("{}", "\n"), "[" + list("{}", ",") + "]", "[" + list("0", ",") + "]"},
		"csvimport": {big, list("1", ","), list(`1,1`, "\n")},
		"influx":    {"m," + numbered("a%x=b", ",")[:200_000] + " f=1", "m,a=" + big + " f=1", "m " + numbered("a%x=1", ","), "m f=1\n" + list("m f=1", "\n"), "m " + list("f=1", ",")},
		"zabbixconnector": {`{"host":{"host":"h"},"name":"m","clock":1,"value":1,"type":0,"item_tags":[` + list(`{"tag":"a","value":"b"}`, ",") + `]}`,
			`{"host":{"host":"h"},"name":"m","clock":1,"value":1,"type":0,"item_tags":[` + list(`{}`, ",") + `]}`, `{"host":{"host":"h"},"name":"` + big + `","clock":1,"value":1,"type":0}`, list("{}", "\n")},
		"newrelic":        {`{"m":1,` + pairs + `}`, `{"m":1,"a":"` + big + `"}`, "{" + numbered(`"a%x":1`, ",") + "}", list("{}", ","), list("5", ",")},
		"datadogv1":       {`{"metric":"m","points":[[1,1]],"tags":[` + list(`"a:b"`, ",") + `]}`, `{"metric":"m","points":[[1,1]],"tags":["` + big + `"]}`, `{"metric":"m","points":[` + list("[1,1]", ",") + "]}", list("{}", ","), list("5", ",")},
		"opentsdbhttp":    {`{"metric":"m","value":1,"tags":{` + pairs + `}}`, `{"metric":"m","value":1,"tags":{"a":"` + big + `"}}`, list("{}", ","), `{"metric":"m","value":1,"tags":{"a":[` + list("{}", ",") + `]}}`},
		"datadogsketches": {message(1, message(1, "m"), list(message(4, "a"), ""), sketch), message(1, message(1, "m"), list(sketch, "")), list(message(1), ""), message(1, message(1, "m"), message(7, list("\x38\x02\x40\x01", "")))},
		"opentelemetry": {otlpGauge(list(message(1, message(1, "a"), message(2, message(1, "b"))), "")), otlpGauge(message(1, message(1, "a"), message(2, message(1, big)))), list(message(1), ""),
			otlpGauge(message(1, message(1, "a"), message(2, message(5, list(message(1), ""))))), list(otlpGauge(""), "")},
		"promremotewrite": {message(1, list(message(1, message(1, "a"), message(2, "b")), ""), "\x12\x00"), message(1, message(1, message(1, "a"), message(2, big)), "\x12\x00"), list(message(1), ""), list(message(1, "\x12\x00"), "")},
		"native":          {big},
	}
}

// TestHugeRows: rows of very many labels, fields, tags, points or elements, labels of half a megabyte, and bodies of nothing but faults take a bounded multiple of their size
// in memory, even without limits on labels. All allocations are counted, also what is no longer used.
func TestHugeRows(t *testing.T) {
	rows := hugeRows()
	for _, p := range protocols() {
		if len(p.headers) > 0 && p.name != "influx" {
			continue
		}
		s := newServer(t, Cluster, "-maxLabelsPerTimeseries=0", "-maxLabelValueLen=0")
		s.API.ingester = discard{}
		for i, row := range rows[p.name] {
			body := p.body(row)
			got := allocated(func() { p.send(s, p.pack(body)) })
			if most := uint64(4<<20 + 64*len(body)); got > most {
				t.Errorf("%s%v, row %d: %d bytes allocated for a body of %d", p.path, p.headers, i, got, len(body))
			}
		}
	}
}

// compress returns a body of so many spaces in each content encoding.
func compress(t *testing.T, size int) map[string][]byte {
	t.Helper()
	spaces := bytes.Repeat([]byte{' '}, size)
	packed := map[string][]byte{"snappy": snappy.Encode(nil, spaces)}
	for name, open := range map[string]func(w io.Writer) (io.WriteCloser, error){
		"gzip":    func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) },
		"deflate": func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriterLevel(w, zlib.BestSpeed) },
		"zstd":    func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithWindowSize(8<<20)) },
	} {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(spaces); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		packed[name] = b.Bytes()
	}
	return packed
}

// TestDecompressionBombs: a body which becomes larger than the limit when it is decompressed is refused before it is in memory, and one that is streamed never is.
func TestDecompressionBombs(t *testing.T) {
	const size = 32 << 20
	limits := []string{"-maxInsertRequestSize=1MiB", "-influx.maxRequestSize=1MiB", "-newrelic.maxInsertRequestSize=1MiB", "-datadog.maxInsertRequestSize=1MiB", "-opentelemetry.maxRequestSize=1MiB",
		"-opentsdbhttp.maxInsertRequestSize=1MiB", "-import.maxLineLen=1MiB", "-zabbixconnector.maxLineLen=1MiB", "-influx.maxLineSize=1MiB"}
	packed := compress(t, size)
	for _, p := range protocols() {
		streamed := p.parts[1] == "\n" && len(p.refused) == 0 || p.name == "native"
		for encoding, body := range packed {
			s := newServer(t, Cluster, limits...)
			var status int
			got := allocated(func() { status, _, _ = p.send(s, bytes.NewReader(body), "Content-Encoding", encoding) })
			most := uint64(16 << 20)
			if streamed && encoding == "snappy" {
				most = 2 * size // its blocks are decompressed at once, up to 64 MiB
			}
			if want := http.StatusRequestEntityTooLarge; got > most || !streamed && status != want || streamed && status == want {
				t.Errorf("%s, %s: status %d, %d bytes allocated", p.path, encoding, status, got)
			}
		}
	}
}

// TestSlowSenders: senders which have begun and send nothing more keep nobody out, as long as there is memory for what they have sent.
func TestSlowSenders(t *testing.T) {
	for _, c := range []struct {
		path, begin, end string
		budget           int64
		status           int // of the one who comes after
	}{
		{"prometheus/api/v1/import/prometheus", "a 1\n", "b 1\n", 1 << 20, 204},
		{"influx/write", "a f=1\n", "b f=1\n", 1 << 20, 204},
		{"influx/write", "a f=1\n", "b f=1\n", 1, 503},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, Cluster, "-maxConcurrentInserts=2", "-insert.maxQueueDuration=10s")
			s.API.budget = memory.NewBudget(c.budget)
			var senders []*io.PipeWriter
			codes := make(chan int, 3)
			for range cap(codes) {
				r, w := io.Pipe()
				senders = append(senders, w)
				go func() {
					code := s.do("POST", "/insert/0/"+c.path, r).Code
					_ = r.Close()
					codes <- code
				}()
				_, _ = io.WriteString(w, c.begin)
			}
			time.Sleep(time.Second) // of the bubble's clock
			if got := s.do("POST", "/insert/0/"+c.path, strings.NewReader(c.begin)).Code; got != c.status {
				t.Errorf("%s with %d bytes of memory: status %d", c.path, c.budget, got)
			}
			for _, w := range senders {
				_, _ = io.WriteString(w, c.end)
				_ = w.Close()
			}
			refused := 0
			for range senders {
				if <-codes != 204 {
					refused++
				}
			}
			want := map[int]int{204: 7, 503: 4}[c.status] // rows
			if rows := s.take(); len(rows) != want || refused != (7-want)/3 {
				t.Errorf("%s with %d bytes of memory: %d refused, rows %q", c.path, c.budget, refused, rows)
			}
			if n := s.metric(t, "vm_concurrent_insert_current"); n != "0" || s.API.budget.Used() != 0 {
				t.Errorf("%s: %s requests under way, %d bytes reserved", c.path, n, s.API.budget.Used())
			}
		})
	}
}

// TestAgentsOfAllTenants: below /insert/multitenant rows of Datadog and Zabbix name their tenant, too.
func TestAgentsOfAllTenants(t *testing.T) {
	s := newServer(t, Cluster)
	for _, c := range [][2]string{
		{"datadog/api/v1/series", `{"series":[{"metric":"m","points":[[1717200000,1]],"tags":["vm_account_id:7","vm_project_id:9"]}]}`},
		{"datadog/api/v2/series", `{"series":[{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"tags":["vm_account_id:7","vm_project_id:9"]}]}`},
		{"zabbixconnector/api/v1/history?extra_label=vm_account_id=7&extra_label=vm_project_id=9", `{"host":{"host":"h"},"name":"m","clock":1717200000,"value":1,"type":0}`},
	} {
		w := s.do("POST", "/insert/multitenant/"+c[0], strings.NewReader(c[1]))
		if rows := s.take(); w.Code > 202 || len(rows) != 1 || !strings.HasPrefix(rows[0], "tenant 7:9 m") || s.metric(t, `vm_tenant_inserted_rows_total{type="datadogv1",accountID="7",projectID="9"}`) != "1" {
			t.Errorf("%s: status %d, rows %q", c[0], w.Code, rows)
		}
	}
}
