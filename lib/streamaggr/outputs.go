package streamaggr

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kind is what an output computes.
type kind uint8

const (
	avg kind = iota
	countSamples
	countSeries
	histogramBucket
	increase
	increasePrometheus
	last
	highest
	lowest
	rateAvg
	rateSum
	stddev
	stdvar
	sumSamples
	sumSamplesTotal
	total
	totalPrometheus
	uniqueSamples
	quantiles
	kinds
)

func kindNames() [kinds]string {
	return [kinds]string{
		avg: "avg", countSamples: "count_samples", countSeries: "count_series", histogramBucket: "histogram_bucket", increase: "increase",
		increasePrometheus: "increase_prometheus", last: "last", highest: "max", lowest: "min", rateAvg: "rate_avg", rateSum: "rate_sum",
		stddev: "stddev", stdvar: "stdvar", sumSamples: "sum_samples", sumSamplesTotal: "sum_samples_total", total: "total",
		totalPrometheus: "total_prometheus", uniqueSamples: "unique_samples", quantiles: "quantiles",
	}
}

// need is what has to be kept for an output.
type need uint8

const (
	needValues    need = 1 << iota // count, sum, lowest, highest and last value
	needMoments                    // mean and squares
	needUnique                     // the values
	needQuantiles                  // a sketch of the values
	needHistogram                  // buckets
	needSeries                     // which series there are
	needIncrease                   // by how much each series has increased

	needOfGroup = needValues | needMoments | needUnique | needQuantiles | needHistogram
)

func (k kind) needs() need {
	switch k {
	case stddev, stdvar:
		return needValues | needMoments
	case uniqueSamples:
		return needUnique
	case quantiles:
		return needQuantiles
	case histogramBucket:
		return needHistogram
	case countSeries:
		return needSeries
	case increase, increasePrometheus, rateAvg, rateSum, total, totalPrometheus:
		return needSeries | needIncrease
	}
	return needValues
}

// output is an entry of the list of outputs.
type output struct {
	kind kind
	// The arguments of quantiles, as numbers and as they are written.
	phis  []float64
	texts []string
}

// parseOutput reads an entry of the list of outputs.
func parseOutput(text string) (o output, err error) {
	names := kindNames()
	name, args, hasArgs := strings.Cut(text, "(")
	i := slices.Index(names[:], strings.TrimSpace(name))
	if i < 0 {
		return o, fmt.Errorf("there is no output %q; there are %s", text, strings.Join(names[:quantiles], ", ")+" and quantiles(phi, ...)")
	}
	if o.kind = kind(i); o.kind != quantiles {
		if hasArgs {
			return o, fmt.Errorf("the output %q takes no arguments; write %s", text, names[i])
		}
		return o, nil
	}
	args, closed := strings.CutSuffix(strings.TrimSpace(args), ")")
	if !closed {
		return o, fmt.Errorf("the output %q has no list of numbers; write for example quantiles(0.5, 0.99)", text)
	}
	for arg := range strings.SplitSeq(args, ",") {
		arg = strings.TrimSpace(arg)
		phi, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(phi >= 0 && phi <= 1) {
			return o, fmt.Errorf("the output %q has the argument %q; want numbers from 0 to 1", text, arg)
		}
		if slices.Contains(o.texts, arg) {
			return o, fmt.Errorf("the output %q has the argument %s twice", text, arg)
		}
		o.phis, o.texts = append(o.phis, phi), append(o.texts, arg)
	}
	return o, nil
}
