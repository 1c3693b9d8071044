package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// growths are the repeated measurements of one cluster.
type growths []GrowthResult

// median formats the median, with the extremes if they differ.
func (rs growths) median(decimals int, f func(*GrowthResult) float64) string {
	var values []float64
	for i := range rs {
		values = append(values, f(&rs[i]))
	}
	return spreadOf(decimals, values)
}

// share returns a function for the CPU seconds per million samples of the processes whose names begin so.
func share(prefix string, join func(float64, float64) float64) func(*GrowthResult) float64 {
	return func(r *GrowthResult) float64 {
		return r.of(prefix, join, func(u *ProcessUsage) float64 { return u.CPUSeconds }) / float64(r.Steady.Samples) * 1e6
	}
}

func plus(a, b float64) float64 { return a + b }

// of joins a figure of the processes whose names begin so.
func (r *GrowthResult) of(prefix string, join func(float64, float64) float64, f func(*ProcessUsage) float64) float64 {
	joined := 0.0
	for i := range r.Steadies {
		if strings.HasPrefix(r.Steadies[i].Name, prefix) {
			joined = join(joined, f(&r.Steadies[i]))
		}
	}
	return joined
}

// growthTables writes what clusters of all measured shapes cost: a row for each, then a column for each.
func growthTables(b *strings.Builder, results []GrowthResult) {
	if len(results) == 0 {
		return
	}
	var shapes []growths
	for _, group := range groupBy(results, func(r *GrowthResult) string { return r.Peer }) {
		shapes = append(shapes, group)
	}
	slices.SortStableFunc(shapes, func(x, y growths) int {
		return cmp.Or(cmp.Compare(x[0].Copies, y[0].Copies), cmp.Compare(x[0].Nodes, y[0].Nodes), cmp.Compare(x[0].Peer, y[0].Peer))
	})
	fmt.Fprintf(b, "\n### Growth of the cluster\n\n%s series, %s samples, on %d CPUs. CPU-s per M samples sent by clients, of series that are known.\n\n",
		thousands(results[0].Sent.Series), thousands(results[0].Sent.Samples), results[0].CPUs)
	growthOfWrites(b, shapes)
	growthOfReads(b, shapes)
	growthOfQueries(b, shapes)
}

func growthOfWrites(b *strings.Builder, shapes []growths) {
	row(b, "cluster", "runs", "all, CPU-s per M samples", "vminsert", "storage nodes together", "the busiest of them", "bytes per sample to the storage nodes", "back",
		"registration, CPU-s per M series", "anonymous MiB of vminsert", "of the storage nodes", "disk, bytes per sample", "all stored")
	ruler(b, 13)
	for _, rs := range shapes {
		perSample := func(f func(*GrowthResult) float64) func(*GrowthResult) float64 {
			return func(r *GrowthResult) float64 { return f(r) / float64(r.Steady.Samples) }
		}
		anon := func(prefix string) string {
			return rs.median(0, func(r *GrowthResult) float64 {
				return r.of(prefix, plus, func(u *ProcessUsage) float64 { return float64(u.Anon) / mib })
			})
		}
		stored := "yes"
		for i := range rs {
			if r := &rs[i]; r.Stored != r.Sent.Numbers() {
				stored = fmt.Sprintf("no: %d of %d", r.Stored, r.Sent.Numbers())
			}
		}
		row(b, rs[0].Peer, strconv.Itoa(len(rs)),
			rs.median(3, share("", plus)), rs.median(3, share("vminsert", plus)), rs.median(3, share("vmstorage", plus)), rs.median(3, share("vmstorage", math.Max)),
			rs.median(2, perSample(func(r *GrowthResult) float64 { return r.SentBytes })), rs.median(3, perSample(func(r *GrowthResult) float64 { return r.AnsweredBytes })),
			rs.median(2, func(r *GrowthResult) float64 { return r.Register.CPUPerM }), anon("vminsert"), anon("vmstorage"),
			rs.median(3, func(r *GrowthResult) float64 { return r.Disk.BytesPerSample }), stored)
	}
}

func growthOfReads(b *strings.Builder, shapes []growths) {
	b.WriteString("\nAll queries once:\n\n")
	row(b, "cluster", "ms", "CPU ms", "of it vmselect", "storage nodes together", "MiB from the storage nodes", "failed")
	ruler(b, 7)
	for _, rs := range shapes {
		front := func(r *GrowthResult) (sum float64) {
			for i := range r.Queries.Queries {
				sum += r.Queries.Queries[i].FrontMs
			}
			return sum
		}
		row(b, rs[0].Peer,
			rs.median(0, func(r *GrowthResult) float64 { return r.Queries.SumMedianMs }),
			rs.median(0, func(r *GrowthResult) float64 { return r.Queries.CPUMsPerRound }), rs.median(0, front),
			rs.median(0, func(r *GrowthResult) float64 { return r.Queries.CPUMsPerRound - front(r) }),
			rs.median(2, func(r *GrowthResult) float64 { return r.QueryBytes / mib }),
			rs.median(0, func(r *GrowthResult) float64 { return float64(r.Queries.Errors) }))
	}
}

// growthOfQueries writes a row for each query.
func growthOfQueries(b *strings.Builder, shapes []growths) {
	b.WriteString("\nMedian ms / CPU ms of vmselect + of the storage nodes together, for each run:\n\n")
	header := []string{"query"}
	for _, rs := range shapes {
		header = append(header, rs[0].Peer)
	}
	row(b, header...)
	ruler(b, len(header))
	for _, named := range shapes[0][0].Queries.Queries {
		cells := []string{named.Name}
		for _, rs := range shapes {
			cells = append(cells, rs.query(named.Name))
		}
		row(b, cells...)
	}
}

// query formats the medians of a query.
func (rs growths) query(name string) string {
	at := func(f func(*QueryResult) float64) string {
		var values []float64
		for i := range rs {
			values = append(values, of(rs[i].Queries.find(name), f))
		}
		if values = numbers(values); len(values) == 0 {
			return "error"
		}
		return strconv.FormatFloat(quantile(values, 0.5), 'f', 1, 64)
	}
	return at(func(q *QueryResult) float64 { return q.MedianMs }) + " / " + at(func(q *QueryResult) float64 { return q.FrontMs }) +
		" + " + at(func(q *QueryResult) float64 { return q.CPUMs - q.FrontMs })
}
