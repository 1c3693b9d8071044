package part

import (
	"context"
	"fmt"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/tsblock"
)

// copyFrom is the number of samples from which a block is copied as it is
// instead of being filled up with samples of the next.
const copyFrom = tsblock.MaxSamplesPerBlock / 2

// MergeRules say what a merge leaves out.
type MergeRules struct {
	Keep          model.TimeRange      // samples outside go
	MinIntervalMs int64                // with more than 0, one sample stays per bucket of this length
	Drop          func(id uint32) bool // series which go as a whole; nil for none
	// Series returns what becomes of old samples of a series; nil when they stay as they are.
	Series func(id uint32) SeriesPlan
	// Deduplicated is set to how many samples went for MinIntervalMs; those of equal timestamps are not counted.
	Deduplicated int64
}

// SeriesPlan is what a merge makes of old samples of one series.
type SeriesPlan struct {
	KeepMin int64 // older ones go, Unix milliseconds; 0 for none
	Levels  downsample.Levels
}

// Merge adds the samples of all parts within rules.Keep to w. Order compares series
// ids as the parts have them, and gives 0 for equal ids only; it is not asked about series which rules.Drop
// drops. Of several samples at one timestamp, or with an interval in one bucket, one stays, as tsblock.Merge has it.
// The caller finishes or, on an error, aborts w. It holds a reference to each part.
func Merge(ctx context.Context, w *Writer, parts []*Part, order func(a, b uint32) int, rules *MergeRules) error {
	m := merger{w: w, keep: rules.Keep, minIntervalMs: rules.MinIntervalMs, rules: rules}
	for _, p := range parts {
		m.histograms.any = m.histograms.any || p.meta.Histograms > 0
		if c := (cursor{part: p, rank: -1}); c.next(rules.Drop) {
			m.cursors = append(m.cursors, c)
		}
	}
	for len(m.cursors) > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cannot merge %d parts into %s: %w", len(parts), w.dir, err)
		}
		if err := m.mergeSeries(m.lowest(order)); err != nil {
			return fmt.Errorf("cannot merge %d parts into %s: %w", len(parts), w.dir, err)
		}
	}
	return nil
}

// merger is the state of one merge.
type merger struct {
	w             *Writer
	keep          model.TimeRange // of the current series
	minIntervalMs int64
	cursors       []cursor
	rules         *MergeRules
	reducer       reducer
	histograms    histogramMerger

	encoder tsblock.Encoder
	scratch tsblock.Scratch
	blocks  []tsblock.Block
	pending tsblock.Samples // of the current series, not yet written
	encoded []byte
}

// cursor stands at a series of a part.
type cursor struct {
	part *Part
	rank int
	id   uint32
}

// next moves to the next series which stays; false at the end.
func (c *cursor) next(drop func(id uint32) bool) bool {
	for c.rank++; c.rank < c.part.index.ids.Len(); c.rank++ {
		if c.id = uint32(c.part.index.ids.At(c.rank)); drop == nil || !drop(c.id) {
			return true
		}
	}
	return false
}

// lowest returns the id which comes first. Most often all parts stand at the same.
func (m *merger) lowest(order func(a, b uint32) int) uint32 {
	id := m.cursors[0].id
	for _, c := range m.cursors[1:] {
		if c.id != id && order(c.id, id) < 0 {
			id = c.id
		}
	}
	return id
}

// mergeSeries writes one series and moves the cursors on.
func (m *merger) mergeSeries(id uint32) error {
	plan := SeriesPlan{}
	if m.rules.Series != nil {
		plan = m.rules.Series(id)
	}
	if m.keep = m.rules.Keep; plan.KeepMin != 0 {
		m.keep.Min = max(m.keep.Min, plan.KeepMin)
	}
	m.blocks = m.blocks[:0]
	left := m.cursors[:0]
	for _, c := range m.cursors {
		if c.id == id {
			var err error
			if m.blocks, err = c.part.appendRank(m.blocks, c.rank, m.keep); err != nil {
				return err
			}
			if !c.next(m.rules.Drop) {
				continue
			}
		}
		left = append(left, c)
	}
	m.cursors = left
	if m.histograms.take(&m.blocks) {
		return m.mergeHistograms(id, plan.Levels)
	}
	return m.mergeSamples(id, plan.Levels)
}

// mergeSamples writes the samples of a series.
func (m *merger) mergeSamples(id uint32, levels downsample.Levels) error {
	if needsReducing(m.blocks, levels) {
		return m.reduceSeries(id, levels)
	}
	tsblock.SortBlocks(m.blocks)
	m.pending.Reset()
	for blocks := m.blocks; len(blocks) > 0; {
		n := tsblock.OverlapLen(blocks)
		if err := m.addCluster(id, blocks[:n], n == len(m.blocks)); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return m.flush(id, 0)
}

// addCluster takes blocks that overlap each other, but none before or after; whole means
// that they are all there is of the series.
func (m *merger) addCluster(id uint32, blocks []tsblock.Block, whole bool) error {
	if m.canCopy(blocks, whole) {
		if err := m.flush(id, 0); err != nil {
			return err
		}
		return m.addBlock(id, &blocks[0])
	}
	start := m.pending.Len()
	if err := tsblock.ReadRange(&m.pending, blocks, m.keep, 0, &m.scratch); err != nil {
		return err
	}
	if m.minIntervalMs > 0 {
		n := m.pending.Len()
		m.pending.Dedup(max(0, start-1), m.minIntervalMs)
		m.rules.Deduplicated += int64(n - m.pending.Len())
	}
	// Keep the last sample: with an interval the next cluster may replace it.
	return m.flush(id, tsblock.MaxSamplesPerBlock)
}

func (m *merger) canCopy(blocks []tsblock.Block, whole bool) bool {
	b := &blocks[0]
	if len(blocks) > 1 || m.minIntervalMs > 0 || b.MinTimestamp < m.keep.Min || b.MaxTimestamp > m.keep.Max {
		return false
	}
	n := m.pending.Len()
	return whole || (b.Count >= copyFrom && (n == 0 || n >= copyFrom))
}

// flush writes pending samples in full blocks until at most atMost are left.
func (m *merger) flush(id uint32, atMost int) error {
	p := &m.pending
	done := 0
	for p.Len()-done > atMost {
		n := min(p.Len()-done, tsblock.MaxSamplesPerBlock)
		s := tsblock.Samples{Timestamps: p.Timestamps[done : done+n], Values: p.Values[done : done+n]}
		var b tsblock.Block
		m.encoded, b = m.encoder.AppendEncode(m.encoded[:0], &s)
		if err := m.addBlock(id, &b); err != nil {
			return err
		}
		done += n
	}
	left := copy(p.Timestamps, p.Timestamps[done:])
	copy(p.Values, p.Values[done:])
	p.Timestamps, p.Values = p.Timestamps[:left], p.Values[:left]
	return nil
}
