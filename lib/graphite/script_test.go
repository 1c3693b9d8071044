package graphite

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/memory"
)

var update = flag.Bool("update", false, "rewrite the expected answers in testdata")

// memSource holds series with a sample every minute.
type memSource struct {
	series []*Series
	asked  []string
}

func (m *memSource) Fetch(_ context.Context, q *Query) ([]*Series, error) {
	m.asked = append(m.asked, q.Text)
	var out []*Series
	for _, s := range m.series {
		if !m.matches(q, s) {
			continue
		}
		var timestamps []int64
		var values []float64
		for i, v := range s.Values {
			if t := s.At(i); !isNull(v) && t >= q.Start && t < q.End() {
				timestamps, values = append(timestamps, t), append(values, v)
			}
		}
		if len(values) == 0 {
			continue
		}
		grid, err := q.Grid(timestamps, values)
		if err != nil {
			return nil, err
		}
		out = append(out, &Series{Name: s.Name, Tags: s.Tags, Start: q.Start, Step: q.Step, Values: grid})
	}
	return out, nil
}

func (m *memSource) matches(q *Query, s *Series) bool {
	if q.Pattern != nil {
		return regexp.MustCompile("^(?:" + q.Pattern.Regexp() + ")$").MatchString(s.Name)
	}
	for _, e := range q.Tags {
		match := s.Tags[e.Tag] == e.Value
		if e.Regexp {
			match = regexp.MustCompile("^(?:" + e.Pattern() + ")$").MatchString(s.Tags[e.Tag])
		}
		if match == e.Negated {
			return false
		}
	}
	return true
}

// script is the state of a test script.
type script struct {
	t      *testing.T
	engine *Engine
	source *memSource
	req    Request
	points int
	called map[string]bool
}

func (sc *script) number(s string) float64 {
	if s == "_" {
		s = "NaN"
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		sc.t.Fatal(err)
	}
	return f
}

// series reads "path[;tag=value] start value...", with times in minutes.
func (sc *script) series(fields []string) {
	name, tags, _ := strings.Cut(fields[0], ";")
	s := &Series{Name: name, Tags: map[string]string{"name": name}, Start: int64(sc.number(fields[1])) * 60_000, Step: 60_000}
	for tag := range strings.SplitSeq(tags, ";") {
		if k, v, ok := strings.Cut(tag, "="); ok {
			s.Tags[k] = v
		}
	}
	for _, v := range fields[2:] {
		s.Values = append(s.Values, sc.number(v))
	}
	sc.source.series = append(sc.source.series, s)
}

func (sc *script) eval(target string) string {
	budget := memory.NewBudget(1 << 20)
	run := sc.engine.NewRun(sc.source, sc.req, Limits{MaxPointsPerSeries: 20000, Budget: budget})
	before := map[*Series]string{}
	list, err := run.Render(context.Background(), target)
	for _, fetched := range run.fetched {
		for _, s := range fetched {
			before[s] = render(s)
		}
	}
	if err == nil {
		// Once more, over the same fetched series: nothing may have changed them.
		again, err := run.Render(context.Background(), target)
		if err != nil || renderAll(again, sc.points) != renderAll(list, sc.points) {
			sc.t.Errorf("%s: the second evaluation differs: %v\n%s", target, err, renderAll(again, sc.points))
		}
		for s, was := range before {
			if render(s) != was {
				sc.t.Errorf("%s: changes the series it was given: %s", target, render(s))
			}
		}
	}
	run.Close()
	if budget.Used() != 0 {
		sc.t.Errorf("%s: %d bytes are still held", target, budget.Used())
	}
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	return renderAll(list, sc.points)
}

func renderAll(list []*Series, points int) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(render(Consolidate(s, points)) + "\n")
	}
	return b.String()
}

// render is "name | start+step in seconds | values | tags other than name".
func render(s *Series) string {
	values := make([]string, len(s.Values))
	for i, v := range s.Values {
		values[i] = strconv.FormatFloat(v, 'g', 6, 64)
		if isNull(v) {
			values[i] = "_"
		}
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
		if k != "name" || s.Tags[k] != s.Name {
			tags = append(tags, k+"="+s.Tags[k])
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%s | %g+%g | %s | %s", s.Name, float64(s.Start)/1000, float64(s.Step)/1000, strings.Join(values, " "), strings.Join(tags, " ")))
}

// run executes a script and returns it with the answers that were found.
func (sc *script) run(text string) string {
	var out []string
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		out = append(out, line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "series":
			sc.series(strings.Fields(rest))
		case "clear":
			sc.source.series = nil
		case "range":
			f := strings.Fields(rest)
			sc.req = Request{From: int64(sc.number(f[0]) * 60e3), Until: int64(sc.number(f[1]) * 60e3), Step: int64(sc.number(f[2]) * 60e3), Now: time.Unix(int64(sc.number(f[1])*60), 0).UTC()}
			sc.points = 0
			for _, option := range f[3:] {
				name, value, _ := strings.Cut(option, "=")
				switch name {
				case "points":
					sc.points = int(sc.number(value))
				case "xff":
					sc.req.XFilesFactor = sc.number(value)
				}
			}
		case "eval":
			for _, name := range regexp.MustCompile(`\w+\(`).FindAllString(rest, -1) {
				sc.called[strings.TrimSuffix(name, "(")] = true
			}
			for i+1 < len(lines) && lines[i+1] != "" {
				i++
			}
			out = append(out, strings.Split(strings.TrimRight(sc.eval(rest), "\n"), "\n")...)
			if out[len(out)-1] == "" {
				out[len(out)-1] = "nothing"
			}
		}
	}
	return strings.Join(out, "\n") + "\n"
}

// TestScripts evaluates the targets in testdata and compares. Every function has at least one case there.
func TestScripts(t *testing.T) {
	called := map[string]bool{}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".txt") {
			continue
		}
		path := "testdata/" + f.Name()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sc := &script{t: t, engine: New(), source: &memSource{}, called: called}
		got := sc.run(string(text))
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want := strings.Split(string(text), "\n")
		for i, line := range strings.Split(got, "\n") {
			if i >= len(want) || line != want[i] {
				t.Errorf("%s:%d:\ngot  %s\nwant %s", path, i+1, line, want[min(i, len(want)-1)])
				break
			}
		}
	}
	for _, f := range New().Functions() {
		if !called[f.Name] {
			t.Errorf("%s() has no case", f.Name)
		}
	}
}
