package query

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/model"
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

// promFiles returns the test scripts of the Prometheus module.
func promFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Skipf("cannot find the module with the test scripts: %s", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "promql", "promqltest", "testdata", "*.test"))
	if err != nil || len(files) == 0 {
		t.Skipf("no test scripts in the module: %v", err)
	}
	return files
}

// promReason says why cases are left out. Lines of the file are a pattern of the case, a pattern of the
// query and the reason, separated by tabs. The pattern of the case matches file:line as a whole, followed by
// " histograms" if native histograms are loaded or expected.
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
	id := c.id
	if c.histograms {
		id += " histograms"
	}
	return r.file.MatchString(id) && r.query.MatchString(c.query)
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
	for _, file := range promFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := parsePromScript(filepath.Base(file), string(text))
		if err != nil {
			t.Fatal(err)
		}
		passed := 0
		for i := range cases {
			c := &cases[i]
			diff := c.run(t)
			if diff == "" {
				passing = append(passing, c.id)
				passed++
				continue
			}
			if listed[c.id] {
				t.Errorf("%s passed before: %s\n    %s", c.id, c.query, diff)
			}
			i := slices.IndexFunc(reasons, func(r *promReason) bool { return r.covers(c) })
			if i < 0 {
				t.Errorf("%s fails without a reason in %s: %s\n    %s", c.id, promReasonFile, c.query, diff)
				continue
			}
			reasons[i].used++
		}
		total += len(cases)
		t.Logf("%-28s %d of %d cases pass", filepath.Base(file), passed, len(cases))
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
	case c.text:
		return "a string is expected"
	case slices.ContainsFunc(c.series, func(s promSeries) bool { return s.histogram }):
		return "native histograms are expected"
	case c.raw:
		return "the samples of a range vector are expected"
	}
	e := testEngine(t, c.source)
	r := &Request{Query: c.query, Start: c.start, End: c.end, Step: c.step, NoCache: true}
	var res *Result
	var err error
	if c.instant {
		res, err = e.Query(context.Background(), r)
	} else {
		res, err = e.QueryRange(context.Background(), r)
	}
	if c.fails || err != nil {
		if c.fails == (err != nil) {
			return ""
		}
		return fmt.Sprintf("failure is expected: %v; error is %v", c.fails, err)
	}
	return c.compare(res)
}

// compare compares under the meaning of MetricsQL: points that are NaN do not exist.
func (c *promCase) compare(res *Result) string {
	want, order := map[string]map[int64]float64{}, []string{}
	for _, s := range c.series {
		points := map[int64]float64{}
		for i, v := range s.values {
			if s.present[i] && !math.IsNaN(v) {
				points[c.timeOf(i)] = v
			}
		}
		if len(points) > 0 {
			key := labelKey(s.labels)
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
		if !ok || c.ordered && order[i] != key {
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

func (c *promCase) timeOf(i int) int64 {
	if c.instant {
		return c.start
	}
	return c.start + int64(i)*c.step
}
