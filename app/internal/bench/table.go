package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ReadResults reads the lines that Run has written.
func ReadResults(r io.Reader) ([]Result, error) {
	var results []Result
	for dec := json.NewDecoder(r); ; {
		var res Result
		err := dec.Decode(&res)
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot parse result %d: %w; give a file that `vmbench run` has written", len(results)+1, err)
		}
		if res.Ingest == nil || res.Ingest.Samples == 0 {
			return nil, fmt.Errorf("result %d has no ingestion; give a file that `vmbench run` has written", len(results)+1)
		}
		results = append(results, res)
	}
}

// runs are the repeated measurements of one peer with one dataset.
type runs []Result

// Table returns Markdown tables of the results: medians over repeated runs, in
// brackets the lowest and the highest.
func Table(results []Result) string {
	var b strings.Builder
	for _, byPeer := range grouped(results) {
		one := &byPeer[0][0]
		fmt.Fprintf(&b, "\n### Dataset %s\n\n%s samples of %s series, sent on %d CPUs.\n\n", one.Dataset, thousands(one.Sent.Samples), thousands(one.Sent.Series), one.CPUs)
		mainTable(&b, byPeer)
		if one.Ingest2 != nil {
			phaseTable(&b, byPeer)
		}
		queryTable(&b, byPeer)
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// grouped returns the results by dataset, sorted, and peer, in order of appearance.
func grouped(results []Result) [][]runs {
	var datasets []string
	byDataset := map[string][]runs{}
	for _, r := range results {
		peers := byDataset[r.Dataset]
		if peers == nil {
			datasets = append(datasets, r.Dataset)
		}
		i := slices.IndexFunc(peers, func(other runs) bool { return other[0].Peer == r.Peer })
		if i < 0 {
			peers = append(peers, runs{r})
		} else {
			peers[i] = append(peers[i], r)
		}
		byDataset[r.Dataset] = peers
	}
	slices.Sort(datasets)
	var groups [][]runs
	for _, d := range datasets {
		groups = append(groups, byDataset[d])
	}
	return groups
}

// each returns the values of f that are numbers.
func (rs runs) each(f func(*Result) float64) []float64 {
	var values []float64
	for i := range rs {
		if v := f(&rs[i]); !math.IsNaN(v) && !math.IsInf(v, 0) {
			values = append(values, v)
		}
	}
	return values
}

// median formats the median of f with so many decimals; empty when there is none.
func (rs runs) median(decimals int, f func(*Result) float64) string {
	values := rs.each(f)
	if len(values) == 0 {
		return ""
	}
	return strconv.FormatFloat(quantile(values, 0.5), 'f', decimals, 64)
}

// spread is median with the extremes of repeated runs.
func (rs runs) spread(decimals int, f func(*Result) float64) string {
	values := rs.each(f)
	if len(values) < 2 {
		return rs.median(decimals, f)
	}
	return fmt.Sprintf("%s (%.*f-%.*f)", rs.median(decimals, f), decimals, slices.Min(values), decimals, slices.Max(values))
}

const mib = 1 << 20

// samples returns how many samples were sent.
func (r *Result) samples() float64 {
	if r.Ingest2 == nil {
		return float64(r.Ingest.Samples)
	}
	return float64(r.Ingest.Samples + r.Ingest2.Samples)
}

// last returns the last phase of ingestion.
func (r *Result) last() *IngestResult {
	if r.Ingest2 == nil {
		return r.Ingest
	}
	return r.Ingest2
}

func (r *Result) ingestCPU() float64 {
	cpu := r.Ingest.CPUSeconds
	if r.Ingest2 != nil {
		cpu += r.Ingest2.CPUSeconds
	}
	return cpu
}

func (r *Result) ingestWall() float64 {
	wall := r.Ingest.WallSeconds
	if r.Ingest2 != nil {
		wall += r.Ingest2.WallSeconds
	}
	return wall
}

func usageOf(u *Usage, f func(*Usage) float64) float64 {
	if u == nil {
		return math.NaN()
	}
	return f(u)
}

func diskOf(d *Disk, f func(*Disk) float64) float64 {
	if d == nil {
		return math.NaN()
	}
	return f(d)
}

func mainTable(b *strings.Builder, peers []runs) {
	row(b, "peer", "runs", "ingest, CPU-s per M samples", "by process", "M samples/s", "request p50 / p99, ms", "flush and merge, CPU-s per M samples",
		"memory idle (heap) / peak, MiB", "disk flushed, bytes/sample", "disk merged, bytes/sample", "of it index, bytes/series", "written, bytes/sample", "all samples stored")
	ruler(b, 13)
	for _, rs := range peers {
		row(b, rs[0].Peer, strconv.Itoa(len(rs)),
			rs.spread(3, func(r *Result) float64 { return r.ingestCPU() / r.samples() * 1e6 }),
			rs.byProcess(),
			rs.median(2, func(r *Result) float64 { return r.samples() / r.ingestWall() / 1e6 }),
			rs.median(1, func(r *Result) float64 { return r.last().P50Ms })+" / "+rs.median(1, func(r *Result) float64 { return r.last().P99Ms }),
			rs.median(3, func(r *Result) float64 {
				return usageOf(r.Merged, func(u *Usage) float64 { return (u.CPUSeconds - r.last().After.CPUSeconds) / r.samples() * 1e6 })
			}),
			rs.memory(),
			rs.median(3, func(r *Result) float64 {
				return diskOf(r.DiskBefore, func(d *Disk) float64 { return d.BytesPerSample })
			}),
			rs.median(3, func(r *Result) float64 {
				return diskOf(r.DiskAfter, func(d *Disk) float64 { return d.BytesPerSample })
			}),
			rs.median(1, func(r *Result) float64 {
				return diskOf(r.DiskAfter, func(d *Disk) float64 { return float64(d.Index) / float64(r.Sent.Series) })
			}),
			rs.median(2, func(r *Result) float64 {
				return usageOf(r.Merged, func(u *Usage) float64 { return float64(u.Written) / r.samples() })
			}),
			rs.stored())
	}
}

// byProcess formats the ingestion's CPU seconds of each process of the first run.
func (rs runs) byProcess() string {
	if len(rs[0].ByProcess) < 2 {
		return ""
	}
	var parts []string
	for i, p := range rs[0].ByProcess {
		parts = append(parts, p.Name+" "+rs.median(2, func(r *Result) float64 { return r.ByProcess[i].CPUSeconds / r.samples() * 1e6 }))
	}
	return strings.Join(parts, ", ")
}

func (rs runs) memory() string {
	peak := rs.median(0, func(r *Result) float64 { return float64(max(r.Ingest.After.Peak, r.last().After.Peak)) / mib })
	idle := rs.median(0, func(r *Result) float64 {
		return usageOf(r.Idle, func(u *Usage) float64 { return float64(u.RSS) / mib })
	})
	if idle == "" {
		return "/ " + peak
	}
	heap := rs.median(0, func(r *Result) float64 {
		return usageOf(r.Idle, func(u *Usage) float64 { return float64(u.Anon) / mib })
	})
	return idle + " (" + heap + ") / " + peak
}

// stored tells whether all runs have stored what they should; else how much the worst has.
func (rs runs) stored() string {
	text := ""
	for i := range rs {
		r := &rs[i]
		switch {
		case r.Stored == nil:
		case *r.Stored != r.Expected:
			return fmt.Sprintf("no: %s of %s", thousands(*r.Stored), thousands(r.Expected))
		default:
			text = "yes"
		}
	}
	return text
}

// phaseTable shows the two phases of dataset c: the registration of all series, and the scrapes after it.
func phaseTable(b *strings.Builder, peers []runs) {
	b.WriteString("\n")
	row(b, "peer", "registration, CPU-s per M new series", "request p99, ms", "memory after, MiB per M series (heap)", "later scrapes, CPU-s per M samples", "request p99 then, ms")
	ruler(b, 6)
	for _, rs := range peers {
		if rs[0].Ingest2 == nil {
			continue
		}
		perM := func(f func(*Usage) int64) string {
			return rs.median(0, func(r *Result) float64 { return float64(f(&r.Ingest2.After)) / mib / float64(r.Ingest.Samples) * 1e6 })
		}
		row(b, rs[0].Peer,
			rs.spread(2, func(r *Result) float64 { return r.Ingest.CPUPerM }),
			rs.median(1, func(r *Result) float64 { return r.Ingest.P99Ms }),
			perM(func(u *Usage) int64 { return u.RSS })+" ("+perM(func(u *Usage) int64 { return u.Anon })+")",
			rs.median(3, func(r *Result) float64 { return r.Ingest2.CPUPerM }),
			rs.median(1, func(r *Result) float64 { return r.Ingest2.P99Ms }))
	}
}

// queryTable shows the queries of the peers that were asked the same.
func queryTable(b *strings.Builder, peers []runs) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(rs runs) bool { return rs[0].Queries == nil })
	if len(peers) == 0 {
		return
	}
	b.WriteString("\nQueries: median ms / CPU ms of the servers, for each run\n\n")
	header, last, peak := []string{"query", "series"}, []string{"all once", ""}, []string{"memory peak, MiB", ""}
	for _, rs := range peers {
		header = append(header, rs[0].Peer)
		last = append(last, rs.asked(func(q *QueryResults) float64 { return q.SumMedianMs }, 0)+" / "+rs.asked(func(q *QueryResults) float64 { return q.CPUMsPerRound }, 0))
		peak = append(peak, rs.asked(func(q *QueryResults) float64 { return float64(q.After.Peak) / mib }, 0))
	}
	row(b, header...)
	ruler(b, len(header))
	for _, q := range peers[0][0].Queries.Queries {
		cells := []string{q.Name, strconv.Itoa(q.Series)}
		for _, rs := range peers {
			cells = append(cells, rs.query(q.Name, q.Series))
		}
		row(b, cells...)
	}
	row(b, last...)
	row(b, peak...)
}

func (rs runs) asked(f func(*QueryResults) float64, decimals int) string {
	return rs.median(decimals, func(r *Result) float64 {
		if r.Queries == nil {
			return math.NaN()
		}
		return f(r.Queries)
	})
}

// query formats one query; another number of series than the first peer's is shown.
func (rs runs) query(name string, series int) string {
	find := func(r *QueryResults) *QueryResult {
		i := slices.IndexFunc(r.Queries, func(q QueryResult) bool { return q.Name == name })
		if i < 0 {
			return nil
		}
		return &r.Queries[i]
	}
	one := find(rs[0].Queries)
	if one == nil {
		return ""
	}
	if one.Error != "" {
		return "error"
	}
	value := func(f func(*QueryResult) float64) func(*QueryResults) float64 {
		return func(r *QueryResults) float64 {
			if q := find(r); q != nil && q.Error == "" {
				return f(q)
			}
			return math.NaN()
		}
	}
	text := rs.asked(value(func(q *QueryResult) float64 { return q.MedianMs }), 1) + " / " + rs.asked(value(func(q *QueryResult) float64 { return q.CPUMs }), 0)
	if one.Series != series {
		text += fmt.Sprintf(" (%d series)", one.Series)
	}
	return text
}

func row(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func ruler(b *strings.Builder, columns int) {
	b.WriteString("|" + strings.Repeat("---|", columns) + "\n")
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
