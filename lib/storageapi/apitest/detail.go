package apitest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/model"
)

// testDetail compares answers which are cut down to the newest sample of each series with whole ones. They
// need not be cut down, but the newest sample that a reader sees must stay.
func testDetail(t *testing.T, e *env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 6 {
		for range 1 + rng.IntN(3) {
			var b model.Batch
			for range 1 + rng.IntN(20) {
				addTo(t, &b, model.TenantID{}, fmt.Sprintf("m{i=%d}", rng.IntN(12)), e.oddSamples(rng)...)
			}
			e.ingest(t, &b)
		}
		if round%2 == 1 {
			e.settle(t)
		}
		for range 10 {
			first := e.Base + rng.Int64N(2000)*secondMs
			r := model.TimeRange{Min: first, Max: first + rng.Int64N(1000*secondMs)}
			e.compareDetail(t, r, model.NewestSample)
			e.compareDetail(t, r, model.NewestKind)
		}
		e.compareDetail(t, e.all(), model.NewestSample)
		e.compareDetail(t, e.all(), model.NewestKind)
	}
}

// oddSamples returns samples with values of all kinds, some at equal times.
func (e *env) oddSamples(rng *rand.Rand) []sample {
	kinds := []float64{math.NaN(), math.Float64frombits(0x7ff0000000000002), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)}
	var samples []sample
	start := e.Base + rng.Int64N(2000)*secondMs
	for range 1 + rng.IntN(60) {
		value := float64(rng.IntN(1000))
		if rng.IntN(8) == 0 {
			value = kinds[rng.IntN(len(kinds))]
		}
		samples = append(samples, at(start, value))
		start += rng.Int64N(4) * 5 * secondMs
	}
	if rng.IntN(3) == 0 {
		rng.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
	}
	return samples
}

func (e *env) compareDetail(t *testing.T, r model.TimeRange, detail model.Detail) {
	t.Helper()
	whole := e.search(t, &model.SearchQuery{Range: r})
	cut := e.search(t, &model.SearchQuery{Range: r, Detail: detail})
	if len(whole) != len(cut) {
		t.Fatalf("%d series in %s with detail %d; want %d", len(cut), r, detail, len(whole))
	}
	for i := range whole {
		want, got := newestOf(whole[i].samples), newestOf(cut[i].samples)
		if detail == model.NewestKind {
			want, got = anyNumber(want), anyNumber(got)
		}
		if whole[i].key != cut[i].key || got != want {
			t.Fatalf("%s in %s with detail %d: newest sample is %+v; want %+v", model.SeriesKeyString([]byte(whole[i].key)), r, detail, got, want)
		}
	}
}

// newestOf returns the newest sample which is not an ordinary NaN.
func newestOf(samples []sample) sample {
	for _, s := range slices.Backward(samples) {
		if v := math.Float64frombits(s.bits); v == v || s.bits == 0x7ff0000000000002 {
			return s
		}
	}
	return sample{}
}

// anyNumber makes all numbers equal.
func anyNumber(s sample) sample {
	if v := math.Float64frombits(s.bits); v == v {
		s.bits = 0
	}
	return s
}
