package storage

import (
	"vmcluster/lib/trace"
	"vmcluster/lib/tsblock"
)

// tracedReads counts what a search reads, for its trace.
type tracedReads struct {
	step                           *trace.Span
	series, blocks, samples, bytes int
}

// trace ends the step of finding series and begins that of reading them.
func (it *iterator) trace(found *trace.Span) {
	found.End(": %d series, counted in each of %d months", len(it.found), len(it.views))
	if !it.keysOnly {
		it.reads = &tracedReads{step: trace.From(it.ctx).Begin("read the series and hand them on")}
	}
}

// count counts the blocks of a series.
func (r *tracedReads) count(blocks []tsblock.Block) {
	r.series++
	r.blocks += len(blocks)
	for i := range blocks {
		r.samples += blocks[i].Count
		r.bytes += len(blocks[i].Timestamps) + len(blocks[i].Values)
	}
}

// end ends the step of reading.
func (r *tracedReads) end() {
	if r != nil {
		r.step.End(": %d series with %d samples in %d blocks of %d bytes", r.series, r.samples, r.blocks, r.bytes)
	}
}
