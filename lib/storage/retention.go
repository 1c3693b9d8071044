package storage

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

// readable cuts the range of a search to what is inside retention: samples which are older stay on the disk until a merge or the end of
// their month, and nobody must see which.
func (s *Storage) readable(r model.TimeRange) (model.TimeRange, error) {
	keep := s.retained()
	if r.Min >= keep.Min {
		return r, nil
	}
	if s.cfg.DenyOutsideRetention {
		return r, errkind.New(errkind.Unprocessable, "cannot search the time range %s: it begins before %s, the limit of -retentionPeriod=%s, and -denyQueriesOutsideRetention is set; choose a later start",
			r, instant(keep.Min), s.cfg.RetentionPeriod.String())
	}
	r.Min = keep.Min
	return r, nil
}

// cutBlocks removes samples before a time from the blocks of the current series from the nth on. A search which asked for them
// too has an asker who cuts at the range it has asked for.
func (it *iterator) cutBlocks(all []tsblock.Block, n int, from int64) []tsblock.Block {
	blocks := all[:n]
	for _, b := range all[n:] {
		if b.MinTimestamp >= from {
			blocks = append(blocks, b)
			continue
		}
		if isHistograms(b) {
			blocks = it.cutHistograms(blocks, &b, from)
			continue
		}
		it.cut.Reset()
		one := [1]tsblock.Block{b}
		if err := tsblock.ReadRange(&it.cut, one[:], model.TimeRange{Min: from, Max: b.MaxTimestamp}, 0, &it.scratch); err != nil {
			it.note(err)
			continue
		}
		if it.cut.Len() > 0 {
			it.buf, b = it.encoder.AppendContent(it.buf, &it.cut, b.Content())
			blocks = append(blocks, b)
		}
	}
	return blocks
}
