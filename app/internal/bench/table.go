package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runs are the repeated measurements of one peer with one dataset.
type runs []Result

// runTables writes the tables of each dataset.
func runTables(b *strings.Builder, results []Result, base string) {
	byDataset := groupBy(results, func(r *Result) string { return r.Dataset })
	slices.SortStableFunc(byDataset, func(x, y []Result) int { return strings.Compare(x[0].Dataset, y[0].Dataset) })
	for _, list := range byDataset {
		t := runTable{base: base}
		for _, rs := range groupBy(list, func(r *Result) string { return r.Peer }) {
			if rs[0].Peer == base { // comes first
				t.peers = slices.Insert(t.peers, 0, runs(rs))
			} else {
				t.peers = append(t.peers, rs)
			}
		}
		one := &list[0]
		fmt.Fprintf(b, "\n### Dataset %s\n\n%s samples of %s series, sent on %d CPUs; %s.\n", one.Dataset, thousands(one.Sent.Samples), thousands(one.Sent.Series), one.CPUs, t.runsOfPeers())
		b.WriteString(t.versions() + "\n")
		t.main(b)
		t.queries(b)
	}
}

// runTable is the table of one dataset.
type runTable struct {
	base  string
	peers []runs // the base first, if it was measured
}

func (t *runTable) hasBase() bool { return t.peers[0][0].Peer == t.base }

func (t *runTable) runsOfPeers() string {
	var parts []string
	for _, rs := range t.peers {
		parts = append(parts, plural(len(rs), "run")+" of "+rs[0].Peer)
	}
	text := strings.Join(parts, ", ")
	if !t.hasBase() {
		text += "; no ratios, as " + t.base + " was not measured"
	}
	return text
}

// versions tells what was measured when.
func (t *runTable) versions() string {
	var parts []string
	last := t.peers[0][0].Started
	for _, rs := range t.peers {
		for i := range rs {
			if rs[i].Started.After(last) {
				last = rs[i].Started
			}
		}
		if v := rs[0].Version; v != "" {
			parts = append(parts, rs[0].Peer+" is "+v)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Measured until " + last.Format(time.DateOnly) + "; " + strings.Join(parts, "; ") + ".\n"
}

// header writes the header with a column for each peer, and one for its ratio to the base.
func (t *runTable) header(b *strings.Builder, cells ...string) {
	for i, rs := range t.peers {
		cells = append(cells, rs[0].Peer)
		if t.hasBase() && i > 0 {
			cells = append(cells, "ratio")
		}
	}
	row(b, cells...)
	ruler(b, len(cells))
}

// cells writes a row with a cell for each peer and one for its ratio to the base. The cell of a peer and what
// it is divided by come from f, the latter NaN when there is no ratio; mark formats the ratio.
func (t *runTable) cells(b *strings.Builder, first []string, f func(runs) (string, float64), mark func(float64) string) {
	cells, base := first, math.NaN()
	for i, rs := range t.peers {
		text, value := f(rs)
		cells = append(cells, text)
		if !t.hasBase() {
			continue
		}
		if i == 0 {
			base = value
			continue
		}
		cells = append(cells, mark(value/base))
	}
	row(b, cells...)
}

func plainRatio(q float64) string {
	if math.IsNaN(q) || math.IsInf(q, 0) {
		return ""
	}
	return strconv.FormatFloat(q, 'f', 2, 64)
}

// slowerRatio marks what is slower than the base.
func slowerRatio(q float64) string {
	if text := plainRatio(q); text == "" || q < 1.005 {
		return text
	}
	return fmt.Sprintf("**%.2f, slower**", q)
}

func (t *runTable) main(b *strings.Builder) {
	t.header(b, "target")
	ingest := ingestFigures()
	t.figures(b, ingest[:1])
	t.byProcess(b)
	t.figures(b, ingest[1:])
	if slices.ContainsFunc(t.peers, func(rs runs) bool { return rs[0].Ingest2 != nil }) {
		t.figures(b, phaseFigures())
	}
	t.figures(b, memoryFigures())
	t.figures(b, diskFigures())
	t.figures(b, queryFigures())
	none := func(float64) string { return "" }
	t.cells(b, []string{"all samples stored"}, func(rs runs) (string, float64) { return rs.stored(), math.NaN() }, none)
	t.cells(b, []string{"values exact"}, func(rs runs) (string, float64) { return rs.exact(), math.NaN() }, none)
}

func (t *runTable) figures(b *strings.Builder, list []figure) {
	for _, f := range list {
		t.cells(b, []string{f.name}, func(rs runs) (string, float64) { return rs.figure(&f) }, plainRatio)
	}
}

// each returns the values of f that are numbers.
func (rs runs) each(f func(*Result) float64) []float64 {
	var values []float64
	for i := range rs {
		values = append(values, f(&rs[i]))
	}
	return numbers(values)
}

// figure formats the median and the extremes of a figure, or why there is none.
func (rs runs) figure(f *figure) (string, float64) {
	values := rs.each(f.value)
	if len(values) == 0 {
		return f.why(&rs[0]), math.NaN()
	}
	if f.noRatio {
		return spreadOf(f.decimals, values), math.NaN()
	}
	return spreadOf(f.decimals, values), quantile(values, 0.5)
}

// byProcess writes a row for each process of the clusters.
func (t *runTable) byProcess(b *strings.Builder) {
	var names []string
	for _, rs := range t.peers {
		for _, p := range rs[0].ByProcess {
			if len(rs[0].ByProcess) > 1 && !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	for _, name := range names {
		t.cells(b, []string{"of it " + name}, func(rs runs) (string, float64) {
			return spreadOf(3, rs.each(func(r *Result) float64 { return r.process(name) })), math.NaN()
		}, plainRatio)
	}
}

// process returns the CPU seconds per million samples of a process.
func (r *Result) process(name string) float64 {
	i := slices.IndexFunc(r.ByProcess, func(p ProcessUsage) bool { return p.Name == name })
	if i < 0 || len(r.ByProcess) < 2 {
		return math.NaN()
	}
	return r.ByProcess[i].CPUSeconds / r.samples() * 1e6
}

// stored tells whether all runs have stored what they should; else how much the first that has not.
func (rs runs) stored() string {
	text := whyNotStored(&rs[0])
	for i := range rs {
		r := &rs[i]
		if r.Stored == nil {
			continue
		}
		if text = yesOrHowMany(*r.Stored, r.Expected); text != "yes" {
			return text
		}
	}
	return text
}

// exact tells whether all bits came back as they were sent in all runs.
func (rs runs) exact() string {
	text := whyNotStored(&rs[0])
	for i := range rs {
		e := rs[i].Exact
		if e == nil {
			continue
		}
		if !e.OK() {
			return fmt.Sprintf("no: of %s %s other bits (at most %.0e off), %s missing, %s too many", thousands(int64(e.Compared)),
				thousands(int64(e.Unequal)), e.MaxError, thousands(int64(e.Missing)), thousands(int64(e.Extra)))
		}
		text = "yes, " + thousands(int64(e.Compared)) + " compared"
	}
	return text
}

// queries writes the queries of the peers that were asked.
func (t *runTable) queries(b *strings.Builder) {
	asked := runTable{base: t.base}
	for _, rs := range t.peers {
		if rs[0].Queries != nil {
			asked.peers = append(asked.peers, rs)
		}
	}
	if len(asked.peers) == 0 {
		return
	}
	b.WriteString("\nQueries: median ms / CPU ms of the servers, for each run; ratios of CPU\n\n")
	asked.header(b, "query", "series")
	for i := range asked.peers[0][0].Queries.Queries {
		q := &asked.peers[0][0].Queries.Queries[i]
		asked.cells(b, []string{q.Name, strconv.Itoa(q.Series)}, func(rs runs) (string, float64) { return rs.query(q.Name, q.Series) }, slowerRatio)
	}
	if !slices.ContainsFunc(asked.peers, func(rs runs) bool { return rs[0].Cold != nil }) {
		return
	}
	b.WriteString("\nCold queries: ms / CPU ms of a fresh process whose data was not in memory; ratios of ms\n\n")
	asked.header(b, "query")
	for _, name := range asked.coldNames() {
		asked.cells(b, []string{name}, func(rs runs) (string, float64) { return rs.cold(name) }, slowerRatio)
	}
}

func (t *runTable) coldNames() []string {
	var names []string
	for _, rs := range t.peers {
		if rs[0].Cold == nil {
			continue
		}
		for _, q := range rs[0].Cold.Queries {
			if !slices.Contains(names, q.Name) {
				names = append(names, q.Name)
			}
		}
	}
	return names
}

// cold formats one cold query and returns its median latency.
func (rs runs) cold(name string) (string, float64) {
	of := func(f func(*QueryResult) float64) []float64 {
		return rs.each(func(r *Result) float64 {
			if r.Cold == nil {
				return math.NaN()
			}
			return of((&QueryResults{Queries: r.Cold.Queries}).find(name), f)
		})
	}
	latencies := of(func(q *QueryResult) float64 { return q.FirstMs })
	if len(latencies) == 0 {
		return "not asked", math.NaN()
	}
	return spreadOf(1, latencies) + " / " + spreadOf(0, of(func(q *QueryResult) float64 { return q.CPUMs })), quantile(latencies, 0.5)
}

// query formats one query and returns its median CPU time; another number of series than the first peer's is shown.
func (rs runs) query(name string, series int) (string, float64) {
	of := func(f func(*QueryResult) float64) []float64 {
		return rs.each(func(r *Result) float64 { return of(r.Queries.find(name), f) })
	}
	cpu := of(func(q *QueryResult) float64 { return q.CPUMs })
	if len(cpu) == 0 {
		return "error", math.NaN()
	}
	text := strconv.FormatFloat(quantile(of(func(q *QueryResult) float64 { return q.MedianMs }), 0.5), 'f', 1, 64) + " / " + spreadOf(1, cpu)
	if q := rs[0].Queries.find(name); q != nil && q.Series != series {
		text += fmt.Sprintf(" (%d series)", q.Series)
	}
	return text, quantile(cpu, 0.5)
}
