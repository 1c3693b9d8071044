package head

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const base = int64(1_700_000_000_000)

func all() model.TimeRange { return model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64} }

// contents returns every sample of a series as timestamp and bits, sorted, repeats removed.
func contents(t *testing.T, h *Head, id uint32, r model.TimeRange) [][2]int64 {
	t.Helper()
	var buf []byte
	var out [][2]int64
	for _, b := range h.AppendBlocks(nil, &buf, id, r) {
		var s tsblock.Samples
		if err := b.Decode(&s); err != nil {
			t.Fatal(err)
		}
		if s.Len() != b.Count || s.Timestamps[0] != b.MinTimestamp || s.Timestamps[s.Len()-1] != b.MaxTimestamp || !slices.IsSorted(s.Timestamps) {
			t.Fatalf("block %s does not go with its %d samples", &b, s.Len())
		}
		if b.MaxTimestamp < r.Min || b.MinTimestamp > r.Max {
			t.Fatalf("block %s does not overlap %s", &b, r)
		}
		for i, ts := range s.Timestamps {
			out = append(out, [2]int64{ts, int64(math.Float64bits(s.Values[i]))})
		}
	}
	return sorted(out)
}

func sorted(s [][2]int64) [][2]int64 {
	slices.SortFunc(s, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(s)
}

func randomValue(rng *rand.Rand) float64 {
	switch rng.IntN(6) {
	case 0:
		return math.Float64frombits(0x7ff0000000000002)
	case 1:
		return math.Copysign(0, -1)
	case 2:
		return math.Float64frombits(rng.Uint64())
	}
	return float64(rng.IntN(1000))
}

// TestHeadAgainstModel appends samples in and out of order and compares with maps.
func TestHeadAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := New()
	want := map[uint32][][2]int64{}
	newest := map[uint32]int64{}
	days := map[Day]bool{}
	marked := map[Day]bool{}
	ids := []uint32{0, 1, 511, 512, 70_000, 3}
	for range 3000 {
		id := ids[rng.IntN(len(ids))]
		var d Delta
		d.Reset()
		var batch []model.Sample
		for range 1 + rng.IntN(5) {
			ts := max(base, newest[id]) + rng.Int64N(600_000)
			if rng.IntN(4) == 0 {
				ts = base + rng.Int64N(20*86_400_000)
			}
			newest[id] = max(newest[id], ts)
			x := model.Sample{Timestamp: ts, Value: randomValue(rng)}
			batch = append(batch, x)
			want[id] = append(want[id], [2]int64{ts, int64(math.Float64bits(x.Value))})
			days[Day{id, int32(ts / 86_400_000)}] = true
		}
		h.Append(id, batch, &d)
		for _, day := range d.Days {
			marked[day] = true
		}
		h.Add(&d)
	}
	for id := range want {
		if got := contents(t, h, id, all()); !slices.Equal(got, sorted(want[id])) {
			t.Fatalf("series %d has %d distinct samples; want %d", id, len(got), len(sorted(want[id])))
		}
		r := model.TimeRange{Min: base + 86_400_000, Max: base + 2*86_400_000}
		got := map[[2]int64]bool{}
		for _, x := range contents(t, h, id, r) {
			got[x] = true
		}
		for _, x := range want[id] {
			if r.Contains(x[0]) && !got[x] {
				t.Fatalf("sample %v of series %d is missing from %s", x, id, r)
			}
		}
	}
	if fmt.Sprint(days) != fmt.Sprint(marked) {
		t.Errorf("marked %d days; want %d", len(marked), len(days))
	}
	slices.Sort(ids)
	if got := h.IDs(); !slices.Equal(got, ids) || h.SeriesCount() != len(ids) {
		t.Errorf("ids %v, %d series; want %v", got, h.SeriesCount(), ids)
	}
	if h.Has(2) || !h.Has(3) || h.Has(1<<31) {
		t.Error("Has gives wrong answers")
	}
}

func TestRepeatedNewestSampleIsDropped(t *testing.T) {
	h := New()
	var d Delta
	d.Reset()
	x := model.Sample{Timestamp: base, Value: 1}
	h.Append(1, []model.Sample{x, x, {Timestamp: base, Value: 2}}, &d)
	h.Append(1, []model.Sample{x}, &d)
	h.Add(&d)
	if h.Rows() != 2 {
		t.Errorf("%d rows; want 2", h.Rows())
	}
	if r := h.TimeRange(); r.Min != base || r.Max != base {
		t.Errorf("range %s", r)
	}
}

// TestConcurrentUse reads while others append: what was read stays as it is.
func TestConcurrentUse(t *testing.T) {
	h := New()
	var wg sync.WaitGroup
	const series, samples = 8, 2000
	for w := range 4 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			var d Delta
			d.Reset()
			for i := range samples {
				for id := range uint32(series) {
					h.Append(id, []model.Sample{{Timestamp: base + int64(i*4+w), Value: float64(i)}}, &d)
				}
			}
			h.Add(&d)
		}()
		go func() {
			defer wg.Done()
			for range 200 {
				contents(t, h, uint32(w), all())
			}
		}()
	}
	wg.Wait()
	if h.Rows() != 4*series*samples || h.SeriesCount() != series {
		t.Errorf("%d rows of %d series; want %d of %d", h.Rows(), h.SeriesCount(), 4*series*samples, series)
	}
	for id := range uint32(series) {
		if n := len(contents(t, h, id, all())); n != 4*samples {
			t.Errorf("series %d has %d samples; want %d", id, n, 4*samples)
		}
	}
}

// BenchmarkAppend appends one sample to each of many series per round, as scrapes do, and reports what a
// series of an hour at 15 seconds takes.
func BenchmarkAppend(b *testing.B) {
	const series = 20_000
	h := New()
	var d Delta
	d.Reset()
	x := make([]model.Sample, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		round, id := i/series, uint32(i%series)
		if round == 240 && id == 0 {
			h.Add(&d)
			b.ReportMetric(float64(h.SizeBytes())/series, "B/series/h")
			h = New()
			d.Reset()
		}
		x[0] = model.Sample{Timestamp: base + int64(round)*15_000, Value: float64(round * int(id%7))}
		h.Append(id, x, &d)
	}
	h.Add(&d)
	b.ReportMetric(float64(h.SizeBytes())/float64(h.Rows()), "B/sample")
}
