package query

import (
	"cmp"

	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/tsblock"
)

// Where samples are downsampled, storage has what is known of all samples that there were beside the few it has kept. Functions
// that can be computed from that are: lowest, highest and summed values simply stand in for samples; counts and means take
// a little more.

// aspect returns what a call wants of downsampled samples.
func (c *rollupCall) aspect() model.Aspect {
	switch c.f.Name {
	case "min_over_time":
		return model.AspectMin
	case "max_over_time":
		return model.AspectMax
	case "sum_over_time":
		return model.AspectSum
	case "count_over_time":
		return model.AspectCount
	case "avg_over_time":
		return model.AspectMean
	}
	return model.AspectSamples
}

// byContent tells whether samples of the aspect have to be told apart by what they are.
func byContent(a model.Aspect) bool { return a == model.AspectCount || a == model.AspectMean }

// counted evaluates counts and means of one downsampled series at a time.
type counted struct {
	sums, counts *rollup.Evaluator
	decoder      *Decoder // for counts, since the worker's has the sums
	raw, column  []tsblock.Block
	ones, merged tsblock.Samples
}

// isDownsampled reports whether one of the blocks holds other than raw samples.
func isDownsampled(blocks []tsblock.Block) bool {
	for i := range blocks {
		if blocks[i].Content() != tsblock.Raw {
			return true
		}
	}
	return false
}

// counted evaluates a count or a mean over blocks of sums and counts, and raw ones.
func (w *rollupWorker) counted(key []byte, blocks []tsblock.Block) error {
	k, err := w.counter()
	if err != nil {
		return err
	}
	s, err := k.countsOf(key, blocks)
	if err != nil || s == nil {
		return err
	}
	if err := w.tally.count(s); err != nil {
		return err
	}
	w.out.setLabels(s.Labels)
	var counts []float64
	k.counts.Eval(k.merged.Timestamps, k.merged.Values, func(_ string, values []float64) { counts = values })
	if w.run.c.aspect() == model.AspectCount {
		w.out.add("", counts)
		return cmp.Or(w.out.err, k.counts.Err())
	}
	s, err = w.decoder.Decode(key, k.pick(blocks, tsblock.Sum))
	if err != nil || s == nil {
		return err
	}
	k.sums.Eval(s.Timestamps, s.Values, func(_ string, sums []float64) {
		for i := range sums {
			sums[i] /= counts[i]
		}
		w.out.add("", sums)
	})
	return cmp.Or(w.out.err, k.sums.Err(), k.counts.Err())
}

// counter returns the evaluators of sums, which are made when the first downsampled series comes.
func (w *rollupWorker) counter() (*counted, error) {
	if w.downsampled != nil {
		return w.downsampled, nil
	}
	sum, err := rollup.New("sum_over_time", nil)
	if err != nil {
		return nil, err
	}
	r := w.run
	w.downsampled = &counted{sums: rollup.NewEvaluator(sum, r.p), counts: rollup.NewEvaluator(sum, r.p), decoder: r.ev.decoder(r.r)}
	return w.downsampled, nil
}

// pick returns the raw blocks and those of a content.
func (k *counted) pick(blocks []tsblock.Block, c tsblock.Content) []tsblock.Block {
	k.column = k.column[:0]
	for i := range blocks {
		if b := blocks[i].Content(); b == tsblock.Raw || b == c {
			k.column = append(k.column, blocks[i])
		}
	}
	return k.column
}

// countsOf puts how many samples there were at which times into k.merged, and returns a series with the labels; nil when there were none.
func (k *counted) countsOf(key []byte, blocks []tsblock.Block) (*RawSeries, error) {
	k.raw, k.column = k.raw[:0], k.column[:0]
	for i := range blocks {
		switch blocks[i].Content() {
		case tsblock.Raw:
			k.raw = append(k.raw, blocks[i])
		case tsblock.Count:
			k.column = append(k.column, blocks[i])
		}
	}
	k.ones.Reset()
	k.merged.Reset()
	raw, err := k.decoder.Decode(key, k.raw)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		for i, v := range raw.Values {
			if v == v { // markers stay
				v = 1
			}
			k.ones.Append(raw.Timestamps[i], v)
		}
	}
	column, err := k.decoder.Decode(key, k.column)
	if err != nil {
		return nil, err
	}
	if column == nil {
		k.merged.Timestamps, k.merged.Values = append(k.merged.Timestamps, k.ones.Timestamps...), append(k.merged.Values, k.ones.Values...)
		return raw, nil
	}
	tsblock.Merge(&k.merged, []tsblock.Samples{k.ones, {Timestamps: column.Timestamps, Values: column.Values}}, 0)
	return column, nil
}
