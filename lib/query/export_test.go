package query

import (
	"math/rand/v2"
	"testing"
)

// What tests of package query_test share with those of this package.

// RandomQueries returns a generator of queries over OddFleet.
func RandomQueries(rng *rand.Rand) func() string { return (&queryGen{rng: rng}).query }

// OddFleet returns series with gaps, NaN, staleness markers and ends of all kinds, and a source over them. They are shifted to start around a time.
func OddFleet(rng *rand.Rand, series int, start int64) ([]*RawSeries, Source) {
	var list []*RawSeries
	shifted := newMemSource()
	odd := oddFleet(rng, series)
	for _, key := range odd.keys {
		s := odd.series[string(key)]
		for i := range s.Timestamps {
			s.Timestamps[i] += start - oracleStart
		}
		list = append(list, s)
		shifted.add(labelMap(s.Labels), s.Timestamps, s.Values)
	}
	return list, &wholeSource{shifted}
}

// EngineOver returns an engine over a source.
func EngineOver(t testing.TB, s Source) *Engine {
	t.Helper()
	return testEngine(t, s)
}

// EachRound checks a property.
func EachRound(t *testing.T, rounds int, round func(rng *rand.Rand)) int {
	t.Helper()
	return eachRound(t, rounds, round)
}

// SameBits reports whether two answers are equal in order, labels, times and the bits of values.
func SameBits(a, b *Result) bool { return sameBits(a, b) }

// Pushed returns how many fragments the stores have evaluated for an engine.
func Pushed(e *Engine) uint64 { return e.pushed.Get() }
