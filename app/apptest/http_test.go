package apptest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"

	"vmcluster/lib/prompb"
)

// client is used for all requests. Every test has processes of its own, so the connections do not mix.
var client = &http.Client{
	Timeout:   60 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 10 * time.Second},
}

// answer is what a server said.
type answer struct {
	status int
	header http.Header
	body   string
}

// String is for messages of failed tests.
func (a answer) String() string {
	const most = 2000
	return fmt.Sprintf("status %d, body %.*q", a.status, most, a.body)
}

// do sends a request. Headers are given as alternating names and values.
func do(method, target string, body []byte, headers ...string) (answer, error) {
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(text)}, err
}

// request is do for the goroutine of a test, which fails when there is no answer.
func request(t testing.TB, method, target string, body []byte, headers ...string) answer {
	t.Helper()
	a, err := do(method, target, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %s", method, target, err)
	}
	return a
}

// get sends a GET request; args are alternating names and values.
func get(t testing.TB, target string, args ...string) answer {
	t.Helper()
	if len(args) > 0 {
		target += "?" + encode(args)
	}
	return request(t, http.MethodGet, target, nil)
}

// postForm sends the arguments in the body.
func postForm(t testing.TB, target string, args ...string) answer {
	t.Helper()
	return request(t, http.MethodPost, target, []byte(encode(args)), "Content-Type", "application/x-www-form-urlencoded")
}

func encode(args []string) string {
	v := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		v.Add(args[i], args[i+1])
	}
	return v.Encode()
}

// want fails the test unless the answer has the status and holds all texts.
func (a answer) want(t testing.TB, status int, texts ...string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s; want status %d", a, status)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("%s; want %q in it", a, text)
		}
	}
	return a
}

// ts is a series to be written.
type ts struct {
	labels  []prompb.Label
	samples []prompb.Sample
}

// series returns a series with labels given as alternating names and values.
func series(labels ...string) ts {
	var s ts
	for i := 0; i+1 < len(labels); i += 2 {
		s.labels = append(s.labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return s
}

// at adds a sample.
func (s ts) at(ms int64, v float64) ts {
	s.samples = append(s.samples[:len(s.samples):len(s.samples)], prompb.Sample{Timestamp: ms, Value: v})
	return s
}

// writeRequest returns an uncompressed remote write request.
func writeRequest(list ...ts) []byte {
	var b []byte
	for _, s := range list {
		b = prompb.AppendTimeSeries(b, &prompb.TimeSeries[prompb.Label]{Labels: s.labels, Samples: s.samples})
	}
	return b
}

func snappyBody(list ...ts) []byte { return snappy.Encode(nil, writeRequest(list...)) }

func zstdBody(t testing.TB, list ...ts) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(writeRequest(list...), nil)
}

// remoteWrite sends series as Prometheus does.
func remoteWrite(target string, list ...ts) (answer, error) {
	return do(http.MethodPost, target, snappyBody(list...), "Content-Encoding", "snappy", "Content-Type", "application/x-protobuf",
		"X-Prometheus-Remote-Write-Version", "0.1.0")
}

// mustWrite sends series, which must be acknowledged.
func mustWrite(t testing.TB, target string, list ...ts) {
	t.Helper()
	a, err := remoteWrite(target, list...)
	if err != nil {
		t.Fatalf("cannot write to %s: %s", target, err)
	}
	if a.status != http.StatusNoContent || a.header.Get("X-Rows-Dropped") != "" || a.header.Get("X-Rows-Invalid") != "" {
		t.Fatalf("write to %s: %s, headers %v", target, a, a.header)
	}
}

// exported is an answer of /api/v1/export: samples by series, where a series is written as
// its labels in JSON with sorted names.
type exported map[string][]point

// point is a sample as export shows it: the value is a number, null, "Infinity" or "-Infinity".
type point struct {
	ms    int64
	value string
}

// parseExport parses JSON lines. Lines of the same series are joined.
func parseExport(body string) (exported, error) {
	e := exported{}
	sc := bufio.NewScanner(strings.NewReader(body))
	sc.Buffer(nil, 1<<30)
	for sc.Scan() {
		var line struct {
			Metric     map[string]string `json:"metric"`
			Values     []json.RawMessage `json:"values"`
			Timestamps []int64           `json:"timestamps"`
		}
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("cannot parse line of export %.200q: %w", sc.Text(), err)
		}
		if len(line.Values) != len(line.Timestamps) || len(line.Values) == 0 {
			return nil, fmt.Errorf("%d values and %d timestamps in line of export %.200q", len(line.Values), len(line.Timestamps), sc.Text())
		}
		key, err := json.Marshal(line.Metric) // sorts the names
		if err != nil {
			return nil, err
		}
		for i, v := range line.Values {
			e[string(key)] = append(e[string(key)], point{line.Timestamps[i], string(v)})
		}
	}
	return e, sc.Err()
}

// export reads the raw samples of a selector.
func export(t testing.TB, base, selector string, args ...string) exported {
	t.Helper()
	a := get(t, base+"/api/v1/export", append([]string{"match[]", selector}, args...)...).want(t, http.StatusOK)
	e, err := parseExport(a.body)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// samples returns how many samples there are.
func (e exported) samples() int {
	n := 0
	for _, points := range e {
		n += len(points)
	}
	return n
}

// String shows the series in a fixed order.
func (e exported) String() string {
	var lines []string
	for key, points := range e {
		var b strings.Builder
		b.WriteString(key)
		for _, p := range points {
			fmt.Fprintf(&b, " %s@%d", p.value, p.ms)
		}
		lines = append(lines, b.String())
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// metric returns the sum of the series of a metric family at /metrics whose label sets contain all
// the given texts, such as `type="promremotewrite"`. It is an error when there is none.
func metric(addr, family string, labels ...string) (float64, error) {
	a, err := do(http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(a.body) {
		name, value, ok := cutLast(strings.TrimSpace(line), " ")
		if f, _, _ := strings.Cut(name, "{"); !ok || f != family || !containsAll(name, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot parse metric line %q: %w", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s with labels %q at http://%s/metrics", family, labels, addr)
	}
	return sum, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

func mustMetric(t testing.TB, addr, family string, labels ...string) float64 {
	t.Helper()
	v, err := metric(addr, family, labels...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// waitMetric waits until the metric has at least the given value.
func waitMetric(t testing.TB, least float64, addr, family string, labels ...string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("%s%v >= %v at %s", family, labels, least, addr), func() error {
		v, err := metric(addr, family, labels...)
		if err == nil && v < least {
			err = fmt.Errorf("it is %v", v)
		}
		return err
	})
}

// queried is an answer of the query API.
type queried struct {
	Status    string `json:"status"`
	IsPartial bool   `json:"isPartial"`
	Data      struct {
		ResultType string `json:"resultType"`
		Result     []struct {
			Metric map[string]string    `json:"metric"`
			Value  [2]json.RawMessage   `json:"value"`
			Values [][2]json.RawMessage `json:"values"`
		} `json:"result"`
	} `json:"data"`
	ErrorType string `json:"errorType"`
	Error     string `json:"error"`
}

// parseQuery parses the answer to a query, which must have succeeded.
func parseQuery(t testing.TB, a answer) queried {
	t.Helper()
	a.want(t, http.StatusOK)
	var q queried
	if err := json.Unmarshal([]byte(a.body), &q); err != nil || q.Status != "success" {
		t.Fatalf("cannot parse answer %s: %v", a, err)
	}
	return q
}

// instant evaluates an instant query and returns its values, each as name{labels} value, in order.
// The latency offset is off, so that the youngest sample counts.
func instant(t testing.TB, base, query string, at int64, args ...string) []string {
	t.Helper()
	args = append([]string{"query", query, "time", seconds(at), "latency_offset", "0s"}, args...)
	return vector(t, parseQuery(t, get(t, base+"/api/v1/query", args...)))
}

func vector(t testing.TB, q queried) []string {
	t.Helper()
	list := []string{}
	for _, r := range q.Data.Result {
		var value string
		if err := json.Unmarshal(r.Value[1], &value); err != nil {
			t.Fatalf("value %s is no string: %s", r.Value[1], err)
		}
		list = append(list, name(r.Metric)+" "+value)
	}
	return list
}

// name writes labels as name{a="b"}.
func name(metric map[string]string) string {
	var labels []string
	for k, v := range metric {
		if k != "__name__" {
			labels = append(labels, k+"="+strconv.Quote(v))
		}
	}
	sort.Strings(labels)
	return metric["__name__"] + "{" + strings.Join(labels, ",") + "}"
}

// seconds writes Unix milliseconds as seconds.
func seconds(ms int64) string {
	if ms%1000 == 0 {
		return strconv.FormatInt(ms/1000, 10)
	}
	return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)
}

// anHourAgo is a full minute about an hour ago, in Unix milliseconds: old enough for the latency offset,
// young enough for every retention.
func anHourAgo() int64 {
	return time.Now().Add(-time.Hour).Truncate(time.Minute).UnixMilli()
}

// number parses a value of an export.
func number(v string) float64 {
	f, err := strconv.ParseFloat(strings.Trim(v, `"`), 64)
	if err != nil {
		return math.NaN()
	}
	return f
}
