package promqlapi

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/convertnhcb"

	"vmcluster/lib/model"
	"vmcluster/lib/query/promscript"
)

const excludedFile = "testdata/promqltest-excluded.txt"

var update = flag.Bool("update", false, "rewrite the list of excluded cases under testdata")

// TestPromQLScripts runs Prometheus' own test scripts: their series are written to our storage, and their queries sent to
// our HTTP API. Each answer, right or not, is that of the same engine over a naive store. All cases pass but those which need what is not stored here; these are listed with the reason.
func TestPromQLScripts(t *testing.T) {
	var excluded []string
	total, passed := 0, 0
	for _, script := range promscript.Scripts(t) {
		args := []string{"-promql.experimental", "-promql.delayedNameRemoval"}
		if script.Name == "type_and_unit.test" {
			args = append(args, "-promql.typeAndUnitLabels")
		}
		s := &scriptRun{t: t, env: newEnv(t, args...), naive: &naive{}}
		s.env.store.shift = 40 * 24 * 3600_000
		for i := range script.Commands {
			s.run(&script.Commands[i])
		}
		t.Logf("%-28s %d of %d cases pass", script.Name, s.passed, s.total)
		total, passed = total+s.total, passed+s.passed
		excluded = append(excluded, s.excluded...)
	}
	t.Logf("%d of %d cases pass", passed, total)
	head := fmt.Sprintf("# %d of %d cases pass. These do not, for the reason given.\n", passed, total)
	got := head + strings.Join(excluded, "\n") + "\n"
	if *update {
		if err := os.WriteFile(excludedFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(excludedFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what was found; run with -update and look at the difference", excludedFile)
	}
}

// scriptRun is the state of a script: each clear moves on to the next tenant, which is empty.
type scriptRun struct {
	t        *testing.T
	env      *env
	tenant   uint32
	naive    *naive // the same samples
	starts   bool   // start timestamps have been loaded
	total    int
	passed   int
	excluded []string
}

func (s *scriptRun) run(c *promscript.Command) {
	switch {
	case c.Eval != nil:
		s.eval(&promCase{c.Eval})
	case c.Load != nil:
		s.load(c.Load)
	default:
		s.tenant++
		s.naive = &naive{}
		s.starts = false
	}
}

func (s *scriptRun) load(c *promscript.Load) {
	s.starts = s.starts || c.Starts
	loaded := &naive{}
	for i := range c.Series {
		x := &c.Series[i]
		if x.Histogram {
			loaded.put(s.t, x.Labels, withHistograms(s.t, x, func(i int) int64 { return int64(i) * c.Step }))
		} else if times, values := x.Samples(c.Step); len(times) > 0 {
			loaded.add(s.t, x.Labels, times, values) // of samples with one time the last counts
		}
	}
	if c.Histograms {
		loadConverted(s.t, loaded)
	}
	for _, x := range loaded.series {
		s.naive.put(s.t, x.labels.Map(), x.samples)
		s.env.put(s.t, model.TenantID{AccountID: s.tenant}, x.labels.Map(), x.samples)
	}
}

// withHistograms returns the points of a series, native histograms among them.
func withHistograms(t *testing.T, x *promscript.Series, timeOf func(i int) int64) (samples []naiveSample) {
	t.Helper()
	line := x.Line
	if strings.HasPrefix(line, "{{") {
		line = "{} " + line
	}
	_, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(line)
	if err != nil {
		t.Fatalf("%s: %s", line, err)
	}
	for i, v := range values {
		if !v.Omitted {
			samples = append(samples, naiveSample{at: timeOf(i), value: v.Value, h: asRead(v.Histogram)})
		}
	}
	return samples
}

// classic are the counts of a classic histogram at each time.
type classic struct {
	labels labels.Labels
	at     map[int64]*convertnhcb.TempHistogram
}

// loadConverted adds the native histograms with bounds of their own which are made of the series of a load.
func loadConverted(t *testing.T, loaded *naive) {
	t.Helper()
	found := map[uint64]*classic{}
	for _, x := range loaded.series {
		kind, name := convertnhcb.GetHistogramMetricBaseName(x.labels.Get(model.MetricNameLabel))
		bound, err := strconv.ParseFloat(x.labels.Get(labels.BucketLabel), 64)
		if kind == convertnhcb.SuffixNone || kind == convertnhcb.SuffixBucket && err != nil {
			continue
		}
		base := convertnhcb.GetHistogramMetricBase(x.labels, name)
		c := found[base.Hash()]
		if c == nil {
			c = &classic{labels: base, at: map[int64]*convertnhcb.TempHistogram{}}
			found[base.Hash()] = c
		}
		for _, s := range x.samples {
			h := c.at[s.at]
			if h == nil {
				h = new(convertnhcb.NewTempHistogram())
				c.at[s.at] = h
			}
			switch kind {
			case convertnhcb.SuffixBucket:
				_ = h.SetBucketCount(bound, s.value) // Convert says what is wrong
			case convertnhcb.SuffixCount:
				_ = h.SetCount(s.value) // as above
			case convertnhcb.SuffixSum:
				_ = h.SetSum(s.value) // as above
			}
		}
	}
	for _, c := range found {
		var samples []naiveSample
		for at, made := range c.at {
			whole, h, err := made.Convert()
			if err != nil {
				t.Fatal(err)
			}
			if whole != nil {
				h = whole.ToFloat(nil)
			}
			samples = append(samples, naiveSample{at: at, h: h})
		}
		loaded.put(t, c.labels.Map(), samples)
	}
}

// asRead returns a histogram as storage hands it out: that there was no counter reset is not said, since the one before it may be left out.
func asRead(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	if h != nil && h.CounterResetHint == histogram.NotCounterReset {
		h = h.Copy()
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return h
}

// promCase compares answers with what a case expects.
type promCase struct{ *promscript.Case }

func (s *scriptRun) eval(c *promCase) {
	s.total++
	diff := s.check(c)
	if diff == "" {
		s.passed++
		return
	}
	reason := ""
	switch {
	case s.starts:
		reason = "start timestamps are not stored"
	case strings.HasSuffix(c.Query, "_over_time(mixed[2m]))"):
		reason = "that there was no counter reset is not said of histograms which are read"
	default:
		s.t.Errorf("%s: %s\n    %s", c.ID, c.Query, diff)
		return
	}
	s.excluded = append(s.excluded, c.ID+"\t"+reason+"\t"+c.Query)
}

// promAnswer is the JSON of an answer.
type promAnswer struct {
	Status string
	Error  string
	Data   struct {
		ResultType string
		Result     json.RawMessage
	}
	Warnings []string
	Infos    []string
}

type promResult struct {
	Metric     map[string]string
	Value      []any
	Values     [][]any
	Histogram  []any
	Histograms [][]any
}

// check evaluates the case and returns what is wrong, or an empty string.
func (s *scriptRun) check(c *promCase) string {
	args := url.Values{"query": {c.Query}}
	path := fmt.Sprintf("/select/%d/promql/api/v1/query", s.tenant)
	if c.Instant {
		args.Set("time", seconds(c.Start))
	} else {
		path += "_range"
		args.Set("start", seconds(c.Start))
		args.Set("end", seconds(c.End))
		args.Set("step", seconds(c.Step))
	}
	status, body := s.env.ask(http.MethodPost, path, args)
	var a promAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		return fmt.Sprintf("status %d: %s: %s", status, err, body)
	}
	if want, err := s.naive.result(s.t, s.env.promql, c.Query, c.Start, c.End, c.Step); (err != nil) != (a.Status != "success") || !slices.Equal(elements(string(a.Data.Result)), elements(want)) {
		s.t.Errorf("%s: %s\n    over a naive store: %s %v\n    over ours: %s", c.ID, c.Query, want, err, body)
	}
	if c.Fails || a.Status != "success" {
		return c.compareFailure(status, &a)
	}
	if diff := c.Notes.Compare(a.Warnings, a.Infos); diff != "" {
		return diff
	}
	list, diff := results(&a)
	if diff != "" {
		return diff
	}
	if c.Text != nil {
		if got := list[0].Metric["string"]; a.Data.ResultType != "string" || got != *c.Text {
			return fmt.Sprintf("got the %s %q, want the string %q", a.Data.ResultType, got, *c.Text)
		}
		return ""
	}
	return c.compare(s.t, list)
}

func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64) }

// results returns the result of any type as series; a string is the label of one.
func results(a *promAnswer) (list []promResult, diff string) {
	var err error
	switch a.Data.ResultType {
	case "scalar":
		list = make([]promResult, 1)
		err = json.Unmarshal(a.Data.Result, &list[0].Value)
	case "string":
		var value []any
		if err = json.Unmarshal(a.Data.Result, &value); err == nil {
			list = []promResult{{Metric: map[string]string{"string": value[1].(string)}}}
		}
	default:
		err = json.Unmarshal(a.Data.Result, &list)
	}
	if err != nil {
		return nil, err.Error()
	}
	for i := range list {
		if list[i].Value != nil {
			list[i].Values = [][]any{list[i].Value}
		}
		if list[i].Histogram != nil {
			list[i].Histograms = [][]any{list[i].Histogram}
		}
	}
	return list, ""
}

func (c *promCase) compareFailure(status int, a *promAnswer) string {
	text := regexp.MustCompile(`^invalid parameter "query": `).ReplaceAllString(a.Error, "")
	switch {
	case a.Status == "success":
		return "a failure is expected"
	case !c.Fails:
		return fmt.Sprintf("status %d: %s", status, a.Error)
	case status != http.StatusBadRequest && status != http.StatusUnprocessableEntity:
		return fmt.Sprintf("status is %d for %s", status, a.Error)
	case c.FailText != "" && text != c.FailText && !strings.HasSuffix(text, c.FailText):
		return fmt.Sprintf("the error is %q, want %q", text, c.FailText)
	case c.FailPattern != nil && !c.FailPattern.MatchString(text):
		return fmt.Sprintf("the error is %q, which does not match %s", text, c.FailPattern)
	}
	return ""
}

// compare compares series and points.
func (c *promCase) compare(t *testing.T, got []promResult) string {
	want, order := map[string]*promscript.Series{}, []string{}
	for i := range c.Series {
		if slices.Contains(c.Series[i].Present, true) || c.Series[i].Histogram {
			key := labelKey(c.Series[i].Labels)
			want[key] = &c.Series[i]
			order = append(order, key)
		}
	}
	if len(want) != len(got) {
		return fmt.Sprintf("%d series wanted; got %d: %.300v", len(want), len(got), got)
	}
	for i := range got {
		key := labelKey(got[i].Metric)
		w := want[key]
		if w == nil || c.Ordered && order[i] != key {
			return fmt.Sprintf("series %s is not wanted, or not here", key)
		}
		if diff := c.comparePoints(w, got[i].Values); diff != "" {
			return key + ": " + diff
		}
		if diff := c.compareHistograms(t, w, got[i].Histograms); diff != "" {
			return key + ": " + diff
		}
	}
	return ""
}

func (c *promCase) comparePoints(w *promscript.Series, got [][]any) string {
	points := map[int64]float64{}
	for i, v := range w.Values {
		if w.Present[i] {
			points[c.TimeOf(i)] = v
		}
	}
	if len(points) != len(got) {
		return fmt.Sprintf("%d points wanted; got %d: %.300v", len(points), len(got), got)
	}
	for _, p := range got {
		at := int64(math.Round(p[0].(float64) * 1000))
		v, err := strconv.ParseFloat(p[1].(string), 64)
		w, ok := points[at]
		if err != nil || !ok || !(v == w || math.IsNaN(v) && math.IsNaN(w) || math.Abs(v-w) <= 1e-6*max(math.Abs(v), math.Abs(w))) {
			return fmt.Sprintf("at %d %v wanted; got %v", at, w, v)
		}
	}
	return ""
}

// compareHistograms compares native histograms in the form of answers.
func (c *promCase) compareHistograms(t *testing.T, w *promscript.Series, got [][]any) string {
	var want [][]any
	if w.Histogram {
		out := &writer{b: []byte{'['}}
		for _, s := range withHistograms(t, w, c.TimeOf) {
			if s.h != nil {
				if len(out.b) > 1 {
					out.b = append(out.b, ',')
				}
				out.histogram(promql.HPoint{T: s.at, H: s.h})
			}
		}
		if err := json.Unmarshal(append(out.b, ']'), &want); err != nil {
			t.Fatal(err)
		}
	}
	if len(want) != len(got) {
		return fmt.Sprintf("%d histograms wanted; got %d: %.300v", len(want), len(got), got)
	}
	for i := range want {
		if !alike(want[i], got[i]) {
			return fmt.Sprintf("histogram %v wanted; got %v", want[i], got[i])
		}
	}
	return ""
}

// alike compares JSON whose texts may be numbers, which may differ a little.
func alike(a, b any) bool {
	switch x := a.(type) {
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, alike)
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, alike)
	case string:
		y, ok := b.(string)
		v, err := strconv.ParseFloat(x, 64)
		w, err2 := strconv.ParseFloat(y, 64)
		if err != nil || err2 != nil {
			return ok && x == y
		}
		return v == w || math.IsNaN(v) && math.IsNaN(w) || math.Abs(v-w) <= 1e-6*max(math.Abs(v), math.Abs(w))
	}
	return a == b
}

func labelKey(labels map[string]string) string {
	var list []string
	for name, value := range labels {
		list = append(list, name+"="+strconv.Quote(value))
	}
	slices.Sort(list)
	return "{" + strings.Join(list, ",") + "}"
}
