package part

import (
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// Rank returns the position of a series in the part, where series are in the order of their keys; false when the
// part does not have it.
func (p *Part) Rank(id uint32) (rank uint32, ok bool) {
	r, ok := p.index.rankOf(id)
	return uint32(r), ok
}

// SeriesCount returns the number of series, which ranks are below.
func (p *Part) SeriesCount() int { return p.index.ids.Len() }

// AppendBlocksAt is AppendBlocks for the series of a rank which Rank has returned.
func (p *Part) AppendBlocksAt(dst []tsblock.Block, rank uint32, r model.TimeRange) ([]tsblock.Block, error) {
	return p.appendRank(dst, int(rank), r)
}
