package query

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/query/promscript"
)

const (
	promPassFile   = "testdata/promqltest-pass.txt"
	promReasonFile = "testdata/promqltest-reasons.txt"
)

func updateFlag() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

var _ = flag.Bool("update", false, "rewrite the lists of passing cases under testdata")

// promCase is a case of a test script with the samples loaded before it.
type promCase struct {
	*promscript.Case
	source     *memSource
	histograms bool // native histograms are expected, or loaded for a metric which the query names
}

// promCases returns the cases of a script.
func promCases(script *promscript.Script) []promCase {
	source := newMemSource()
	var histograms []string // metrics with native ones
	var cases []promCase
	for _, c := range script.Commands {
		switch {
		case c.Eval != nil:
			named := slices.ContainsFunc(histograms, func(name string) bool { return strings.Contains(c.Eval.Query, name) })
			cases = append(cases, promCase{c.Eval, source, named || c.Eval.WantsHistogram()})
		case c.Load == nil:
			source, histograms = newMemSource(), nil
		default:
			source = loaded(source, c.Load)
			for _, s := range c.Load.Series {
				if name := s.Labels[model.MetricNameLabel]; s.Histogram || c.Load.Histograms {
					histograms = append(histograms, name, strings.TrimSuffix(name, "_bucket"))
				}
			}
		}
	}
	return cases
}

// loaded returns a source with more samples; the old one stays as it is, since earlier cases refer to it.
func loaded(old *memSource, load *promscript.Load) *memSource {
	source := newMemSource()
	for _, s := range old.series {
		source.add(labelMap(s.Labels), s.Timestamps, s.Values)
	}
	for i := range load.Series {
		times, values := load.Series[i].Samples(load.Step)
		source.add(load.Series[i].Labels, times, values)
	}
	return source
}

// promReason says why cases are left out. Lines of the file are a pattern of the case, a pattern of the
// query and the reason, separated by tabs. The pattern of the case matches file:line as a whole, followed by
// " histograms" if native histograms are expected, or loaded for a metric which the query names.
type promReason struct {
	file, query *regexp.Regexp
	reason      string
	used        int
}

func promReasons(t *testing.T) []*promReason {
	t.Helper()
	var out []*promReason
	for _, line := range readLines(t, promReasonFile) {
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 || fields[2] == "" {
			t.Fatalf("%s: want file, query and reason separated by tabs: %q", promReasonFile, line)
		}
		out = append(out, &promReason{file: regexp.MustCompile("^(?:" + fields[0] + ")$"), query: regexp.MustCompile(fields[1]), reason: fields[2]})
	}
	return out
}

func (r *promReason) covers(c *promCase) bool {
	id := c.ID
	if c.histograms {
		id += " histograms"
	}
	return r.file.MatchString(id) && r.query.MatchString(c.Query)
}

// TestPromQLScripts runs Prometheus' own test scripts. Cases in the pass list must
// pass, and the list may only grow. Any other case must have a reason.
func TestPromQLScripts(t *testing.T) {
	listed := map[string]bool{}
	for _, id := range readLines(t, promPassFile) {
		listed[id] = id != ""
	}
	reasons := promReasons(t)
	var passing []string
	total := 0
	for _, script := range promscript.Scripts(t) {
		cases := promCases(&script)
		passed := 0
		for i := range cases {
			c := &cases[i]
			diff := c.run(t)
			if diff == "" {
				passing = append(passing, c.ID)
				passed++
				continue
			}
			if listed[c.ID] {
				t.Errorf("%s passed before: %s\n    %s", c.ID, c.Query, diff)
			}
			i := slices.IndexFunc(reasons, func(r *promReason) bool { return r.covers(c) })
			if i < 0 {
				t.Errorf("%s fails without a reason in %s: %s\n    %s", c.ID, promReasonFile, c.Query, diff)
				continue
			}
			reasons[i].used++
		}
		total += len(cases)
		t.Logf("%-28s %d of %d cases pass", script.Name, passed, len(cases))
	}
	t.Logf("%d of %d cases pass", len(passing), total)
	for _, r := range reasons {
		t.Logf("%5d left out: %s", r.used, r.reason)
		if r.used == 0 {
			t.Errorf("%s: no failing case needs the reason %q", promReasonFile, r.reason)
		}
	}
	if updateFlag() {
		if err := os.WriteFile(promPassFile, []byte(strings.Join(passing, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, id := range passing {
		if !listed[id] {
			t.Errorf("%s passes but is not in %s: run with -update", id, promPassFile)
		}
	}
}

// run evaluates the case and returns what is wrong, or an empty string.
func (c *promCase) run(t *testing.T) string {
	t.Helper()
	switch {
	case c.Text != nil:
		return "a string is expected"
	case c.WantsHistogram():
		return "native histograms are expected"
	case c.RangeStep > 0:
		return "the samples of a range vector are expected"
	}
	e := testEngine(t, c.source)
	r := &Request{Query: c.Query, Start: c.Start, End: c.End, Step: c.Step, NoCache: true}
	var res *Result
	var err error
	if c.Instant {
		res, err = e.Query(context.Background(), r)
	} else {
		res, err = e.QueryRange(context.Background(), r)
	}
	if c.Fails || err != nil {
		if c.Fails == (err != nil) {
			return ""
		}
		return fmt.Sprintf("failure is expected: %v; error is %v", c.Fails, err)
	}
	return c.compare(res)
}

// compare compares under the meaning of MetricsQL: points that are NaN do not exist.
func (c *promCase) compare(res *Result) string {
	want, order := map[string]map[int64]float64{}, []string{}
	for _, s := range c.Series {
		points := map[int64]float64{}
		for i, v := range s.Values {
			if s.Present[i] && !math.IsNaN(v) {
				points[c.TimeOf(i)] = v
			}
		}
		if len(points) > 0 {
			key := labelKey(s.Labels)
			want[key] = points
			order = append(order, key)
		}
	}
	if len(want) != len(res.Series) {
		return fmt.Sprintf("%d series wanted; got %d: %.200s", len(want), len(res.Series), res)
	}
	for i := range res.Series {
		s := &res.Series[i]
		key := labelKey(labelMap(s.Labels))
		points, ok := want[key]
		if !ok || c.Ordered && order[i] != key {
			return fmt.Sprintf("series %s is not wanted, or not here", model.LabelsString(s.Labels))
		}
		if len(points) != len(s.Values) {
			return fmt.Sprintf("%s: %d points wanted; got %d: %v", key, len(points), len(s.Values), s.Values)
		}
		for k, v := range s.Values {
			w, ok := points[s.Timestamps[k]]
			if !ok || !(v == w || math.Abs(v-w) <= 1e-6*max(math.Abs(v), math.Abs(w))) {
				return fmt.Sprintf("%s: at %d %v wanted; got %v", key, s.Timestamps[k], w, v)
			}
		}
	}
	return ""
}
