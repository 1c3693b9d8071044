package part

import (
	"cmp"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/tsblock"
)

// reducer downsamples one series of a merge at a time.
type reducer struct {
	raw, kept tsblock.Samples // what the merge has of the series
	old, all  tsblock.Samples
	columns   downsample.Aggregates
	out       tsblock.Samples
	reduced   downsample.Aggregates
	main      downsample.Reducer
	order     []int
	values    [4][]float64
	times     []int64
	byContent [6][]tsblock.Block
	blocks    []tsblock.Block
	buf       []byte
}

// aggregates are the contents of the columns, in the order of downsample.Aggregates.
func aggregates() [4]tsblock.Content {
	return [4]tsblock.Content{tsblock.Min, tsblock.Max, tsblock.Sum, tsblock.Count}
}

// needsReducing reports whether some of the blocks are or become downsampled.
func needsReducing(blocks []tsblock.Block, levels downsample.Levels) bool {
	for i := range blocks {
		if blocks[i].Content() != tsblock.Raw || len(levels) > 0 && blocks[i].MinTimestamp <= levels[0].Before {
			return true
		}
	}
	return false
}

// reduceSeries writes a series some of which is downsampled. The memory it takes is that of all samples of the series.
func (m *merger) reduceSeries(id uint32, levels downsample.Levels) error {
	r := &m.reducer
	for c := range r.byContent {
		r.byContent[c] = r.byContent[c][:0]
	}
	for i := range m.blocks {
		c := m.blocks[i].Content()
		if int(c) >= len(r.byContent) {
			return errkind.New(errkind.Corrupt, "cannot merge block %s: its content %d is unknown", &m.blocks[i], c)
		}
		r.byContent[c] = append(r.byContent[c], m.blocks[i])
	}
	r.raw.Reset()
	if err := tsblock.ReadRange(&r.raw, r.byContent[tsblock.Raw], m.keep, m.minIntervalMs, &m.scratch); err != nil {
		return err
	}
	r.kept.Reset()
	if err := tsblock.ReadRange(&r.kept, r.byContent[tsblock.Kept], m.keep, 0, &m.scratch); err != nil {
		return err
	}
	if err := r.readColumns(m.keep); err != nil {
		return err
	}
	r.blocks, r.buf = r.blocks[:0], r.buf[:0]
	r.reduce(&m.encoder, levels)
	// The writer wants the blocks of a series by time; those of one interval have the same range.
	tsblock.SortBlocks(r.blocks)
	for i := range r.blocks {
		if err := m.addBlock(id, &r.blocks[i]); err != nil {
			return err
		}
	}
	return nil
}

// readColumns decodes the aggregates. Their blocks were written four at a time, over the same timestamps, so the nth blocks of the four contents
// belong together.
func (r *reducer) readColumns(keep model.TimeRange) error {
	r.columns.Reset()
	r.times = r.times[:0]
	for i := range r.values {
		r.values[i] = r.values[i][:0]
	}
	first := r.byContent[tsblock.Min]
	slices.SortStableFunc(first, compareSpans)
	var err error
	for i := range first {
		if r.times, err = first[i].DecodeTimestamps(r.times); err != nil {
			return err
		}
	}
	for i, c := range aggregates() {
		if r.values[i], err = r.readColumn(r.values[i], c, first); err != nil {
			return err
		}
	}
	r.sortColumns(keep)
	return nil
}

// readColumn appends the values of all blocks of a content, which go with the timestamps of other blocks.
func (r *reducer) readColumn(dst []float64, c tsblock.Content, times []tsblock.Block) ([]float64, error) {
	blocks := r.byContent[c]
	if len(blocks) != len(times) {
		return dst, errkind.New(errkind.Corrupt, "cannot merge downsampled blocks: there are %d of content %d and %d of content %d", len(blocks), c, len(times), tsblock.Min)
	}
	slices.SortStableFunc(blocks, compareSpans)
	for i := range blocks {
		if !blocks[i].SameTimestamps(&times[i]) {
			return dst, errkind.New(errkind.Corrupt, "cannot merge downsampled block %s: the lowest values have other timestamps", &blocks[i])
		}
		var err error
		if dst, err = blocks[i].DecodeValues(dst); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func compareSpans(a, b tsblock.Block) int {
	return cmp.Or(cmp.Compare(a.MinTimestamp, b.MinTimestamp), cmp.Compare(a.MaxTimestamp, b.MaxTimestamp), cmp.Compare(a.Count, b.Count),
		slices.Compare(a.Timestamps, b.Timestamps))
}

// sortColumns puts what was decoded into the order of time. Blocks of several parts may overlap.
func (r *reducer) sortColumns(keep model.TimeRange) {
	r.order = r.order[:0]
	for i, t := range r.times {
		if keep.Contains(t) {
			r.order = append(r.order, i)
		}
	}
	slices.SortStableFunc(r.order, func(a, b int) int { return cmp.Compare(r.times[a], r.times[b]) })
	for _, i := range r.order {
		r.columns.Append(r.times[i], r.values[0][i], r.values[1][i], r.values[2][i], r.values[3][i])
	}
}

// reduce makes the blocks of the series.
func (r *reducer) reduce(e *tsblock.Encoder, levels downsample.Levels) {
	n := 0 // raw samples which are reached
	if len(levels) > 0 {
		n, _ = slices.BinarySearch(r.raw.Timestamps, levels[0].Before+1)
	}
	r.old = tsblock.Samples{Timestamps: r.raw.Timestamps[:n], Values: r.raw.Values[:n]}
	r.all.Reset()
	tsblock.Merge(&r.all, []tsblock.Samples{r.old, r.kept}, 0)
	r.out.Reset()
	r.main.Main(&r.out, &r.all, levels)
	r.encode(e, &r.out, tsblock.Kept)
	r.encode(e, &tsblock.Samples{Timestamps: r.raw.Timestamps[n:], Values: r.raw.Values[n:]}, tsblock.Raw)
	r.reduced.Reset()
	downsample.Columns(&r.reduced, &r.old, &r.columns, levels)
	for i, values := range [4][]float64{r.reduced.Min, r.reduced.Max, r.reduced.Sum, r.reduced.Count} {
		r.encode(e, &tsblock.Samples{Timestamps: r.reduced.Timestamps, Values: values}, aggregates()[i])
	}
}

// encode cuts samples into blocks.
func (r *reducer) encode(e *tsblock.Encoder, s *tsblock.Samples, c tsblock.Content) {
	for start := 0; start < s.Len(); start += tsblock.MaxSamplesPerBlock {
		end := min(s.Len(), start+tsblock.MaxSamplesPerBlock)
		run := tsblock.Samples{Timestamps: s.Timestamps[start:end], Values: s.Values[start:end]}
		var b tsblock.Block
		r.buf, b = e.AppendContent(r.buf, &run, c)
		r.blocks = append(r.blocks, b)
	}
}
