package bench

import "math"

const mib = 1 << 20

// figure is a row of the table of a dataset.
type figure struct {
	name     string
	decimals int
	value    func(*Result) float64 // NaN if there is none
	why      func(*Result) string  // why there is none; empty text leaves the cell empty
	noRatio  bool                  // for what is better when it is more, or is no cost
}

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

// of returns f of a part of a result, or NaN if there is no such part.
func of[T any](part *T, f func(*T) float64) float64 {
	if part == nil {
		return math.NaN()
	}
	return f(part)
}

// positive returns NaN for what older results do not have.
func positive(v float64) float64 {
	if v <= 0 {
		return math.NaN()
	}
	return v
}

func whyNotStored(r *Result) string {
	if r.Idle == nil {
		return "keeps nothing"
	}
	return "not measured"
}

func whyNotAsked(r *Result) string {
	if r.Idle == nil {
		return "keeps nothing"
	}
	return "not asked"
}

func notMeasured(*Result) string { return "not measured" }

func (r *Result) peakRSS() float64 { return float64(max(r.Ingest.After.Peak, r.last().After.Peak)) }

func ingestFigures() []figure {
	return []figure{
		{"ingest, CPU-s per M samples", 3, func(r *Result) float64 { return r.ingestCPU() / r.samples() * 1e6 }, notMeasured, false},
		{"M samples/s, closed loop", 2, func(r *Result) float64 { return r.samples() / r.ingestWall() / 1e6 }, notMeasured, true},
		{"insert latency p50, ms", 1, func(r *Result) float64 { return r.last().P50Ms }, notMeasured, false},
		{"insert latency p99, ms", 1, func(r *Result) float64 { return r.last().P99Ms }, notMeasured, false},
		{"flush and merge, CPU-s per M samples", 3, func(r *Result) float64 {
			return of(r.Merged, func(u *Usage) float64 { return (u.CPUSeconds - r.last().After.CPUSeconds) / r.samples() * 1e6 })
		}, whyNotStored, false},
	}
}

// phaseFigures are those of dataset c, whose first scrape registers all series.
func phaseFigures() []figure {
	second := func(f func(*Result) float64) func(*Result) float64 {
		return func(r *Result) float64 { return of(r.Ingest2, func(*IngestResult) float64 { return f(r) }) }
	}
	return []figure{
		{"registration, CPU-s per M new series", 2, second(func(r *Result) float64 { return r.Ingest.CPUPerM }), notMeasured, false},
		{"registration, insert latency p99, ms", 1, second(func(r *Result) float64 { return r.Ingest.P99Ms }), notMeasured, false},
		{"later scrapes, CPU-s per M samples", 3, second(func(r *Result) float64 { return r.Ingest2.CPUPerM }), notMeasured, false},
		{"anonymous memory after load, bytes per active series", 0, second(func(r *Result) float64 {
			return float64(r.Ingest2.After.Anon) / float64(r.Sent.Active)
		}), notMeasured, false},
	}
}

func memoryFigures() []figure {
	return []figure{
		{"anonymous memory after load, MiB", 0, func(r *Result) float64 { return positive(float64(r.last().After.Anon)) / mib }, notMeasured, false},
		{"anonymous memory, peak of ingestion, MiB", 0, func(r *Result) float64 { return positive(float64(max(r.Ingest.AnonPeak, r.last().AnonPeak))) / mib }, notMeasured, false},
		{"anonymous memory idle after flush, MiB", 0, func(r *Result) float64 {
			return of(r.Idle, func(u *Usage) float64 { return float64(u.Anon) / mib })
		}, whyNotStored, false},
		{"RSS idle after flush, with mapped files, MiB", 0, func(r *Result) float64 {
			return of(r.Idle, func(u *Usage) float64 { return float64(u.RSS) / mib })
		}, whyNotStored, false},
		{"RSS, peak of ingestion, MiB", 0, func(r *Result) float64 { return r.peakRSS() / mib }, notMeasured, false},
		{"RSS, peak of queries, MiB", 0, func(r *Result) float64 {
			return of(r.Queries, func(q *QueryResults) float64 { return float64(q.After.Peak) / mib })
		}, whyNotAsked, false},
	}
}

func diskFigures() []figure {
	return []figure{
		{"disk flushed, bytes/sample", 3, func(r *Result) float64 {
			return of(r.DiskBefore, func(d *Disk) float64 { return d.BytesPerSample })
		}, whyNotStored, false},
		{"disk merged, bytes/sample", 3, func(r *Result) float64 {
			return of(r.DiskAfter, func(d *Disk) float64 { return d.BytesPerSample })
		}, whyNotStored, false},
		{"of it index, bytes/series", 1, func(r *Result) float64 {
			return of(r.DiskAfter, func(d *Disk) float64 { return float64(d.Index) / float64(r.Sent.Series) })
		}, whyNotStored, false},
		{"disk merged without index, bytes/sample", 3, func(r *Result) float64 {
			return of(r.DiskAfter, func(d *Disk) float64 { return float64(d.Bytes-d.Index) / r.samples() })
		}, whyNotStored, false},
		{"written, bytes/sample", 2, func(r *Result) float64 {
			return of(r.Merged, func(u *Usage) float64 { return float64(u.Written) / r.samples() })
		}, whyNotStored, false},
	}
}

func queryFigures() []figure {
	named := func(name string) func(*Result) float64 {
		return func(r *Result) float64 {
			return of(r.Queries.find(name), func(q *QueryResult) float64 { return q.CPUMs })
		}
	}
	return []figure{
		{"all queries once, CPU ms", 0, func(r *Result) float64 {
			return of(r.Queries, func(q *QueryResults) float64 { return q.CPUMsPerRound })
		}, whyNotAsked, false},
		{"all queries once, ms", 0, func(r *Result) float64 {
			return of(r.Queries, func(q *QueryResults) float64 { return q.SumMedianMs })
		}, whyNotAsked, false},
		{"count_all, CPU ms", 0, named("count_all"), whyNotAsked, false},
		{"count_by_name, CPU ms", 0, named("count_by_name"), whyNotAsked, false},
		{"cold queries, ms", 0, func(r *Result) float64 {
			return of(r.Cold, func(c *ColdResults) float64 { return c.SumMs })
		}, whyNotAsked, false},
		{"restart until queries are answered, ms", 0, func(r *Result) float64 {
			return of(r.Cold, func(c *ColdResults) float64 { return c.StartMs })
		}, whyNotAsked, false},
	}
}

// find returns the query of that name if it was answered.
func (r *QueryResults) find(name string) *QueryResult {
	if r == nil {
		return nil
	}
	for i := range r.Queries {
		if q := &r.Queries[i]; q.Name == name && q.Error == "" {
			return q
		}
	}
	return nil
}
