package head

import (
	"math"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const (
	benchRounds    = 240 // an hour at 15 seconds
	benchTemplates = 64
)

// benchColumns returns columns of values of one kind.
func benchColumns(next func(r *rand.Rand, i int, last float64) float64) [][]float64 {
	columns := make([][]float64, benchTemplates)
	for i := range columns {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		last := math.Floor(r.ExpFloat64() * 1e6)
		for j := range benchRounds {
			last = next(r, j, last)
			columns[i] = append(columns[i], last)
		}
	}
	return columns
}

func constants() [][]float64 {
	return benchColumns(func(_ *rand.Rand, _ int, last float64) float64 { return last })
}

func counters() [][]float64 {
	return benchColumns(func(r *rand.Rand, _ int, last float64) float64 { return last + math.Floor(r.ExpFloat64()*40) })
}

func gauges() [][]float64 {
	return benchColumns(func(r *rand.Rand, _ int, last float64) float64 { return math.Round(last*100+r.NormFloat64()*200) / 100 })
}

func seconds() [][]float64 { // sums of durations, which have many digits
	return benchColumns(func(r *rand.Rand, _ int, last float64) float64 { return math.Round(last*1e6+r.ExpFloat64()*3e5) / 1e6 })
}

func steps() [][]float64 {
	return benchColumns(func(r *rand.Rand, _ int, last float64) float64 { return last + float64(r.IntN(10)/9) })
}

// mix is what exporters have: half are constant, the rest mostly counters.
func mix() [][]float64 {
	var columns [][]float64
	c, g, s, n := counters(), gauges(), seconds(), steps()
	for i, constant := range constants() {
		columns = append(columns, constant, c[i], constant, [][]float64{g[i], n[i], c[i], s[i]}[i%4])
	}
	return columns
}

// scrape appends one round, in batches.
func scrape(h *Head, columns [][]float64, series, round int, d *Delta) {
	const perBatch = 5000
	x := make([]model.Sample, 1)
	for id := range uint32(series) {
		if id%perBatch == 0 {
			h.Add(d)
			d.Reset()
		}
		x[0] = model.Sample{Timestamp: base + int64(round)*15_000, Value: columns[int(id)%len(columns)][round%benchRounds]}
		h.Append(id, x, d)
	}
	h.Add(d)
	d.Reset()
}

// BenchmarkAppend appends one sample to each of many series per round, as scrapes do.
func BenchmarkAppend(b *testing.B) {
	const series = 200_000
	columns := mix()
	h := New()
	var d Delta
	d.Reset()
	rounds := 0
	for b.Loop() {
		if rounds == benchRounds {
			h.Release()
			h, rounds = New(), 0
		}
		scrape(h, columns, series, rounds, &d)
		rounds++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series), "ns/sample")
	b.ReportMetric(float64(h.SizeBytes())/float64(series), "B/series")
	h.Release()
}

// BenchmarkHour reports what series take after an hour.
func BenchmarkHour(b *testing.B) {
	const series = 20_000
	for _, c := range []struct {
		name    string
		columns [][]float64
	}{{"constants", constants()}, {"steps", steps()}, {"counters", counters()}, {"gauges", gauges()}, {"seconds", seconds()}, {"mix", mix()}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				h := New()
				var d Delta
				d.Reset()
				for round := range benchRounds {
					scrape(h, c.columns, series, round, &d)
				}
				b.ReportMetric(float64(h.SizeBytes())/series, "B/series")
				h.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*benchRounds), "ns/sample")
		})
	}
}

// BenchmarkRead reads and decodes an hour of all series.
func BenchmarkRead(b *testing.B) {
	const series = 20_000
	columns := mix()
	h := New()
	defer h.Release()
	var d Delta
	d.Reset()
	for round := range benchRounds {
		scrape(h, columns, series, round, &d)
	}
	var buf []byte
	var blocks []tsblock.Block
	b.Run("blocks", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for id := range uint32(series) {
				buf = buf[:0]
				blocks = h.AppendBlocks(blocks[:0], &buf, id, all())
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series), "ns/series")
	})
	b.Run("samples", func(b *testing.B) {
		var samples tsblock.Samples
		var scratch tsblock.Scratch
		b.ReportAllocs()
		for b.Loop() {
			for id := range uint32(series) {
				buf = buf[:0]
				blocks = h.AppendBlocks(blocks[:0], &buf, id, all())
				samples.Reset()
				if err := tsblock.ReadRange(&samples, blocks, all(), 0, &scratch); err != nil || samples.Len() != benchRounds {
					b.Fatal(samples.Len(), err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*benchRounds), "ns/sample")
	})
}
