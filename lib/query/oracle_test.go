package query

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// The oracle is a set of series and of recorded answers to expressions over them.
const (
	oracleDir   = "testdata/oracle/"
	oracleStart = int64(1768370400000) // data covers two hours from here
	oracleKnown = "testdata/oracle-known.txt"
)

func readLines(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(data), "\n"), "\n")
}

// importLine is a series as the import API takes it. Infinities are strings, staleness markers are null.
type importLine struct {
	Metric     map[string]string
	Values     []any
	Timestamps []int64
}

func loadImport(t testing.TB, m *memSource, path string) {
	t.Helper()
	for _, line := range readLines(t, path) {
		var in importLine
		if err := json.Unmarshal([]byte(line), &in); err != nil {
			t.Fatalf("%s: %s", path, err)
		}
		values := make([]float64, len(in.Values))
		for i, v := range in.Values {
			switch v := v.(type) {
			case nil:
				values[i] = math.Float64frombits(0x7ff0000000000002)
			case float64:
				values[i] = v
			case string:
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					t.Fatalf("%s: %s", path, err)
				}
				values[i] = f
			}
		}
		m.add(in.Metric, in.Timestamps, values)
	}
}

func oracleSource(t testing.TB) *memSource {
	m := newMemSource()
	loadImport(t, m, oracleDir+"data.jsonl")
	loadImport(t, m, oracleDir+"stale.jsonl")
	return m
}

// oracleRequest returns the request of a mode and whether it is an instant query.
func oracleRequest(mode byte) (r *Request, instant bool) {
	lookback := int64(45000)
	switch mode {
	case 'i':
		return &Request{Start: oracleStart + 4507300, NoCache: true}, true
	case 'c':
		return &Request{Start: oracleStart + 2910000, End: oracleStart + 4710000, Step: 150000, NoCache: true}, false
	case 'f':
		return &Request{Start: oracleStart + 4201000, End: oracleStart + 4257000, Step: 7000, NoCache: true}, false
	case 'a':
		return &Request{Start: oracleStart + 1007000, End: oracleStart + 6017000, Step: 60000}, false
	case 's':
		return &Request{Start: oracleStart + 4507300, Step: 60000, NoCache: true}, true
	case 'l':
		return &Request{Start: oracleStart + 4507300, NoCache: true, MaxLookback: &lookback}, true
	case 'm':
		return &Request{Start: oracleStart + 2910000, End: oracleStart + 4710000, Step: 150000, NoCache: true, MaxLookback: &lookback}, false
	}
	panic("unknown mode " + string(mode))
}

type oracleSeries struct {
	labels map[string]string
	times  []int64
	values []float64
}

type oracleAnswer struct {
	kind      string // result type, or empty for an error
	series    []oracleSeries
	status    int
	unordered bool
}

type oracleKey struct{ query, mode string }

func (s *oracleSeries) UnmarshalJSON(data []byte) error {
	var points [][2]any
	pair := []any{&s.labels, &points}
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	for _, p := range points {
		t, okT := p[0].(float64)
		text, okV := p[1].(string)
		if !okT || !okV {
			return errors.New("bad point")
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		s.times = append(s.times, int64(math.Round(t*1000)))
		s.values = append(s.values, v)
	}
	return nil
}

func oracleAnswers(t testing.TB) map[oracleKey]*oracleAnswer {
	t.Helper()
	data, err := os.ReadFile(oracleDir + "answers.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[oracleKey]*oracleAnswer{}
	in := bufio.NewReader(zr)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Q, M      string
			Unordered int
			A         struct {
				Type   string
				Result []oracleSeries
				Status int
			}
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		out[oracleKey{r.Q, r.M}] = &oracleAnswer{kind: r.A.Type, series: r.A.Result, status: r.A.Status, unordered: r.Unordered == 1}
	}
}

func closeEnough(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)) ||
		max(math.Abs(a), math.Abs(b)) < 1e-290
}

func labelMap(labels []model.Label) map[string]string {
	m := map[string]string{}
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	return m
}

func labelKey(m map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%q,", name, m[name])
	}
	return b.String()
}

// compare returns what is wrong with an answer, or an empty string.
func (want *oracleAnswer) compare(res *Result, err error) string {
	if err != nil || want.kind == "" {
		if got := errkind.Of(err).HTTPStatus(); got != want.status && !(want.kind != "" && err == nil) {
			return fmt.Sprintf("status %d wanted, got %d: %v", want.status, got, err)
		}
		return ""
	}
	if want.kind != res.Type.String() {
		return fmt.Sprintf("%s wanted, got %s", want.kind, res.Type)
	}
	var wantKeys, gotKeys []string
	byKey := map[string]*ResultSeries{}
	for _, s := range want.series {
		wantKeys = append(wantKeys, labelKey(s.labels))
	}
	for i := range res.Series {
		key := labelKey(labelMap(res.Series[i].Labels))
		gotKeys = append(gotKeys, key)
		byKey[key] = &res.Series[i]
	}
	a, b := slices.Clone(wantKeys), slices.Clone(gotKeys)
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		return fmt.Sprintf("%d series wanted, got %d: %.300s wanted, got %.300s", len(a), len(b), fmt.Sprint(missing(a, b)), fmt.Sprint(missing(b, a)))
	}
	if !want.unordered && !slices.Equal(wantKeys, gotKeys) {
		return fmt.Sprintf("order %.300s wanted, got %.300s", fmt.Sprint(wantKeys), fmt.Sprint(gotKeys))
	}
	for i, s := range want.series {
		if d := s.compare(byKey[wantKeys[i]]); d != "" {
			return fmt.Sprintf("%s: %s", wantKeys[i], d)
		}
	}
	return ""
}

func missing(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func (s *oracleSeries) compare(got *ResultSeries) string {
	if !slices.Equal(s.times, got.Timestamps) {
		return fmt.Sprintf("points at %v wanted, got %v", relative(s.times), relative(got.Timestamps))
	}
	for i, v := range s.values {
		if !closeEnough(v, got.Values[i]) {
			return fmt.Sprintf("at +%d ms %v wanted, got %v", s.times[i]-oracleStart, v, got.Values[i])
		}
	}
	return ""
}

func relative(times []int64) []int64 {
	out := slices.Clone(times)
	for i := range out {
		out[i] -= oracleStart
	}
	return out
}

// knownDifferences reads lines "mode<TAB>expression<TAB>reason".
func knownDifferences(t testing.TB) map[oracleKey]bool {
	t.Helper()
	out := map[oracleKey]bool{}
	for _, line := range readLines(t, oracleKnown) {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 || fields[2] == "" {
			t.Fatalf("%s: want mode, expression and reason separated by tabs: %q", oracleKnown, line)
		}
		out[oracleKey{fields[1], fields[0]}] = true
	}
	return out
}

// TestOracle compares with the recorded answers. Known differences are listed with
// a reason; the list may only shrink.
func TestOracle(t *testing.T) {
	const mostKnown = 0 // lower it whenever the list gets shorter
	e := testEngine(t, oracleSource(t))
	answers, known := oracleAnswers(t), knownDifferences(t)
	if len(known) > mostKnown {
		t.Errorf("%s lists %d differences; at most %d are accepted", oracleKnown, len(known), mostKnown)
	}
	type tally struct{ good, all int }
	tags := map[string]*tally{}
	total := tally{}
	for _, line := range readLines(t, oracleDir+"queries.tsv") {
		fields := strings.Split(line, "\t")
		tag, modes, text := fields[0], fields[1], fields[2]
		expr := text
		if tag == "string" && strings.HasPrefix(text, "#") {
			expr = strings.ReplaceAll(text, `\n`, "\n")
		}
		for _, mode := range []byte(modes) {
			key := oracleKey{text, string(mode)}
			want := answers[key]
			if want == nil {
				continue
			}
			diff := want.compare(oracleAsk(e, expr, mode))
			if tags[tag] == nil {
				tags[tag] = &tally{}
			}
			tags[tag].all++
			total.all++
			switch {
			case diff == "" && known[key]:
				t.Errorf("%s [%c] %s agrees now: take it off %s", tag, mode, text, oracleKnown)
			case diff == "":
				tags[tag].good++
				total.good++
			case !known[key]:
				t.Errorf("%s [%c] %s\n    %s", tag, mode, text, diff)
			}
			delete(known, key)
		}
	}
	for key := range known {
		t.Errorf("%s lists %q, which the oracle does not ask", oracleKnown, key)
	}
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if n := tags[tag]; n.good < n.all || testing.Verbose() {
			t.Logf("%-28s %d of %d agree", tag, n.good, n.all)
		}
	}
	t.Logf("%d of %d answers agree", total.good, total.all)
}

func oracleAsk(e *Engine, expr string, mode byte) (*Result, error) {
	r, instant := oracleRequest(mode)
	r.Query = expr
	if instant {
		return e.Query(context.Background(), r)
	}
	return e.QueryRange(context.Background(), r)
}
