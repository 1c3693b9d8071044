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

// runTables writes a section for each target, with the figures of all datasets, and then the queries of each.
func runTables(b *strings.Builder, results []Result, base string) {
	if len(results) == 0 {
		return
	}
	var peers []string
	for _, rs := range groupBy(results, func(r *Result) string { return r.Peer }) {
		if rs[0].Peer == base { // comes first
			peers = slices.Insert(peers, 0, base)
		} else {
			peers = append(peers, rs[0].Peer)
		}
	}
	byDataset := groupBy(results, func(r *Result) string { return r.Dataset })
	slices.SortStableFunc(byDataset, func(x, y []Result) int { return strings.Compare(x[0].Dataset, y[0].Dataset) })
	var tables []*runTable
	for _, list := range byDataset {
		t := &runTable{dataset: list[0].Dataset, names: peers, base: base, peers: make([]runs, len(peers))}
		for _, r := range list {
			i := slices.Index(peers, r.Peer)
			t.peers[i] = append(t.peers[i], r)
		}
		tables = append(tables, t)
	}
	describe(b, byDataset, results)
	section(b, "Ingestion", tables, func(t *runTable) {
		ingest := ingestFigures()
		t.figures(b, ingest[:1])
		t.byProcess(b)
		t.figures(b, ingest[1:])
	})
	phases := slices.DeleteFunc(slices.Clone(tables), func(t *runTable) bool { return !t.any(func(r *Result) bool { return r.Ingest2 != nil }) })
	section(b, "Registration of new series", phases, func(t *runTable) { t.figures(b, phaseFigures()) })
	section(b, "Memory", tables, func(t *runTable) { t.figures(b, memoryFigures()) })
	section(b, "Disk", tables, func(t *runTable) { t.figures(b, diskFigures()) })
	section(b, "Nothing lost, nothing changed", tables, func(t *runTable) { t.truth(b) })
	asked := slices.DeleteFunc(slices.Clone(tables), func(t *runTable) bool {
		return !t.any(func(r *Result) bool { return r.Queries != nil || r.Cold != nil })
	})
	section(b, "Queries", asked, func(t *runTable) { t.figures(b, queryFigures()) })
	for _, t := range asked {
		t.queries(b)
		t.colds(b)
	}
}

// describe tells what was measured when.
func describe(b *strings.Builder, byDataset [][]Result, results []Result) {
	b.WriteString("\n")
	row(b, "dataset", "samples", "series", "runs")
	ruler(b, 4)
	for _, list := range byDataset {
		var counts []string
		for _, rs := range groupBy(list, func(r *Result) string { return r.Peer }) {
			counts = append(counts, strconv.Itoa(len(rs))+" of "+rs[0].Peer)
		}
		row(b, list[0].Dataset, thousands(list[0].Sent.Samples), thousands(list[0].Sent.Series), strings.Join(counts, ", "))
	}
	last := results[0].Started
	var versions []string
	for _, rs := range groupBy(results, func(r *Result) string { return r.Peer }) {
		for i := range rs {
			if rs[i].Started.After(last) {
				last = rs[i].Started
			}
		}
		if v := rs[0].Version; v != "" {
			versions = append(versions, rs[0].Peer+" is "+v)
		}
	}
	what := ""
	if len(versions) > 0 {
		what = " " + strings.Join(versions, "; ") + "."
	}
	fmt.Fprintf(b, "\nMeasured until %s on %d CPUs.%s\n", last.Format(time.DateOnly), results[0].CPUs, what)
}

// section writes a table with the rows that each dataset adds.
func section(b *strings.Builder, title string, tables []*runTable, rows func(*runTable)) {
	if len(tables) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n", title)
	tables[0].header(b, "dataset", "target")
	for _, t := range tables {
		rows(t)
	}
}

// runTable is the part of one dataset of the tables.
type runTable struct {
	dataset string
	base    string
	names   []string // of the peers of all datasets, the base first if it was measured
	peers   []runs   // in the same order; none if the peer was not measured with this dataset
}

func (t *runTable) hasBase() bool { return t.names[0] == t.base }

func (t *runTable) any(f func(*Result) bool) bool {
	return slices.ContainsFunc(t.peers, func(rs runs) bool { return len(rs) > 0 && f(&rs[0]) })
}

// header writes the header with a column for each peer, and one for its ratio to the base.
func (t *runTable) header(b *strings.Builder, cells ...string) {
	for i, name := range t.names {
		cells = append(cells, name)
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
		text, value := "not measured", math.NaN()
		if len(rs) > 0 {
			text, value = f(rs)
		}
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

func noRatio(float64) string { return "" }

// truth writes whether everything is there and as it was sent.
func (t *runTable) truth(b *strings.Builder) {
	t.cells(b, []string{t.dataset, "all samples stored"}, func(rs runs) (string, float64) { return rs.stored(), math.NaN() }, noRatio)
	t.cells(b, []string{t.dataset, "values exact"}, func(rs runs) (string, float64) { return rs.exact(), math.NaN() }, noRatio)
}

func (t *runTable) figures(b *strings.Builder, list []figure) {
	for _, f := range list {
		t.cells(b, []string{t.dataset, f.name}, func(rs runs) (string, float64) { return rs.figure(&f) }, plainRatio)
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
		for _, p := range rs.processes() {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	for _, name := range names {
		t.cells(b, []string{t.dataset, "of it " + name}, func(rs runs) (string, float64) {
			return spreadOf(3, rs.each(func(r *Result) float64 { return r.process(name) })), math.NaN()
		}, plainRatio)
	}
}

// processes returns those of a cluster.
func (rs runs) processes() []ProcessUsage {
	if len(rs) == 0 || len(rs[0].ByProcess) < 2 {
		return nil
	}
	return rs[0].ByProcess
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

// queries writes a row for each query.
func (t *runTable) queries(b *strings.Builder) {
	first := slices.IndexFunc(t.peers, func(rs runs) bool { return len(rs) > 0 && rs[0].Queries != nil })
	if first < 0 {
		return
	}
	fmt.Fprintf(b, "\nDataset %s: median ms / CPU ms of the servers, for each run; ratios of CPU\n\n", t.dataset)
	t.header(b, "query", "series")
	for i := range t.peers[first][0].Queries.Queries {
		q := &t.peers[first][0].Queries.Queries[i]
		t.cells(b, []string{q.Name, strconv.Itoa(q.Series)}, func(rs runs) (string, float64) { return rs.query(q.Name, q.Series) }, slowerRatio)
	}
}

// colds writes a row for each query that was asked of fresh processes.
func (t *runTable) colds(b *strings.Builder) {
	var names []string
	for _, rs := range t.peers {
		if len(rs) == 0 || rs[0].Cold == nil {
			continue
		}
		for _, q := range rs[0].Cold.Queries {
			names = append(names, q.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	fmt.Fprintf(b, "\nDataset %s, cold: ms / CPU ms of a fresh process whose data was not in memory; ratios of ms\n\n", t.dataset)
	t.header(b, "query")
	for _, name := range slices.Compact(names) {
		t.cells(b, []string{name}, func(rs runs) (string, float64) { return rs.cold(name) }, slowerRatio)
	}
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
	if len(cpu) == 0 && rs[0].Queries == nil {
		return whyNotAsked(&rs[0]), math.NaN()
	}
	if len(cpu) == 0 {
		return "error", math.NaN()
	}
	text := strconv.FormatFloat(quantile(of(func(q *QueryResult) float64 { return q.MedianMs }), 0.5), 'f', 1, 64) + " / " + spreadOf(1, cpu)
	if q := rs[0].Queries.find(name); q != nil && q.Series != series {
		text += fmt.Sprintf(" (%d series)", q.Series)
	}
	return text, quantile(cpu, 0.5)
}
