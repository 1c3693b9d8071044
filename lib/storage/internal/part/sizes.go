package part

// Sizes tells how the bytes of a part are shared out to its series, such that they add up to those of the part.
type Sizes struct {
	part     *Part
	uses     []uint32 // of each column of timestamps
	perBlock float64  // of what no column has
}

// Sizes looks through the blocks of the part. The caller holds a reference while it uses the result.
func (p *Part) Sizes() (*Sizes, error) {
	s := &Sizes{part: p, uses: make([]uint32, p.index.columnMin.Len())}
	blocks := p.index.blockColumn.Len()
	for b := range blocks {
		column, err := p.index.columnOf(b)
		if err != nil {
			return nil, err
		}
		s.uses[column]++
	}
	columns := int64(len(p.values.mapping.Bytes())+len(p.times.mapping.Bytes())) - 2*headerSize
	if blocks > 0 {
		s.perBlock = float64(p.meta.SizeBytes-columns) / float64(blocks)
	}
	return s, nil
}

// Of returns the bytes of a series, 0 if the part does not have it. A column of values belongs to the series which has it first, one of timestamps in
// equal shares to the blocks which have it, and so does everything else to all blocks.
func (s *Sizes) Of(id uint32) (float64, error) {
	x := &s.part.index
	rank, ok := x.rankOf(id)
	if !ok {
		return 0, nil
	}
	block, end, err := x.blocksOf(rank)
	if err != nil {
		return 0, err
	}
	size := 0.0
	for ; block < end; block++ {
		column, err := x.columnOf(block)
		if err != nil {
			return 0, err
		}
		size += s.perBlock + float64(x.timestamps.sizes.At(column))/float64(s.uses[column])
		if x.repeats.repeats(block) {
			continue
		}
		values, err := x.valuesOf(block)
		if err != nil {
			return 0, err
		}
		size += float64(x.values.sizes.At(values))
	}
	return size, nil
}

// Newest calls yield with each series that has a block which ends at or after a time, and the end of the latest, in the order of ids.
// It ends with the first error of yield.
func (p *Part) Newest(since int64, yield func(id uint32, timestamp int64) error) error {
	x := &p.index
	for i := range x.byID.Len() {
		rank := x.rankAt(i)
		block, end, err := x.blocksOf(rank)
		if err != nil {
			return err
		}
		newest := since - 1
		for ; block < end; block++ {
			column, err := x.columnOf(block)
			if err != nil {
				return err
			}
			newest = max(newest, int64(x.columnMin.At(column))+int64(x.columnSpan.At(column)))
		}
		if newest < since {
			continue
		}
		if err := yield(uint32(x.ids.At(rank)), newest); err != nil {
			return err
		}
	}
	return nil
}

// IDs calls yield with the id of every series, ascending.
func (p *Part) IDs(yield func(id uint32)) {
	for i := range p.index.byID.Len() {
		yield(uint32(p.index.ids.At(p.index.rankAt(i))))
	}
}
