package vector

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/model"
)

// TestBestOfEachPoint compares topk and bottomk with sorting: ties, gaps, k of any size, series in any order.
func TestBestOfEachPoint(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		const points = 5
		n, sign := 1+rng.IntN(80), 1-2*rng.IntN(2)
		k, series := make([]float64, points), make([]*Series, n)
		for i := range k {
			k[i] = float64(rng.IntN(90) - 5)
		}
		given := make([][]float64, n) // by place
		for place := range series {
			given[place] = make([]float64, points)
			for i := range given[place] {
				if given[place][i] = float64(rng.IntN(6)); rng.IntN(5) == 0 {
					given[place][i] = math.NaN()
				}
			}
			series[place] = &Series{Name: "m", Labels: []model.Label{{Name: "i", Value: fmt.Sprintf("%03d", place)}}, Values: slices.Clone(given[place])}
		}
		bySeries := slices.Clone(series)
		rng.Shuffle(n, func(i, j int) { series[i], series[j] = series[j], series[i] })
		(&aggregation{}).keepPerPoint(&group{series: series}, k, sign)
		for i := range points {
			places := make([]int, n)
			for place := range places {
				places[place] = place
			}
			slices.SortStableFunc(places, func(a, b int) int { return cmp.Or(better(given[a][i], given[b][i], sign), cmp.Compare(a, b)) })
			for rank, place := range places {
				want, got := given[place][i], bySeries[place].Values[i]
				if rank >= toInt(k[i]) {
					want = math.NaN()
				}
				if want != got && !(math.IsNaN(want) && math.IsNaN(got)) {
					t.Fatalf("point %d of series %d of %d, k %v: %v; want %v", i, place, n, k[i], got, want)
				}
			}
		}
	}
}
