package part

import (
	"slices"

	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/tsblock"
)

// copyHistograms is the size of a column of native histograms from which its block is copied as it is.
const copyHistograms = 32 << 10

// histogramMerger merges the native histograms of a series. Its samples are merged as those of others, and both are put into the order of time at the end.
type histogramMerger struct {
	any     bool // some part has native histograms
	blocks  []tsblock.Block
	pending tsblock.HistogramSamples // not yet encoded

	holding bool // blocks are held back instead of written
	held    []tsblock.Block
	buf     []byte // of their columns
}

// take takes the native histograms out of the blocks of a series; false when there are none.
func (h *histogramMerger) take(blocks *[]tsblock.Block) bool {
	if !h.any {
		return false
	}
	h.blocks = h.blocks[:0]
	*blocks = slices.DeleteFunc(*blocks, func(b tsblock.Block) bool {
		if b.Content() != tsblock.Histograms {
			return false
		}
		h.blocks = append(h.blocks, b)
		return true
	})
	return len(h.blocks) > 0
}

// hold holds a copy of a block back.
func (h *histogramMerger) hold(b *tsblock.Block) {
	start := len(h.buf)
	h.buf = append(append(h.buf, b.Timestamps...), b.Values...)
	middle, held := start+len(b.Timestamps), *b
	held.Timestamps, held.Values = h.buf[start:middle:middle], h.buf[middle:len(h.buf):len(h.buf)]
	h.held = append(h.held, held)
}

// addBlock writes a block, or holds it back.
func (m *merger) addBlock(id uint32, b *tsblock.Block) error {
	if !m.histograms.holding {
		return m.w.AddBlock(id, b)
	}
	m.histograms.hold(b)
	return nil
}

// mergeHistograms writes a series which has native histograms, and perhaps samples.
func (m *merger) mergeHistograms(id uint32, levels downsample.Levels) error {
	h := &m.histograms
	h.holding, h.held, h.buf = true, h.held[:0], h.buf[:0]
	defer func() { h.holding = false }()
	if err := m.mergeSamples(id, levels); err != nil {
		return err
	}
	tsblock.SortBlocks(h.blocks)
	h.pending.Reset()
	for blocks := h.blocks; len(blocks) > 0; {
		n := tsblock.OverlapLen(blocks)
		if err := m.addHistograms(blocks[:n], levels, n == len(h.blocks)); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	m.flushHistograms(true)
	tsblock.SortBlocks(h.held)
	for i := range h.held {
		if err := m.w.AddBlock(id, &h.held[i]); err != nil {
			return err
		}
	}
	return nil
}

// addHistograms is addCluster for native histograms. Of those of an interval of downsampling the last one stays, so what stays does not depend on how often
// it is done.
func (m *merger) addHistograms(blocks []tsblock.Block, levels downsample.Levels, whole bool) error {
	h := &m.histograms
	p := &h.pending
	if b := &blocks[0]; len(blocks) == 1 && m.copiesHistograms(b, levels, whole) {
		m.flushHistograms(true)
		h.hold(b)
		return nil
	}
	start := p.Len()
	if err := tsblock.ReadHistograms(p, blocks, m.keep, 0, &m.scratch); err != nil {
		return err
	}
	if m.minIntervalMs > 0 {
		n := p.Len()
		p.Dedup(max(0, start-1), m.minIntervalMs)
		m.rules.Deduplicated += int64(n - p.Len())
	}
	if len(levels) > 0 {
		p.Thin(max(0, start-1), levels.At)
	}
	m.flushHistograms(false)
	return nil
}

// copiesHistograms reports whether a block which overlaps no other stays as it is.
func (m *merger) copiesHistograms(b *tsblock.Block, levels downsample.Levels, whole bool) bool {
	if m.minIntervalMs > 0 || b.MinTimestamp < m.keep.Min || b.MaxTimestamp > m.keep.Max || levels.At(b.MinTimestamp) > 0 {
		return false
	}
	p := &m.histograms.pending
	return whole || (b.Count >= copyFrom || len(b.Values) >= copyHistograms) && (p.Len() == 0 || p.IsHalfABlock())
}

// flushHistograms encodes pending histograms. Unless all are wanted, what makes no full block stays: more may come, and with an interval the next one may
// replace the last.
func (m *merger) flushHistograms(all bool) {
	h := &m.histograms
	done := 0
	for done < h.pending.Len() {
		end := h.pending.BlockEnd(done)
		if end == h.pending.Len() && !all {
			break
		}
		run := h.pending.Slice(done, end)
		var b tsblock.Block
		m.encoded, b = m.encoder.AppendHistograms(m.encoded[:0], &run)
		h.hold(&b)
		done = end
	}
	h.pending.RemoveFront(done)
}
