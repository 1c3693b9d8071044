package selectapi

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestShortestFloat compares with the standard library, which is slower.
func TestShortestFloat(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	check := func(v float64) {
		if got, want := string(appendFloat(nil, v)), strconv.FormatFloat(v, 'f', -1, 64); got != want {
			t.Errorf("%x is written %s; want %s", math.Float64bits(v), got, want)
		}
	}
	for _, v := range []float64{0, math.Copysign(0, -1), 0.5, -0.5, 1e-4, 1e-5, 0.1 + 0.2, 1e11, 99999999999.9999, 1e15, -1e15, 1e-300, 0.30000000000000004, 5e-324, math.MaxFloat64} {
		check(v)
		check(-v)
		check(math.Nextafter(v, 1))
		check(math.Nextafter(v, -1))
	}
	for range 100_000 {
		check(float64(rng.Int64N(1e15)-5e14) / math.Pow(10, float64(rng.IntN(8))))
		check(float64(rng.Int64N(1e6)-5e5) / math.Pow(10, float64(rng.IntN(8))))
		if v := math.Float64frombits(rng.Uint64()); v-v == 0 {
			check(v)
		}
	}
}

func BenchmarkAppendFloat(b *testing.B) {
	for name, v := range map[string]float64{"quarters": 1234.75, "long": math.Pi, "integer": 1234} {
		b.Run(name, func(b *testing.B) {
			var buf [64]byte
			for b.Loop() {
				_ = appendFloat(buf[:0], v)
			}
		})
	}
}
