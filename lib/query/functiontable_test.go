package query

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
)

const (
	functionDoc   = "../../docs/metricsql.md"
	functionStart = "<!-- functions: written by go test ./lib/query -run TestFunctionTable -update -->\n"
	functionEnd   = "<!-- end of functions -->\n"
)

// tableStart is the time of the first sample of the example data.
var tableStart = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).UnixMilli()

// tableData are the series of the examples, with a sample each minute; gaps are NaN.
func tableData() (*memSource, string) {
	m, nan := newMemSource(), math.NaN()
	var doc strings.Builder
	add := func(selector string, values ...float64) {
		e, err := metricsql.Parse(selector)
		if err != nil {
			panic(err)
		}
		labels := map[string]string{}
		for _, f := range e.(*metricsql.MetricExpr).FilterSets[0] {
			labels[f.Name] = f.Value
		}
		var times []int64
		var samples []float64
		for k, v := range values {
			if v == v {
				times, samples = append(times, tableStart+int64(k)*minute), append(samples, v)
			}
		}
		m.add(labels, times, samples)
		fmt.Fprintf(&doc, "    %-36s%s\n", selector, tableValues(values))
	}
	add(`temp{room="hall",floor="0"}`, 20, 21, 23, 22, 22, 25)
	add(`temp{room="attic",floor="1"}`, 10, 12, 11, 15, 14, 13)
	add(`holes`, 1, 2, 4, nan, nan, 7)
	add(`spiky`, 5, 6, 5, 90, 6, 5)
	add(`reqs_total{code="200"}`, 0, 60, 180, 300, 360, 480)
	add(`reqs_total{code="500"}`, 3, 5, 9, 2, 4, 10)
	add(`lat_bucket{le="0.1"}`, 1, 2, 4, 5, 6, 8)
	add(`lat_bucket{le="0.2"}`, 2, 4, 6, 9, 11, 12)
	add(`lat_bucket{le="0.5"}`, 3, 6, 9, 12, 15, 18)
	add(`lat_bucket{le="+Inf"}`, 4, 8, 12, 16, 20, 24)
	add(`size_bucket{vmrange="1...2"}`, 1, 1, 2, 2, 3, 3)
	add(`size_bucket{vmrange="4...8"}`, 1, 2, 3, 4, 5, 6)
	add(`app{version="v2.9"}`, 1, 1, 1, 1, 1, 1)
	add(`app{version="v2.11"}`, 2, 2, 2, 2, 2, 2)
	add(`app{version="v10"}`, 3, 3, 50, 3, 3, 3)
	add(`app{version="v11"}`, 2, 2, 2, 2, 2, 2)
	add(`web.n1.load`, 1, 1, 2, 2, 3, 3)
	return m, doc.String()
}

func tableValues(values []float64) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(' ')
		}
		if v != v {
			b.WriteByte('-')
			continue
		}
		if v == math.Trunc(v) && math.Abs(v) < 1e9 {
			b.WriteString(strconv.FormatInt(int64(v), 10))
			continue
		}
		b.WriteString(strconv.FormatFloat(v, 'g', 4, 64))
	}
	return b.String()
}

type documented struct{ name, meaning, example string }

// TestFunctionTable evaluates an example of each function and compares with the table in the documentation, which -update writes.
func TestFunctionTable(t *testing.T) {
	source, data := tableData()
	e := testEngine(t, source)
	tables := map[metricsql.Kind]*bytes.Buffer{}
	known := knownFunctions(t)
	for _, line := range readLines(t, "testdata/functions.txt") {
		fields := strings.Split(line, "\t")
		if line == "" || line[0] == '#' {
			continue
		}
		if len(fields) != 3 {
			t.Fatalf("want name, meaning and example separated by tabs: %q", line)
		}
		f := documented{fields[0], fields[1], fields[2]}
		if !known[f.name] || !usesFunction(f.example, f.name) {
			t.Errorf("%s is unknown, stands twice, or is not in its example", f.name)
		}
		delete(known, f.name)
		kind := metricsql.FunctionKind(f.name)
		if tables[kind] == nil {
			tables[kind] = &bytes.Buffer{}
		}
		cell := strings.NewReplacer("|", `\|`)
		fmt.Fprintf(tables[kind], "| `%s` | %s | `%s` | %s |\n", f.name, f.meaning, cell.Replace(f.example), f.result(t, e))
	}
	for name := range known {
		if name != "" {
			t.Errorf("%s is not documented in testdata/functions.txt", name)
		}
	}
	want := functionStart + "Examples are evaluated each minute from 12:02 to 12:05; `-` is a missing point. The data, each minute from 12:00 on:\n\n" + data
	for _, section := range []struct {
		title string
		kind  metricsql.Kind
	}{{"Rollup functions", metricsql.KindRollup}, {"Transform functions", metricsql.KindTransform}, {"Label functions", metricsql.KindLabel}, {"Aggregates", metricsql.KindAggregate}} {
		want += "\n### " + section.title + "\n\n| function | answers | example | result |\n|---|---|---|---|\n" + tables[section.kind].String()
	}
	compareDoc(t, want+functionEnd)
}

func compareDoc(t *testing.T, want string) {
	t.Helper()
	text, err := os.ReadFile(functionDoc)
	if err != nil {
		t.Fatal(err)
	}
	start, end := strings.Index(string(text), functionStart), strings.Index(string(text), functionEnd)
	if start < 0 || end < start {
		t.Fatalf("%s has no section for functions", functionDoc)
	}
	end += len(functionEnd)
	if string(text[start:end]) == want {
		return
	}
	if !updateFlag() {
		t.Fatalf("%s is not up to date: run with -update", functionDoc)
	}
	if err := os.WriteFile(functionDoc, slices.Concat(text[:start], []byte(want), text[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

// result renders the answer to the example.
func (f *documented) result(t *testing.T, e *Engine) string {
	t.Helper()
	start, end := tableStart+2*minute, tableStart+5*minute
	res, failure := outcome(e, f.example, start, end, minute)
	if failure != "" {
		t.Errorf("%s: %s", f.example, failure)
	}
	if len(res.Series) == 0 && f.name != "outliers_iqr" {
		t.Errorf("%s answers nothing", f.example)
	}
	var cells []string
	for _, s := range res.Series {
		values := slices.Repeat([]float64{math.NaN()}, 4)
		for k, v := range s.Values {
			values[(s.Timestamps[k]-start)/minute] = v
		}
		text := tableValues(values)
		if labels := model.LabelsString(s.Labels); labels != "{}" {
			text = labels + " " + text
		}
		cells = append(cells, "`"+text+"`")
	}
	return strings.Join(cells, "<br>")
}

func usesFunction(example, name string) bool {
	e, err := metricsql.Parse(example)
	found := false
	metricsql.Visit(e, func(e metricsql.Expr) bool {
		switch e := e.(type) {
		case *metricsql.FuncExpr:
			found = found || e.Name == name
		case *metricsql.AggrExpr:
			found = found || e.Name == name
		}
		return true
	})
	return err == nil && found
}

// knownFunctions reads the names of all functions from the source of the parser, which knows them in switches.
func knownFunctions(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../metricsql/functions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		clause, ok := n.(*ast.CaseClause)
		if !ok {
			return true
		}
		for _, e := range clause.List {
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				name, _ := strconv.Unquote(lit.Value)
				known[name] = metricsql.FunctionKind(name) != metricsql.KindUnknown
			}
		}
		return true
	})
	if len(known) < 180 {
		t.Fatalf("%d functions found; want more", len(known))
	}
	return known
}
