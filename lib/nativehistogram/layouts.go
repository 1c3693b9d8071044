package nativehistogram

import "slices"

// layouts are the different spans of the rows of a run, and all buckets they have: a column of counts for each.
type layouts struct {
	ends    []int   // of the layouts among the buckets
	keys    []int64 // of the buckets of one layout after the other, then places
	columns []int64 // the keys of all buckets, ascending; what a place counts in
}

// key orders the buckets of both signs. Positive ones come first, as in a payload.
func key(sign, index int64) int64 { return sign<<40 + index }

func (l *layouts) reset() {
	l.ends, l.keys, l.columns = l.ends[:0], l.keys[:0], l.columns[:0]
}

// add adds the layout of a histogram.
func (l *layouts) add(h *Histogram) {
	for sign, b := range [2]*Buckets{&h.Positive, &h.Negative} {
		index := int64(0)
		for _, s := range b.Spans {
			index += int64(s.Offset)
			for range s.Length {
				l.keys = append(l.keys, key(int64(sign), index))
				index++
			}
		}
	}
	l.ends = append(l.ends, len(l.keys))
}

// place turns the keys of all layouts into places.
func (l *layouts) place() {
	l.columns = append(l.columns[:0], l.keys...)
	slices.Sort(l.columns)
	l.columns = slices.Compact(l.columns)
	from := 0
	for _, end := range l.ends {
		at := 0
		for i := from; i < end; i++ {
			for l.columns[at] != l.keys[i] { // both ascend
				at++
			}
			l.keys[i] = int64(at)
		}
		from = end
	}
}

// places returns the columns of the buckets of a layout, in their order.
func (l *layouts) places(i int) []int64 {
	from := 0
	if i > 0 {
		from = l.ends[i-1]
	}
	return l.keys[from:l.ends[i]]
}

// starts fills dst with where each column starts in a row of them all, given the layout of each row of the run, and at last where it ends.
func (l *layouts) starts(dst []int, rows []int64) []int {
	dst = append(dst[:0], make([]int, len(l.columns)+1)...)
	for _, layout := range rows {
		for _, p := range l.places(int(layout)) {
			dst[p+1]++
		}
	}
	for i := range l.columns {
		dst[i+1] += dst[i]
	}
	return dst
}
