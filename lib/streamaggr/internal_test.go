package streamaggr

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// TestSketch compares quantiles of many values with the exact ones.
func TestSketch(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	phis := []float64{0, 0.01, 0.25, 0.5, 0.9, 0.999, 1}
	for _, n := range []int{1, 2, mostFew, mostFew + 1, 20_000} {
		for name, next := range map[string]func() float64{
			"exponential": rng.ExpFloat64,
			"both signs":  func() float64 { return rng.NormFloat64() * 1e6 },
			"few":         func() float64 { return float64(rng.IntN(3) - 1) },
			"any":         func() float64 { return math.Ldexp(rng.Float64()-0.5, rng.IntN(600)-300) },
		} {
			from := &room{total: &atomic.Int64{}}
			var m moreValues
			values := make([]float64, n)
			for i := range values {
				values[i] = next()
				if !m.addToSketch(values[i], from) {
					t.Fatal("there is no room")
				}
			}
			slices.Sort(values)
			got := m.sketch.quantiles(nil, phis)
			for i, phi := range phis {
				at := phi * float64(n-1)
				low, high := values[int(at)], values[int(math.Ceil(at))]
				if low, high = low-math.Abs(low)/256, high+math.Abs(high)/256; got[i] < low || got[i] > high {
					t.Errorf("%d values, %s: quantile %g is %g; want one from %g to %g", n, name, phi, got[i], low, high)
				}
			}
			if from.used != m.bytes {
				t.Errorf("%d bytes are taken, and %d known", from.used, m.bytes)
			}
		}
	}
}

// BenchmarkFlush ends windows of a hundred thousand series, each of which is a group, or in groups of a hundred.
func BenchmarkFlush(b *testing.B) {
	for _, labels := range []string{"name: all", "by: [group]"} {
		b.Run(labels, func(b *testing.B) {
			c, err := Parse("bench", []byte("- {interval: 1m, outputs: [total], "+labels+"}"), Defaults{})
			if err != nil {
				b.Fatal(err)
			}
			r := newRule(&c.rules[0], 1, 0)
			sh := &r.shards[0]
			sh.room.total = &atomic.Int64{}
			var keys [2][]byte
			var batch model.Batch
			var items []item
			for i := range 100_000 {
				group, instance := strconv.Itoa(i/100), strconv.Itoa(i)
				keys, _, _ = r.shape(keys, model.TenantID{}, []model.Label{{Name: "__name__", Value: "x"}, {Name: "group", Value: group}, {Name: "instance", Value: instance}})
				batch.AddKey(keys[1], 0)
				batch.AddSample(1, 1)
				items = append(items, item{sh.find(keys[0], keys[1], 0), i})
			}
			r.ages = &metrics.Histogram{}
			var out model.Batch
			var counts [kinds]int
			b.ReportAllocs()
			for b.Loop() {
				sh.push(items, &batch, math.MaxInt64/2, nil)
				out.Reset()
				sh.flush(flushed{end: 60_000, at: 60_000, next: 60_000, emit: true}, &out, &counts, &tally{})
			}
		})
	}
}

// TestRanges: ranges have the order of their values, which are not far from the middle.
func TestRanges(t *testing.T) {
	last := uint32(0)
	for _, v := range []float64{math.Inf(-1), -math.MaxFloat64, -1e9, -3, -1, -1e-300, 0, 1e-300, 1, 1.01, 3, 1e9, math.MaxFloat64, math.Inf(1)} {
		r := rangeOf(v)
		if r <= last && !math.IsInf(v, -1) {
			t.Errorf("the range of %g is not behind the one before", v)
		}
		last = r
		if m := middle(r); math.Abs(v) > 1e-290 && math.Abs(v) < 1e300 && math.Abs(m-v) > math.Abs(v)/256 {
			t.Errorf("the middle of the range of %g is %g", v, m)
		}
	}
}
