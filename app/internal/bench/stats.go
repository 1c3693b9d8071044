package bench

import (
	"math"
	"slices"
	"strconv"
)

// quantile returns the q-quantile of the values by the nearest rank; 0 of none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// numbers returns the values that are finite.
func numbers(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

// spreadOf formats the median with so many decimals, with the extremes if they differ;
// empty when there is none.
func spreadOf(decimals int, values []float64) string {
	values = numbers(values)
	if len(values) == 0 {
		return ""
	}
	text := strconv.FormatFloat(quantile(values, 0.5), 'f', decimals, 64)
	lowest, highest := strconv.FormatFloat(slices.Min(values), 'f', decimals, 64), strconv.FormatFloat(slices.Max(values), 'f', decimals, 64)
	if lowest == highest {
		return text
	}
	return text + " (" + lowest + "-" + highest + ")"
}

// groupBy returns the values by key, in the order in which the keys appear.
func groupBy[T any](values []T, key func(*T) string) [][]T {
	var groups [][]T
	at := map[string]int{}
	for i := range values {
		k := key(&values[i])
		n, ok := at[k]
		if !ok {
			n = len(groups)
			at[k] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], values[i])
	}
	return groups
}
