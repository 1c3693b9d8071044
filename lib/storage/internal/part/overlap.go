package part

import (
	"math"

	"vmcluster/lib/model"
)

// FirstOverlap returns the lowest time within r at which blocks of one series in both parts overlap; false when there is none. Two parts can hold
// the same sample only where it is true. It reads the block indexes, not the columns.
func FirstOverlap(a, b *Part, r model.TimeRange) (at int64, ok bool, err error) {
	if a.index.ids.Len() > b.index.ids.Len() {
		a, b = b, a
	}
	var ofA, ofB []span
	at = math.MaxInt64
	for rank := range a.index.ids.Len() {
		other, found := b.index.rankOf(uint32(a.index.ids.At(rank)))
		if !found {
			continue
		}
		if ofA, err = a.index.appendSpans(ofA[:0], rank, r); err != nil {
			return 0, false, err
		}
		if ofB, err = b.index.appendSpans(ofB[:0], other, r); err != nil {
			return 0, false, err
		}
		if at = min(at, firstCommon(ofA, ofB)); at == r.Min {
			break // it cannot be lower
		}
	}
	return at, at < math.MaxInt64, nil
}

// span is the time of a block.
type span struct{ min, max int64 }

// appendSpans appends the times of the blocks of a series, cut to r.
func (x *blockIndex) appendSpans(dst []span, rank int, r model.TimeRange) ([]span, error) {
	block, end, err := x.blocksOf(rank)
	if err != nil {
		return dst, err
	}
	for ; block < end; block++ {
		column, err := x.columnOf(block)
		if err != nil {
			return dst, err
		}
		first := int64(x.columnMin.At(column))
		last := first + int64(x.columnSpan.At(column))
		if first <= r.Max && last >= r.Min {
			dst = append(dst, span{max(first, r.Min), min(last, r.Max)})
		}
	}
	return dst, nil
}

// firstCommon returns the lowest time which lies in a span of both, or math.MaxInt64. A series has few blocks in a part.
func firstCommon(a, b []span) int64 {
	at := int64(math.MaxInt64)
	for _, x := range a {
		for _, y := range b {
			if from := max(x.min, y.min); from <= min(x.max, y.max) {
				at = min(at, from)
			}
		}
	}
	return at
}
