package bench

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/prompb"
)

type kind uint8

const (
	kindConst   kind = iota
	kindCounter      // grows by random steps around a mean
	kindGauge        // wanders around a base value
	kindSum          // like a counter, but accumulates float rounding errors
	kindIdleCPU      // takes the time that the other modes of that CPU left
	kindBucket       // grows by its own steps plus the previous bucket's growth
	kindCount        // grows as the preceding +Inf bucket grows
	kindSynth        // up, scrape_duration_seconds and so on
)

// template describes one series of a scraped target: its labels and how its
// value moves. Values are integer multiples of unit, or of 1/unit when
// fraction is set, so they keep the decimal shape of the captured ones.
type template struct {
	labels   []prompb.Label // sorted, without instance and job; the name comes first
	kind     kind
	first    bool    // the first bucket of a histogram
	value    float64 // the first captured value
	unit     float64
	fraction bool
	mean     float64 // counters: mean step per scrape, in units
	sigma    float64 // gauges: typical step, in units
}

func (t *template) name() string { return t.labels[0].Value }

// inUnits converts a value.
func (t *template) inUnits(v float64) float64 {
	if t.fraction {
		return v * t.unit
	}
	return v / t.unit
}

// fromUnits is the inverse of inUnits.
func (t *template) fromUnits(v float64) float64 {
	if t.fraction {
		return v / t.unit
	}
	return v * t.unit
}

// newTemplate guesses from two captured values of a series how it moves.
func newTemplate(a, b captured, types map[string]string) template {
	t := template{labels: a.labels, value: a.value, unit: 1}
	if math.IsNaN(a.value) || math.IsInf(a.value, 0) {
		return t
	}
	decimals := max(decimalsOf(a.text), decimalsOf(b.text))
	t.setUnit(a.value, b.value, decimals)
	name := t.name()
	base := family(name, types)
	grows := types[base] == "counter" || base != name || strings.HasSuffix(name, "_total") || name == "node_time_seconds"
	switch {
	case types[base] == "histogram" && strings.HasSuffix(name, "_bucket"):
		t.kind = kindBucket
	case types[base] == "histogram" && strings.HasSuffix(name, "_count"):
		t.kind = kindCount
	case strings.HasPrefix(name, "node_cpu_seconds") && slices.Contains(a.labels, prompb.Label{Name: "mode", Value: "idle"}):
		t.kind = kindIdleCPU
	case a.value == b.value:
		return t
	case strings.HasSuffix(name, "_sum") || grows && decimals > 9:
		t.kind = kindSum
	case grows || types[base] == "untyped" && b.value > a.value && b.value-a.value < a.value/2:
		t.kind = kindCounter
	default:
		t.kind = kindGauge
		t.sigma = max(t.inUnits(math.Abs(b.value-a.value))/2, 1)
	}
	t.mean = max(0, t.inUnits(b.value-a.value)) * scrapeSeconds / captureSeconds
	return t
}

// setUnit finds what the values are multiples of: a decimal fraction, pages, kilobytes, sectors or 1.
func (t *template) setUnit(a, b float64, decimals int) {
	if decimals > 0 {
		t.fraction, t.unit = true, math.Pow10(min(decimals, 9))
		return
	}
	for _, u := range []float64{4096, 1024, 512} {
		if math.Abs(a) >= u && math.Mod(a, u) == 0 && math.Mod(b, u) == 0 {
			t.unit = u
			return
		}
	}
}

// family returns the name of the metric family a series belongs to.
func family(name string, types map[string]string) string {
	base := name
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if s, ok := strings.CutSuffix(name, suffix); ok && types[s] != "" {
			base = s
		}
	}
	return base
}

// decimalsOf returns the number of decimal places of a printed number.
func decimalsOf(s string) int {
	mantissa, exp, _ := strings.Cut(s, "e")
	_, frac, _ := strings.Cut(mantissa, ".")
	e, err := strconv.Atoi(exp)
	if err != nil {
		e = 0 // there is no exponent
	}
	return max(0, len(frac)-e)
}
